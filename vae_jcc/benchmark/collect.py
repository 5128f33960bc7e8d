"""Gathers the result.json of many runs into one curve a system, as JSON and as a plot.

python -m vae_jcc.benchmark.collect runs/residual_*/result.json runs/patchify_*/result.json \\
    --published results/published/chamain2022_cifar10.json --out results/cifar10

Runs of one system at one label (such as "lam=0.5") become one point with a value a seed. A result.json that was
gathered before may be among them, so a curve can grow:

python -m vae_jcc.benchmark.collect results/cifar10/result.json runs/new/result.json --out results/cifar10
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vae_jcc.benchmark.plots import plot_rate_accuracy

# What may differ from run to run of one system, and is kept with the point.
_OF_RUN = ("command", "commit", "date", "device", "versions")


def merge(runs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns one system for each name among `runs` (results schema), points by falling rate.

    Raises:
        ValueError: two runs of one name differ in data or network, or a seed is there twice.
    """
    systems: dict[str, dict[str, Any]] = {}
    for run in runs:
        facts = {key: value for key, value in run.items() if key not in ("points", *_OF_RUN)}
        system = systems.setdefault(run["system"], facts | {"points": []})
        for key, value in facts.items():
            if system.get(key) != value:
                raise ValueError(f"Runs of {run['system']} differ in {key}: {system.get(key)} and {value}.")
        for new in run["points"]:
            _add(system, new, {key: run[key] for key in _OF_RUN if key in run})
    for system in systems.values():
        system["points"].sort(key=lambda p: -sum(p["bpp_file"]) / len(p["bpp_file"]))
    return list(systems.values())


def _add(system: dict[str, Any], new: dict[str, Any], made: dict[str, Any]) -> None:
    """Adds a point to the system's point of the same label: a value a seed, and how each was made.

    A figure that only one of them has goes: earlier versions measured fewer.
    """
    values = {key: list(value) for key, value in new.items() if key not in ("label", "runs")}
    runs = new.get("runs", [made])  # a collected point brings its own
    point = next((p for p in system["points"] if p["label"] == new["label"]), None)
    if point is None:
        system["points"].append({"label": new["label"]} | values | {"runs": list(runs)})
        return
    if set(point["seeds"]) & set(new["seeds"]):
        raise ValueError(f"{system['system']}, {new['label']}: seed {new['seeds']} is there twice.")
    for key in set(point) - {"label", "runs"}:
        if key in values:
            point[key] += values[key]
        else:
            del point[key]
    point["runs"] += runs


def main() -> None:
    """Parses the command line and writes OUT/result.json and OUT/rate_accuracy.png."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "results", nargs="+", type=Path, help="result.json of runs; baselines among them are merged too"
    )
    parser.add_argument("--published", nargs="*", type=Path, default=[], help="other people's points, drawn as theirs")
    parser.add_argument("--out", type=Path, required=True, help="folder")
    options = parser.parse_args()
    runs = [run for path in options.results for run in json.loads(path.read_text())]
    systems = merge(runs)
    published = [system for path in options.published for system in json.loads(path.read_text())]
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "result.json").write_text(json.dumps(systems, indent=1) + "\n")
    ours = next(system for system in systems if system["encoder"] is not None)
    note = f" ({ours['data_note']})" if ours["data_note"] else ""
    title = f"{ours['dataset']}{note}, {ours['split']} split"
    plot_rate_accuracy(options.out / "rate_accuracy.png", [*systems, *published], title)


if __name__ == "__main__":
    main()
