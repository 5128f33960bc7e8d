"""Receivers that vote: their probabilities' mean, the same bytes, and members trained for bytes that exist."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest

from vae_jcc.artifact import Artifact, ArtifactError
from vae_jcc.artifact_writing import save_artifact
from vae_jcc.cli import main
from vae_jcc.data.array_source import ArraySource
from vae_jcc.data.sources import SourceInfo
from vae_jcc.edge import EdgeEncoder
from vae_jcc.ensemble import OFFSET_TOLERANCE, save_ensemble
from vae_jcc.publish import export_artifact
from vae_jcc.receiver import Receiver
from vae_jcc.train import fit


def resave(folder, model, classifier=None, **changes):
    """Saves a model again, with another's classifier or other metadata."""
    variables = {part: model.variables(part) for part in model.parts}
    if classifier is not None:
        variables["classifier"] = classifier.variables("classifier")
    settings = {
        "config": model.config,
        "tables": model.tables,
        "offset": model.offset,
        "class_names": model.class_names,
        "channels": model.channels,
        "input_size": model.input_size,
    }
    save_artifact(folder, variables=variables, **settings | changes)
    return Artifact.load(folder)


@pytest.fixture
def members(tiny_folder, tmp_path, make_tiny):
    """Three models behind one encoder, with three classifiers."""
    first, members = Artifact.load(tiny_folder), [Artifact.load(tiny_folder)]
    for seed in (1, 2):
        make_tiny(tmp_path / "other", seed=seed)
        members.append(resave(tmp_path / f"member{seed}", first, Artifact.load(tmp_path / "other")))
    return members


def test_the_mean_of_the_probabilities_from_the_same_bytes(members, pictures, tmp_path):
    save_ensemble(tmp_path / "vote", members)
    vote = Artifact.load(tmp_path / "vote")
    assert vote.fingerprint == members[0].fingerprint and vote.parts == members[0].parts
    assert vote.evaluation == {} and len(vote.facts["classifiers"]) == vote.config.model.classifier.members == 3
    data = EdgeEncoder(members[0]).compress_stream(pictures)
    each = np.stack([Receiver(member).classify(data) for member in members])
    assert np.any(each[0].argmax(-1) != each[1].argmax(-1))
    np.testing.assert_allclose(Receiver(vote).classify(data), each.mean(axis=0), atol=1e-6)
    np.testing.assert_array_equal(Receiver(vote).reconstruct(data), Receiver(members[0]).reconstruct(data))


def test_a_vote_joins_another_with_all_its_members(members, tmp_path):
    save_ensemble(tmp_path / "two", members[:2])
    save_ensemble(tmp_path / "nested", [Artifact.load(tmp_path / "two"), members[2]])
    save_ensemble(tmp_path / "flat", members)
    assert Artifact.load(tmp_path / "nested").digests == Artifact.load(tmp_path / "flat").digests


def test_a_new_receiver_for_anothers_bytes(members, pictures, tmp_path):
    save_ensemble(tmp_path / "new", [members[1]], bytes_of=members[0])
    new = Artifact.load(tmp_path / "new")
    assert new.config == members[0].config and new.digests["classifier"] == members[1].digests["classifier"]
    data = EdgeEncoder(members[0]).compress_stream(pictures)
    np.testing.assert_array_equal(Receiver(new).logits(data), Receiver(members[1]).logits(data))


def test_a_shipped_model_keeps_its_context_model_and_its_precision(tmp_path):
    shipped = Artifact.load("cifar10_small_grid")
    assert shipped.context
    save_ensemble(tmp_path / "vote", [shipped, shipped])
    vote = Artifact.load(tmp_path / "vote")
    assert (vote.context, vote.fingerprint) == (shipped.context, shipped.fingerprint)
    kernel = vote.tensors("classifier")["params/members_1/stem/kernel"]
    assert kernel.dtype == np.float16
    np.testing.assert_array_equal(kernel, shipped.tensors("classifier")["params/stem/kernel"])
    assert vote.size_bytes < 2 * shipped.size_bytes


@pytest.mark.parametrize(
    ("what", "message"),
    [("encoder", "other symbols"), ("offset", "other symbols"), ("classes", "different classes"), ("shape", "shape")],
)
def test_what_does_not_fit_is_refused(members, tmp_path, make_tiny, what, message):
    first = members[0]
    if what == "encoder":
        make_tiny(tmp_path / "odd", seed=3)
        odd = Artifact.load(tmp_path / "odd")
    elif what == "offset":
        odd = resave(tmp_path / "odd", first, offset=first.offset + np.float32(0.01))
    elif what == "classes":
        odd = resave(tmp_path / "odd", first, class_names=("ant", "cat", "bee"))
    else:
        config = first.config.copy_and_resolve_references().unlock()
        config.model.classifier.stem_kernel = 5
        odd = resave(tmp_path / "odd", first, config=config)
    with pytest.raises(ArtifactError, match=message):
        save_ensemble(tmp_path / "vote", [first, odd])
    assert not (tmp_path / "vote").exists()


def test_an_offset_that_another_machine_rounded_is_the_same(members, tmp_path):
    odd = resave(tmp_path / "odd", members[0], offset=members[0].offset + np.float32(OFFSET_TOLERANCE / 2))
    save_ensemble(tmp_path / "vote", [members[0], odd])
    np.testing.assert_array_equal(Artifact.load(tmp_path / "vote").offset, members[0].offset)


@pytest.mark.parametrize("optimizer", ["sgd", "muon"])
def test_a_receiver_trained_for_bytes_that_exist_reads_them(tiny_folder, tmp_path, rng, pictures, optimizer):
    """A whole training leaves encoder, prior and so the fingerprint bit for bit as they were."""
    info = SourceInfo("made up", "train", 16, 3, ("ant", "bee", "cat"), 3, (16, 16), "")
    source = ArraySource(info, rng.integers(0, 256, (16, 16, 16, 3), np.uint8), np.arange(16, dtype=np.int32) % 3)
    config = Artifact.load(tiny_folder).config.copy_and_resolve_references().unlock()
    config.model.decoder.mode = "off"
    config.optim.kind = optimizer
    config.train.update({"batch_size": 8, "epochs": 2.0})
    config.eval.batch_size = 8
    export_artifact(tmp_path / "first", config, fit(config, tmp_path / "run", source, source), source, (16, 16))
    config.init_from, config.init_parts, config.seed = str(tmp_path / "first"), ("encoder", "prior"), 1
    config.quantizer.kind = "hard"
    variables = fit(config, tmp_path / "further", source, source)
    export_artifact(tmp_path / "second", config, variables, source, (16, 16))
    first, second = Artifact.load(tmp_path / "first"), Artifact.load(tmp_path / "second")
    assert first.fingerprint == second.fingerprint
    assert first.digests["prior"] == second.digests["prior"]
    assert first.digests["classifier"] != second.digests["classifier"]
    initial = Artifact.load(tmp_path / "second").variables("classifier")["batch_stats"]
    assert any(np.any(leaf) for leaf in jax.tree.leaves(initial))  # it has seen symbols
    data = EdgeEncoder(first).compress_stream(pictures)
    assert Receiver(second).logits(data).shape == (5, 3)


def test_the_command_line(members, tmp_path, capsys):
    names = [str(member.folder) for member in members]
    out = tmp_path / "vote"
    assert main(["ensemble", *names[1:], "--bytes-of", names[0], "-o", str(out)]) == 0
    assert "2 classifiers" in capsys.readouterr().out
    assert main(["ensemble", *names, "-o", str(out)]) == 0  # a model may be replaced
    assert json.loads((out / "config.json").read_text())["model"]["classifier"]["members"] == 3
    (tmp_path / "photos").mkdir()
    assert main(["ensemble", *names, "-o", str(tmp_path / "photos")]) == 1
    assert "exists and is no model" in capsys.readouterr().err
    assert list((tmp_path / "photos").iterdir()) == []
    assert main(["ensemble", names[0], "nothing", "-o", str(Path(tmp_path / "x"))]) == 1
    assert "No model 'nothing'" in capsys.readouterr().err
