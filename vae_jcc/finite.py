"""Stopping a training whose loss or gradient is not finite, before such a state is kept."""

from collections.abc import Mapping
from typing import Any

from vae_jcc.checkpoint import Checkpoints
from vae_jcc.metrics import is_finite


class NonFiniteError(RuntimeError):
    """The loss or the gradient became infinite or NaN, or every validation is."""


class FiniteCheck:
    """Raises NonFiniteError a step late, so that the host need not wait for the step that the device is at.

    Whoever keeps or evaluates a state settles first: no checkpoint holds what is not finite.
    """

    def __init__(self, per_epoch: int, checkpoints: Checkpoints) -> None:
        self._per_epoch, self._checkpoints = per_epoch, checkpoints
        self._open: tuple[int, Mapping[str, Any]] | None = None

    def check(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Takes a step's metrics, and judges those of the step before.

        Raises:
            NonFiniteError: they were not finite; names step, batch and the last good checkpoint.
        """
        self.settle()
        self._open = step, metrics

    def settle(self) -> None:
        """Judges what is still open; raises as `check` does."""
        if self._open is not None and not is_finite(self._open[1]):
            raise NonFiniteError(self._explain(*self._open))
        self._open = None

    def _explain(self, step: int, metrics: Mapping[str, Any]) -> str:
        folder, last = self._checkpoints.folder, self._checkpoints.latest
        where = f"the last good checkpoint is {folder / str(last)}" if last is not None else "no checkpoint yet"
        values = ", ".join(f"{k} {float(v):g}" for k, v in metrics.items())
        return (
            f"Loss or gradient is not finite at step {step} (epoch {step // self._per_epoch}, batch "
            f"{step % self._per_epoch}): {values}; {where}. "
            "Lower optim.learning_rate, set optim.clip_norm, or lengthen the warm-ups."
        )
