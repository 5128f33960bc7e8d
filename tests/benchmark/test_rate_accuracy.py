"""`vae-jcc bench rate-accuracy` from the command line to its report, on bundled images and a tiny network."""

import json
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import quickstart
from vae_jcc import train
from vae_jcc.artifact import Artifact
from vae_jcc.benchmark import rate_accuracy, references, report
from vae_jcc.benchmark.bench_data import BenchData
from vae_jcc.benchmark.codecs import CODECS
from vae_jcc.benchmark.coded_source import CodedSource
from vae_jcc.benchmark.references import reference_config, train_reference
from vae_jcc.checkpoint import save_variables
from vae_jcc.cli import main
from vae_jcc.data.errors import DataError
from vae_jcc.data.sources import open_source
from vae_jcc.models.joint import build_model
from vae_jcc.parallel import make_devices
from vae_jcc.publish import export_artifact


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A tiny artifact for the bundled images, untrained."""
    config = quickstart.get_config()
    config.name = "tiny"
    config.model.encoder.stem_features, config.model.encoder.stages = 4, ((6, 1, 2),)
    config.model.classifier.stages = ((8, 1, 1),)
    config.dataset.train_split, config.dataset.validation_split = "train[:128]", "train[-50:]"
    config.eval.batch_size = 60
    variables = jax.jit(build_model(config, 10, 1).init)(jax.random.key(3), jnp.zeros((1, 28, 28, 1)))
    folder = tmp_path_factory.mktemp("model") / "artifact"
    export_artifact(folder, config, variables, open_source(config.dataset.name, "test[:8]"), (28, 28))
    return str(folder)


def bench(model, output, *more, qualities="jpeg=5,50", epochs=("1", "0")):
    arguments = ["bench", "rate-accuracy", "--model", model, "--codecs", "jpeg", "--qualities", qualities]
    arguments += ["--limit", "60", "--clean-epochs", epochs[0], "--finetune-epochs", epochs[1], "-o", str(output)]
    return main([*arguments, *more])


def draw_variables(config, folder, *_):
    """Stands in for a classifier's training, which compiles for longer than all else here: random variables."""
    (folder / "checkpoints").mkdir(parents=True)
    rng = np.random.default_rng(config.seed)
    shapes = jax.eval_shape(build_model(config, 10, 1).init, jax.random.key(0), jnp.zeros((1, 28, 28, 1)))
    draw = lambda leaf: np.abs(rng.normal(0, 0.3, leaf.shape)).astype(np.float32)  # noqa: E731 (variances: positive)
    save_variables(folder / "best", jax.tree.map(draw, shapes))


def look_at_images(*_):
    """Stands in for an evaluator, which compiles too: reads every image and names none."""

    def evaluate(_, source):
        for i in range(len(source)):
            source[i]
        return {"n_images": len(source), "top1": 0.25, "top5": 0.5}

    return evaluate


@pytest.fixture(autouse=True, scope="module")
def one_device():
    """What is compiled for one device is compiled sooner; that several change nothing is tested elsewhere."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (references, train):
            patch.setattr(module, "make_devices", lambda mode: make_devices(mode, jax.devices()[:1]))
        yield


@pytest.fixture(scope="module")
def first(model, tmp_path_factory):
    """The output folder of a whole run with two seeds and fine-tuning, without the trainings."""
    output = tmp_path_factory.mktemp("bench")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rate_accuracy, "train_reference", draw_variables)
        assert bench(model, output, "--seeds", "0", "1", epochs=("1", "1")) == 0
    return output


def test_results_name_data_seeds_rates_and_versions(first):
    ours, clean, tuned = json.loads((first / "result.json").read_text())
    assert ours["system"] == "vae_jcc/tiny" and ours["encoder"]["params"] > 0
    assert ours["n_images"] == clean["n_images"] == tuned["n_images"] == 60
    assert clean["system"] == "JPEG 4:2:0, clean classifier" and clean["encoder"] is None
    assert tuned["training"] == {"network": "tiny", "warm_start": False, "clean_epochs": 1.0, "finetune_epochs": 1.0}
    for system in (clean, tuned):
        assert {"dataset", "data_note", "split", "receiver", "rate"} <= set(system)
        assert [p["label"] for p in system["points"]] == ["quality=50", "quality=5"]  # by falling rate
        for point in system["points"]:
            assert point["seeds"] == [0, 1] and len(point["top1"]) == len(point["bpp_file"]) == 2
            assert point["bpp_payload"][0] == point["bpp_payload"][1] < point["bpp_file"][0]
            assert {"command", "commit", "date", "device", "versions"} == set(point["runs"][0])
            assert {"jax", "pillow", "libjpeg_turbo"} <= set(point["runs"][0]["versions"])
    assert clean["points"][0]["bpp_payload"] == tuned["points"][0]["bpp_payload"]  # the same test images
    assert tuned["bd_accuracy"]["over_jpeg"] == "too few points (2, needs 5)"


def test_a_reference_is_trained_on_coded_images_from_trained_variables(model, tmp_path):
    """Two steps at a tenth of the recipe's learning rate: it moves, and stays near its start."""
    artifact = Artifact.load(model)
    config = reference_config(artifact.config, name="r", epochs=1, seed=0, image_size=0, start=model)
    assert config.optim.learning_rate == pytest.approx(0.1 * artifact.config.optim.learning_rate)
    coded = (
        CodedSource(open_source("bundled:fashion_mnist", s), CODECS["jpeg"], 5) for s in ("train[:128]", "test[:60]")
    )
    trained = train_reference(config, tmp_path, *coded)["params"]["classifier"]["logits"]["kernel"]
    start = artifact.variables("classifier")["params"]["logits"]["kernel"]
    moved = float(np.abs(trained - start).max())
    assert 0 < moved < 0.5 * float(np.abs(start).max())


def test_report_has_a_table_and_both_plots(first):
    table = (first / "table.md").read_text()
    assert "| JPEG 4:2:0, fine-tuned classifier | quality=50 | 2 |" in table and "+-" in table
    assert "| vae_jcc/tiny |" in table and "BD-accuracy" in table
    assert (first / "rate_accuracy.png").read_bytes()[:4] == b"\x89PNG"
    assert "payload" in (first / "rate_accuracy.svg").read_text()


def test_there_is_a_classifier_for_each_seed_codec_and_quality(first):
    kept = {path.name.rsplit("_", 1)[0] for path in (first / "classifiers").iterdir()}
    assert kept == {"clean_seed0", "clean_seed1"} | {f"jpeg_{q}_seed{s}" for q in (5, 50) for s in (0, 1)}
    assert not list(first.glob("classifiers/*/checkpoints")) and len(list(first.glob("classifiers/*/best"))) == 6


def test_a_finished_run_makes_no_point_again_and_a_changed_one_only_what_changed(model, first, monkeypatch):
    def times():
        return {path.name: path.stat().st_mtime_ns for path in (first / "points").iterdir()}

    before, result = times(), (first / "result.json").read_text()
    monkeypatch.setattr(rate_accuracy, "train_reference", lambda *_: pytest.fail("trained again"))
    monkeypatch.setattr(rate_accuracy, "make_evaluator", look_at_images)
    seeds = ("--seeds", "0", "1")
    assert bench(model, first, *seeds, epochs=("1", "1")) == 0
    assert times() == before and (first / "result.json").read_text() == result
    # A quality more: one new point a seed, by the classifiers that are there. The others are left alone.
    assert bench(model, first, *seeds, qualities="jpeg=5,20,50") == 0
    new = times()
    assert set(new) - set(before) == {f"jpeg_20_clean_seed{s}.json" for s in (0, 1)}
    assert {name: new[name] for name in before} == before


def test_fine_tuning_can_be_kept_to_low_rates(model, first, tmp_path, monkeypatch, capsys):
    clean = json.loads((first / "points" / "jpeg_5_clean_seed0.json").read_text())["result"]["points"][0]
    monkeypatch.setattr(rate_accuracy, "train_reference", draw_variables)
    monkeypatch.setattr(rate_accuracy, "make_evaluator", look_at_images)
    rate = str(clean["bpp_payload"][0])
    assert bench(model, tmp_path, "--finetune-up-to", rate, epochs=("1", "1")) == 0
    tuned = [path.name for path in (tmp_path / "points").glob("*fine-tuned*")]
    assert tuned == ["jpeg_5_fine-tuned_seed0.json"]
    assert capsys.readouterr().err.count("Training jpeg") == 1


def test_a_point_whose_settings_changed_is_made_again(model, first, capsys, monkeypatch):
    monkeypatch.setattr(rate_accuracy, "make_evaluator", look_at_images)
    path = first / "points" / "jpeg_5_clean_seed0.json"
    saved = json.loads(path.read_text())
    saved["settings"]["options"] = [{"quality": 6}]
    saved["result"]["points"][0]["top1"] = [2.0]
    path.write_text(json.dumps(saved))
    assert bench(model, first, qualities="jpeg=5,50") == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("JPEG")]
    assert len(lines) == 1 and lines[0].startswith("JPEG 4:2:0, clean classifier, quality=5, seed 0: top-1")
    again = json.loads(path.read_text())
    assert again["settings"]["options"][0]["quality"] == 5 and again["result"]["points"][0]["top1"] == [0.25]


def test_an_existing_result_is_drawn_beside_the_rest(model, first, tmp_path, capsys):
    results = first / "result.json"
    arguments = ["bench", "rate-accuracy", "--data", "bundled:fashion_mnist", "--codecs", "--results", str(results)]
    assert main([*arguments, "--test-split", "test", "-o", str(tmp_path / "out")]) == 0
    drawn = json.loads((tmp_path / "out" / "result.json").read_text())
    assert [s["points"] for s in drawn] == [s["points"] for s in json.loads(results.read_text())]
    assert main([*arguments[:2], "--codecs", "--results", str(results), "-o", str(tmp_path)]) == 1
    assert "--data" in capsys.readouterr().err
    assert (
        main([*arguments, "--test-split", "test", "--limit", "7", "--model", model, "-o", str(tmp_path / "few")]) == 1
    )
    assert "figures from 7 and 60 images do not belong into one plot" in capsys.readouterr().err
    codecs = [system for system in drawn if "codec" in system]
    (tmp_path / "codecs.json").write_text(json.dumps(codecs))
    arguments[-1] = str(tmp_path / "codecs.json")
    assert main([*arguments, "--test-split", "train", "-o", str(tmp_path / "other")]) == 1
    assert "split test; this run measures on bundled:fashion_mnist, split train" in capsys.readouterr().err


def curve(system, top1, **facts):
    rates = (0.25, 0.5, 1.0, 2.0, 4.0)
    points = [
        {"label": str(r), "top1": [a / 100], "bpp_payload": [r], "bpp_file": [r]}
        for r, a in zip(rates, top1, strict=True)
    ]
    return {"system": system, "points": points} | facts


def test_bd_accuracy_is_over_the_tuned_jpeg_and_the_best_classical_curve():
    base = [50.0, 60.0, 70.0, 75.0, 78.0]
    systems = [
        curve("ours", [a + 9 for a in base]),
        curve("JPEG clean", [a - 1 for a in base], codec="jpeg", classifier="clean"),
        curve("JPEG tuned", base, codec="jpeg", classifier="fine-tuned"),
        curve("AVIF tuned", [a + 5 for a in base], codec="avif", classifier="fine-tuned"),
    ]
    assert report.add_bd_accuracy(systems) == "AVIF tuned"
    assert [s["bd_accuracy"]["over_jpeg"] for s in systems] == pytest.approx([9, -1, 0, 5], abs=1e-9)
    assert [s["bd_accuracy"]["over_best_classical"] for s in systems] == pytest.approx([4, -6, -5, 0], abs=1e-9)
    report.add_smallest_lead(systems)
    assert systems[0]["smallest_lead"] == {
        "over_jpeg": pytest.approx(9, abs=1e-9),
        "over_any_classical": pytest.approx(4, abs=1e-9),
    }
    # A tuned curve that is too short to compare with leaves the clean one.
    systems[2]["points"] = systems[2]["points"][:3]
    report.add_bd_accuracy(systems)
    assert systems[0]["bd_accuracy"]["over_jpeg"] == pytest.approx(10, abs=1e-9)
    assert report.add_bd_accuracy(systems[:1]) == ""
    assert systems[0]["bd_accuracy"]["over_jpeg"] == "no JPEG curve"


def test_a_report_tells_every_codec_from_the_others_and_from_models(tmp_path):
    facts = {"dataset": "d", "split": "test"}
    systems = [
        curve(f"{name} {classifier}", range(5), codec=name, classifier=classifier, **facts)
        for classifier in ("fine-tuned", "clean")
        for name in CODECS
    ]
    report.write_report(tmp_path, [*systems, curve("ours", range(5), **facts)])
    written = json.loads((tmp_path / "result.json").read_text())
    names = [f"{name} {classifier}" for name in CODECS for classifier in ("clean", "fine-tuned")]
    assert [system["system"] for system in written] == ["ours", *names]
    looks = {(system["marker"], system["color"]) for system in written[1:]}
    assert len(looks) == len(CODECS) == len({marker for marker, _ in looks}) and "color" not in written[0]


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--codecs", "bpg"], "choose among jpeg"),
        (["--qualities", "webp=5"], "none of this run's codecs"),
        (["--qualities", "jpeg=best"], "whole numbers, such as jpeg=10,30,50"),
        (["--clean-epochs", "0"], "at least one epoch"),
        (["--results", "nowhere.json"], "nowhere.json"),
    ],
)
def test_bad_input_is_one_line(model, tmp_path, capsys, more, says):
    assert bench(model, tmp_path / "out", *more) == 1
    error = capsys.readouterr().err
    assert says in error and error.startswith("vae-jcc: ") and error.count("\n") == 1


def test_classifiers_are_not_trained_on_test_images(model):
    splits = ("train[:128]", "train[-50:]", "train[100:160]")
    data = BenchData("bundled:fashion_mnist", splits, network=Artifact.load(model))
    with pytest.raises(DataError, match="^28 images of the test split"):
        _ = data.train


def test_a_missing_plugin_stops_the_run_before_any_work(model, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_jxl", None)
    assert main(["bench", "rate-accuracy", "--model", model, "-o", str(tmp_path / "out")]) == 1
    assert "pip install 'vae-jcc[codecs]'" in capsys.readouterr().err
    assert not Path(tmp_path / "out").exists()


def test_qualities_of_one_rate_are_one_point_of_the_curve():
    """Neighbouring qualities can make the same bytes, and the lowest no payload at all."""

    def system(name, rates, **facts):
        accuracies = [0.5 + 0.01 * i for i in range(len(rates))]
        points = [
            {"label": f"quality={i}", "seeds": [0], "top1": [a], "top5": [0.9], "bpp_payload": [r], "bpp_file": [r + 1]}
            for i, (r, a) in enumerate(zip(rates, accuracies, strict=True))
        ]
        return {"system": name, "codec": name, "classifier": "clean", "rate": "bpp_payload", "points": points} | facts

    jpeg = system("jpeg", [0.1, 0.2, 0.4, 0.8, 1.6])
    double = system("avif", [0.0, 0.1, 0.2, 0.2, 0.4, 0.8, 1.6])
    best = report.add_bd_accuracy([jpeg, double])
    assert best == "avif" and double["bd_accuracy"]["over_jpeg"] == pytest.approx(1.9, abs=0.3)
