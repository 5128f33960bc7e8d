"""`vae-jcc bench efficiency`: what encoders cost a device, side by side (docs/benchmark_efficiency.md)."""

import argparse
import json
import re
import shlex
import sys
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vae_jcc.benchmark.energy import DEFAULT_WATTS
from vae_jcc.benchmark.systems import BASELINES, Spec, baselines
from vae_jcc.cli.files import write_bytes

if TYPE_CHECKING:
    import numpy as np

Shape = tuple[int, int, int]


def add_arguments(benchmarks: Any) -> None:
    """Adds the benchmark to `vae-jcc bench`."""
    text = "size, arithmetic, memory, time and energy of encoders and of what else a device could run"
    parser = benchmarks.add_parser("efficiency", help=text, description=text)
    parser.set_defaults(run=run)
    model = "a shipped model's name or an artifact's folder; may be given several times"
    parser.add_argument("--model", action="append", default=[], metavar="NAME|DIR", help=model)
    config = "a configuration, whose encoder is measured with random weights; @HxW is its image size where it has none"
    parser.add_argument("--config", action="append", default=[], metavar="FILE[@HxW]", help=config)
    parser.add_argument(
        "--baselines",
        nargs="*",
        default=list(BASELINES),
        choices=BASELINES,
        metavar="NAME",
        help=f"default: all of {', '.join(BASELINES)}",
    )
    parser.add_argument("--size", type=_size, metavar="HxW", help="of all images; default: each model's own")
    parser.add_argument("--threads", type=_positive, default=1, metavar="N", help="cores for each system; default 1")
    parser.add_argument("--batch", type=_positive, default=256, metavar="N", help="for images/s; default 256")
    parser.add_argument("--rounds", type=_positive, default=7, metavar="N", help="that systems take turns; default 7")
    watts = f"of one busy core, where energy can only be estimated; default {DEFAULT_WATTS}"
    parser.add_argument("--watts", type=float, default=DEFAULT_WATTS, metavar="W", help=watts)
    parser.add_argument("--data", default="", metavar="SOURCE", help="of the pictures; default: smooth noise")
    parser.add_argument("--split", default="test", help="of --data; default test")
    parser.add_argument("--data-dir", default="", help="where TFDS data sets lie; default: TFDS_DATA_DIR")
    output = "folder for efficiency.json and efficiency.md"
    parser.add_argument("--output", "-o", required=True, metavar="DIR", help=output)


def run(options: Namespace) -> int:
    """Measures, prints the tables and writes them."""
    from rich.console import Console

    from vae_jcc.benchmark.claims import check_claims
    from vae_jcc.benchmark.efficiency import Protocol, measure
    from vae_jcc.benchmark.efficiency_report import claims_table, efficiency_tables
    from vae_jcc.benchmark.energy import open_meter

    _check_threads(options.threads)
    ours = [*map(lambda name: _model(name, options.size), options.model)]
    ours += [_config(text, options.size) for text in options.config]
    if not ours:
        raise ValueError("Nothing to measure: name an encoder with --model or --config.")
    shapes: list[Shape] = list(dict.fromkeys((*spec.size, spec.channels) for spec in ours))
    specs = [*ours]
    for height, width, channels in shapes:
        specs += baselines(options.baselines, (height, width), channels)
    meter, why_estimated = open_meter(options.watts)
    progress = Console(stderr=True, highlight=False)
    protocol = Protocol(rounds=options.rounds, batch=options.batch, threads=options.threads)
    pictures = {shape: _pictures(options, shape) for shape in shapes}
    rows, left_out = measure(specs, pictures, meter, protocol, lambda text: progress.print(text, style="dim"))
    for name, reason in left_out.items():
        print(f"vae-jcc: left out: {name}: {reason}", file=sys.stderr)
    claims = check_claims(rows)
    tables = [*efficiency_tables(rows, options.threads), claims_table(claims)]
    result = _result(options, rows, claims, left_out, why_estimated)
    folder = Path(options.output)
    write_bytes(folder / "efficiency.json", (json.dumps(result, indent=1) + "\n").encode())
    notes = _notes(result)
    text = "\n".join(["# Efficiency of encoders\n", *(table.markdown() for table in tables), *notes])
    write_bytes(folder / "efficiency.md", (text + "\n").encode())
    console = Console(width=None if sys.stdout.isatty() else 200)
    for table in tables:
        console.print(table.rich())
    for note in notes:
        console.print(note, markup=False, highlight=False)
    return 0 if rows else 1


def _result(
    options: Namespace,
    rows: list[dict[str, Any]],
    claims: list[dict[str, Any]],
    left_out: dict[str, str],
    why_estimated: str,
) -> dict[str, Any]:
    from vae_jcc.benchmark.measuring import machine
    from vae_jcc.publish import describe_run

    libraries = dict.fromkeys(name for row in rows for name in row["libraries"])
    here = machine(*libraries)
    made = describe_run(shlex.join(["vae-jcc", *sys.argv[1:]]))
    made["versions"] |= here.pop("versions")
    measured = any(row["energy"] != "estimated" for row in rows)
    return {
        "threads": options.threads,
        "rounds": options.rounds,
        "pictures": f"{options.data}, split {options.split}" if options.data else "smooth noise",
        "watts": None if measured else options.watts,
        "why_estimated": why_estimated,
        "systems": rows,
        "claims": claims,
        "left_out": left_out,
    } | here | made  # fmt: skip


def _notes(result: dict[str, Any]) -> list[str]:
    notes = [
        f"Medians of {result['rounds']} rounds +- half their range; {result['pictures']}; {result['machine']}; "
        f"load {result['load_average']:.1f} at the end.",
    ]
    if result["why_estimated"]:
        notes.append(
            f"Energy is estimated: CPU-seconds x {result['watts']} W, an assumed figure for one busy core "
            f"({result['why_estimated']})."
        )
    notes += [f"Left out: {name}: {reason}." for name, reason in result["left_out"].items()]
    return [f"{note}\n" for note in notes]


def _model(name: str, size: tuple[int, int] | None) -> Spec:
    from vae_jcc.artifact import Artifact

    artifact = Artifact.load(name)
    return Spec("model", name, size or artifact.input_size, artifact.channels)


def _config(text: str, size: tuple[int, int] | None) -> Spec:
    from vae_jcc.benchmark.flax_systems import load_config

    path, _, own = text.partition("@")
    side = load_config(path).dataset.image_size
    try:
        size = size or (_size(own) if own else None) or ((side, side) if side else None)
    except argparse.ArgumentTypeError as error:
        raise ValueError(str(error)) from error
    if size is None:
        raise ValueError(f"{path} takes images as they come: name their size, as in {path}@32x32.")
    return Spec("config", path, size, 3)


def _pictures(options: Namespace, shape: Shape) -> "np.ndarray":
    from vae_jcc.benchmark.pictures import first_pictures, smooth_noise
    from vae_jcc.data.sources import open_source

    height, width, channels = shape
    if not options.data:
        return smooth_noise(options.batch, (height, width), channels)
    source = open_source(options.data, options.split, data_dir=options.data_dir or None)
    if source.info.channels != channels:
        raise ValueError(f"{options.data} has images of {source.info.channels} channels; {channels} are wanted.")
    return first_pictures(source, options.batch, (height, width))


def _check_threads(threads: int) -> None:
    import os

    if hasattr(os, "sched_getaffinity") and threads > len(os.sched_getaffinity(0)):
        raise ValueError(f"{threads} threads need as many cores; this process may use {len(os.sched_getaffinity(0))}.")


def _size(text: str) -> tuple[int, int]:
    """Parses "HxW" or, for a square, "S".

    Raises:
        ArgumentTypeError: it is neither.
    """
    match = re.fullmatch(r"([1-9]\d*)(?:x([1-9]\d*))?", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no size: write height x width in pixels, such as 160x160")
    height = int(match[1])
    return height, int(match[2] or height)


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not a positive number")
    return value
