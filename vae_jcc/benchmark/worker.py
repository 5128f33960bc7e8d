"""A process that holds one system and measures it on demand, so that peak memory and cores are its own."""

import multiprocessing
import os
import sys
import time
import traceback
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from vae_jcc.benchmark.measuring import peak_mib
from vae_jcc.benchmark.systems import Spec, System, open_system

WARM_UP_CALLS = 3


class WorkerError(RuntimeError):
    """A worker could not do what it was asked for; the message says why."""


class Worker:
    """The parent's handle on a process that runs `open_system(spec)` on a few cores.

    Used as a context: leaving it ends the process.
    """

    def __init__(self, spec: Spec, images: str, threads: int) -> None:
        """Starts the process and waits until the system is loaded.

        Args:
            spec: what to measure.
            images: path of a .npy file, uint8 [N, H, W, C].
            threads: cores to use.

        Raises:
            WorkerError: the system cannot be opened.
        """
        # Not a fork: that would inherit this process's memory and JAX's threads.
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(theirs, spec, images, threads), daemon=True)
        self._process.start()
        theirs.close()
        try:
            self.facts: dict[str, Any] = self._answer()
        except WorkerError:
            self.close()
            raise

    def warm_up(self, batch: int) -> float:
        """Compiles for batches of this size and runs a few; returns the seconds of the last."""
        return float(self._ask("warm_up", batch))

    def run(self, batch: int, calls: int) -> tuple[float, float]:
        """Runs so many batches; returns wall-clock seconds and CPU-seconds over all threads."""
        wall, cpu = self._ask("run", batch, calls)
        return wall, cpu

    def bytes_per_image(self, count: int) -> float | None:
        """Returns the mean bytes of the first images, at most `count`; None of a system that makes none."""
        size: float | None = self._ask("bytes_per_image", count)
        return size

    def peak_mib(self) -> float:
        """Returns the peak resident memory of the process so far."""
        return float(self._ask("peak_mib"))

    def close(self) -> None:
        """Ends the process."""
        self._connection.close()
        self._process.join(timeout=10)
        if self._process.is_alive():
            self._process.terminate()
            self._process.join()

    def __enter__(self) -> "Worker":
        """Returns itself."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Ends the process."""
        self.close()

    def _ask(self, name: str, *arguments: Any) -> Any:
        try:
            self._connection.send((name, arguments))
        except BrokenPipeError:
            pass  # it has ended: the answer says how
        return self._answer()

    def _answer(self) -> Any:
        try:
            error, answer = self._connection.recv()
        except EOFError as gone:
            self._process.join()
            raise WorkerError(f"its process ended (exit code {self._process.exitcode})") from gone
        if error:
            raise WorkerError(error)
        return answer


def serve(connection: Connection, spec: Spec, images: str, threads: int) -> None:
    """Runs in the process: opens the system, answers what is asked until the parent hangs up."""
    _bind(threads)
    try:
        system = open_system(spec)
        # Mapped, so that pictures not used yet are not in this process's memory.
        job = _Job(system, np.load(images, mmap_mode="r"))
        connection.send(("", job.facts()))
        while True:
            try:
                name, arguments = connection.recv()
            except EOFError:
                return
            connection.send(("", getattr(job, name)(*arguments)))
    except (ImportError, ValueError, OSError) as error:  # what a user can mend
        connection.send((" ".join(str(error).split()), None))
    except Exception:
        traceback.print_exc(file=sys.stderr)
        connection.send((traceback.format_exc().strip().splitlines()[-1], None))


class _Job:
    def __init__(self, system: System, images: np.ndarray) -> None:
        self._system, self._images = system, images

    def facts(self) -> dict[str, Any]:
        """Returns what the system says of itself."""
        system = self._system
        keys = ("name", "output", "weights", "parameters", "weight_bytes", "macs", "libraries")
        return {key: getattr(system, key) for key in keys}

    def warm_up(self, batch: int) -> float:
        for _ in range(WARM_UP_CALLS - 1):
            self.run(batch, 1)
        return self.run(batch, 1)[0]

    def run(self, batch: int, calls: int) -> tuple[float, float]:
        """Takes other images each time, as a camera does, as far as there are any."""
        starts = [(i * batch) % max(1, len(self._images) - batch + 1) for i in range(calls)]
        wall, cpu = time.perf_counter(), time.process_time()
        for start in starts:
            self._system.run(self._images[start : start + batch])
        return time.perf_counter() - wall, time.process_time() - cpu

    def bytes_per_image(self, count: int) -> float | None:
        if self._system.output != "bytes":
            return None
        count = min(count, len(self._images))
        return sum(len(self._system.run(self._images[i : i + 1])[0]) for i in range(count)) / count

    def peak_mib(self) -> float:
        return peak_mib()


def _bind(threads: int) -> None:
    """Binds this process to so many cores, before any library starts its threads."""
    os.environ["JAX_PLATFORMS"] = "cpu"  # as on the devices that encoders are meant for
    os.environ["OMP_NUM_THREADS"] = str(threads)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
