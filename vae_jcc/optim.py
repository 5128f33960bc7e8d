"""Optimizers and schedules, from Optax."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from vae_jcc.newton_schulz import is_matrix, scale_by_muon


def steps_in(epochs: float, num_examples: int, batch_size: int) -> int:
    """Returns the training steps in `epochs` passes over `num_examples`, at least 1 (whole batches only)."""
    return max(1, round(epochs * (num_examples // batch_size)))


def learning_rate_schedule(config: ConfigDict, steps_per_epoch: float, total_steps: int, peak: float) -> optax.Schedule:
    """Returns linear warm-up to `peak`, then a cosine or steps.

    "cosine" falls to `final_fraction * peak` at `total_steps`; "steps" divides by ten at half and at three quarters of
    them (Chamain, Qi, Ding 2022).

    Raises:
        ValueError: `config.optim.schedule` is unknown.
    """
    warmup = min(round(config.optim.warmup_epochs * steps_per_epoch), total_steps - 1)
    if config.optim.schedule == "steps":
        steps = optax.piecewise_constant_schedule(peak, {total_steps // 2: 0.1, total_steps * 3 // 4: 0.1})
        return lambda count: steps(count) * jnp.minimum((count + 1) / max(warmup, 1), 1.0)
    if config.optim.schedule != "cosine":
        raise ValueError(f"config.optim.schedule is {config.optim.schedule!r}: choose 'cosine' or 'steps'.")
    return optax.warmup_cosine_decay_schedule(
        init_value=peak / max(warmup, 1) if warmup else peak,
        peak_value=peak,
        warmup_steps=warmup,
        decay_steps=total_steps,
        end_value=peak * config.optim.final_fraction,
    )


def lam_schedule(config: ConfigDict, steps_per_epoch: float) -> optax.Schedule:
    """Returns the weight of the rate over steps: linear from 0 to `loss.lam` (or `hinge_beta`), then constant."""
    weight = config.loss.hinge_beta or config.loss.lam
    warmup = round(config.loss.lam_warmup_epochs * steps_per_epoch)
    # Without steps to take, optax's linear schedule would stay at its start.
    return optax.linear_schedule(0.0, weight, warmup) if warmup else optax.constant_schedule(weight)


def decay_mask(params: Any) -> Any:
    """Returns True for the leaves that weight decay acts on: kernels of convolutions and dense layers."""
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key == "kernel", params)


def make_optimizer(config: ConfigDict, steps_per_epoch: float, total_steps: int) -> optax.GradientTransformation:
    """Returns the optimizer of the whole model.

    The networks get `config.optim.kind`; the entropy model gets Adam, because its few parameters see gradients of
    another scale and want neither decay nor clipping together with the networks. With `config.optim.rate_optimizer` it
    is two optimizers, each over all variables (`two_optimizers`).

    Raises:
        ValueError: `config.optim.kind`, `schedule` or `rate_optimizer` is unknown.
    """
    o = config.optim
    schedule = learning_rate_schedule(config, steps_per_epoch, total_steps, o.learning_rate)
    if o.kind == "sgd":
        network = optax.chain(
            optax.add_decayed_weights(o.weight_decay, mask=None if o.decay_all else decay_mask),
            optax.sgd(schedule, momentum=o.momentum, nesterov=o.nesterov),
        )
    elif o.kind == "adamw":
        network = optax.adamw(schedule, b1=o.momentum, b2=o.b2, weight_decay=o.weight_decay, mask=decay_mask)
    elif o.kind == "muon":
        vectors = learning_rate_schedule(config, steps_per_epoch, total_steps, o.vector_learning_rate)
        network = muon(config, schedule, optax.sgd(vectors, momentum=o.momentum, nesterov=o.nesterov))
    else:
        raise ValueError(f"config.optim.kind is {o.kind!r}: choose 'sgd', 'adamw' or 'muon'.")
    if o.clip_norm:
        network = optax.chain(optax.clip_by_global_norm(o.clip_norm), network)
    if o.rate_optimizer == "adam":
        peak = o.rate_fraction * o.learning_rate
        return two_optimizers(network, optax.adam(learning_rate_schedule(config, steps_per_epoch, total_steps, peak)))
    if o.rate_optimizer:
        raise ValueError(f"config.optim.rate_optimizer is {o.rate_optimizer!r}: choose 'adam', or '' for none.")
    prior = optax.adam(learning_rate_schedule(config, steps_per_epoch, total_steps, o.prior_learning_rate))
    if config.quantizer.kind == "hard":  # the bytes exist
        prior = optax.set_to_zero()

    def label(params: Any) -> Any:
        return {part: "prior" if part in ("prior", "context") else "network" for part in params}

    return optax.multi_transform({"network": network, "prior": prior}, label)


def muon(
    config: ConfigDict, matrices: optax.Schedule, vectors: optax.GradientTransformation
) -> optax.GradientTransformation:
    """Returns Muon for kernels, and `vectors` for all else.

    Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks". A kernel is a matrix [all inputs of
    an output, outputs]. Its momentum is made nearly orthogonal before the step, so that every direction moves alike,
    however small its gradients. A kernel of one input channel is a depthwise one, which is no such matrix, or the stem
    of grey pictures; its shape does not tell which, so it goes to `vectors`. Weight decay is decoupled.

    Args:
        config: `momentum`, `nesterov` and `weight_decay` of its `optim` are read.
        matrices: the kernels' learning rate; their steps have singular values near it.
        vectors: the optimizer of biases, scales and kernels of one input channel.
    """

    def label(params: Any) -> Any:
        def of_one(path: Any, leaf: jax.Array) -> str:
            return "matrix" if is_matrix(path, leaf) else "vector"

        return jax.tree_util.tree_map_with_path(of_one, params)

    o = config.optim
    network = optax.chain(
        scale_by_muon(o.momentum, o.nesterov),
        optax.add_decayed_weights(o.weight_decay),
        optax.scale_by_learning_rate(matrices),
    )
    return optax.multi_transform({"matrix": network, "vector": vectors}, label)


def two_optimizers(
    task: optax.GradientTransformation, rate: optax.GradientTransformation
) -> optax.GradientTransformation:
    """Returns the optimizer that adds the updates of two, each of a loss of its own (Chamain, Qi, Ding 2022).

    Its gradients are a pair: those of all but the rate, for `task`, and those of the rate, for `rate`. Both are taken
    at the same parameters.
    """

    def init(params: Any) -> tuple[Any, Any]:
        return task.init(params), rate.init(params)

    def update(grads: Any, state: Any, params: Any = None) -> tuple[Any, tuple[Any, Any]]:
        first, task_state = task.update(grads[0], state[0], params)
        second, rate_state = rate.update(grads[1], state[1], params)
        return jax.tree.map(jnp.add, first, second), (task_state, rate_state)

    return optax.GradientTransformation(init, update)
