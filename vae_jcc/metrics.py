"""What a run shows and records: a progress bar or sparse lines, a JSONL file, TensorBoard event files."""

import json
import math
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

_QUIET_SECONDS = 30.0  # between lines in a log


def mean_metrics(records: list[Mapping[str, Any]]) -> dict[str, float]:
    """Returns the mean of each metric over the steps' records."""
    return {key: float(np.mean([float(r[key]) for r in records])) for key in records[0]}


def is_finite(metrics: Mapping[str, Any]) -> bool:
    """Returns whether the loss and the gradient's norm are finite."""
    return math.isfinite(float(metrics["loss"])) and math.isfinite(float(metrics["gradient_norm"]))


def _tensorboard_writer(workdir: Path) -> Any | None:
    try:
        from clu import metric_writers

        return metric_writers.SummaryWriter(str(workdir / "tensorboard"))
    except ImportError as error:
        logging.info("No TensorBoard event files (%s): pip install 'vae-jcc[tensorboard]' writes them.", error)
        return None


def tell(text: str, *, silent: bool = False) -> None:
    """Prints one line on standard error, or nothing if silent: what takes its time before and after the steps."""
    Console(stderr=True, quiet=silent).print(text, highlight=False, markup=False, soft_wrap=True)


class Reporter:
    """Writes metrics/`split` records of a run; use as a context manager."""

    def __init__(self, workdir: Path, total_steps: int, batch_size: int, start_step: int = 0, *, silent: bool = False):
        """Opens the files in `workdir`, and the progress bar if standard error is a terminal.

        A silent one, of a process that does not lead, shows and records nothing.
        """
        workdir.mkdir(parents=True, exist_ok=True)
        self._total, self._batch_size = total_steps, batch_size
        self._jsonl = (Path(os.devnull) if silent else workdir / "metrics.jsonl").open("a")
        self._tensorboard = None if silent else _tensorboard_writer(workdir)
        self._console = Console(stderr=True, quiet=silent)
        self._progress = Progress(
            TextColumn("train"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[text]}"),
            console=self._console,
            disable=silent or not sys.stderr.isatty(),
        )
        self._task = self._progress.add_task("train", total=total_steps, completed=start_step, text="")
        self._last = (start_step, time.perf_counter())
        self._last_line = 0.0

    def __enter__(self) -> "Reporter":
        """Starts the progress bar."""
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Closes bar and files."""
        self._progress.stop()
        self._jsonl.close()
        if self._tensorboard is not None:
            self._tensorboard.close()

    def train(self, step: int, metrics: dict[str, float]) -> None:
        """Reports the means since the last call, with images a second."""
        then, now = self._last[1], time.perf_counter()
        rate = (step - self._last[0]) * self._batch_size / max(now - then, 1e-9)
        self._last = (step, now)
        self._record(step, "train", metrics | {"images_per_second": rate})
        text = (
            f"{rate:,.0f} images/s  loss {metrics['loss']:.3f}  accuracy {metrics['accuracy']:.1%}  "
            f"{metrics['bpp']:.3f} bpp"
        )
        self._progress.update(self._task, completed=step, text=text)
        if self._progress.disable and now - self._last_line > _QUIET_SECONDS:
            self._last_line = now
            left = (self._total - step) * self._batch_size / max(rate, 1e-9)
            self.say(f"step {step}/{self._total}  {text}  ETA {left / 60:.1f} min")

    def pause(self, step: int) -> None:
        """Restarts the clock of images a second, after time spent on something else than training."""
        self._last = (step, time.perf_counter())

    def evaluation(self, step: int, split: str, metrics: dict[str, float]) -> None:
        """Reports an evaluation under real rounding."""
        self._record(step, split, metrics)
        self.say(
            f"step {step}/{self._total}  {split}: top-1 {metrics['top1']:.2%}  {metrics['bpp']:.4f} bpp estimated "
            f"(real rounding)  objective {metrics['objective']:.4f}"
        )

    def say(self, text: str) -> None:
        """Prints one line above the bar."""
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def _record(self, step: int, split: str, metrics: dict[str, float]) -> None:
        self._jsonl.write(json.dumps({"step": step, "split": split} | metrics) + "\n")
        self._jsonl.flush()
        if self._tensorboard is not None:
            self._tensorboard.write_scalars(step, {f"{split}/{k}": v for k, v in metrics.items()})
