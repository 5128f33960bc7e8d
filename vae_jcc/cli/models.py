"""`vae-jcc models` and `evaluate`: what ships, and how anyone checks its figures."""

import json
import sys
from argparse import Namespace
from pathlib import Path

from vae_jcc.artifact import Artifact, zoo_names
from vae_jcc.cli.files import write_bytes


def list_models(options: Namespace) -> int:
    """Prints name, data set, size and published figures of each shipped model."""
    for name in zoo_names():
        artifact = Artifact.load(name)
        size = artifact.size_bytes
        row = {
            "name": name,
            "dataset": artifact.dataset,
            "dataset_note": artifact.dataset_note,
            "bytes": size,
            "parts": list(artifact.parts),
            "fingerprint": artifact.fingerprint.hex()[:16],
        } | dict(artifact.facts)
        print(json.dumps(row) if options.json else "  ".join(f"{k}={v}" for k, v in row.items()))
    if not zoo_names():
        print("No model ships with this version; train one: python -m vae_jcc.main --config=configs/quickstart.py")
    return 0


def evaluate(options: Namespace) -> int:
    """Codes every image of a split to bytes, classifies from the bytes, and prints accuracy and rates."""
    from rich.console import Console
    from rich.progress import Progress

    from vae_jcc.data.sources import open_source
    from vae_jcc.evaluate import evaluate_artifact

    artifact = Artifact.load(options.model)
    name = options.data or artifact.dataset
    source = open_source(name, options.split, data_dir=options.data_dir or None)
    with Progress(console=Console(stderr=True), disable=not sys.stderr.isatty(), transient=True) as progress:
        task = progress.add_task("evaluate", total=len(source))
        result = evaluate_artifact(
            artifact,
            source,
            batch_size=options.batch_size,
            progress=lambda done: progress.update(task, completed=done),
        )
    note = artifact.dataset_note if name == artifact.dataset else ""
    result |= {"model": options.model, "dataset": name, "data_note": note, "split": options.split}
    if options.json:
        write_bytes(Path(options.json), (json.dumps(result, indent=1) + "\n").encode())
    print(f"{name} {f'({note}) ' if note else ''}{options.split}: {result['n_images']} images")
    print(f"top-1 {result['top1']:.2%}  top-5 {result['top5']:.2%}")
    for key, text in (
        ("bpp_estimated", "estimated"),
        ("bpp_payload", "payload"),
        ("bpp_file", "file, stream format"),
        ("bpp_single_file", "file, one an image"),
    ):
        print(f"{result[key]:.4f} bpp {text}")
    return 0
