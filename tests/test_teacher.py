"""Teachers: one speaks as the receiver of its own bytes does, several by the mean of their probabilities."""

import jax
import numpy as np
import pytest

from vae_jcc.edge import EdgeEncoder
from vae_jcc.model_folder import ArtifactError
from vae_jcc.receiver import Receiver
from vae_jcc.teacher import load_teacher


def probabilities(logits):
    return np.asarray(jax.nn.softmax(np.asarray(logits)))


def test_a_teacher_says_what_its_receiver_says(tiny_folder, pictures):
    logits = load_teacher(str(tiny_folder), 3)(pictures / np.float32(255))
    received = Receiver.load(tiny_folder).classify(EdgeEncoder.load(tiny_folder).compress(pictures))
    np.testing.assert_allclose(probabilities(logits), received, rtol=1e-4)


def test_several_teachers_average_their_probabilities(tiny_folder, make_tiny, tmp_path, pictures):
    other_folder = tmp_path / "other"
    make_tiny(other_folder, seed=1)
    images = pictures / np.float32(255)
    each = [probabilities(load_teacher(str(folder), 3)(images)) for folder in (tiny_folder, other_folder)]
    assert np.abs(each[0] - each[1]).max() > 0.01
    both = load_teacher(f"{tiny_folder}, {other_folder}", 3)(images)
    np.testing.assert_allclose(probabilities(both), np.mean(each, axis=0), rtol=1e-5)


def test_a_teacher_of_other_classes_and_none_at_all_are_refused(tiny_folder):
    with pytest.raises(ValueError, match="knows 3 classes, the data set has 10"):
        load_teacher(str(tiny_folder), 10)
    with pytest.raises(ArtifactError, match="No model 'nobody'"):
        load_teacher(f"{tiny_folder},nobody", 3)
