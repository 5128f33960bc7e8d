"""One process or many: joining the others at the start, and agreeing with them before training.

Many processes form one job: each holds its own devices and reads its own share of the data, and every step is one
computation over all devices. Process 0 leads: it alone logs, keeps the best variables and publishes.
"""

import hashlib
import importlib.util
import os
import secrets
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

import jax
import numpy as np
from ml_collections import ConfigDict

CONNECT_SECONDS = 300  # that a process waits for the others to start
HEARTBEAT_SECONDS = 60  # of silence after which a process counts as dead, and the job fails
# Processes that are done wait for process 0, which publishes alone; should it die, its heartbeat ends the wait.
_LAST_SECONDS = 7 * 24 * 3600


class ClusterError(RuntimeError):
    """The processes of a job did not find each other, or do not fit together."""


def start(
    coordinator: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
    heartbeat_seconds: int = HEARTBEAT_SECONDS,
) -> None:
    """Joins the job's other processes; does nothing where there is one process. Call it before anything uses a device.

    Without arguments the environment decides: Slurm tasks, pods of an indexed Kubernetes job and TPU hosts find each
    other (`jax.distributed.initialize`). `num_processes=1` trains alone whatever the environment says.

    Args:
        coordinator: HOST:PORT of process 0, which all processes can reach.
        num_processes: of the job.
        process_id: of this one, from 0.
        heartbeat_seconds: of silence after which a process counts as dead.

    Raises:
        ValueError: only some of the three are given, or they contradict each other.
        ClusterError: the others are not found.
    """
    place = ""
    if num_processes == 1 and process_id in (None, 0):
        return
    if (coordinator, num_processes, process_id) == (None, None, None):
        place = detect_place(os.environ)
        if not place:
            return
    elif coordinator is None or num_processes is None or process_id is None:
        raise ValueError("Give all of --coordinator=HOST:PORT, --num_processes=N and --process_id=I, or none of them.")
    elif not 0 <= process_id < num_processes:
        raise ValueError(f"--process_id={process_id} is not among 0..{num_processes - 1} (--num_processes).")
    elif not coordinator.rpartition(":")[0] or not coordinator.rpartition(":")[2].isdigit():
        raise ValueError(f"--coordinator={coordinator} is not HOST:PORT, such as node0:8476.")
    try:
        jax.distributed.initialize(
            coordinator,
            num_processes,
            process_id,
            cluster_detection_method=None if place else "deactivate",
            initialization_timeout=CONNECT_SECONDS,
            heartbeat_timeout_seconds=heartbeat_seconds,
            shutdown_timeout_seconds=_LAST_SECONDS,
        )
    except (RuntimeError, ValueError) as error:
        where = f"in this {place} job" if place else f"at {coordinator}"
        raise ClusterError(
            f"The job's processes did not find each other {where}: {str(error).splitlines()[0]} "
            "Process 0 must run, and its port must be open to the others; --num_processes=1 trains alone."
        ) from error


def detect_place(environment: Mapping[str, str]) -> str:
    """Returns which kind of job of many processes this one belongs to: "Slurm", "Kubernetes", "TPU", or "" for none.

    Args:
        environment: variables, such as `os.environ`.
    """
    if "SLURM_STEP_NODELIST" in environment and int(environment.get("SLURM_NTASKS", "1")) > 1:
        return "Slurm"
    if _has_tpu():  # one host or many: JAX asks the machine
        return "TPU"
    if "KUBERNETES_SERVICE_HOST" in environment and "JOB_COMPLETION_INDEX" in environment:
        return "Kubernetes"
    return ""


def _has_tpu() -> bool:
    chips = [*Path("/dev").glob("accel[0-9]*"), *Path("/dev/vfio").glob("[0-9]*")]
    return bool(chips) and importlib.util.find_spec("libtpu") is not None


def end(text: str) -> NoReturn:
    """Ends this process with exit code 1 and `text` as its last words.

    One process of many does not take leave of the others, as JAX does at exit: it would wait there for them, and they
    for it in a step or a save, as long as its heart beats. So they notice that it is gone.
    """
    if not jax.distributed.is_initialized():
        sys.exit(text)
    print(text, file=sys.stderr, flush=True)
    os._exit(1)


def leads() -> bool:
    """Returns whether this process is the one that logs and publishes."""
    return jax.process_index() == 0


def gather_rows(rows: np.ndarray) -> np.ndarray:
    """Returns the rows [n, ...] of every process of the job, one process after the other: [processes * n, ...].

    All processes must call it, with arrays of one shape.
    """
    from jax.experimental.multihost_utils import process_allgather

    everyone: np.ndarray = np.asarray(process_allgather(rows, tiled=True))
    return everyone


def check_agreement(config: ConfigDict, workdir: Path) -> None:
    """Checks, over all processes, that they run the same and see the same folder; every process gets the same answer.

    Args:
        config: the complete configuration.
        workdir: of the run; it is made.

    Raises:
        ClusterError: configurations or JAX versions differ, or a process does not see what process 0 writes.
    """
    if jax.process_count() == 1:
        return
    from jax.experimental.multihost_utils import broadcast_one_to_all, process_allgather

    facts = f"{jax.__version__} {config.to_json(sort_keys=True)}"
    digests = process_allgather(np.frombuffer(hashlib.sha256(facts.encode()).digest(), np.uint8))
    others = np.flatnonzero((digests != digests[0]).any(axis=1)).tolist()
    if others:
        raise ClusterError(
            f"Processes {others} run another configuration or version of JAX than process 0: start all of them with "
            "the same command in the same environment."
        )
    token = broadcast_one_to_all(np.uint32(secrets.randbits(32)))
    mark = workdir.absolute() / f".seen_by_all_{int(token):08x}"
    if leads():
        workdir.mkdir(parents=True, exist_ok=True)
        mark.touch()
    process_allgather(np.zeros(1))  # all wait until it is written
    blind = np.flatnonzero(~process_allgather(np.array(mark.exists()))).tolist()
    if leads():
        mark.unlink()
    if blind:
        raise ClusterError(
            f"Processes {blind} do not see the files that process 0 writes to {workdir.absolute()}: --workdir must be "
            "a folder that all hosts share (NFS, Lustre, a mounted bucket)."
        )
