"""Settings that contradict themselves, each other or the data stop a run before its first step."""

from dataclasses import replace

import pytest

from configs import quickstart
from vae_jcc.check_config import check_config, check_splits
from vae_jcc.data.array_source import ArraySource, load_into_memory
from vae_jcc.data.errors import DataError
from vae_jcc.data.sources import open_source


@pytest.fixture(scope="module")
def source():
    """Eight images of ten classes."""
    return load_into_memory(open_source("bundled:fashion_mnist", "test[:8]"))


def with_info(source, **facts):
    return ArraySource(replace(source.info, **facts), source.images, source.labels)


TAUGHT = {"loss.teacher": "cifar10", "loss.distill_weight": 0.5}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"compute_dtype": "bf16"}, "compute_dtype is 'bf16': choose one of 'float32', 'bfloat16'"),
        ({"artifact_dtype": "fp16"}, "artifact_dtype is 'fp16'"),
        ({"model.decoder.mode": "forzen"}, "mode is 'forzen': choose one of 'off', 'joint', 'frozen'"),
        ({"entropy.context.kind": "paralel"}, "kind is 'paralel'"),
        ({"entropy.context.kind": "parallel", "model.latent_channels": 3}, r"3 channels make 1\.\.3 groups, not 4"),
        ({"entropy.kind": "parallel", "entropy.context.groups": 5}, r"make 1\.\.4 groups, not 5"),
        ({"augment.cutmix": 8}, r"cutmix is 8.*: it must be in 0 \.\. 1"),
        ({"seed": -1}, "seed is -1: it must be in 0"),
        ({"log.every_steps": 0}, "log.every_steps is 0: it must be more than 0"),
        ({"eval.every_epochs": 0.0}, "eval.every_epochs is 0"),
        ({"checkpoint.every_epochs": -1.0}, "checkpoint.every_epochs is -1"),
        ({"model.decoder.mode": "joint"}, "mse_weight=0 trains no decoder"),
        ({"loss.teacher": "cifar10"}, "Set both or neither"),
        ({"loss.distill_weight": 0.5}, "Set both or neither"),
        (TAUGHT, "the teacher wants 3 and 10"),
        ({"loss.teacher_views": 2}, "loss.teacher is asked about; set that too"),
        (
            {
                "loss.teacher": "cifar10",
                "loss.distill_weight": 0.5,
                "loss.teacher_views": 2,
                "dataset.crop_scale": (0.1, 1),
            },
            "set teacher_views to 0",
        ),
        ({"init_parts": ("encoder",)}, "init_from: set that too"),
        ({"quantizer.centres": 3}, "soft_to_hard"),
        ({"optim.decay_all": True, "optim.kind": "muon"}, "decay_all is of config.optim.kind='sgd'"),
        ({"quantizer.kind": "hard"}, "name it in config.init_from"),
        ({"quantizer.kind": "hard", "init_from": "cifar10,cifar10"}, "the bytes of one model"),
        (
            {
                "quantizer.kind": "hard",
                "init_from": "cifar10",
                "init_parts": ("encoder", "prior", "encoder/stages/stage0_block1=encoder/stages/stage0_block0"),
            },
            "nothing moved in them",
        ),
        (
            {"quantizer.kind": "hard", "init_from": "cifar10", "init_parts": ("encoder",)},
            "be \\(\\) or have 'encoder' and 'prior'",
        ),
        ({"quantizer.kind": "hard", "init_from": "cifar10"}, r"encoder \(stem_features, stages\) is not that of"),
        ({"dataset.eval_margin": 2}, "image_size: set that too"),
    ],
)
def test_contradictions_are_refused(source, settings, message):
    config = quickstart.get_config()
    config.update_from_flattened_dict(settings)
    with pytest.raises(ValueError, match=message):
        check_config(config, source, source, source)


def test_what_fits_passes_and_images_of_several_sizes_need_one(source):
    config, mixed = quickstart.get_config(), with_info(source, image_size=None)
    check_config(config, source, source, source)
    with pytest.raises(DataError, match="image_size"):
        check_config(config, source, mixed, source)
    config.eval.jpeg_baseline = True
    with pytest.raises(DataError, match="image_size"):
        check_config(config, source, source, mixed)
    config.eval.jpeg_baseline = False
    check_config(config, source, source, mixed)  # an artifact brings them to its own size


def part(split):
    return open_source("bundled:fashion_mnist", split)


def test_images_to_test_on_are_not_trained_on():
    with pytest.raises(DataError, match=r"^40 images of the test split 'train\[100:140\]' are in the training split"):
        check_splits(part("train"), part("test[:5]"), part("train[100:140]"))


def test_images_to_choose_by_may_be_trained_on_and_that_is_said():
    train, test = part("train"), part("test[:5]")
    said = check_splits(train, part("train[:7]"), test)
    assert said.startswith("7 of the 7 images of the validation split 'train[:7]' are trained on")
    assert check_splits(part("train[:10]"), part("train[10:20]"), test) == ""
