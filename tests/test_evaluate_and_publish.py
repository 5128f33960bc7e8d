"""From variables to an artifact and its figures: bytes against the graph, every example once, the JPEG reference."""

import json
import sys
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from configs import quickstart
from vae_jcc import steps
from vae_jcc.artifact import Artifact
from vae_jcc.benchmark import jpeg
from vae_jcc.coding import LatentCodec
from vae_jcc.data.array_source import ArraySource, load_into_memory
from vae_jcc.data.pipeline import eval_batches
from vae_jcc.data.sources import open_source
from vae_jcc.evaluate import check_fits, evaluate_artifact, evaluate_batches, evaluation_view
from vae_jcc.inference import make_classify_fn, make_encode_fn
from vae_jcc.models.joint import build_classifier, build_encoder, build_model
from vae_jcc.parallel import make_devices
from vae_jcc.publish import export_artifact, publish
from vae_jcc.quantization import Rounding
from vae_jcc.train_decoder import train_decoder


@pytest.fixture(scope="module")
def config():
    """A small model on the bundled images."""
    config = quickstart.get_config()
    config.model.encoder.stem_features, config.model.encoder.stages = 4, ((6, 1, 2),)
    config.model.classifier.stages = ((8, 1, 1),)
    config.model.decoder.features, config.model.decoder.epochs = 16, 1.0
    config.dataset.test_split = "test[:137]"  # not a multiple of any batch
    config.eval.batch_size, config.eval.jpeg_baseline = 50, False
    return config


@pytest.fixture(scope="module")
def variables(config):
    """Random, but with a latent that spreads over several symbols."""
    variables = jax.jit(build_model(config, 10, 1).init)(jax.random.key(3), jnp.zeros((1, 28, 28, 1)))
    kernel = variables["params"]["encoder"]["latent"]["kernel"]
    variables["params"]["encoder"]["latent"]["kernel"] = 4.0 * kernel
    return variables


@pytest.fixture(scope="module")
def test_source(config):
    """137 images."""
    return open_source(config.dataset.name, config.dataset.test_split)


@pytest.fixture(scope="module")
def folder(config, variables, test_source, tmp_path_factory):
    """An exported artifact."""
    folder = tmp_path_factory.mktemp("run") / "artifact"
    export_artifact(folder, config, variables, test_source, (28, 28))
    return folder


def test_figures_from_bytes_equal_those_of_the_graph(config, variables, test_source, folder):
    """Top-1, top-5 and estimated bits of the coded path against one pass of the joint model; all 137 count."""
    coded = evaluate_artifact(Artifact.load(str(folder)), test_source, batch_size=50)
    devices = make_devices("jit", jax.devices()[:1])
    step = devices.compile_eval(steps.make_eval_step(build_model(config, 10, 1)))
    graph = evaluate_batches(step, variables, eval_batches(test_source, batch_size=50), devices)
    assert coded["n_images"] == graph["n_images"] == 137
    assert coded["top1"] == pytest.approx(graph["top1"]) and coded["top5"] == pytest.approx(graph["top5"])
    assert coded["bpp_estimated"] == pytest.approx(graph["bpp"], rel=1e-5)


@pytest.mark.parametrize(("image_size", "margin"), [(20, 0), (20, 4)])
def test_the_coded_path_sees_images_as_validation_does(config, variables, test_source, tmp_path, image_size, margin):
    """Scaled, and the centre cut out: also where all images have one size, which is then not training's."""
    config = ConfigDict(config.to_dict())
    config.dataset.image_size, config.dataset.eval_margin = image_size, margin
    folder = tmp_path / "artifact"
    export_artifact(folder, config, variables, test_source, (image_size, image_size))
    coded = evaluate_artifact(Artifact.load(str(folder)), test_source, batch_size=137)
    devices = make_devices("jit", jax.devices()[:1])
    step = devices.compile_eval(steps.make_eval_step(build_model(config, 10, 1)))
    batches = eval_batches(test_source, batch_size=137, image_size=image_size, margin=margin)
    graph = evaluate_batches(step, variables, batches, devices)
    assert coded["top1"] == pytest.approx(graph["top1"])
    assert coded["bpp_estimated"] == pytest.approx(graph["bpp"], rel=1e-5)


def test_what_evaluation_sees_of_a_source(config, folder, test_source):
    artifact = Artifact.load(str(folder))
    assert evaluation_view(artifact, test_source.info) == (0, 0)
    assert evaluation_view(artifact, replace(test_source.info, image_size=None)) == (28, 0)


def test_classes_in_another_order_are_refused_and_other_names_are_said(folder, test_source, caplog):
    """Of as many classes: the figures would mean nothing."""
    artifact, images = Artifact.load(str(folder)), load_into_memory(test_source)

    def named(names):
        return ArraySource(replace(test_source.info, class_names=tuple(names)), images.images, images.labels)

    check_fits(artifact, test_source)
    with pytest.raises(ValueError, match="Classes stand in another order: class 0 of .* is 'Ankle boot'"):
        check_fits(artifact, named(reversed(artifact.class_names)))
    assert not caplog.records
    check_fits(artifact, named("abcdefghij"))
    assert "mean nothing" in caplog.text


def test_a_classifier_that_tells_nothing_apart_is_not_right(config, variables, test_source, tmp_path):
    """Equal logits name the first class, as argmax does; logits that are not finite name none."""
    dead = jax.tree.map(jnp.copy, variables)
    head = dead["params"]["classifier"]["logits"]
    head["kernel"], head["bias"] = 0 * head["kernel"], 0 * head["bias"]
    export_artifact(tmp_path / "dead", config, dead, test_source, (28, 28))
    result = evaluate_artifact(Artifact.load(str(tmp_path / "dead")), test_source, batch_size=50)
    labels = load_into_memory(test_source).labels
    assert result["top1"] == np.mean(labels == 0) and result["top5"] == np.mean(labels < 5)
    head["kernel"] = 3e38 * jnp.sign(variables["params"]["classifier"]["logits"]["kernel"])
    export_artifact(tmp_path / "overflowing", config, dead, test_source, (28, 28))
    with pytest.raises(RuntimeError, match="logits are not finite"):
        evaluate_artifact(Artifact.load(str(tmp_path / "overflowing")), test_source, batch_size=50)


def test_real_bytes_stay_near_the_estimate(folder, test_source):
    """Payload <= 1.01 x estimated bits + 5 bits an image; the stream adds at most 2 bytes an image."""
    result = evaluate_artifact(Artifact.load(str(folder)), test_source, batch_size=64)
    n = result["n_images"]
    estimated = result["bpp_estimated"] * 28 * 28 * n
    assert estimated < 8 * result["bytes_payload"] <= 1.01 * estimated + 5 * n
    assert 0 < result["bytes_stream"] - result["bytes_payload"] <= 2 * n + 24
    groups = -(-n // 64)  # each has a record and the end of a message; the stream a header
    assert estimated < 8 * result["bytes_joined"] <= 1.01 * estimated + 8 * (6 * groups + 24)


@pytest.mark.parametrize("method", ["decode_batch", "decode_joined"])
def test_bytes_that_decode_to_other_symbols_are_no_figure(folder, test_source, method, monkeypatch):
    decode = getattr(LatentCodec, method)
    monkeypatch.setattr(LatentCodec, method, lambda self, *args: decode(self, *args) + 1)
    with pytest.raises(RuntimeError, match="Decoded symbols differ from those coded"):
        evaluate_artifact(Artifact.load(str(folder)), test_source, batch_size=50)


def test_logits_from_bytes_equal_logits_from_rounding_in_the_graph(config, variables, test_source):
    """Exactly, on one device: encoder, rounding and classifier in one compiled function against two."""
    model = build_model(config, 10, 1)
    images = next(iter(eval_batches(test_source, batch_size=50)))["image"]
    whole = jax.jit(lambda v, x: model.apply(v, x.astype(jnp.float32) / 255.0).logits)(variables, images)
    part = lambda name: {k: variables[k][name] for k in ("params", "batch_stats")}  # noqa: E731
    rounding = Rounding(model.apply(variables, method=lambda m: m.prior.offset()))
    symbols = np.asarray(make_encode_fn(build_encoder(config))(part("encoder"), rounding, images))
    logits = make_classify_fn(build_classifier(config, 10))(part("classifier"), rounding, symbols)
    np.testing.assert_array_equal(logits, whole)


def test_training_a_decoder_leaves_accuracy_and_fingerprint_alone(config, folder, test_source):
    """To the bit: the same artifact but for the new part. (In microbatches, as where a batch does not fit.)"""
    before = Artifact.load(str(folder))
    figures = evaluate_artifact(before, test_source, batch_size=50)
    in_parts = ConfigDict(config.to_dict())
    in_parts.train.accumulate = 2
    error = train_decoder(in_parts, folder, open_source(config.dataset.name, "train[:512]"))
    after = Artifact.load(str(folder))
    assert after.fingerprint == before.fingerprint and "decoder" in after.parts
    assert evaluate_artifact(after, test_source, batch_size=50) == figures
    assert 0 < error < 0.2


def test_publish_writes_what_it_says(config, variables, tmp_path, capsys, monkeypatch):
    """Artifact, figures in the results schema, plot and table; what was trained in bfloat16 ships in float32."""
    config = ConfigDict(config.to_dict())
    config.compute_dtype = "bfloat16"
    sources = [open_source(config.dataset.name, s) for s in ("train[:256]", "test[:64]", "test[:100]")]
    monkeypatch.setattr(sys, "argv", ["/anywhere/vae_jcc/main.py", "--config=configs/quickstart.py"])
    result = publish(config, tmp_path, variables, *sources)
    assert json.loads((tmp_path / "evaluation.json").read_text()) == result
    assert Artifact.load(str(tmp_path / "artifact")).config.compute_dtype == "float32"
    (system,) = json.loads((tmp_path / "result.json").read_text())
    point = system["points"][0]
    assert {"system", "dataset", "encoder", "receiver", "device", "versions"} <= set(system)
    assert system["command"] == "python -m vae_jcc.main --config=configs/quickstart.py"
    assert len(point["seeds"]) == len(point["top1"]) == len(point["bpp_file"]) == 1
    assert system["n_images"] == 100 and system["encoder"]["params"] > 0
    assert (tmp_path / "rate_accuracy.png").read_bytes().startswith(b"\x89PNG")
    assert "vae-jcc classify" in capsys.readouterr().out


def test_jpeg_rates_rise_with_quality_and_files_cost_more_than_payloads(test_source):
    """And the quality nearest to a rate is that of the rate."""
    rates = [jpeg.measure_rate(test_source, q, most=40) for q in (5, 30, 90)]
    payloads = [r["bpp_payload"] for r in rates]
    assert payloads == sorted(payloads) and all(r["bpp_payload"] < r["bpp_file"] for r in rates)
    assert jpeg.nearest_quality(test_source, payloads[1]) in (20, 30)


def test_jpeg_at_another_rate_has_a_classifier_of_its_own(config, test_source, tmp_path, monkeypatch):
    """A context model added to a finished run lowers the rate; the reference of the old one is not taken for it."""
    folders = {}
    monkeypatch.setattr(jpeg, "train_reference", lambda config, folder, *_: folders.setdefault(folder, config.name))

    def evaluate(trained_for, source):
        source[0]  # at least one image is coded, so there is a rate
        return {"top1": trained_for}

    monkeypatch.setattr(jpeg, "make_evaluator", lambda *_: evaluate)
    for bpp in (6.0, 0.2):
        result = jpeg.evaluate_jpeg(config, tmp_path, test_source, test_source, test_source, bpp)
        assert result["top1"] == f"quickstart_jpeg{result['quality']}"
    assert len(folders) == 2
