"""Command line of training and evaluation: flags and dispatch only.

python -m vae_jcc.main --config=configs/quickstart.py [--workdir=DIR] [--mode=train|eval] [--config.KEY=VALUE ...]
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from absl import app, flags, logging
from ml_collections import config_flags

from vae_jcc.memory import keep_freed_memory

_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "Configuration file, e.g. configs/cifar10.py.", lock_config=True
)
_WORKDIR = flags.DEFINE_string("workdir", None, "Where results go; default: runs/NAME of the configuration.")
_MODE = flags.DEFINE_enum("mode", "train", ["train", "eval"], "Train (or resume), or evaluate the workdir's artifact.")


def main(argv: Sequence[str]) -> None:
    """Runs the chosen mode; exits 1 with one line on bad input and 130 after Ctrl-C."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected argument {argv[1]!r}: settings are given as --config.KEY=VALUE")
    if not flags.FLAGS["verbosity"].present:  # libraries tell each checkpoint in twenty lines; --verbosity=0 shows them
        logging.set_verbosity(logging.WARNING)
    keep_freed_memory()
    # Imported here so that --help and a mistyped flag answer at once.
    from vae_jcc.evaluate import evaluate_workdir
    from vae_jcc.train import NonFiniteError, train_and_evaluate

    config = _CONFIG.value
    workdir = Path(_WORKDIR.value or f"runs/{config.name}")
    try:
        (train_and_evaluate if _MODE.value == "train" else evaluate_workdir)(config, workdir)
    except (ValueError, FileNotFoundError, NonFiniteError) as error:
        sys.exit(f"{type(error).__name__}: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


def run() -> None:
    """Parses flags and runs; the entry point of `python -m vae_jcc.main`."""
    flags.mark_flags_as_required(["config"])
    app.run(main)


if __name__ == "__main__":
    run()
