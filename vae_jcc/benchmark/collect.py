"""Gathers the result.json of many runs into one curve a system, as JSON and as a plot.

python -m vae_jcc.benchmark.collect runs/residual_*/result.json runs/patchify_*/result.json \\
    --published results/published/chamain2022_cifar10.json --out results/cifar10

Runs of one system at one label (such as "lam=0.5") become one point with a value a seed.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vae_jcc.benchmark.plots import plot_rate_accuracy

RATES = ("bpp_estimated", "bpp_payload", "bpp_file")
_PER_SEED = ("seeds", "top1", "top5", *RATES)
# What must agree for two runs to be one system, and what may differ from run to run and is kept with the point.
_SAME = ("dataset", "data_note", "split", "n_images", "encoder", "receiver")
_OF_RUN = ("command", "commit", "date", "device", "versions")


def merge(runs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns one system for each name among `runs` (results schema, one point each), points by falling rate.

    Raises:
        ValueError: two runs of one name differ in data or network, or a seed is there twice.
    """
    systems: dict[str, dict[str, Any]] = {}
    for run in runs:
        system = systems.setdefault(
            run["system"], {"system": run["system"]} | {k: run[k] for k in _SAME} | {"points": []}
        )
        for key in _SAME:
            if system[key] != run[key]:
                raise ValueError(f"Runs of {run['system']} differ in {key}: {system[key]} and {run[key]}.")
        for new in run["points"]:
            point = next((p for p in system["points"] if p["label"] == new["label"]), None)
            if point is None:
                point = {"label": new["label"]} | {k: [] for k in _PER_SEED} | {"runs": []}
                system["points"].append(point)
            if set(point["seeds"]) & set(new["seeds"]):
                raise ValueError(f"{run['system']}, {new['label']}: seed {new['seeds']} is there twice.")
            for key in _PER_SEED:
                point[key] += new[key]
            point["runs"].append({k: run[k] for k in _OF_RUN})
    for system in systems.values():
        system["points"].sort(key=lambda p: -sum(p["bpp_file"]) / len(p["bpp_file"]))
    return list(systems.values())


def main() -> None:
    """Parses the command line and writes OUT/result.json and OUT/rate_accuracy.png."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", nargs="+", type=Path, help="result.json of runs; baselines among them are kept")
    parser.add_argument("--published", nargs="*", type=Path, default=[], help="other people's points, drawn as theirs")
    parser.add_argument("--out", type=Path, required=True, help="folder")
    options = parser.parse_args()
    runs = [run for path in options.results for run in json.loads(path.read_text())]
    ours = merge([run for run in runs if run["encoder"] is not None])
    others = [run for run in runs if run["encoder"] is None]
    published = [system for path in options.published for system in json.loads(path.read_text())]
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "result.json").write_text(json.dumps(ours + others, indent=1) + "\n")
    note = f" ({ours[0]['data_note']})" if ours[0]["data_note"] else ""
    title = f"{ours[0]['dataset']}{note}, {ours[0]['split']} split"
    plot_rate_accuracy(options.out / "rate_accuracy.png", [*ours, *others, *published], title)


if __name__ == "__main__":
    main()
