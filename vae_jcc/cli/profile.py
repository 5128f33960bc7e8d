"""`vae-jcc profile`: a trace of training steps on random pixels, and what it says (docs/profile.md)."""

import argparse
import re
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vae_jcc.cli.files import write_bytes

if TYPE_CHECKING:
    from ml_collections import ConfigDict

Shape = tuple[int, int, int]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `vae-jcc profile`; settings --config.KEY=VALUE are left over for `run`."""
    parser.set_defaults(run=run, settings=[], trains=True)
    parser.usage = "%(prog)s --config FILE [--config.KEY=VALUE ...] -o DIR [--shape HxWxC] [--classes K] [--steps N]"
    parser.add_argument("--config", required=True, metavar="FILE", help="a configuration, such as configs/cifar10.py")
    shape = "of the images of a batch; default: as the configuration's data set has them"
    parser.add_argument("--shape", type=_shape, metavar="HxWxC", help=shape)
    parser.add_argument("--classes", type=_positive, metavar="K", help="default: as many as the data set has")
    parser.add_argument("--steps", type=_positive, default=5, metavar="N", help="that are traced; default 5")
    output = "folder for the trace and profile.txt"
    parser.add_argument("--output", "-o", required=True, metavar="DIR", help=output)


def run(options: Namespace) -> int:
    """Traces, prints the summary and writes it beside the trace."""
    config = read_config(options.config, options.settings)
    shape, classes = options.shape, options.classes
    if shape is None or classes is None:
        declared_shape, declared_classes = _declared(config)
        shape, classes = shape or declared_shape, classes or declared_classes
    from vae_jcc.benchmark.training_profile import profile_training, report

    folder = Path(options.output)
    text = report(profile_training(config, shape, classes, folder, options.steps))
    write_bytes(folder / "profile.txt", text.encode())
    print(text)
    print(f"TensorBoard: tensorboard --logdir {folder}    Perfetto: open {folder}/plugins/profile/*/perfetto_trace*")
    return 0


def read_config(path: str, settings: Sequence[str]) -> "ConfigDict":
    """Returns a configuration with settings "--config.KEY=VALUE" applied, as `python -m vae_jcc.main` reads them.

    Raises:
        ValueError: there is no such file or key, or a value does not fit.
    """
    from absl import flags
    from ml_collections import config_flags

    from vae_jcc.benchmark.flax_systems import load_config

    config = load_config(path)
    arguments = ["vae-jcc", *settings]
    values = flags.FlagValues()  # flags of our own: those of absl belong to the process
    try:
        config_flags.DEFINE_config_dict("config", config, lock_config=True, flag_values=values, sys_argv=arguments)
        values(arguments)
    except (flags.Error, AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"{path} with {' '.join(settings)}: {error}") from error
    return config


def _declared(config: "ConfigDict") -> tuple[Shape, int]:
    """Returns (H, W, C) of training batches and the number of classes, as the data set declares them.

    Raises:
        ValueError: it does not.
    """
    from vae_jcc.data.errors import DataError
    from vae_jcc.data.sources import open_source

    d = config.dataset
    try:
        info = open_source(d.name, d.train_split, data_dir=d.data_dir or None).info
        size, channels, classes = info.image_size, info.channels, info.num_classes
    except DataError:
        size, channels, classes = _declared_by_tfds(d.name)  # even where the data are not at hand
    if d.image_size:
        size = (d.image_size + 2 * d.margin,) * 2
    if size is None:
        raise ValueError(f"The sizes of {d.name} differ: set --config.dataset.image_size, or name a --shape.")
    return (*size, channels), classes


def _declared_by_tfds(name: str) -> tuple[tuple[int, int] | None, int, int]:
    try:
        import tensorflow_datasets as tfds

        features = tfds.builder(name).info.features
        height, width, channels = features["image"].shape
        return (height, width) if height and width else None, channels or 3, features["label"].num_classes
    except Exception as error:  # TFDS and what it imports raise whatever they like for an unknown name
        raise ValueError(f"{name} is not at hand: name --shape (such as 32x32x3) and --classes.") from error


def _shape(text: str) -> Shape:
    match = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)x([13])", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no shape: write height x width x channels, such as 160x160x3")
    return int(match[1]), int(match[2]), int(match[3])


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not a positive number")
    return value
