"""A receiver that is trained for bytes that exist: the bytes stay as they are, bit for bit."""

import json

import numpy as np
import pytest

from configs import quickstart
from vae_jcc.artifact import Artifact, ArtifactError
from vae_jcc.artifact_writing import save_receiver
from vae_jcc.check_config import check_config
from vae_jcc.data.array_source import ArraySource
from vae_jcc.data.sources import SourceInfo
from vae_jcc.edge import EdgeEncoder
from vae_jcc.publish import publish
from vae_jcc.receiver import Receiver
from vae_jcc.train import fit


def made_up(class_names):
    """Sixteen pictures of some classes."""
    info = SourceInfo("made up", "train", 16, len(class_names), class_names, 3, (16, 16), "")
    pixels = np.random.default_rng(5).integers(0, 256, (16, 16, 16, 3), np.uint8)
    return ArraySource(info, pixels, np.arange(16, dtype=np.int32) % len(class_names))


@pytest.fixture
def config():
    """A model small enough to train here."""
    config = quickstart.get_config()
    config.model.encoder.update({"stem_features": 4, "stages": ((6, 1, 2),)})
    config.model.classifier.stages = ((8, 1, 1),)
    config.train.update({"batch_size": 8, "epochs": 2.0})
    config.eval.update({"batch_size": 8, "jpeg_baseline": False})
    return config


def trained(config, workdir, source):
    """Trains and publishes as `train_and_evaluate` does; returns the artifact."""
    check_config(config, source, source, source)
    publish(config, workdir, fit(config, workdir, source, source), source, source, source)
    return Artifact.load(workdir / "artifact")


@pytest.mark.parametrize("optimizer", ["sgd", "muon"])
def test_a_whole_training_leaves_the_bytes_as_they_are(config, tmp_path, pictures, optimizer):
    """All but the classifier stays, the context model and the decoder too; it has other classes and another shape."""
    config.entropy.context.update({"kind": "parallel", "features": 4, "groups": 3, "epochs": 1.0})
    first = trained(config, tmp_path / "first", made_up(("ant", "bee", "cat")))
    config.init_from, config.init_parts, config.seed = str(first.folder), ("encoder", "prior"), 1
    config.quantizer.kind, config.optim.kind, config.entropy.context.kind = "hard", optimizer, ""
    config.model.classifier.stages = ((10, 1, 1),)
    config.model.decoder.update({"mode": "off", "features": config.model.decoder.features + 1})
    second = trained(config, tmp_path / "second", made_up(("dog", "eel")))
    assert second.fingerprint == first.fingerprint and second.context == "parallel"
    assert {part for part in first.parts if first.digests[part] != second.digests[part]} == {"classifier"}
    assert second.config.entropy == first.config.entropy
    assert second.facts == first.facts | {"seed": 1, "bytes_of": str(first.folder)}
    (system,) = json.loads((tmp_path / "second" / "result.json").read_text())
    assert system["system"].endswith("parallel context") and system["points"][0]["context_params"][0] > 0
    data = EdgeEncoder(first).compress_stream(pictures)
    assert EdgeEncoder(second).compress_stream(pictures) == data
    np.testing.assert_array_equal(Receiver(second).reconstruct(data), Receiver(first).reconstruct(data))
    assert Receiver(first).classify(data).shape == (5, 3) and Receiver(second).classify(data).shape == (5, 2)


def test_all_parts_of_the_start_go_on_but_those_of_the_bytes(config, tmp_path, pictures):
    """With init_parts=() the classifier starts as the first one's; that too is a receiver for its bytes."""
    source = made_up(("ant", "bee", "cat"))
    first = trained(config, tmp_path / "first", source)
    config.init_from, config.quantizer.kind = str(first.folder), "hard"
    config.optim.update({"learning_rate": 1e-6, "weight_decay": 0.0})
    config.model.decoder.update({"mode": "frozen", "features": config.model.decoder.features + 1})
    second = trained(config, tmp_path / "second", source)
    assert second.fingerprint == first.fingerprint
    config.entropy.context.update({"kind": "parallel", "features": 4, "groups": 3, "epochs": 1.0})
    third = trained(config, tmp_path / "second", source)  # the finished command again, with bytes of its own
    assert third.context == third.config.entropy.context.kind == "parallel" and third.fingerprint != first.fingerprint
    assert third.digests["classifier"] == second.digests["classifier"]
    assert Receiver(second).reconstruct(EdgeEncoder(second).compress_stream(pictures))[0].shape == (16, 16, 3)
    kernels = [m.variables("classifier")["params"]["stem"]["kernel"] for m in (first, second)]
    assert np.any(kernels[0] != kernels[1])
    np.testing.assert_allclose(*kernels, atol=1e-4)


def test_a_shipped_models_bytes_keep_their_context_model_and_decoder(tmp_path):
    shipped = Artifact.load("cifar10_small_grid")
    classifier = shipped.variables("classifier")
    classifier["params"]["logits"]["bias"] += np.arange(10, dtype=np.float32)
    config = shipped.config.copy_and_resolve_references().unlock()
    config.model.decoder.mode = "off"  # no new one
    save_receiver(
        tmp_path / "new",
        shipped,
        config=config,
        variables={"classifier": classifier},
        class_names=shipped.class_names,
        input_size=shipped.input_size,
        facts={},
    )
    new, picture = Artifact.load(tmp_path / "new"), np.random.default_rng(6).integers(0, 256, (32, 32, 3), np.uint8)
    assert new.fingerprint == shipped.fingerprint and new.parts == shipped.parts and new.evaluation == {}
    data = EdgeEncoder(shipped).compress(picture)
    np.testing.assert_allclose(Receiver(new).logits(data) - Receiver(shipped).logits(data), np.arange(10), atol=1e-4)
    np.testing.assert_array_equal(Receiver(new).reconstruct(data), Receiver(shipped).reconstruct(data))


def test_what_has_no_bytes_is_refused(config, tmp_path):
    source = made_up(("ant", "bee", "cat"))
    config.init_from, config.quantizer.kind = str(tmp_path), "hard"
    with pytest.raises(ArtifactError, match="is no model"):
        check_config(config, source, source, source)
    config.update(Artifact.load("cifar10").config.copy_and_resolve_references().unlock())
    config.init_from, config.quantizer.kind, config.optim.rate_optimizer = "cifar10", "hard", "adam"
    with pytest.raises(ValueError, match="rate_optimizer must be ''"):
        check_config(config, source, source, source)
