"""One rate-accuracy curve: a training for each weight of the rate, one after another, then the curve of all.

python -m launch.sweep --workdir=runs/curve --lam=0.1 --lam=0.3 --lam=1.0 [--dry-run] -- --config=configs/cifar10.py

Each run has its own folder, WORKDIR/lam_LAM; WORKDIR/curve gets result.json and rate_accuracy.png. The same command
goes on where it was interrupted: runs that it finished are left alone. launch/sweep_slurm.sh runs them as a Slurm
array.
"""

import argparse
import json
import runpy
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from launch.local import run_together


def make_commands(workdir: Path, lams: Sequence[float], arguments: Sequence[str]) -> list[list[str]]:
    """Returns the command of each training; `arguments` are those of vae_jcc.main.

    The JPEG classifier is left out: one is enough for a curve, and `vae-jcc bench rate-accuracy` trains those.
    """
    common = [sys.executable, "-m", "vae_jcc.main", *arguments, "--config.eval.jpeg_baseline=False"]
    return [[*common, f"--workdir={_folder(workdir, lam)}", f"--config.loss.lam={lam:.12g}"] for lam in lams]


def _folder(workdir: Path, lam: float) -> Path:
    return workdir / f"lam_{lam:.12g}"


def make_collection(workdir: Path, lams: Sequence[float]) -> list[str]:
    """Returns the command that gathers the runs into one curve."""
    results = [str(_folder(workdir, lam) / "result.json") for lam in lams]
    return [sys.executable, "-m", "vae_jcc.benchmark.collect", *results, "--out", str(workdir / "curve")]


def main() -> int:
    """Parses the command line and runs it; returns the exit code of the first run that failed, or 0."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", type=Path, required=True, help="folder of the runs and of the curve")
    parser.add_argument("--lam", type=float, action="append", required=True, help="a weight of the rate; repeat it")
    parser.add_argument("--only", type=int, help="train at the weight of this place, from 0, and no more")
    parser.add_argument("--collect", action="store_true", help="gather the finished runs, and no more")
    parser.add_argument("--dry-run", action="store_true", help="print what would run")
    parser.add_argument("arguments", nargs="+", help="of vae_jcc.main, after --")
    options = parser.parse_args()
    if len(set(options.lam)) < len(options.lam):
        parser.error("a weight is given twice")
    if _has_hinge(options.arguments):
        parser.error(
            "this configuration has a hinge, which aims at config.loss.hinge_target and leaves lam without effect: add "
            "--config.loss.hinge_beta=0, or train each target by itself and gather them with vae_jcc.benchmark.collect"
        )
    if options.only is not None and not 0 <= options.only < len(options.lam):
        parser.error(f"--only is a place among {len(options.lam)} weights, from 0")
    chosen = options.lam if options.only is None else [options.lam[options.only]]
    commands = [] if options.collect else make_commands(options.workdir, chosen, options.arguments)
    if options.only is None:
        commands.append(make_collection(options.workdir, options.lam))
    for command in commands:
        if options.dry_run:
            print(shlex.join(command))
        elif not _finished(command) and (code := run_together([command])):
            return code
    return 0


def _finished(command: Sequence[str]) -> bool:
    """Returns whether a training's results are there, made by this very command; the curve is always drawn anew."""
    results = [Path(part.partition("=")[2]) / "result.json" for part in command if part.startswith("--workdir=")]
    recorded = shlex.join(["python", *command[1:]])  # as publish.py spells it
    return any(path.is_file() and json.loads(path.read_text())[0]["command"] == recorded for path in results)


def _has_hinge(arguments: Sequence[str]) -> bool:
    """Returns whether these arguments of vae_jcc.main train towards a rate, so that lam has no effect."""
    values = dict(part.lstrip("-").split("=", 1) for part in arguments if "=" in part)
    if "config.loss.hinge_beta" in values:
        return float(values["config.loss.hinge_beta"]) > 0
    path = Path(values.get("config", ""))
    return path.is_file() and runpy.run_path(str(path))["get_config"]().loss.hinge_beta > 0


if __name__ == "__main__":
    sys.exit(main())
