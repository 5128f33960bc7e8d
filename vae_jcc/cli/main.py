"""Arguments of `vae-jcc` and dispatch; what the subcommands do is in the modules beside this one."""

import argparse
import os
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from typing import Any

from vae_jcc import __version__
from vae_jcc.cli import bench, coding, models, profile, reading
from vae_jcc.cli.bulk import error_line
from vae_jcc.coding import CODERS, MAX_PIXELS
from vae_jcc.interrupt import EXIT_INTERRUPTED, EXIT_PREEMPTED, Preempted
from vae_jcc.memory import use_huge_pages

_INPUTS = "files, folders (searched at any depth), quoted globs, or - for standard input"
_CODER = "entropy coder; tfc needs an environment of its own (docs/tfc.md)"
_MODEL = "a shipped model's name (see `vae-jcc models`), or an artifact's folder"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one subcommand.

    Returns:
        The exit status: 0 all done, 1 bad input (each told in a line on standard error), 2 bad usage, 130 interrupted,
        75 stopped by SIGTERM while a classifier was trained, with a checkpoint.
    """
    parser = build_parser()
    options, rest = parser.parse_known_args(arguments)
    if rest and "settings" in options:  # of a command that takes --config.KEY=VALUE
        options.settings = [text for text in rest if text.startswith("--config.")]
        rest = [text for text in rest if text not in options.settings]
    if rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if arguments is None and "trains" in options:  # the console command's own process, not a caller's
        use_huge_pages()
    try:
        status = int(options.run(options))
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        # The reader has gone (vae-jcc ... | head). Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (ValueError, OSError, RuntimeError) as error:  # BitstreamError, ArtifactError and DataError among them
        print(f"vae-jcc: {error_line(error)}", file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("vae_jcc"):
            raise
        # Such as JAX in the environment of docs/tfc.md, where commands that run no network do work.
        where = "run it where vae_jcc is installed with all of its requirements"
        print(f"vae-jcc: this command needs {error.name}, which is not installed here: {where}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except Preempted:
        return EXIT_PREEMPTED


def build_parser() -> ArgumentParser:
    """Returns the parser; each subcommand's function is its default for `run`."""
    parser = ArgumentParser(
        prog="vae-jcc", description="Compress pictures to a few hundred bytes and name their content from the bytes."
    )
    parser.add_argument("--version", action="version", version=f"vae-jcc {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_coding(commands)
    _add_reading(commands)
    _add_models(commands)
    bench.add_bench(commands)
    text = "trace training steps on random pixels, and list what takes the time"
    profile.add_arguments(commands.add_parser("profile", help=text, description=text))
    return parser


def _add_coding(commands: Any) -> None:
    encode = _command(commands, "encode", coding.encode, "pictures to .vjc files (needs only the encoder)")
    _add_inputs(encode)
    _add_output(encode, "photo.vjc beside photo.png")
    encode.add_argument("--coder", choices=CODERS, default="range", help=f"{_CODER}; default range")
    _add_dead_zone(encode)
    encode.add_argument("--stream", action="store_true", help="all pictures into one file: one header for all")
    encode.add_argument(
        "--joined", action="store_true", help="with --stream: many pictures of one size in each message, fewer bytes"
    )
    _add_resize(encode)
    _add_batch_size(encode, 256)
    _add_json(encode)
    decode = _command(commands, "decode", coding.decode, ".vjc files to latent symbols as .npy (needs no JAX)")
    _add_inputs(decode)
    _add_max_pixels(decode)
    _add_output(decode, "photo.npy beside photo.vjc")
    recode = _command(commands, "recode", coding.recode, "the same symbols by another entropy coder (needs no JAX)")
    _add_inputs(recode)
    _add_max_pixels(recode)
    recode.add_argument("--coder", choices=CODERS, required=True, help=_CODER)
    _add_output(recode, "photo.tfc.vjc beside photo.vjc")
    reconstruct = _command(
        commands, "reconstruct", coding.reconstruct, ".vjc files to PNG pictures, where the model has a decoder"
    )
    _add_inputs(reconstruct)
    _add_max_pixels(reconstruct)
    _add_output(reconstruct, "photo.vjc.png beside photo.vjc")


def _add_reading(commands: Any) -> None:
    classify = _command(
        commands, "classify", reading.classify, "name what .vjc files, or pictures (coded in memory first), show"
    )
    _add_inputs(classify)
    _add_max_pixels(classify)
    classify.add_argument("--top", type=_positive, default=3, metavar="N", help="classes to name; default 3")
    _add_resize(classify)
    _add_batch_size(classify, 256)
    _add_json(classify)
    inspect = _command(commands, "inspect", reading.inspect, "what .vjc files are made of (needs no JAX)")
    inspect.add_argument("inputs", nargs="+", metavar="INPUT", help=_INPUTS)
    inspect.add_argument("--model", default="", metavar="NAME|DIR", help=f"{_MODEL}; without: the header alone")
    _add_max_pixels(inspect)
    _add_json(inspect)


def _add_models(commands: Any) -> None:
    evaluate = _command(commands, "evaluate", models.evaluate, "accuracy on a data set from real bytes")
    evaluate.add_argument("--model", required=True, metavar="NAME|DIR", help=_MODEL)
    data = 'a TFDS name, "folder:DIR" or "bundled:NAME"; default: what the model was trained on'
    evaluate.add_argument("--data", default="", metavar="SOURCE", help=data)
    evaluate.add_argument("--split", default="", help="default: the model's test split; for other data, test")
    evaluate.add_argument("--data-dir", default="", help="where TFDS data sets lie; default: TFDS_DATA_DIR")
    _add_dead_zone(evaluate)
    _add_batch_size(evaluate, 500)
    evaluate.add_argument("--json", default="", metavar="FILE", help="write the figures here too; - prints only them")
    listing = _command(commands, "models", models.list_models, "the models that ship with the package")
    _add_json(listing)


def _command(commands: Any, name: str, run: Callable[[Namespace], int], text: str) -> ArgumentParser:
    parser: ArgumentParser = commands.add_parser(name, help=text, description=text)
    parser.set_defaults(run=run)
    return parser


def _add_inputs(parser: ArgumentParser) -> None:
    parser.add_argument("inputs", nargs="+", metavar="INPUT", help=_INPUTS)
    parser.add_argument("--model", required=True, metavar="NAME|DIR", help=_MODEL)


def _add_output(parser: ArgumentParser, default: str) -> None:
    text = f"file, folder, or - for standard output; existing files are replaced; default: {default}"
    parser.add_argument("--output", "-o", default="", metavar="PATH", help=text)


def _add_dead_zone(parser: ArgumentParser) -> None:
    text = "send fewer bytes, for some accuracy: how much farther from 0 a latent must lie to count; try 0.02 to 0.1"
    parser.add_argument("--dead-zone", type=float, default=0.0, metavar="WIDTH", help=f"{text}; default 0")


def _add_resize(parser: ArgumentParser) -> None:
    text = "scale and centre-crop pictures to the model's input size first; default: code them as they are"
    parser.add_argument("--resize", action="store_true", help=text)


def _add_max_pixels(parser: ArgumentParser) -> None:
    text = f"refuse .vjc files that announce a larger picture; default {MAX_PIXELS:,}"
    parser.add_argument("--max-pixels", type=_positive, default=MAX_PIXELS, metavar="N", help=text)


def _add_batch_size(parser: ArgumentParser, default: int) -> None:
    parser.add_argument("--batch-size", type=_positive, default=default, metavar="N", help=f"default {default}")


def _add_json(parser: ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON object a line")


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not a positive number")
    return value
