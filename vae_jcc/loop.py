"""The training loop: steps, and when their numbers say so a log line, a validation, a checkpoint."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from vae_jcc.checkpoint import Checkpoints, save_variables
from vae_jcc.data.pipeline import TrainIterator
from vae_jcc.finite import FiniteCheck, NonFiniteError
from vae_jcc.interrupt import StopSignals
from vae_jcc.metrics import Reporter, mean_metrics
from vae_jcc.optim import steps_in
from vae_jcc.parallel import Devices
from vae_jcc.state import TrainState


@dataclass(frozen=True)
class Plan:
    """How many steps there are, and after how many of them something else is due."""

    total: int
    per_epoch: int
    every_log: int
    every_eval: int
    every_save: int


def make_plan(config: ConfigDict, num_examples: int) -> Plan:
    """Returns the plan of a training on `num_examples` images.

    Raises:
        ValueError: they do not fill a batch.
    """
    batch_size = config.train.batch_size
    per_epoch = num_examples // batch_size
    if per_epoch == 0:
        raise ValueError(f"{num_examples} training images do not fill a batch of {batch_size}: lower train.batch_size.")
    epochs = (config.train.epochs, config.eval.every_epochs, config.checkpoint.every_epochs)
    total, every_eval, every_save = (steps_in(e, num_examples, batch_size) for e in epochs)
    total = min(total, config.train.max_steps) if config.train.max_steps else total
    return Plan(total, per_epoch, config.log.every_steps, every_eval, every_save)


@dataclass
class Loop:
    """A training between its first step and its last; `run` takes it to the end, or to where it is interrupted."""

    config: ConfigDict
    workdir: Path
    devices: Devices
    plan: Plan
    iterator: TrainIterator
    checkpoints: Checkpoints
    step_at: Callable[[int], Callable[..., Any]]  # number of a step to the step
    validate: Callable[[TrainState], dict[str, float]]  # "objective" among the results: the smaller, the better
    state: TrainState
    soft_labels: np.ndarray | None = None  # float32 [N, K]: a teacher's logits of each training image
    done: int = 0
    best: float = np.inf
    _records: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        share = self.config.train.batch_size // len(self.devices.processes)
        self._draws = {
            "position": np.arange(share, dtype=np.int32) + self.devices.rank * share,
            "seed": np.full(share, self.config.seed, np.int32),
        }
        self._finite = FiniteCheck(self.plan.per_epoch, self.checkpoints)
        if self.checkpoints.latest is not None:
            self.state, saved = self.checkpoints.restore(self.state, self.config)
            self.iterator.set_state(saved["iterator"])
            self.done, self.best = int(self.state.step), saved["best"]

    def run(self) -> None:
        """Trains; the best variables are in WORKDIR/best afterwards.

        Raises:
            NonFiniteError: the loss or gradient is not finite, or no validation was.
            KeyboardInterrupt: after a checkpoint is written.
            Preempted: after a checkpoint is written.
        """
        size, silent = self.config.train.batch_size, self.devices.rank > 0
        reporter = Reporter(self.workdir, self.plan.total, size, self.done, silent=silent)
        with reporter as report, StopSignals(len(self.devices.processes)) as signals:
            if self.done:
                report.say(f"Resumed from step {self.done} in {self.checkpoints.folder}.")
            while self.done < self.plan.total:
                self._step()
                if self._due(self.plan.every_log):
                    self._log(report)
                if self._due(self.plan.every_eval):
                    self._evaluate(report)
                stop = signals.stop_after(self.done)
                if stop or self._due(self.plan.every_save):
                    self._save()
                if stop:
                    self.checkpoints.wait()
                    report.say(
                        f"Stopped: step {self.done} is saved in {self.checkpoints.folder}; the same command resumes."
                    )
                    raise stop
        if self.config.checkpoint.keep_best and not np.isfinite(self.best):
            raise NonFiniteError(
                f"No validation of this training had a finite objective, so {self.workdir / 'best'} does not exist: "
                "lower optim.learning_rate, or set compute_dtype='float32' if it is not."
            )

    def _due(self, every: int) -> bool:
        return self.done % every == 0 or self.done == self.plan.total

    def _step(self) -> None:
        batch = next(self.iterator) | self._draws
        if self.soft_labels is not None:
            batch["teacher_logits"] = self.soft_labels[self.iterator.indices(self.done)]
        self.state, metrics = self.step_at(self.done)(self.state, self.devices.put_batch(batch))
        self._finite.check(self.done, metrics)
        self._records.append(metrics)
        self.done += 1

    def _log(self, report: Reporter) -> None:
        report.train(self.done, mean_metrics(self._records))
        self._records = []

    def _evaluate(self, report: Reporter) -> None:
        self._finite.settle()
        result = self.validate(self.state)
        report.evaluation(self.done, "validation", result)
        if result["objective"] < self.best or not self.config.checkpoint.keep_best:
            self.best = result["objective"]
            if self.devices.rank == 0:
                save_variables(self.workdir / "best", jax.device_get(self.state.eval_variables))
        report.pause(self.done)

    def _save(self) -> None:
        self._finite.settle()
        saved = {"iterator": self.iterator.get_state(), "best": float(self.best)}
        self.checkpoints.save(self.done, self.state, saved, self.config)
