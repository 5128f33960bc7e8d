"""What ships with the package works from the package alone, and its recorded figures are those of its bytes."""

import os

import numpy as np
import pytest

from vae_jcc import EdgeEncoder, Receiver
from vae_jcc.artifact import Artifact
from vae_jcc.benchmark.cost import count_parameters
from vae_jcc.data.sources import open_source
from vae_jcc.evaluate import evaluate_artifact
from vae_jcc.model_folder import zoo_names

MOST_BYTES, MOST_ENCODER_PARAMETERS = 8_000_000, 99_000


def test_the_cifar10_models_ship():
    assert zoo_names() == ["cifar10", "cifar10_deep", "cifar10_lean", "cifar10_small_grid"]


@pytest.mark.parametrize("name", zoo_names())
def test_a_shipped_model_is_whole_small_and_says_what_it_reaches(name):
    artifact = Artifact.load(name)
    assert {"encoder", "prior", "classifier", "decoder"} <= set(artifact.parts)
    assert artifact.size_bytes <= MOST_BYTES
    assert count_parameters(artifact.variables("encoder")["params"]) <= MOST_ENCODER_PARAMETERS
    assert {"top1", "bpp_file", "bytes_stream", "dataset", "split"} <= artifact.evaluation.keys()
    assert abs(artifact.facts["top1_float32"] - artifact.evaluation["top1"]) < 0.002  # what float16 costs


@pytest.mark.parametrize("name", zoo_names())
def test_bytes_are_read_back_and_named(name, rng):
    edge, receiver = EdgeEncoder.load(name), Receiver.load(name)
    height, width = edge.artifact.input_size
    coarse = rng.integers(0, 256, (5, height // 4, width // 4, edge.artifact.channels), np.uint8)
    images = coarse.repeat(4, axis=1).repeat(4, axis=2)
    data = edge.compress(images)
    probabilities = receiver.classify(data)
    assert probabilities.shape == (5, len(receiver.class_names))
    np.testing.assert_allclose(probabilities.sum(axis=-1), 1.0, rtol=1e-5)
    assert all(picture.shape == images.shape[1:] for picture in receiver.reconstruct(data))
    assert max(map(len, data)) < images[0].size / 8


@pytest.mark.skipif(not os.environ.get("TFDS_DATA_DIR"), reason="needs TFDS_DATA_DIR with cifar10")
@pytest.mark.parametrize("name", zoo_names())
def test_the_recorded_figures_are_those_of_the_bytes(name):
    artifact = Artifact.load(name)
    source = open_source(artifact.dataset, "test[:1000]")
    result = evaluate_artifact(artifact, source)
    # A thousand of the ten thousand images: three standard errors.
    assert result["top1"] == pytest.approx(artifact.evaluation["top1"], abs=0.035)
    assert result["bpp_file"] == pytest.approx(artifact.evaluation["bpp_file"], rel=0.02)
