"""Training, read top to bottom: data, state, steps, the loop, and what remains of it (an artifact and its figures)."""

import signal
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from vae_jcc import optim, steps
from vae_jcc.checkpoint import Checkpoints, load_start, load_variables, save_variables
from vae_jcc.data.pipeline import eval_batches, train_iterator
from vae_jcc.data.sources import Source, open_source
from vae_jcc.evaluate import evaluate_batches, input_settings, input_shape
from vae_jcc.metrics import Reporter, is_finite, mean_metrics
from vae_jcc.models.joint import QUANTIZERS, build_model
from vae_jcc.parallel import Devices, make_devices
from vae_jcc.publish import publish
from vae_jcc.state import TrainState, create_state
from vae_jcc.teacher import load_teacher


class NonFiniteError(RuntimeError):
    """The loss or the gradient became infinite or NaN."""


def train_and_evaluate(config: ConfigDict, workdir: Path) -> dict[str, Any]:
    """Trains the joint model and ends with accuracy against real bytes on the test split.

    Args:
        config: the complete configuration (configs/default.py explains each key).
        workdir: for checkpoints, metrics, the artifact, plots and evaluation.json.

    Returns:
        The evaluation of the test split (see `evaluate_artifact`).

    Raises:
        NonFiniteError: the loss or gradient is not finite; names step, batch and the last good checkpoint.
        ValueError: the configuration contradicts itself, the data, or the checkpoint.
        KeyboardInterrupt: passed on after a checkpoint is written.
    """
    d = config.dataset
    train_source, validation, test = (_open(config, s) for s in (d.train_split, d.validation_split, d.test_split))
    variables = fit(config, workdir, train_source, validation)
    return publish(config, workdir, variables, train_source, validation, test)


def fit(config: ConfigDict, workdir: Path, train_source: Source, validation: Source) -> dict[str, Any]:
    """Trains, and returns the averaged variables {"params", "batch_stats"} with the best validation objective.

    Resumes from the newest checkpoint in `workdir`; killed at any step and resumed, it gives the parameters of an
    uninterrupted run. Arguments and errors are those of `train_and_evaluate`.
    """
    devices = make_devices(config.parallel)
    devices.check_batch(config.train.batch_size, "train.batch_size", config.train.accumulate)
    devices.check_batch(config.eval.batch_size, "eval.batch_size")
    info, n = train_source.info, train_source.info.num_examples
    per_epoch = n // config.train.batch_size
    if per_epoch == 0:
        raise ValueError(
            f"{n} training images do not fill a batch of {config.train.batch_size}: lower train.batch_size."
        )
    epoch_steps = partial(optim.steps_in, num_examples=n, batch_size=config.train.batch_size)
    total = epoch_steps(config.train.epochs)
    total = min(total, config.train.max_steps) if config.train.max_steps else total
    every_eval, every_save = epoch_steps(config.eval.every_epochs), epoch_steps(config.checkpoint.every_epochs)

    model = build_model(config, info.num_classes, info.channels, devices.axis_name)
    optimizer = optim.make_optimizer(config, per_epoch, total)
    start = load_start(config.init_from) if config.init_from else None
    state = devices.put_state(create_state(model, optimizer, config.seed, input_shape(config, train_source), start))
    step_at = _train_steps(config, devices, model, optimizer, per_epoch, total, info.num_classes)
    eval_step = devices.compile_eval(steps.make_eval_step(model, config.quantizer.kind, devices.axis_name))

    iterator = train_iterator(
        train_source,
        batch_size=config.train.batch_size,
        seed=config.seed,
        margin=config.dataset.margin,
        crop_scale=config.dataset.crop_scale,
        crop_ratio=config.dataset.crop_ratio,
        **input_settings(config),
    )
    positions = _positions(config.train.batch_size)
    checkpoints = Checkpoints(workdir, config.checkpoint.keep)
    done, best, records = 0, np.inf, []
    if checkpoints.latest is not None:
        state, saved = checkpoints.restore(state, config)
        iterator.set_state(saved["iterator"])
        done, best = int(state.step), saved["best"]

    finite = _FiniteCheck(lambda step, metrics: _non_finite(step, per_epoch, metrics, checkpoints))

    def save() -> None:
        finite.settle()
        checkpoints.save(done, state, {"iterator": iterator.get_state(), "best": float(best)}, config)

    with Reporter(workdir, total, config.train.batch_size, done) as report, _Interrupt() as interrupt:
        if done:
            report.say(f"Resumed from step {done} in {checkpoints.folder}.")
        try:
            while done < total:
                batch = devices.put_batch(next(iterator) | {"position": positions})
                state, metrics = step_at(done)(state, batch)
                finite.check(done, metrics)
                done += 1
                if interrupt.asked:
                    raise KeyboardInterrupt
                records.append(metrics)
                if done % config.log.every_steps == 0 or done == total:
                    report.train(done, mean_metrics(records))
                    records = []
                if done % every_eval == 0 or done == total:
                    finite.settle()
                    result = _validate(config, devices, eval_step, state, validation)
                    report.evaluation(done, "validation", result)
                    if result["objective"] < best or not config.checkpoint.keep_best:
                        best = result["objective"]
                        save_variables(workdir / "best", jax.device_get(state.eval_variables))
                    report.pause(done)
                if done % every_save == 0 or done == total:
                    save()
        except KeyboardInterrupt:
            save()
            report.say(f"Interrupted: step {done} is saved in {checkpoints.folder}; the same command resumes.")
            raise
        finally:
            checkpoints.close()
            iterator.close()
    return load_variables(workdir / "best")


class _Interrupt:
    """Holds Ctrl-C back until the step in flight is over: in its midst, the state is neither the old nor the new."""

    def __enter__(self) -> "_Interrupt":
        self.asked = False
        self._on_main_thread = threading.current_thread() is threading.main_thread()
        if self._on_main_thread:
            self._before = signal.signal(signal.SIGINT, self._ask)
        return self

    def _ask(self, *_: object) -> None:
        if self.asked:  # a second Ctrl-C does not wait
            raise KeyboardInterrupt
        self.asked = True

    def __exit__(self, *_: object) -> None:
        if self._on_main_thread:
            signal.signal(signal.SIGINT, self._before)


class _FiniteCheck:
    """Raises NonFiniteError a step late, so that the host need not wait for the step that the device is at.

    Whoever keeps or evaluates a state settles first: no checkpoint holds what is not finite.
    """

    def __init__(self, explain: Callable[[int, Any], str]) -> None:
        self._explain = explain
        self._open: tuple[int, Any] | None = None

    def check(self, step: int, metrics: Any) -> None:
        self.settle()
        self._open = step, metrics

    def settle(self) -> None:
        if self._open is not None and not is_finite(self._open[1]):
            raise NonFiniteError(self._explain(*self._open))
        self._open = None


def _open(config: ConfigDict, split: str) -> Source:
    d = config.dataset
    return open_source(d.name, split, data_dir=d.data_dir or None, on_corrupt=d.on_corrupt)


def _positions(batch_size: int) -> np.ndarray:
    share = batch_size // jax.process_count()
    return np.arange(share, dtype=np.int32) + jax.process_index() * share


def _train_steps(
    config: ConfigDict, devices: Devices, model: Any, optimizer: Any, per_epoch: int, total: int, num_classes: int
) -> Callable[[int], Callable[..., Any]]:
    """Returns the compiled step to use at a step's number: noise_then_hard has two."""
    kind = config.quantizer.kind
    if kind not in QUANTIZERS:
        raise ValueError(f"config.quantizer.kind is {kind!r}: choose one of {', '.join(QUANTIZERS)}.")
    teacher = load_teacher(config.loss.teacher, num_classes) if config.loss.teacher else None
    hard_from = round(total * (1 - config.quantizer.hard_fraction)) if kind == "noise_then_hard" else total

    def compile_step(quantizer: str) -> Callable[..., Any]:
        rate = optim.lam_schedule(config, per_epoch)
        return devices.compile_train(
            steps.make_train_step(
                config, model, optimizer, rate, quantizer=quantizer, axis_name=devices.axis_name, teacher=teacher
            )
        )

    soft = compile_step("noise" if kind == "noise_then_hard" else kind)
    hard = compile_step("hard")
    return lambda step: soft if step < hard_from else hard


def _validate(
    config: ConfigDict, devices: Devices, eval_step: Callable[..., Any], state: TrainState, source: Source
) -> dict[str, float]:
    batches = eval_batches(
        source, batch_size=config.eval.batch_size, margin=config.dataset.eval_margin, **input_settings(config)
    )
    result = evaluate_batches(eval_step, state.eval_variables, batches, devices)
    if config.loss.hinge_beta:
        penalty = config.loss.hinge_beta * max(result["bpp"] - config.loss.hinge_target, 0.0)
    else:
        penalty = config.loss.lam * result["bpp"]
    return result | {"objective": result["cross_entropy"] + penalty}


def _non_finite(step: int, per_epoch: int, metrics: Any, checkpoints: Checkpoints) -> str:
    last = checkpoints.latest
    where = f"the last good checkpoint is {checkpoints.folder / str(last)}" if last is not None else "no checkpoint yet"
    values = ", ".join(f"{k} {float(v):g}" for k, v in metrics.items())
    return (
        f"Loss or gradient is not finite at step {step} (epoch {step // per_epoch}, batch {step % per_epoch}): "
        f"{values}; {where}. Lower optim.learning_rate, set optim.clip_norm, or lengthen the warm-ups."
    )
