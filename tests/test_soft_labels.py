"""Soft labels: a teacher's mean answer about an image's views, asked once, kept, and put beside the right images."""

import shutil

import jax
import numpy as np
import pytest

from configs import quickstart
from vae_jcc.data.array_source import ArraySource
from vae_jcc.data.sources import SourceInfo
from vae_jcc.parallel import Devices, make_devices
from vae_jcc.soft_labels import FILE, soft_labels
from vae_jcc.teacher import load_teacher
from vae_jcc.train import fit


@pytest.fixture
def source(rng):
    """Twenty-three pictures of three classes, which fill no whole number of batches."""
    info = SourceInfo("made up", "train", 23, 3, ("ant", "bee", "cat"), 3, (16, 16), "")
    return ArraySource(info, rng.integers(0, 256, (23, 16, 16, 3), np.uint8), np.arange(23, dtype=np.int32) % 3)


@pytest.fixture
def config(tiny_folder):
    """A model small enough to train here, and its teacher, who is asked about three views."""
    config = quickstart.get_config()
    config.model.encoder.update({"stem_features": 4, "stages": ((6, 1, 2),)})
    config.model.classifier.stages = ((8, 1, 1),)
    config.train.update({"batch_size": 8, "epochs": 2.0})
    config.eval.batch_size = 8
    config.loss.teacher, config.loss.distill_weight, config.loss.teacher_views = str(tiny_folder), 0.7, 3
    return config


def probabilities(logits):
    return np.asarray(jax.nn.softmax(logits, axis=-1))


def asymmetric(images):
    """A teacher whose answer depends on the order of columns."""
    return 4.0 * images[:, 5, :3, 0]


@pytest.mark.parametrize(("mode", "count"), [("jit", 1), ("jit", 4), ("pmap", 2)])
def test_without_augmentation_they_are_the_teachers_answers(config, source, tmp_path, capsys, mode, count):
    """In the source's order, the last, partial batch too, on any devices."""
    config.augment.update({"crop_padding": 0, "flip": False})
    teacher = load_teacher(config.loss.teacher, 3)
    labels = soft_labels(config, teacher, source, tmp_path, make_devices(mode, jax.devices()[:count]))
    assert labels.shape == (23, 3) and labels.dtype == np.float32
    np.testing.assert_allclose(probabilities(labels), probabilities(teacher(source.images / 255.0)), atol=1e-5)
    right = np.mean(labels.argmax(axis=-1) == source.labels)
    assert f"{right:.2%} of its labels are right" in capsys.readouterr().err


def test_views_are_drawn_for_each_image_and_averaged(config, source, tmp_path):
    """Mirrored or not, three times: the mean has 0 to 3 mirrored views, and images differ in how many."""
    config.augment.update({"crop_padding": 0, "flip": True})
    labels = probabilities(soft_labels(config, asymmetric, source, tmp_path, make_devices("jit", jax.devices()[:1])))
    images = source.images / np.float32(255)
    plain, mirrored = probabilities(asymmetric(images)), probabilities(asymmetric(images[:, :, ::-1]))
    mixes = np.stack([(n * mirrored + (3 - n) * plain) / 3 for n in range(4)])
    distance = np.abs(mixes - labels).max(axis=-1)
    np.testing.assert_allclose(distance.min(axis=0), 0.0, atol=1e-5)
    assert len(set(distance.argmin(axis=0).tolist())) == 4


def test_they_are_kept_for_the_same_settings_only(config, source, tmp_path):
    devices = make_devices("jit", jax.devices()[:1])
    first = soft_labels(config, asymmetric, source, tmp_path, devices)

    def silent(images):
        raise AssertionError("asked again")

    np.testing.assert_array_equal(soft_labels(config, silent, source, tmp_path, devices), first)
    for key, value in (("loss.teacher_views", 2), ("augment.flip", False)):
        other = config.copy_and_resolve_references()
        other.update_from_flattened_dict({key: value})
        with pytest.raises(AssertionError, match="asked again"):
            soft_labels(other, silent, source, tmp_path, devices)
    same = config.copy_and_resolve_references()
    same.augment.cutmix = 0.5  # mixes labels later
    same.seed = 1
    np.testing.assert_array_equal(soft_labels(same, silent, source, tmp_path, devices), first)
    (tmp_path / "another_run").mkdir()
    shutil.copy(tmp_path / FILE, tmp_path / "another_run" / FILE)
    np.testing.assert_array_equal(soft_labels(same, silent, source, tmp_path / "another_run", devices), first)
    (tmp_path / FILE).write_bytes(b"PK, and no more")
    with pytest.raises(ValueError, match=r"soft_labels.npz cannot be read.*delete it"):
        soft_labels(config, silent, source, tmp_path, devices)


def test_training_has_each_images_own_answer(config, source, tmp_path, monkeypatch):
    """What a step gets belongs to the images that it gets."""
    seen, put = [], Devices.put_batch
    monkeypatch.setattr(Devices, "put_batch", lambda devices, batch: seen.append(batch) or put(devices, batch))
    fit(config, tmp_path, source, source, make_devices("jit", jax.devices()[:1]))
    steps = [batch for batch in seen if "teacher_logits" in batch]
    labels = soft_labels(config, asymmetric, source, tmp_path, make_devices("jit", jax.devices()[:1]))  # those kept
    assert len(steps) == 2 * (23 // 8)
    for batch in steps:
        rows = [int(np.flatnonzero((source.images == image).all(axis=(1, 2, 3)))[0]) for image in batch["image"]]
        np.testing.assert_array_equal(batch["teacher_logits"], labels[rows])
