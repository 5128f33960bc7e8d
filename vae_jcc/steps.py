"""One training step and one evaluation step: pure functions of state and batch.

They know nothing of devices but `axis_name`: None where the batch is one global array, the name of the device axis
where the step runs once a device (parallel.py decides).
"""

from collections.abc import Callable
from operator import itemgetter
from typing import Any, cast

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from vae_jcc import losses
from vae_jcc.data.augment import augment, to_float
from vae_jcc.models.joint import JointModel, Outputs
from vae_jcc.state import TrainState, update_average

Batch = dict[str, jax.Array]
Metrics = dict[str, jax.Array]


def objective(
    config: ConfigDict,
    rate_weight: jax.Array | float,
    images: jax.Array,
    labels: jax.Array,
    outputs: Outputs,
    teacher_logits: jax.Array | None = None,
) -> tuple[tuple[jax.Array, jax.Array], Metrics]:
    """Returns (task, rate), whose sum is the loss (nats, scalars), and what they are made of.

    The task is cross-entropy [+ distillation] [+ distortion], the rate is weighted.

    Args:
        config: the complete configuration.
        rate_weight: lam (or the hinge's beta) at this step.
        images: float32 [B, H, W, C].
        labels: int32 [B].
        outputs: of the joint model.
        teacher_logits: float32 [B, K] or None.
    """
    c = config.loss
    task = losses.cross_entropy(outputs.logits, labels, c.label_smoothing).mean()
    bpp = losses.bits_per_pixel(outputs.bits, *images.shape[1:3]).mean()
    accuracy = jnp.mean(jnp.argmax(outputs.logits, -1) == labels)
    metrics = {"cross_entropy": task, "bpp": bpp, "accuracy": accuracy}
    if teacher_logits is not None:
        metrics["distillation"] = losses.distillation(outputs.logits, teacher_logits, c.distill_temperature).mean()
        task = (1 - c.distill_weight) * task + c.distill_weight * metrics["distillation"]
    if c.hinge_beta:
        rate = losses.rate_hinge(bpp, rate_weight, c.hinge_target)
    else:
        rate = losses.rate_penalty(bpp, rate_weight)
    if outputs.reconstruction is not None:
        metrics["mse"] = losses.mean_squared_error(images, outputs.reconstruction).mean()
        task = task + c.mse_weight * metrics["mse"]
    return (task, rate), metrics | {"loss": task + rate}


def make_train_step(
    config: ConfigDict,
    model: JointModel,
    optimizer: optax.GradientTransformation,
    rate_schedule: optax.Schedule,
    *,
    quantizer: str,
    axis_name: str | None = None,
    teacher: Callable[[jax.Array], jax.Array] | None = None,
) -> Callable[[TrainState, Batch], tuple[TrainState, Metrics]]:
    """Returns `step(state, batch) -> (state, metrics)`.

    The batch holds "image" uint8 [B, H, W, C], "label" int32 [B] and "position" int32 [B], each example's place in
    the global batch: randomness is drawn per example from (seed, step, position), so neither the number of devices
    nor an interruption changes it.

    Args:
        config: the complete configuration.
        model: the joint model.
        optimizer: from `make_optimizer`.
        rate_schedule: step to the weight of the rate.
        quantizer: "noise", "mixed", "hard" or "soft_to_hard" (see JointModel). "hard" freezes the encoder at its
            averaged weights.
        axis_name: device axis to average gradients and metrics over, or None.
        teacher: float32 images [B, H, W, C] to logits, for distillation.
    """
    frozen = quantizer == "hard"
    two_optimizers = bool(config.optim.rate_optimizer)

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        step_key = jax.random.fold_in(jax.random.key(config.seed), state.step)
        keys = jax.vmap(jax.random.fold_in, (None, 0))(step_key, batch["position"])
        images = augment(keys, batch["image"], config.augment, config.dataset.image_size)
        teacher_logits = None if teacher is None else jax.lax.stop_gradient(teacher(images))

        def terms_fn(params: Any) -> tuple[tuple[jax.Array, jax.Array], tuple[Metrics, Any]]:
            batch_stats = state.batch_stats
            if frozen:
                params = params | {"encoder": state.ema_params["encoder"]}
                batch_stats = batch_stats | {"encoder": state.ema_batch_stats["encoder"]}
            outputs, updates = model.apply(
                {"params": params, "batch_stats": batch_stats},
                images,
                jax.vmap(jax.random.fold_in, (0, None))(keys, 3),
                train=True,
                quantizer=quantizer,
                mutable=["batch_stats"],
            )
            weight = rate_schedule(state.step)
            terms, metrics = objective(config, weight, images, batch["label"], outputs, teacher_logits)
            return terms, (metrics, updates["batch_stats"])

        def gradient(pick: Callable[[tuple[jax.Array, jax.Array]], jax.Array]) -> tuple[Any, tuple[Metrics, Any]]:
            def loss_fn(params: Any) -> tuple[jax.Array, tuple[Metrics, Any]]:
                terms, aux = terms_fn(params)
                return pick(terms), aux

            return jax.grad(loss_fn, has_aux=True)(state.params)

        if two_optimizers:  # the compiler shares the forward pass, and the rate's backward pass ends at the latent
            (task_grads, (metrics, batch_stats)), (rate_grads, _) = (gradient(itemgetter(i)) for i in range(2))
            grads: Any = (task_grads, rate_grads)
        else:
            grads, (metrics, batch_stats) = gradient(lambda terms: terms[0] + terms[1])
        if axis_name is not None:
            grads, metrics = jax.lax.pmean((grads, metrics), axis_name)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        if frozen:  # weight decay and momentum would still move it
            updates = updates | {"encoder": jax.tree.map(jnp.zeros_like, updates["encoder"])}
        params = optax.apply_updates(state.params, updates)
        metrics["gradient_norm"] = optax.tree.norm(grads)
        decay = config.optim.ema_decay
        ema_params = update_average(state.ema_params, params, decay, state.step)
        ema_batch_stats = update_average(state.ema_batch_stats, batch_stats, decay, state.step)
        if frozen:
            ema_params = ema_params | {"encoder": state.ema_params["encoder"]}
            ema_batch_stats = ema_batch_stats | {"encoder": state.ema_batch_stats["encoder"]}
        new_state = TrainState(state.step + 1, params, batch_stats, ema_params, ema_batch_stats, opt_state)
        return new_state, metrics

    return train_step


def make_eval_step(
    model: JointModel, quantizer: str = "mixed", axis_name: str | None = None
) -> Callable[[Any, Batch], Metrics]:
    """Returns `step(variables, batch) -> sums` over the examples whose mask is 1, under real rounding.

    (Under no rounding at all where the quantizer is "none".)

    The batch is a training batch plus "mask" float32 [B]. The sums are "count", "cross_entropy" (nats), "correct",
    "correct5" and "bpp"; dividing by the count gives means in which every example counts once.
    """

    def eval_step(variables: Any, batch: Batch) -> Metrics:
        images, labels, mask = to_float(batch["image"]), batch["label"], batch["mask"]
        outputs = cast(Outputs, model.apply(variables, images, train=False, quantizer=quantizer))
        top5 = jax.lax.top_k(outputs.logits, min(5, outputs.logits.shape[-1]))[1]
        sums = {
            "count": mask,
            "cross_entropy": mask * losses.cross_entropy(outputs.logits, labels),
            "correct": mask * (top5[:, 0] == labels),
            "correct5": mask * jnp.any(top5 == labels[:, None], axis=-1),
            "bpp": mask * losses.bits_per_pixel(outputs.bits, *images.shape[1:3]),
        }
        sums = jax.tree.map(jnp.sum, sums)
        return sums if axis_name is None else jax.lax.psum(sums, axis_name)

    return eval_step
