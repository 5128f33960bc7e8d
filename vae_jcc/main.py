"""Command line of training and evaluation: flags and dispatch only.

python -m vae_jcc.main --config=configs/quickstart.py [--workdir=DIR] [--mode=train|eval] [--config.KEY=VALUE ...]

Many processes (docs/launch.md): found through Slurm, Kubernetes or the TPU's hosts, or named by
[--coordinator=HOST:PORT --num_processes=N --process_id=I].
"""

import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from absl import app, flags, logging
from ml_collections import config_flags

from vae_jcc.memory import use_huge_pages

_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "Configuration file, e.g. configs/cifar10.py.", lock_config=True
)
_WORKDIR = flags.DEFINE_string("workdir", None, "Where results go; default: runs/NAME of the configuration.")
_MODE = flags.DEFINE_enum("mode", "train", ["train", "eval"], "Train (or resume), or evaluate the workdir's artifact.")
_COORDINATOR = flags.DEFINE_string("coordinator", None, "HOST:PORT of process 0, where no scheduler tells it.")
_PROCESSES = flags.DEFINE_integer("num_processes", None, "Processes of the job; 1: alone, whatever a scheduler says.")
_PROCESS = flags.DEFINE_integer("process_id", None, "Number of this process, from 0.")


def main(argv: Sequence[str]) -> None:
    """Runs the chosen mode; exits 1 with one line on bad input, 130 after Ctrl-C, 75 after SIGTERM (interrupt.py)."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected argument {argv[1]!r}: settings are given as --config.KEY=VALUE")
    if not flags.FLAGS["verbosity"].present:  # libraries tell each checkpoint in twenty lines; --verbosity=0 shows them
        logging.set_verbosity(logging.WARNING)
    config = _CONFIG.value
    workdir = _workdir(_WORKDIR.value or f"runs/{config.name}")
    # Imported here so that --help and a mistyped flag answer at once.
    from vae_jcc import cluster
    from vae_jcc.evaluate import evaluate_workdir
    from vae_jcc.finite import NonFiniteError
    from vae_jcc.interrupt import EXIT_INTERRUPTED, EXIT_PREEMPTED, Preempted, preempted_from_now_on
    from vae_jcc.train import train_and_evaluate

    preempted_from_now_on()
    try:
        cluster.start(_COORDINATOR.value, _PROCESSES.value, _PROCESS.value)
        if _MODE.value == "train":
            train_and_evaluate(config, workdir)
        elif cluster.leads():  # the others wait for it when they exit
            evaluate_workdir(config, workdir)
    except (ValueError, FileNotFoundError, NonFiniteError, cluster.ClusterError) as error:
        cluster.end(f"{type(error).__name__}: {error}")
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
    except Preempted:
        sys.exit(EXIT_PREEMPTED)
    except Exception:
        cluster.end(traceback.format_exc())


def _workdir(name: str) -> Path:
    """Returns the folder; "gs://..." and the like, which a path would quietly make a local folder of, are refused."""
    if "://" in name:
        sys.exit(
            f"ValueError: --workdir={name} is an address, not a folder: mount the bucket (gcsfuse, s3fs) or a shared "
            "disk, and name the folder there."
        )
    return Path(name)


def run() -> None:
    """Parses flags and runs; the entry point of `python -m vae_jcc.main`."""
    flags.mark_flags_as_required(["config"])
    app.run(main, flags_parser=_parse)


def _parse(arguments: Sequence[str]) -> list[str]:
    """Returns what remains besides flags; a configuration or key that does not exist is told in a line."""
    named = next((text.partition("=")[2] for text in arguments if text.startswith("--config=")), "")
    if named and not Path(named.partition(":")[0]).is_file():
        sys.exit(f"ValueError: --config: No such file or directory: {named!r}; the shipped ones are in configs/.")
    try:
        return list(app.parse_flags_with_usage(list(arguments)))
    except AttributeError as error:
        where = traceback.extract_tb(error.__traceback__)[-1].filename
        if "ml_collections" not in where:  # a mistake in the configuration's own code wants its place told
            raise
        sys.exit(f"ValueError: no such key as in --config.KEY=VALUE: {' '.join(str(error).split())}")


if __name__ == "__main__":
    use_huge_pages()
    run()
