"""A context model trained on a finished artifact: fewer bits, the same symbols, exact bytes, a new fingerprint."""

import shutil

import jax
import numpy as np
import pytest

from configs import quickstart
from vae_jcc import EdgeEncoder, Receiver
from vae_jcc.artifact import Artifact
from vae_jcc.artifact_writing import add_context
from vae_jcc.benchmark.systems import Spec, open_system
from vae_jcc.coding import BitstreamError
from vae_jcc.data.sources import open_source
from vae_jcc.evaluate import evaluate_artifact
from vae_jcc.model_folder import ArtifactError
from vae_jcc.models.joint import build_model
from vae_jcc.publish import export_artifact
from vae_jcc.train_context import train_context


@pytest.fixture(scope="module")
def config():
    """A small model on the bundled images."""
    config = quickstart.get_config()
    config.model.encoder.stem_features, config.model.encoder.stages = 4, ((6, 1, 2),)
    config.model.classifier.stages = ((8, 1, 1),)
    config.model.decoder.mode = "off"
    config.train.batch_size, config.eval.batch_size = 32, 50
    config.entropy.context.update({"features": 12, "groups": 2, "epochs": 1.0, "learning_rate": 1e-2})
    return config


@pytest.fixture(scope="module")
def sources(config):
    """Training and validation images."""
    return [open_source(config.dataset.name, split) for split in ("train[:1600]", "train[1600:1700]")]


@pytest.fixture(scope="module")
def plain(config, sources, tmp_path_factory):
    """An artifact with random weights, coded by its tables."""
    variables = jax.jit(build_model(config, 10, 1).init)(jax.random.key(3), np.zeros((1, 28, 28, 1), np.float32))
    variables["params"]["encoder"]["latent"]["kernel"] *= 4.0
    folder = tmp_path_factory.mktemp("plain") / "artifact"
    export_artifact(folder, config, variables, sources[0], (28, 28))
    return folder


@pytest.mark.parametrize("kind", ["serial", "parallel", "hyperprior"])
def test_it_saves_bits_and_changes_nothing_else(kind, config, sources, plain, tmp_path):
    folder = shutil.copytree(plain, tmp_path / "artifact")
    config = config.copy_and_resolve_references()
    config.entropy.context.kind = kind
    if kind == "hyperprior":  # its two networks have to find a language first
        config.entropy.context.epochs = 2.0
    facts = train_context(config, folder, *sources)
    assert facts["bits"] < 0.97 * facts["bits_tables"]
    assert facts["bits"] < 1.05 * facts["bits_float"]

    before, after = Artifact.load(plain), Artifact.load(folder)
    assert after.context == kind and after.facts["context"] == facts and after.fingerprint != before.fingerprint
    old, new = (evaluate_artifact(a, sources[1], batch_size=50) for a in (before, after))
    assert new["top1"] == old["top1"] and new["bytes_payload"] < old["bytes_payload"]
    assert new["bpp_estimated"] * 28 * 28 == pytest.approx(
        facts["bits"], rel=5e-3
    )  # escapes beyond the tables' support
    assert new["payload_overhead"] < 1.05
    held = [open_system(Spec("model", str(f), (28, 28), 1)) for f in (plain, folder)]
    assert held[1].parameters - held[0].parameters == new["context_params"] > 0
    assert held[1].weight_bytes > held[0].weight_bytes and held[1].name == f"{held[0].name}, {kind} context"

    images = sources[1].images[:3]
    edge, receiver = EdgeEncoder(after), Receiver(after)
    data = edge.compress_stream(images)
    expected = Receiver(before).symbols(EdgeEncoder(before).compress_stream(images))
    assert all(np.array_equal(a, b) for a, b in zip(receiver.symbols(data), expected, strict=True))
    report = receiver.inspect(data)
    assert sum(report["channel_bits"]) == pytest.approx(8 * report["bytes"]["payload"], abs=8 * 3)
    with pytest.raises(BitstreamError):
        Receiver(before).symbols(data)


def test_symbols_that_stay_in_memory_are_those_that_every_epoch_would_encode(config, sources, plain, tmp_path):
    """In the same order, so the same model comes out."""
    config = config.copy_and_resolve_references()
    config.entropy.context.update({"kind": "parallel", "features": 4, "epochs": 1.5})
    facts = []
    for limit in (2**30, 1600 * 28 * 28):  # the second holds the pixels of 1,600 images, not their symbols
        config.dataset.memory_limit = limit
        facts.append(train_context(config, shutil.copytree(plain, tmp_path / str(limit)), *sources))
    assert facts[0] == facts[1]


def test_microbatches_learn_what_the_whole_batch_learns(config, sources, plain, tmp_path):
    config = config.copy_and_resolve_references()
    config.entropy.context.update({"kind": "serial", "features": 4, "epochs": 0.2, "fixed_fraction": 0.0})
    facts = []
    for count in (1, 4):
        config.train.accumulate = count
        facts.append(train_context(config, shutil.copytree(plain, tmp_path / str(count)), *sources))
    whole, parts = facts
    assert all(np.isfinite([one["bits_float"], one["bits"]]).all() for one in facts)  # without a part in integers too
    assert whole["bits"] < whole["bits_tables"] - 1
    assert parts["bits"] == pytest.approx(whole["bits"], abs=0.1)


def test_what_does_not_fit_is_refused_and_the_model_stays_as_it_was(config, sources, plain, tmp_path):
    folder = shutil.copytree(plain, tmp_path / "artifact")
    with pytest.raises(ArtifactError, match="does not fit"):
        add_context(folder, "serial", {"base": np.zeros((1, 2), np.int32)}, {})
    config = config.copy_and_resolve_references()
    config.entropy.context.kind = "spiral"
    with pytest.raises(ValueError, match="'serial', 'parallel', 'hyperprior'"):
        train_context(config, folder, *sources)
    assert Artifact.load(folder).fingerprint == Artifact.load(plain).fingerprint
