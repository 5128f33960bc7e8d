"""Many short trainings that are compared on validation images: each one is run once, kept, and read back."""

import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from vae_jcc.artifact import Artifact
from vae_jcc.data.sources import open_source
from vae_jcc.evaluate import evaluate_artifact, input_shape
from vae_jcc.publish import describe_run, export_artifact
from vae_jcc.train import fit

RATES = ("top1", "top5", "bpp_estimated", "bpp_payload", "bpp_file")


def run(config: ConfigDict, workdir: Path) -> dict[str, float]:
    """Trains once and returns the evaluation of the validation split, from real bytes; a finished run is read back.

    Raises:
        ValueError: the finished run had another configuration.
    """
    done, settings = workdir / "validation.json", json.loads(config.to_json())
    if not done.exists():
        train, validation = (
            open_source(config.dataset.name, split, data_dir=config.dataset.data_dir or None)
            for split in (config.dataset.train_split, config.dataset.validation_split)
        )
        variables = fit(config, workdir, train, validation)
        export_artifact(workdir / "artifact", config, variables, validation, input_shape(config, validation)[:2])
        result = evaluate_artifact(Artifact.load(workdir / "artifact"), validation, batch_size=config.eval.batch_size)
        done.write_text(json.dumps({"config": settings, "result": result}) + "\n")
    saved: dict[str, Any] = json.loads(done.read_text())
    if saved.get("config") != settings:
        raise ValueError(f"{done} is of another configuration than this run's: name another --workdir.")
    return dict(saved["result"])


def point(lam: float, seeds: Sequence[int], runs: Sequence[dict[str, float]]) -> dict[str, Any]:
    """Returns one weight of the rate as a point of the results schema: its figures as lists over seeds."""
    return {"label": f"lam={lam}", "seeds": list(seeds)} | {key: [r[key] for r in runs] for key in RATES}


def system(name: str, config: ConfigDict, points: Sequence[dict[str, Any]], n_images: float) -> dict[str, Any]:
    """Returns the points of one setting as a system of the results schema."""
    d = config.dataset
    facts = {"system": name, "dataset": d.name, "data_note": d.note, "split": d.validation_split}
    return facts | {"n_images": int(n_images), "points": list(points)} | describe_run(shlex.join(["python", *sys.argv]))


def mean_and_spread(values: Sequence[float]) -> tuple[float, float]:
    """Returns mean and standard deviation (n - 1); the latter is 0 for one value."""
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
