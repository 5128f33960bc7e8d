"""What each ingredient of the recipe is worth: one is taken away or changed at a time, the encoder stays the same.

    python benchmarks/ablation.py --workdir runs/ablation --json results/ablation/result.json

The whole recipe is configs/quickstart.py with a teacher. Each variant is trained at two weights of the rate and several
seeds, and evaluated on the *validation* split from real bytes. Variants move accuracy and rate at once, so they are
compared where the rate is the same: top-1 at --bpp, on the straight line between the two rates of a seed over the
logarithm of bpp. The difference from the whole recipe is taken seed by seed. A variant whose rates do not enclose --bpp
is not compared: the table says where they lie.

The teacher (a larger network whose rate weighs next to nothing) is trained first. Runs that are finished in the workdir
are not repeated, so the command resumes; seeds go round outermost, and a plot, a table and JSON are written after each
round.
"""

import argparse
import importlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict
from trials import mean_and_spread, point, run, system

from vae_jcc.benchmark.plots import plot_rate_accuracy
from vae_jcc.memory import use_huge_pages

WHOLE = "whole recipe"
VARIANTS: dict[str, dict[str, Any]] = {
    WHOLE: {},
    "no teacher": {"loss.teacher": "", "loss.distill_weight": 0.0},
    "no averaged parameters": {"optim.ema_decay": 0.0},
    "no label smoothing": {"loss.label_smoothing": 0.0},
    "no warm-up of lam": {"loss.lam_warmup_epochs": 0.0},
    "noise for the classifier": {"quantizer.kind": "noise"},
    "receiver of half the width": {"model.classifier.stages": ((24, 1, 1), (48, 1, 2))},
    "CutMix on half of the images": {"augment.cutmix": 0.5},
    "Muon": {"optim.kind": "muon", "optim.learning_rate": 0.04, "optim.weight_decay": 0.02},
    "logistic prior": {"entropy.filters": ()},
    "half the epochs": {"train.epochs": 0.5},  # of the whole recipe's
    "twice the epochs": {"train.epochs": 2.0},
}


def change(config: ConfigDict, changes: dict[str, Any]) -> ConfigDict:
    """Returns a copy with some keys, as "group.key", set; "train.epochs" is a factor."""
    config = ConfigDict(config.to_dict())
    for key, value in changes.items():
        *groups, name = key.split(".")
        node = config
        for group in groups:
            node = node[group]
        node[name] = node[name] * value if key == "train.epochs" else value
    return config


def train_teacher(config: ConfigDict, workdir: Path) -> Path:
    """Trains the teacher, unless it is there, and returns its artifact's folder."""
    changes = {
        "name": "teacher",
        "seed": 0,
        "loss.lam": 0.001,
        "loss.label_smoothing": 0.0,  # smoothed teachers hide which classes are alike (Mueller et al. 2019)
        "model.latent_channels": 24,
        "model.encoder.stem_features": 32,
        "model.encoder.stages": ((64, 2, 2),),
        "model.classifier.stages": ((96, 2, 1), (192, 1, 2)),
    }
    print(f"teacher: {run(change(config, changes), workdir / 'teacher')['top1']:.2%}", flush=True)
    return workdir / "teacher" / "artifact"


def top1_at(bpp: float, runs: list[dict[str, float]]) -> float | None:
    """Returns top-1 at a rate of file bytes, on the line between two runs over log(bpp); None where it is not there."""
    rates = [r["bpp_file"] for r in runs]
    if not min(rates) <= bpp <= max(rates):
        return None
    (x0, y0), (x1, y1) = ((np.log(r["bpp_file"]), r["top1"]) for r in runs)
    return float(y0 + (np.log(bpp) - x0) * (y1 - y0) / (x1 - x0))


def table(runs: dict[str, list[list[dict[str, float]]]], bpp: float) -> str:
    """Returns Markdown: a row a variant, with top-1 at the rate and its difference from the whole recipe.

    Args:
        runs: by variant, seed and weight of the rate.
        bpp: of file bytes.
    """
    lines = [f"| variant | top-1 at {bpp:g} bpp, % | against the whole recipe, points |", "| --- | --- | --- |"]
    whole = [top1_at(bpp, pair) for pair in runs[WHOLE]]
    for name, pairs in runs.items():
        both = [(t, w) for t, w in zip((top1_at(bpp, pair) for pair in pairs), whole, strict=True) if t and w]
        if len(both) < len(pairs):
            rates = [r["bpp_file"] for pair in pairs for r in pair]
            lines.append(f"| {name} | not reached: {min(rates):.2f} to {max(rates):.2f} bpp | |")
            continue
        mean, spread = mean_and_spread([100 * t for t, _ in both])
        difference = mean_and_spread([100 * (t - w) for t, w in both])
        against = "" if name == WHOLE else f"{difference[0]:+.2f} +- {difference[1]:.2f}"
        lines.append(f"| {name} | {mean:.2f} +- {spread:.2f} | {against} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Parses the command line, trains what is missing, and writes JSON, table and plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--lams", type=float, nargs=2, default=[0.1, 0.4])
    parser.add_argument("--bpp", type=float, default=0.3, help="file bytes, bits per pixel; between the lams' rates")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--train-split", default="train[:80%]")
    parser.add_argument("--validation-split", default="train[80%:]")
    parser.add_argument("--workdir", type=Path, default=Path("runs/ablation"))
    parser.add_argument("--json", type=Path, help="write the results here, with a table (.md) and a plot (.png)")
    arguments = parser.parse_args()
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    base = importlib.import_module("configs.quickstart").get_config()
    base.dataset.train_split, base.dataset.validation_split = arguments.train_split, arguments.validation_split
    teacher = train_teacher(base, arguments.workdir)
    base.loss.teacher, base.loss.distill_weight = str(teacher), 0.5
    names = [WHOLE, *(name for name in arguments.variants if name != WHOLE)]
    runs: dict[str, list[list[dict[str, float]]]] = {name: [] for name in names}
    for i, seed in enumerate(arguments.seeds):
        for name in names:
            runs[name].append([])
            for lam in arguments.lams:
                config = change(base, VARIANTS[name] | {"seed": seed, "loss.lam": lam})
                folder = arguments.workdir / f"{name.replace(' ', '_')}_lam{lam}_seed{seed}"
                runs[name][-1].append(run(config, folder))
                figures = runs[name][-1][-1]
                print(f"{name} lam={lam} seed={seed}: {figures['top1']:.2%} at {figures['bpp_file']:.4f}", flush=True)
        print(table(runs, arguments.bpp), flush=True)
        if arguments.json:
            write(arguments.json, base, arguments.lams, arguments.seeds[: i + 1], runs, arguments.bpp)


def write(
    path: Path, config: ConfigDict, lams: list[float], seeds: list[int], runs: dict[str, Any], bpp: float
) -> None:
    """Writes the results as JSON, and a table and a plot of the same name."""
    results = []
    for name, pairs in runs.items():
        points = [point(lam, seeds, [pair[i] for pair in pairs]) for i, lam in enumerate(lams)]
        results.append(system(name, config, points, pairs[-1][-1]["n_images"]))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=1) + "\n")
    path.with_suffix(".md").write_text(table(runs, bpp))
    title = f"{config.dataset.name}, {config.dataset.validation_split}, mean of {len(seeds)} seeds"
    plot_rate_accuracy(path.with_suffix(".png"), results, title, legend_beside=True)


if __name__ == "__main__":
    use_huge_pages()
    main()
