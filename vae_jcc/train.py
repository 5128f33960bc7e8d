"""Training, read top to bottom: data, state, steps, the loop (loop.py), and what remains of it (publish.py)."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from vae_jcc import optim, steps
from vae_jcc.check_config import check_config, check_splits
from vae_jcc.checkpoint import Checkpoints, load_start, load_variables
from vae_jcc.cluster import check_agreement
from vae_jcc.data.pipeline import eval_batches, train_iterator
from vae_jcc.data.sources import Source, open_source
from vae_jcc.evaluate import evaluate_batches, input_settings, input_shape
from vae_jcc.loop import Loop, Plan, make_plan
from vae_jcc.metrics import tell
from vae_jcc.models.joint import QUANTIZERS, build_model
from vae_jcc.parallel import Devices, make_devices
from vae_jcc.publish import publish
from vae_jcc.soft_labels import soft_labels
from vae_jcc.state import TrainState, create_state
from vae_jcc.teacher import load_teacher


def train_and_evaluate(config: ConfigDict, workdir: Path) -> dict[str, Any]:
    """Trains the joint model and ends with accuracy against real bytes on the test split.

    All processes of a job train together (cluster.py); what follows, process 0 does alone, on its own devices.

    Args:
        config: the complete configuration.
        workdir: for checkpoints, metrics, the artifact, plots and evaluation.json; all processes must see it.

    Returns:
        The evaluation of the test split (see `evaluate_artifact`); {} on other processes than 0.

    Raises:
        NonFiniteError: the loss or gradient is not finite; names step, batch and the last good checkpoint.
        ValueError: the configuration contradicts itself, the data, or the checkpoint.
        ClusterError: the processes do not run the same, or do not see the same folder.
        KeyboardInterrupt: passed on after a checkpoint is written.
        Preempted: SIGTERM came; a checkpoint is written.
    """
    check_agreement(config, workdir)
    d, devices = config.dataset, make_devices(config.parallel, jax.devices())
    train_source, validation, test = (_open(config, s) for s in (d.train_split, d.validation_split, d.test_split))
    check_config(config, train_source, validation, test)
    if warning := check_splits(train_source, validation, test):
        tell(warning, silent=devices.rank > 0)
    variables = fit(config, workdir, train_source, validation, devices)
    return publish(config, workdir, variables, train_source, validation, test) if devices.rank == 0 else {}


def fit(
    config: ConfigDict, workdir: Path, train_source: Source, validation: Source, devices: Devices | None = None
) -> dict[str, Any]:
    """Trains, and returns the averaged variables {"params", "batch_stats"} with the best validation objective.

    Resumes from the newest checkpoint in `workdir`, on any number of devices; killed at any step and resumed, it gives
    the parameters of an uninterrupted run. Errors are those of `train_and_evaluate`.

    Args:
        config: the complete configuration.
        workdir: for checkpoints, best/ and metrics.
        train_source: training images.
        validation: images for the choice of the best.
        devices: to train on, all their processes together; None: this process's own.
    """
    devices = devices or make_devices(config.parallel)
    devices.check_batch(config.train.batch_size, "train.batch_size", config.train.accumulate)
    devices.check_batch(config.eval.batch_size, "eval.batch_size")
    info, plan = train_source.info, make_plan(config, train_source.info.num_examples)
    model = build_model(config, info.num_classes, info.channels, devices.axis_name)
    optimizer = optim.make_optimizer(config, plan.per_epoch, plan.total)
    with closing(Checkpoints(workdir, config.checkpoint.keep, devices.processes)) as checkpoints:
        fresh = checkpoints.latest is None  # else its state replaces whatever the run started from
        start = load_start(config.init_from, config.init_parts) if config.init_from and fresh else None
        shape = input_shape(config, train_source)
        state = devices.put_state(create_state(model, optimizer, config.seed, shape, start, config.init_parts))
        teacher = load_teacher(config.loss.teacher, info.num_classes) if config.loss.teacher else None
        answers = None
        if teacher is not None and config.loss.teacher_views:
            answers, teacher = soft_labels(config, teacher, train_source, workdir, devices), None
        step_at = _train_steps(config, devices, model, optimizer, plan, teacher)
        eval_step = devices.compile_eval(steps.make_eval_step(model, config.quantizer.kind, devices.axis_name))

        def validate(state: TrainState) -> dict[str, float]:
            return _validate(config, devices, eval_step, state, validation)

        iterator = train_iterator(
            train_source,
            batch_size=config.train.batch_size,
            seed=config.seed,
            margin=config.dataset.margin,
            crop_scale=config.dataset.crop_scale,
            crop_ratio=config.dataset.crop_ratio,
            **input_settings(config, devices),
        )
        with closing(iterator):
            Loop(config, workdir, devices, plan, iterator, checkpoints, step_at, validate, state, answers).run()
    return load_variables(workdir / "best")


def _open(config: ConfigDict, split: str) -> Source:
    d = config.dataset
    return open_source(d.name, split, data_dir=d.data_dir or None, on_corrupt=d.on_corrupt)


def _train_steps(
    config: ConfigDict, devices: Devices, model: Any, optimizer: Any, plan: Plan, teacher: steps.Teacher | None
) -> Callable[[int], Callable[..., Any]]:
    """Returns the compiled step to use at a step's number: noise_then_hard has two."""
    kind = config.quantizer.kind
    if kind not in QUANTIZERS:
        raise ValueError(f"config.quantizer.kind is {kind!r}: choose one of {', '.join(QUANTIZERS)}.")
    hard_from = round(plan.total * (1 - config.quantizer.hard_fraction)) if kind == "noise_then_hard" else plan.total

    def compile_step(quantizer: str) -> Callable[..., Any]:
        rate = optim.lam_schedule(config, plan.per_epoch)
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
        source, batch_size=config.eval.batch_size, margin=config.dataset.eval_margin, **input_settings(config, devices)
    )
    result = evaluate_batches(eval_step, state.eval_variables, batches, devices)
    if config.loss.hinge_beta:
        penalty = config.loss.hinge_beta * max(result["bpp"] - config.loss.hinge_target, 0.0)
    else:
        penalty = config.loss.lam * result["bpp"]
    return result | {"objective": result["cross_entropy"] + penalty}
