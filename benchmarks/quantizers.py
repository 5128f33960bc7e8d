"""What the classifier should see while training: noise, straight-through rounding, or noise first and symbols last.

    python benchmarks/quantizers.py --config quickstart --workdir runs/quantizers --json results/quantizers/result.json

Trains each quantizer at each lam and seed with the same budget and evaluates it on the *validation* split, from real
bytes: this is how configs/default.py chose its quantizer, and the test split plays no part in choices. Where the
configuration holds out little, --train-split and --validation-split give the comparison more. Runs that are finished in
the workdir are not repeated, so the command resumes, and several can share the work by naming seeds of their own.
"""

import argparse
import importlib
import json
import sys
from pathlib import Path

from trials import mean_and_spread, point, run, system

from vae_jcc.benchmark.plots import plot_rate_accuracy
from vae_jcc.memory import use_huge_pages

NAMES = {
    "noise": "additive noise on both paths",
    "mixed": "noise for the rate, straight-through rounding for the classifier",
    "noise_then_hard": "noise, then rounding behind a frozen encoder",
}


def main() -> None:
    """Parses the command line, trains what is missing, and writes JSON and a plot beside it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="quickstart", help="a file of configs/")
    parser.add_argument("--kinds", nargs="+", default=list(NAMES), choices=list(NAMES))
    parser.add_argument("--lams", type=float, nargs="+", default=[0.05, 0.2, 0.8])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--train-split", default="train[:80%]")
    parser.add_argument("--validation-split", default="train[80%:]")
    parser.add_argument("--workdir", default="runs/quantizers")
    parser.add_argument("--json", default="", help="write the results here, and a plot of the same name")
    arguments = parser.parse_args()
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    config = importlib.import_module(f"configs.{arguments.config}").get_config()
    config.dataset.train_split, config.dataset.validation_split = arguments.train_split, arguments.validation_split
    results = []
    for kind in arguments.kinds:
        points = []
        for lam in arguments.lams:
            runs = []
            for seed in arguments.seeds:
                config.quantizer.kind, config.loss.lam, config.seed = kind, lam, seed
                runs.append(run(config, Path(arguments.workdir) / f"{kind}_lam{lam}_seed{seed}"))
                print(f"{kind} lam={lam} seed={seed}: {runs[-1]['top1']:.2%} at {runs[-1]['bpp_file']:.4f} bpp")
            points.append(point(lam, arguments.seeds, runs))
            top1, rate = (mean_and_spread([r[key] for r in runs]) for key in ("top1", "bpp_file"))
            print(f"{kind} lam={lam}: {top1[0]:.2%} +- {top1[1]:.2%} at {rate[0]:.4f} +- {rate[1]:.4f} bpp")
        results.append(system(f"{kind}: {NAMES[kind]}", config, points, runs[-1]["n_images"]))
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(results, indent=1) + "\n")
        title = f"{config.dataset.name}, {config.dataset.validation_split}, real rounding"
        plot_rate_accuracy(Path(arguments.json).with_suffix(".png"), results, title)


if __name__ == "__main__":
    use_huge_pages()
    main()
