import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from vae_jcc import artifact_writing, model_folder
from vae_jcc.artifact import Artifact
from vae_jcc.artifact_weights import digest, read_part, write_parts
from vae_jcc.artifact_writing import add_decoder, add_evaluation
from vae_jcc.model_folder import ArtifactError, resolve, zoo_names

Make = Callable[..., None]
FILES = ("config.json", "model.json", "tables.vjct", "weights.safetensors")


def test_everything_that_was_saved_comes_back(tiny_folder: Path) -> None:
    artifact = Artifact.load(tiny_folder)
    assert sorted(path.name for path in tiny_folder.iterdir()) == sorted(FILES)
    assert artifact.class_names == ("ant", "bee", "cat")
    assert (artifact.channels, artifact.input_size, artifact.stride) == (3, (16, 16), 4)
    assert artifact.latent_channels == artifact.tables.channels == 3
    assert artifact.parts == ("encoder", "prior", "classifier", "decoder")
    assert artifact.config.model.latent_channels == 3
    assert artifact.config.loss.lam == 0.5
    assert artifact.facts == {"seed": 0}
    assert artifact.grid(16, 17) == (4, 5)
    encoder = artifact.variables("encoder")
    assert encoder["params"]["stem"]["kernel"].shape == (4, 4, 3, 4)
    assert encoder["params"]["stem"]["kernel"].dtype == np.float32
    assert encoder["batch_stats"]["stages"]["norm"]["var"].shape == (6,)
    assert artifact.variables("prior")["batch_stats"] == {}


def test_offset_survives_to_the_last_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_tiny: Make) -> None:
    offset = np.array([1 / 3, -1e-30, 16777215.0], np.float32)
    real = artifact_writing.save_artifact
    monkeypatch.setattr(artifact_writing, "save_artifact", lambda *a, **k: real(*a, **{**k, "offset": offset}))
    make_tiny(tmp_path / "m")
    loaded = Artifact.load(tmp_path / "m").offset
    assert loaded.dtype == np.float32
    assert loaded.tobytes() == offset.tobytes()


def test_a_misspelt_config_key_fails(tiny_folder: Path) -> None:
    with pytest.raises((AttributeError, KeyError)):
        Artifact.load(tiny_folder).config.model.laten_channels = 4


def test_fingerprint_covers_the_encoder_and_not_the_receiver(
    tiny_folder: Path, tmp_path: Path, make_tiny: Make
) -> None:
    original = Artifact.load(tiny_folder)
    make_tiny(tmp_path / "again")
    make_tiny(tmp_path / "other", seed=1)
    make_tiny(tmp_path / "half", dtype="float16")
    assert Artifact.load(tmp_path / "again").fingerprint == original.fingerprint
    assert Artifact.load(tmp_path / "other").fingerprint != original.fingerprint
    half = Artifact.load(tmp_path / "half")
    assert half.fingerprint == original.fingerprint
    assert half.digests["classifier"] != original.digests["classifier"]


def test_float16_rounds_the_receivers_kernels_only(tiny_folder: Path, tmp_path: Path, make_tiny: Make) -> None:
    make_tiny(tmp_path / "half", dtype="float16")
    full, half = Artifact.load(tiny_folder), Artifact.load(tmp_path / "half")
    for part in ("encoder", "prior"):
        assert full.digests[part] == half.digests[part]
    a, b = (x.variables("classifier")["params"]["logits"] for x in (full, half))
    assert b["kernel"].dtype == np.float32
    np.testing.assert_array_equal(b["kernel"], a["kernel"].astype(np.float16).astype(np.float32))
    assert np.any(a["kernel"] != b["kernel"])
    np.testing.assert_array_equal(a["bias"], b["bias"])
    assert half.size_bytes < full.size_bytes


def test_float16_refuses_what_it_cannot_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_tiny: Make) -> None:
    real = artifact_writing.save_artifact

    def enlarge(*args: object, **kwargs: object) -> None:
        kwargs["variables"]["classifier"]["params"]["logits"]["kernel"][0, 0] = 7e4  # type: ignore[index]
        real(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(artifact_writing, "save_artifact", enlarge)
    with pytest.raises(ArtifactError, match="params/logits/kernel holds values that are not finite in float16"):
        make_tiny(tmp_path / "m", dtype="float16")
    assert list(tmp_path.iterdir()) == []


def test_saving_over_a_model_replaces_it_whole(tmp_path: Path, make_tiny: Make) -> None:
    make_tiny(tmp_path / "m", seed=1)
    (tmp_path / "m" / "left-over").write_text("")
    make_tiny(tmp_path / "m", seed=0)
    assert Artifact.load(tmp_path / "m").facts == {"seed": 0}
    assert sorted(p.name for p in (tmp_path / "m").iterdir()) == sorted(FILES)
    assert [p.name for p in tmp_path.iterdir()] == ["m"]


def test_a_failed_save_leaves_the_old_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_tiny: Make) -> None:
    make_tiny(tmp_path / "m")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(artifact_writing, "write_parts", fail)
    with pytest.raises(OSError, match="No space"):
        make_tiny(tmp_path / "m", seed=1)
    assert Artifact.load(tmp_path / "m").facts == {"seed": 0}
    assert [p.name for p in tmp_path.iterdir()] == ["m"]


def test_a_failed_exchange_brings_the_old_model_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_tiny: Make
) -> None:
    make_tiny(tmp_path / "m")
    real = os.replace

    def fail_on_new(source: Path, target: Path) -> None:
        if Path(source).name == "new":
            raise OSError(28, "No space left on device")
        real(source, target)

    monkeypatch.setattr("os.replace", fail_on_new)
    with pytest.raises(OSError, match="No space"):
        make_tiny(tmp_path / "m", seed=1)
    assert Artifact.load(tmp_path / "m").facts == {"seed": 0}
    assert [p.name for p in tmp_path.iterdir()] == ["m"]


def test_a_new_decoder_changes_nothing_else(tiny_copy: Path) -> None:
    before = Artifact.load(tiny_copy)
    variables = before.variables("decoder")
    variables["params"]["pixels"]["kernel"] += 1.0
    add_decoder(tiny_copy, variables)
    after = Artifact.load(tiny_copy)
    assert after.fingerprint == before.fingerprint
    assert {p: d for p, d in after.digests.items() if p != "decoder"} == {
        p: d for p, d in before.digests.items() if p != "decoder"
    }
    np.testing.assert_array_equal(
        after.variables("decoder")["params"]["pixels"]["kernel"], variables["params"]["pixels"]["kernel"]
    )
    assert after.config == before.config


def test_an_evaluation_is_kept_with_the_model(tiny_copy: Path) -> None:
    assert Artifact.load(tiny_copy).evaluation == {}
    add_evaluation(tiny_copy, {"top1": 0.875, "bpp_file": 0.25})
    add_decoder(tiny_copy, Artifact.load(tiny_copy).variables("decoder"))
    assert Artifact.load(tiny_copy).evaluation == {"top1": 0.875, "bpp_file": 0.25}


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(tiny_copy: Path, name: str) -> None:
    (tiny_copy / name).unlink()
    with pytest.raises(ArtifactError, match=f"no {name}" if name == "model.json" else name):
        artifact = Artifact.load(tiny_copy)
        assert artifact.config.name
        artifact.variables("encoder")


@pytest.mark.parametrize("name", FILES)
def test_a_truncated_file_is_refused(tiny_copy: Path, name: str) -> None:
    data = (tiny_copy / name).read_bytes()
    for length in (0, 1, len(data) // 2, len(data) - 2):
        (tiny_copy / name).write_bytes(data[:length])
        with pytest.raises(ArtifactError, match=name):
            artifact = Artifact.load(tiny_copy)
            assert artifact.config.name
            artifact.variables("encoder")
            artifact.variables("decoder")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("stride", 8),
        ("channels", 1),
        ("channels", 4),
        ("latent_channels", 4),
        ("offset", [0.25, -0.125, 0.125]),
        ("offset", [0.25, -0.125]),
        ("offset", [0.25, -0.125, float("nan")]),
        ("fingerprint", "00" * 32),
        ("fingerprint", "zz"),
        ("weights", {"encoder": "00" * 32}),
        ("weights", {}),
        ("class_names", 3),
        ("input_size", [16]),
        ("input_size", [0, 16]),
        ("format", 3),
    ],
)
def test_altered_metadata_is_refused(tiny_copy: Path, field: str, value: object) -> None:
    path = tiny_copy / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {field: value}))
    with pytest.raises(ArtifactError):
        Artifact.load(tiny_copy)


@pytest.mark.parametrize(
    ("key", "value"), [("stem_stride", 1), ("stem_pool", True), ("stages", [[6, 1, 1]]), ("kind", "patchify")]
)
def test_weights_in_another_encoder_are_refused(tiny_copy: Path, key: str, value: object) -> None:
    # They would load, and code other symbols.
    path = tiny_copy / "config.json"
    settings = json.loads(path.read_text())
    settings["model"]["encoder"][key] = value
    path.write_text(json.dumps(settings))
    with pytest.raises(ArtifactError, match="not those that the fingerprint was taken of"):
        Artifact.load(tiny_copy)


def test_settings_of_the_training_are_not_part_of_the_fingerprint(tiny_copy: Path, tiny_folder: Path) -> None:
    path = tiny_copy / "config.json"
    settings = json.loads(path.read_text())
    settings["loss"]["lam"] = 0.1
    path.write_text(json.dumps(settings))
    assert Artifact.load(tiny_copy).fingerprint == Artifact.load(tiny_folder).fingerprint


@pytest.mark.parametrize("content", ["{}", "[]", "{", ""])
def test_a_damaged_configuration_is_refused(tiny_copy: Path, content: str) -> None:
    (tiny_copy / "config.json").write_text(content)
    with pytest.raises(ArtifactError, match=r"config\.json"):
        Artifact.load(tiny_copy)


def test_another_models_tables_are_refused(tiny_copy: Path) -> None:
    from vae_jcc.coding import CodingTables

    CodingTables.build([np.ones(3)] * 3, [-1] * 3, [0.1] * 3).save(tiny_copy / "tables.vjct")
    with pytest.raises(ArtifactError, match="not those that the fingerprint was taken of"):
        Artifact.load(tiny_copy)


def test_another_models_weights_are_refused_when_they_are_loaded(
    tiny_copy: Path, tmp_path: Path, make_tiny: Make
) -> None:
    make_tiny(tmp_path / "other", seed=1)
    shutil.copy(tmp_path / "other" / "weights.safetensors", tiny_copy)
    artifact = Artifact.load(tiny_copy)  # tables and metadata are whole: bytes can still be decoded
    with pytest.raises(ArtifactError, match="classifier's weights are damaged or another model's"):
        artifact.variables("classifier")


def test_one_flipped_bit_in_a_weight_is_noticed(tiny_copy: Path) -> None:
    path = tiny_copy / "weights.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    artifact = Artifact.load(tiny_copy)
    broken = [part for part in artifact.parts if _is_broken(artifact, part)]
    assert len(broken) == 1


def _is_broken(artifact: Artifact, part: str) -> bool:
    try:
        artifact.variables(part)
    except ArtifactError:
        return True
    return False


def test_a_missing_part_is_named(tiny_folder: Path) -> None:
    with pytest.raises(ArtifactError, match="has no teacher: it has encoder, prior, classifier, decoder"):
        Artifact.load(tiny_folder).variables("teacher")


def test_names_are_resolved(tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    zoo = tmp_path / "zoo"
    shutil.copytree(tiny_folder, zoo / "ants")
    (zoo / "not_a_model").mkdir()
    monkeypatch.setattr(model_folder, "ZOO", zoo)
    assert zoo_names() == ["ants"]
    assert resolve("ants") == zoo / "ants"
    assert resolve(tiny_folder) == tiny_folder
    with pytest.raises(ArtifactError, match="No model 'bees': .* ships ants"):
        resolve("bees")
    with pytest.raises(ArtifactError, match="has no model.json"):
        resolve(zoo / "not_a_model")
    shutil.copytree(tiny_folder, tmp_path / "run" / "artifact")
    with pytest.raises(ArtifactError, match="its model is .*artifact"):
        resolve(tmp_path / "run")


def test_a_zoo_name_wins_over_a_folder_of_that_name(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(tiny_folder, tmp_path / "zoo" / "ants")
    shutil.copytree(tiny_folder, tmp_path / "here" / "ants")
    monkeypatch.setattr(model_folder, "ZOO", tmp_path / "zoo")
    monkeypatch.chdir(tmp_path / "here")
    assert resolve("ants") == tmp_path / "zoo" / "ants"
    assert resolve("./ants") == Path("ants")


def test_the_package_imports_lightly() -> None:
    code = (
        "import sys, vae_jcc, vae_jcc.coding, vae_jcc.artifact, vae_jcc.edge, vae_jcc.receiver\n"
        "vae_jcc.Receiver, vae_jcc.EdgeEncoder, vae_jcc.BitstreamError\n"
        "heavy = {'jax', 'flax', 'tensorflow', 'tensorflow_datasets', 'ml_collections', 'PIL', 'matplotlib'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
        "try:\n    vae_jcc.Nothing\nexcept AttributeError:\n    print('ok')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "ok\n"), done.stderr


def test_transposed_weights_are_written_in_their_own_order(tmp_path: Path) -> None:
    tensors = {"kernel": np.arange(6, dtype=np.int8).reshape(2, 3).T}
    write_parts(tmp_path / "weights", {"context": tensors})
    read = read_part(tmp_path / "weights", "context", ArtifactError)
    assert np.array_equal(read["kernel"], tensors["kernel"]) and digest(read) == digest(tensors)
