"""What each entropy model saves on one trained encoder: the same symbols, the same accuracy, other bytes.

Command:   python benchmarks/entropy_models.py --model cifar10 --output results/entropy_models/cifar10.json

A context model of each kind is trained on a copy of the model (the encoder stays as it is), and the test split is coded
to real bytes and classified from them. Speeds are of coding alone, symbols to payloads and back.
"""

import argparse
import json
import shlex
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from vae_jcc.artifact import Artifact
from vae_jcc.data.pipeline import eval_batches
from vae_jcc.data.sources import open_source
from vae_jcc.edge import EdgeEncoder
from vae_jcc.evaluate import evaluate_artifact, evaluation_view
from vae_jcc.publish import describe_run
from vae_jcc.receiver import Receiver
from vae_jcc.train_context import train_context

KINDS = ("tables", "parallel", "serial", "hyperprior")


def main() -> None:
    """Runs the comparison and writes it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True, help="a shipped model or an artifact's folder")
    parser.add_argument("--output", type=Path, required=True, help="JSON file")
    parser.add_argument("--kinds", nargs="+", default=KINDS, choices=KINDS)
    parser.add_argument("--epochs", type=float, default=3.0)
    parser.add_argument("--rounds", type=int, default=5, help="of the speed measurement")
    parser.add_argument("--keep", type=Path, help="folder to leave the models in, one a kind; default: none are kept")
    options = parser.parse_args()
    base = Artifact.load(options.model)
    if base.context:
        parser.error(f"{options.model} codes with a context model already: name the model without.")
    d = base.config.dataset
    train, validation, test = (
        open_source(d.name, s, data_dir=d.data_dir or None) for s in (d.train_split, d.validation_split, d.test_split)
    )
    entries = []
    image_size, margin = evaluation_view(base, test.info)
    images = next(iter(eval_batches(test, batch_size=256, image_size=image_size, margin=margin)))["image"]
    with tempfile.TemporaryDirectory() as scratch:
        for kind in options.kinds:
            folder = Path(shutil.copytree(base.folder, (options.keep or Path(scratch)) / kind))
            facts: dict[str, Any] = {}
            if kind != "tables":
                config = base.config.copy_and_resolve_references().unlock()
                config.entropy.context.kind = kind
                config.entropy.context.epochs = options.epochs
                started = time.perf_counter()
                facts = train_context(config, folder, train, validation)
                facts["training_seconds"] = time.perf_counter() - started
            artifact = Artifact.load(folder)
            entry = {"kind": kind, "training": facts} | evaluate_artifact(artifact, test)
            entries.append(entry | _speeds(artifact, images, options.rounds))
            print(json.dumps(entries[-1]), flush=True)
    tables = next((entry["bytes_payload"] for entry in entries if entry["kind"] == "tables"), None)
    for entry in entries:
        entry["saved"] = None if tables is None else 1 - entry["bytes_payload"] / tables
    report = {
        "model": str(options.model),
        "fingerprint": base.fingerprint.hex(),
        "dataset": d.name,
        "data_note": base.dataset_note,
        "split": d.test_split,
        "entries": entries,
    } | describe_run(shlex.join(["python", "benchmarks/entropy_models.py", *sys.argv[1:]]))
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(report, indent=1) + "\n")


def _speeds(artifact: Artifact, images: np.ndarray, rounds: int) -> dict[str, list[float]]:
    """Returns milliseconds an image, each round's, of coding at batch 256 and 1."""
    symbols = np.stack(Receiver(artifact).symbols(EdgeEncoder(artifact).compress_stream(images)))
    codec, out = artifact.make_codec(), {}
    for batch in (256, 1):
        part = symbols[:batch]
        payloads = codec.encode_batch(part)
        for name, run in (
            ("encode", lambda part=part: codec.encode_batch(part)),
            ("decode", lambda payloads=payloads: codec.decode_batch(payloads, symbols.shape[1:3])),
        ):
            times = []
            for _ in range(rounds):
                started = time.perf_counter()
                run()
                times.append(1e3 * (time.perf_counter() - started) / batch)
            out[f"{name}_ms_batch_{batch}"] = times
    return out


if __name__ == "__main__":
    main()
