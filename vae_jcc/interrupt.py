"""Ctrl-C and preemption: a training stops between two steps, when its checkpoint can be written.

    signal            what it means                                    exit code
    SIGINT, Ctrl-C    the user stops the run                           130
    SIGTERM           the machine is about to go (preemption,          75 (EX_TEMPFAIL: try again)
                      a time limit): start the same command again

Either leaves a checkpoint of the step at which it came. A second Ctrl-C does not wait.
"""

import signal
import threading
from types import FrameType
from typing import Any

EXIT_INTERRUPTED = 130
EXIT_PREEMPTED = 75


class Preempted(BaseException):
    """SIGTERM came; like KeyboardInterrupt, no handler of errors should take it for one."""


def preempted_from_now_on() -> None:
    """Makes SIGTERM raise `Preempted` in the main thread, wherever it is."""
    signal.signal(signal.SIGTERM, _raise_preempted)


def _raise_preempted(*_: object) -> None:
    raise Preempted


class StopSignals:
    """Holds both signals back while it is entered; the training loop asks after each step whether to stop.

    With many processes a signal to one stops all after the same step: JAX's preemption service, which listens for
    SIGTERM itself, agrees on it.
    """

    def __init__(self, processes: int) -> None:
        self._processes = processes
        self._received: BaseException | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "StopSignals":
        if threading.current_thread() is threading.main_thread():
            self._before = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}
            signal.signal(signal.SIGINT, self._interrupt)
            if self._processes == 1:
                signal.signal(signal.SIGTERM, self._terminate)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        if isinstance(self._received, KeyboardInterrupt):
            raise self._received
        self._received = KeyboardInterrupt()
        if self._processes > 1:
            signal.raise_signal(signal.SIGTERM)  # to JAX's service, which tells the others

    def _terminate(self, number: int, frame: FrameType | None) -> None:
        self._received = self._received or Preempted()

    def stop_after(self, step: int) -> BaseException | None:
        """Returns what to raise, once the state is saved, if training is to stop after this step; else None.

        Args:
            step: steps done; with many processes all ask after each of them.
        """
        if self._processes > 1:
            from jax.experimental.multihost_utils import reached_preemption_sync_point

            return (self._received or Preempted()) if reached_preemption_sync_point(step) else None
        return self._received
