"""`vae-jcc models` and `evaluate`: what ships, and how anyone checks its figures."""

import json
import shlex
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

from vae_jcc.artifact import Artifact
from vae_jcc.cli.evaluation_data import open_evaluation_data
from vae_jcc.cli.files import STANDARD, write_bytes
from vae_jcc.model_folder import zoo_names

_RATES = {
    "bpp_estimated": "estimated by the prior",
    "bpp_payload": "payload: the entropy coder's bytes",
    "bpp_file": "file: stream format, one header for all",
    "bpp_joined": "file: joined stream, many images a message",
    "bpp_single_file": "file: one for each image",
}


def list_models(options: Namespace) -> int:
    """Prints data, accuracy, rate, size and fingerprint of each model that ships with the package."""
    rows = [_facts(name) for name in zoo_names()]
    if options.json:
        for row in rows:
            print(json.dumps(row))
        return 0
    if not rows:
        print("No model ships with this version; train one: python -m vae_jcc.main --config=configs/quickstart.py")
        return 0
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE)
    for column in ("name", "trained on", "parts", "top-1", "bpp file", "MB", "fingerprint"):
        table.add_column(column)
    for row in rows:
        note = f" ({row['dataset_note']})" if row["dataset_note"] else ""
        top1, bpp = (row["evaluation"].get(key) for key in ("top1", "bpp_file"))
        table.add_row(
            row["name"],
            f"{row['dataset']}{note}",
            ", ".join(row["parts"]),
            "-" if top1 is None else f"{top1:.2%}",
            "-" if bpp is None else f"{bpp:.3f}",
            f"{row['bytes'] / 1e6:.1f}",
            row["fingerprint"][:8],
        )
    Console(width=None if sys.stdout.isatty() else 120).print(table)
    return 0


def _facts(name: str) -> dict[str, Any]:
    artifact = Artifact.load(name)
    return {
        "name": name,
        "dataset": artifact.dataset,
        "dataset_note": artifact.dataset_note,
        "classes": len(artifact.class_names),
        "channels": artifact.channels,
        "input_size": list(artifact.input_size),
        "parts": list(artifact.parts),
        "bytes": artifact.size_bytes,
        "fingerprint": artifact.fingerprint.hex(),
        "evaluation": dict(artifact.evaluation),
        "facts": dict(artifact.facts),
    }


def evaluate(options: Namespace) -> int:
    """Codes every image of a split to bytes, classifies from the bytes, and prints accuracy and rates."""
    from rich.console import Console
    from rich.progress import Progress

    artifact = Artifact.load(options.model)
    source, name, split = open_evaluation_data(options, artifact)
    # They bring JAX along: a wrong name is told before.
    from vae_jcc.evaluate import evaluate_artifact
    from vae_jcc.publish import describe_run

    with Progress(console=Console(stderr=True), disable=not sys.stderr.isatty(), transient=True) as progress:
        task = progress.add_task("evaluate", total=len(source))
        result = evaluate_artifact(
            artifact,
            source,
            batch_size=options.batch_size,
            dead_zone=options.dead_zone,
            progress=lambda done: progress.update(task, completed=done),
        )
    note = source.info.note  # what this copy says of itself: the model may have seen another
    result |= {"model": options.model, "fingerprint": artifact.fingerprint.hex()}
    result |= {"dataset": name, "data_note": note, "split": split}
    result |= {"dead_zone": options.dead_zone} if options.dead_zone else {}
    result |= describe_run(shlex.join(["vae-jcc", *sys.argv[1:]]))
    if options.json != str(STANDARD):
        print(f"{name}{f' ({note})' if note else ''}, split {split}: {result['n_images']:,} images")
        print(f"top-1 {result['top1']:.2%}  top-5 {result['top5']:.2%}")
        for key, text in _RATES.items():
            print(f"{result[key]:.4f} bpp {text}")
    if options.json:  # last: figures that have been printed are not lost where it cannot be written
        write_bytes(Path(options.json), (json.dumps(result, indent=1) + "\n").encode())
    return 0
