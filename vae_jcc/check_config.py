"""What contradicts itself in a configuration, or does not fit the data, found before the first step."""

import json
from operator import attrgetter

from ml_collections import ConfigDict

from vae_jcc.artifact import Artifact
from vae_jcc.data.array_source import common_size
from vae_jcc.data.sources import Source, check_held_out
from vae_jcc.data.splits import count_common
from vae_jcc.entropy.parallel_context import group_channels
from vae_jcc.evaluate import check_fits

# Of keys that nothing else reads before training ends.
_CHOICES = {
    "compute_dtype": ("float32", "bfloat16"),
    "artifact_dtype": ("float32", "float16"),
    "artifact_compute_dtype": ("float32", "bfloat16"),
    "model.decoder.mode": ("off", "joint", "frozen"),
    "entropy.context.kind": ("", "serial", "parallel", "hyperprior"),
}
_POSITIVE = (
    "train.batch_size",
    "train.epochs",
    "train.accumulate",
    "eval.batch_size",
    "eval.every_epochs",
    "checkpoint.every_epochs",
    "checkpoint.keep",
    "log.every_steps",
)


def check_config(config: ConfigDict, train: Source, validation: Source, test: Source) -> None:
    """Checks a training's settings against each other and the data.

    What building the model, the optimizer and the iterator refuses, they refuse by themselves.

    Args:
        config: the complete configuration.
        train: training images.
        validation: images for choices.
        test: images for the published figures.

    Raises:
        ValueError: a value is none of its key's, settings contradict each other, or a teacher does not fit the data.
        DataError: images of several sizes come without `dataset.image_size`.
    """
    for key, choices in _CHOICES.items():
        value = attrgetter(key)(config)
        if value not in choices:
            raise ValueError(f"config.{key} is {value!r}: choose one of {', '.join(map(repr, choices))}.")
    for key in _POSITIVE:
        if attrgetter(key)(config) <= 0:
            raise ValueError(f"config.{key} is {attrgetter(key)(config)}: it must be more than 0.")
    if not 0 <= config.augment.cutmix <= 1:
        raise ValueError(f"config.augment.cutmix is {config.augment.cutmix}: it must be in 0 .. 1.")
    if not 0 <= config.seed < 2**31:
        raise ValueError(f"config.seed is {config.seed}: it must be in 0 .. 2**31 - 1.")
    _check_pairs(config)
    if config.quantizer.kind == "hard":
        _check_receiver(config)
    if "parallel" in (config.entropy.kind, config.entropy.context.kind):
        group_channels([0.0] * config.model.latent_channels, config.entropy.context.groups)
    for source in (train, validation, *([test] if config.eval.jpeg_baseline else [])):
        common_size(source.info, config.dataset.image_size)
    for path in filter(None, config.loss.teacher.split(",")):
        check_fits(Artifact.load(path.strip()), train, "the teacher")


def check_splits(train: Source, validation: Source, test: Source) -> str:
    """Checks that no image is both trained on and tested on.

    Returns:
        What must be known of the validation images where some are trained on, too, which is meant where the last
        training uses all there are; else "".

    Raises:
        DataError: test images are trained on.
    """
    check_held_out(test.info, train.info)
    count = count_common(validation.info.ranges, train.info.ranges)
    if not count:
        return ""
    return (
        f"{count:,} of the {len(validation):,} images of the validation split {validation.info.split!r} are trained "
        "on, too: what the validation says of them, and chooses by it, is no measure of other images."
    )


def _check_pairs(config: ConfigDict) -> None:
    """Raises ValueError where one setting does nothing, or harm, without another."""
    loss, dataset = config.loss, config.dataset
    if config.model.decoder.mode == "joint" and loss.mse_weight <= 0:
        raise ValueError(
            "config.model.decoder.mode='joint' with config.loss.mse_weight=0 trains no decoder: set the weight, or the "
            "mode to 'frozen'."
        )
    if bool(loss.teacher) != (loss.distill_weight > 0):
        raise ValueError(
            f"config.loss.teacher is {loss.teacher!r} and config.loss.distill_weight {loss.distill_weight}: a teacher "
            "needs a share of the loss, and the share a teacher. Set both or neither."
        )
    if loss.teacher_views < 0 or (loss.teacher_views and not loss.teacher):
        raise ValueError(
            f"config.loss.teacher_views is {loss.teacher_views}: it must be 0, or how many views of each image "
            "config.loss.teacher is asked about; set that too."
        )
    if loss.teacher_views and dataset.crop_scale:
        raise ValueError(
            "config.loss.teacher_views gives each image one label, and config.dataset.crop_scale cuts parts of images "
            "that show other things: set teacher_views to 0, so that the teacher sees each crop."
        )
    if config.optim.decay_all and config.optim.kind != "sgd":
        raise ValueError(
            f"config.optim.decay_all is of config.optim.kind='sgd', and the kind is {config.optim.kind!r}: turn it off."
        )
    if config.init_parts and not config.init_from:
        raise ValueError("config.init_parts says what to take of config.init_from: set that too.")
    if config.quantizer.centres and config.quantizer.kind != "soft_to_hard":
        raise ValueError("config.quantizer.centres are those of config.quantizer.kind='soft_to_hard': set that too.")
    if dataset.eval_margin and not dataset.image_size:
        raise ValueError("config.dataset.eval_margin leaves room around config.dataset.image_size: set that too.")


def _check_receiver(config: ConfigDict) -> None:
    """Raises ValueError where a receiver for bytes that exist would not be one."""
    both_parts = not config.init_parts or {"encoder", "prior"} <= set(config.init_parts)
    moved = any("=" in part and part.split("=")[0].split("/")[0] in ("encoder", "prior") for part in config.init_parts)
    if not (config.init_from and both_parts) or "," in config.init_from or moved:
        raise ValueError(
            "config.quantizer.kind='hard' trains a receiver for the bytes of one model: name it in config.init_from, "
            "and let config.init_parts be () or have 'encoder' and 'prior', with nothing moved in them."
        )
    base = Artifact.load(config.init_from)
    if "centres" in base.parts:
        raise ValueError(
            f"{config.init_from} has learned centres, and config.quantizer.kind='hard' is of rounded latents: train on "
            "with 'soft_to_hard'."
        )
    ours, theirs = (json.loads(c.model.encoder.to_json()) for c in (config, base.config))
    if differing := [key for key in ours if ours[key] != theirs[key]]:
        raise ValueError(
            f"config.model.encoder ({', '.join(differing)}) is not that of {config.init_from}, whose bytes "
            "config.quantizer.kind='hard' reads: use its configuration."
        )
    if config.optim.rate_optimizer:
        raise ValueError(
            "config.quantizer.kind='hard' leaves the rate as it is: config.optim.rate_optimizer must be ''."
        )
