"""Arguments of `vae-jcc` and dispatch; what the subcommands do is in coding.py, reading.py and models.py."""

import argparse
import sys
from collections.abc import Sequence

from vae_jcc import __version__
from vae_jcc.cli import coding, models, reading

_INPUTS = "files, folders, globs, or - for standard input"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one subcommand and returns the exit status: 0 done, 1 bad input, 2 bad usage, 130 interrupted."""
    options = build_parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except (ValueError, OSError, RuntimeError) as error:  # BitstreamError, ArtifactError and DataError among them
        print(f"vae-jcc: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser; each subcommand's function is its default for `run`."""
    parser = argparse.ArgumentParser(
        prog="vae-jcc", description="Compress pictures to a few hundred bytes and name their content from the bytes."
    )
    parser.add_argument("--version", action="version", version=f"vae-jcc {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: object, text: str, inputs: bool = True) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(run=run)
        if inputs:
            sub.add_argument("inputs", nargs="+", metavar="INPUT", help=_INPUTS)
            sub.add_argument("--model", required=True, help="a shipped model's name, or an artifact's folder")
        return sub

    def output(sub: argparse.ArgumentParser, text: str) -> None:
        sub.add_argument("--output", "-o", default="", help=f"file, folder, or - for standard output; default: {text}")

    encode = command("encode", coding.encode, "pictures to .vjc files (needs only the encoder)")
    output(encode, "beside each picture")
    encode.add_argument("--stream", action="store_true", help="all pictures into one stream: one header for all")
    encode.add_argument("--resize", action="store_true", help="bring pictures to the model's input size first")
    decode = command("decode", coding.decode, ".vjc files to latent symbols as .npy (needs no JAX)")
    output(decode, "beside each file")
    reconstruct = command("reconstruct", coding.reconstruct, ".vjc files to PNG pictures")
    output(reconstruct, "beside each file")
    classify = command("classify", reading.classify, "name what .vjc files (or pictures, coded first) show")
    classify.add_argument("--top", type=int, default=3, help="classes to name; default 3")
    classify.add_argument("--json", action="store_true", help="one JSON object a line")
    classify.add_argument("--resize", action="store_true", help="bring pictures to the model's input size first")
    inspect = command("inspect", reading.inspect, "header and bytes by part of .vjc files (needs no JAX)")
    inspect.add_argument("--json", action="store_true", help="one JSON object a line")
    evaluate = command("evaluate", models.evaluate, "accuracy of a data set from its bytes", inputs=False)
    evaluate.add_argument("--model", required=True, help="a shipped model's name, or an artifact's folder")
    evaluate.add_argument("--data", default="", help="a TFDS name, folder:DIR or bundled:NAME; default: the model's own")
    evaluate.add_argument("--split", default="test", help="default: test")
    evaluate.add_argument("--data-dir", default="", help="where TFDS data sets lie; default: TFDS_DATA_DIR")
    evaluate.add_argument("--batch-size", type=int, default=500, help="images a step; default 500")
    evaluate.add_argument("--json", default="", metavar="FILE", help="write the figures here too")
    listing = command("models", models.list_models, "the models that ship with the package", inputs=False)
    listing.add_argument("--json", action="store_true", help="one JSON object a line")
    return parser
