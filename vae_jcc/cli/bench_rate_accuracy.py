"""`vae-jcc bench rate-accuracy`: models and classical codecs on one data set, as table, plot and JSON."""

import argparse
import json
import shlex
import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vae_jcc.artifact import Artifact

# Also the structure and recipe of the classifiers behind the codecs where no model is named.
_DEFAULT_NETWORK = "cifar10"


def add_arguments(benchmarks: Any) -> None:
    """Adds the benchmark to `vae-jcc bench`."""
    text = "accuracy against real bytes: models, and classical codecs followed by a classifier"
    parser = benchmarks.add_parser("rate-accuracy", help=text, description=text)
    parser.set_defaults(run=run, trains=True)
    model = "a shipped model's name or an artifact's folder; may be repeated"
    parser.add_argument("--model", action="append", default=[], metavar="NAME|DIR", help=model)
    result = "a result.json to draw and compare as it stands, not to measure again; may be repeated"
    parser.add_argument("--results", action="append", default=[], type=Path, metavar="FILE", help=result)
    network = f"model whose network the codecs' classifiers have; default: the first --model, else {_DEFAULT_NETWORK}"
    parser.add_argument("--network", default="", metavar="NAME|DIR", help=network)
    data = 'a TFDS name, "folder:DIR" or "bundled:NAME"; default: what the network was trained on'
    parser.add_argument("--data", default="", metavar="SOURCE", help=data)
    for split, use in (("train", "the classifiers"), ("validation", "the choice among epochs"), ("test", "figures")):
        text = f"split for {use}; default: the network's own {split} split"
        parser.add_argument(f"--{split}-split", default="", metavar="SPLIT", help=text)
    parser.add_argument("--data-dir", default="", help="where TFDS data sets lie; default: TFDS_DATA_DIR")
    limit = "use N test images, spread evenly over the split, for a quick look; default: all"
    parser.add_argument("--limit", type=_positive, default=0, metavar="N", help=limit)
    codecs = "of jpeg, j2k, webp, heic, avif, jxl; default: all; without names: none"
    parser.add_argument("--codecs", nargs="*", default=None, metavar="CODEC", help=codecs)
    qualities = "other qualities than the codec's seven of its own; j2k's are PSNRs in dB"
    parser.add_argument("--qualities", nargs="+", default=[], metavar="CODEC=Q,Q,...", help=qualities)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], metavar="SEED", help="of classifiers; default 0")
    clean = "training of the classifier on clean images; default 30"
    parser.add_argument("--clean-epochs", type=_epochs, default=30.0, metavar="E", help=clean)
    finetune = "of the clean classifier on each codec and quality; default 5; 0: the clean classifier only"
    parser.add_argument("--finetune-epochs", type=_epochs, default=5.0, metavar="E", help=finetune)
    up_to = "fine-tune where a codec's payload is at most BPP only, which spares the trainings that no curve needs"
    parser.add_argument("--finetune-up-to", type=_rate, default=float("inf"), metavar="BPP", help=up_to)
    warm = "start the clean classifier from the network's trained weights, at a tenth of its learning rate"
    parser.add_argument("--warm-start", action="store_true", help=warm)
    output = "folder for points, classifiers, result.json, table.md and plots; the same command resumes there"
    parser.add_argument("--output", "-o", required=True, type=Path, metavar="DIR", help=output)


def run(options: Namespace) -> int:
    """Measures what is not measured yet, and writes and prints the report."""
    from vae_jcc.benchmark.codecs import CODECS, get_codecs

    codecs = get_codecs(list(CODECS) if options.codecs is None else options.codecs)
    qualities = _qualities(options.qualities, {codec.name: codec.qualities for codec in codecs})
    models = options.model
    network = Artifact.load(options.network or (models[0] if models else _DEFAULT_NETWORK))
    if codecs and options.clean_epochs == 0:
        raise ValueError("--clean-epochs 0 leaves no classifier for the codecs: give it at least one epoch.")
    if not (codecs or models or options.results):
        raise ValueError("Nothing to measure or draw: name a --model, --results or --codecs.")
    data = options.data or network.dataset
    d = network.config.dataset
    test_split = options.test_split or d.test_split
    drawn = [system for path in options.results for system in _read_results(path, data, test_split)]

    from rich.console import Console

    from vae_jcc.benchmark.rate_accuracy import CLEAN, FINE_TUNED, Plan, RateAccuracy
    from vae_jcc.benchmark.report import write_report

    plan = Plan(
        data=data,
        train_split=options.train_split or d.train_split,
        validation_split=options.validation_split or d.validation_split,
        split=test_split,
        data_dir=options.data_dir,
        limit=options.limit,
        models=tuple(models),
        network=network,
        warm_start=options.warm_start,
        clean_epochs=options.clean_epochs,
        finetune_epochs=options.finetune_epochs,
        seeds=tuple(options.seeds),
        output=options.output,
        command=shlex.join(["vae-jcc", *sys.argv[1:]]),
    )
    bench = RateAccuracy(plan, lambda line: print(line, file=sys.stderr, flush=True))
    _check_counts(drawn, bench.n_images if codecs or models else None)
    bench.measure_models()
    tables = write_report(options.output, [*bench.systems(), *drawn]) if models or drawn else []
    for classifier in (CLEAN, FINE_TUNED) if options.finetune_epochs else (CLEAN,):
        for codec in codecs:
            wanted: Sequence[int] = qualities[codec.name]
            if classifier == FINE_TUNED:
                wanted = bench.qualities_up_to(codec, wanted, options.finetune_up_to)
            bench.measure_codec(codec, wanted, classifier)
            # After each, so that a run that is broken off leaves what it has.
            tables = write_report(options.output, [*bench.systems(), *drawn])
    console = Console(width=None if sys.stdout.isatty() else 160)
    for table in tables:
        console.print(table)
    print(f"Written to {options.output}: result.json, table.md, rate_accuracy.png, rate_accuracy.svg, points/")
    return 0


def _qualities(texts: list[str], known: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """Returns the qualities of each codec: its own, or those of CODEC=Q,Q,..."""
    qualities = dict(known)
    for text in texts:
        name, _, values = text.partition("=")
        if name not in known:
            raise ValueError(f"--qualities {text}: {name} is none of this run's codecs ({', '.join(known)}).")
        try:
            qualities[name] = tuple(sorted({int(value) for value in values.split(",")}))
        except ValueError:
            raise ValueError(f"--qualities {text}: write whole numbers, such as {name}=10,30,50.") from None
    return qualities


def _read_results(path: Path, data: str, split: str) -> list[dict[str, Any]]:
    """Returns the systems of a result.json.

    Raises:
        ValueError: it is no such file, or of other data.
    """
    try:
        systems = json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path} is no JSON: {error}.") from error
    for system in systems if isinstance(systems, list) else [systems]:
        if not (isinstance(system, dict) and "system" in system and "points" in system):
            raise ValueError(f"{path} is no result.json: it should be a list of systems with points.")
        theirs, measured = system.get("dataset", data), "codec" in system or system.get("encoder")
        if theirs != data or (measured and system.get("split", split) != split):  # published figures tell no split
            raise ValueError(
                f"{path}: {system['system']} was measured on {theirs}, split {system.get('split')}; this run measures "
                f"on {data}, split {split}: choose the same with --data and --test-split."
            )
    return list(systems)


def _check_counts(drawn: Sequence[dict[str, Any]], measured: int | None) -> None:
    """Raises ValueError where the systems that are drawn together were not measured on one number of images."""
    counts = {int(system["n_images"]) for system in drawn if "n_images" in system}
    counts |= set() if measured is None else {measured}
    if len(counts) > 1:
        raise ValueError(
            f"--results: figures from {' and '.join(f'{n:,}' for n in sorted(counts))} images do not belong into one "
            "plot: measure all on the same ones (--limit)."
        )


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not a positive number")
    return value


def _epochs(text: str) -> float:
    value = float(text)
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{value} is no number of epochs")
    return value


def _rate(text: str) -> float:
    value = float(text)
    if not value > 0:
        raise argparse.ArgumentTypeError(f"{value} is no rate in bits per pixel")
    return value
