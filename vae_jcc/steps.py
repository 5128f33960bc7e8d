"""One training step and one evaluation step: pure functions of state and batch.

They know nothing of devices but `axis_name`: None where the batch is one global array, the name of the device axis
where the step runs once a device (parallel.py decides).

    batch -> microbatches -> gradients of (task, bpp) each -> mean over microbatches and devices -> optimizer -> state
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from vae_jcc import losses
from vae_jcc.data.augment import augment, cutmix, to_float
from vae_jcc.microbatches import Batch, mean_over_microbatches
from vae_jcc.models.joint import JointModel, Outputs
from vae_jcc.state import TrainState, update_average

Metrics = dict[str, jax.Array]
Teacher = Callable[[jax.Array], jax.Array]


class Mixture(NamedTuple):
    """What CutMix pasted into the images of a batch."""

    labels: jax.Array  # int32 [B], of what was pasted
    share: jax.Array  # float32 [B], of the images' own labels
    teacher_logits: jax.Array | None = None  # float32 [B, K], where a teacher's answers are labels of single images


def objective(
    config: ConfigDict,
    images: jax.Array,
    labels: jax.Array,
    outputs: Outputs,
    teacher_logits: jax.Array | None = None,
    mixture: Mixture | None = None,
) -> tuple[tuple[jax.Array, jax.Array], Metrics]:
    """Returns the two terms (task, bpp) of a batch, means over its examples, and what they are made of.

    The loss is task + `rate(bpp)`. The task, in nats, is cross-entropy [+ distillation] [+ distortion].

    Args:
        config: the complete configuration.
        images: float32 [B, H, W, C].
        labels: int32 [B].
        outputs: of the joint model.
        teacher_logits: float32 [B, K] or None.
        mixture: where images are mixed; cross-entropy and accuracy are then those of both labels, by their shares, and
            so is distillation, unless the teacher saw the mixed images.
    """
    c = config.loss

    def mean(of: Callable[[jax.Array], jax.Array], own: jax.Array, pasted: jax.Array | None) -> jax.Array:
        """Returns the mean over the batch of a function of labels."""
        if mixture is None or pasted is None:
            return of(own).mean()
        return (mixture.share * of(own) + (1.0 - mixture.share) * of(pasted)).mean()

    others = None if mixture is None else mixture.labels
    task = mean(lambda labels: losses.cross_entropy(outputs.logits, labels, c.label_smoothing), labels, others)
    accuracy = mean(lambda labels: jnp.argmax(outputs.logits, -1) == labels, labels, others)
    bpp = losses.bits_per_pixel(outputs.bits, *images.shape[1:3]).mean()
    metrics = {"cross_entropy": task, "bpp": bpp, "accuracy": accuracy}
    if teacher_logits is not None:
        metrics["distillation"] = mean(
            lambda answers: losses.distillation(outputs.logits, answers, c.distill_temperature),
            teacher_logits,
            None if mixture is None else mixture.teacher_logits,
        )
        task = (1 - c.distill_weight) * task + c.distill_weight * metrics["distillation"]
    if outputs.reconstruction is not None:
        metrics["mse"] = losses.mean_squared_error(images, outputs.reconstruction).mean()
        task = task + c.mse_weight * metrics["mse"]
    return (task, bpp), metrics | {"task": task}


def rate(config: ConfigDict, weight: jax.Array | float, bpp: jax.Array) -> jax.Array:
    """Returns the loss of the rate, in nats, of a mean bpp; `weight` is lam (or the hinge's beta) at this step."""
    if config.loss.hinge_beta:
        return losses.rate_hinge(bpp, weight, config.loss.hinge_target)
    return losses.rate_penalty(bpp, weight)


def make_train_step(
    config: ConfigDict,
    model: JointModel,
    optimizer: optax.GradientTransformation,
    rate_schedule: optax.Schedule,
    *,
    quantizer: str,
    axis_name: str | None = None,
    teacher: Teacher | None = None,
) -> Callable[[TrainState, Batch], tuple[TrainState, Metrics]]:
    """Returns `step(state, batch) -> (state, metrics)`.

    The batch holds "image" uint8 [B, H, W, C], "label" int32 [B] and, int32 [B], "position", each example's place in
    the global batch, and "seed", the run's: randomness is drawn per example from (seed, step, position), so neither the
    number of devices or microbatches nor an interruption changes it. The seed comes with the data so that runs which
    differ in it alone share one compiled step. Where a teacher was asked before (soft_labels.py), the batch also holds
    its "teacher_logits" float32 [B, K].

    Gradients, metrics and the updates of the running batch statistics are means over `config.train.accumulate`
    microbatches. A microbatch is normalized by its own statistics; without batch normalization, several microbatches
    are one batch to rounding. The hinge acts on the mean bpp of the whole batch over all microbatches and devices:
    its slope there scales the gradients of bpp, which are taken apart for that.

    Args:
        config: the complete configuration.
        model: the joint model.
        optimizer: from `make_optimizer`.
        rate_schedule: step to the weight of the rate.
        quantizer: "noise", "mixed", "hard" or "soft_to_hard" (see JointModel). "hard" freezes the encoder at its
            averaged weights.
        axis_name: device axis to average gradients and metrics over, or None.
        teacher: float32 images [B, H, W, C] to logits, to be asked in every step; None: there is none, or its answers
            come with the batch.
    """
    two_optimizers = bool(config.optim.rate_optimizer)
    apart = two_optimizers or bool(config.loss.hinge_beta)
    gradients = _make_gradients(config, model, quantizer, teacher, apart)

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        weight = rate_schedule(state.step)
        if config.augment.cutmix:
            batch = batch | _neighbours(batch)
        grads, metrics, batch_stats = mean_over_microbatches(
            partial(gradients, state, weight), batch, config.train.accumulate
        )
        if axis_name is not None:
            grads, metrics = jax.lax.pmean((grads, metrics), axis_name)
        rate_loss, slope = jax.value_and_grad(partial(rate, config, weight))(metrics["bpp"])
        metrics["loss"] = metrics.pop("task") + rate_loss
        if apart:
            task_grads, rate_grads = grads[0], jax.tree.map(lambda g: slope * g, grads[1])
            grads = (task_grads, rate_grads) if two_optimizers else jax.tree.map(jnp.add, task_grads, rate_grads)
        metrics["gradient_norm"] = optax.tree.norm(grads)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        if quantizer == "hard":  # weight decay and momentum would still move it
            updates = updates | {"encoder": jax.tree.map(jnp.zeros_like, updates["encoder"])}
        params = optax.apply_updates(state.params, updates)
        decay = config.optim.ema_decay
        ema_params = update_average(state.ema_params, params, decay, state.step)
        ema_batch_stats = update_average(state.ema_batch_stats, batch_stats, decay, state.step)
        if quantizer == "hard":
            ema_params = ema_params | {"encoder": state.ema_params["encoder"]}
            ema_batch_stats = ema_batch_stats | {"encoder": state.ema_batch_stats["encoder"]}
        return TrainState(state.step + 1, params, batch_stats, ema_params, ema_batch_stats, opt_state), metrics

    return train_step


def _make_gradients(
    config: ConfigDict, model: JointModel, quantizer: str, teacher: Teacher | None, apart: bool
) -> Callable[[TrainState, jax.Array, Batch], tuple[Any, Metrics, Any]]:
    """Returns `gradients(state, weight, batch) -> (gradients, metrics, new batch statistics)`.

    The gradients are those of task + weight * bpp or, where `apart`, a pair: those of the task and those of bpp.
    """

    def gradients(state: TrainState, weight: jax.Array, batch: Batch) -> tuple[Any, Metrics, Any]:
        keys = _example_keys(batch["seed"], state.step, batch["position"])
        images = augment(keys, batch["image"], config.augment, config.dataset.image_size)
        mixture = None
        if config.augment.cutmix:
            mix_keys, other_keys = (jax.vmap(jax.random.fold_in, (0, None))(keys, i) for i in (4, 5))
            others = augment(other_keys, batch["other_image"], config.augment, config.dataset.image_size)
            images, share = cutmix(mix_keys, images, others, config.augment.cutmix)
            mixture = Mixture(batch["other_label"], share, batch.get("other_teacher_logits"))
        teacher_logits = batch.get("teacher_logits")
        if teacher is not None:
            teacher_logits = jax.lax.stop_gradient(teacher(images))
        noise_keys = jax.vmap(jax.random.fold_in, (0, None))(keys, 3)

        def terms(params: Any) -> tuple[tuple[jax.Array, jax.Array], tuple[Metrics, Any]]:
            batch_stats = state.batch_stats
            if quantizer == "hard":
                params = params | {"encoder": state.ema_params["encoder"]}
                batch_stats = batch_stats | {"encoder": state.ema_batch_stats["encoder"]}
            variables = {"params": params, "batch_stats": batch_stats}
            outputs, updates = model.apply(
                variables, images, noise_keys, train=True, quantizer=quantizer, mutable=["batch_stats"]
            )
            both, metrics = objective(config, images, batch["label"], outputs, teacher_logits, mixture)
            return both, (metrics, updates["batch_stats"])

        def gradient(of: Callable[[jax.Array, jax.Array], jax.Array]) -> tuple[Any, tuple[Metrics, Any]]:
            def loss(params: Any) -> tuple[jax.Array, tuple[Metrics, Any]]:
                both, aux = terms(params)
                return of(*both), aux

            return jax.grad(loss, has_aux=True)(state.params)

        if apart:  # the compiler shares the forward pass, and the backward pass of bpp begins at the latent
            task_grads, (metrics, batch_stats) = gradient(lambda task, bpp: task)
            return (task_grads, gradient(lambda task, bpp: bpp)[0]), metrics, batch_stats
        grads, (metrics, batch_stats) = gradient(lambda task, bpp: task + weight * bpp)
        return grads, metrics, batch_stats

    return gradients


def _neighbours(batch: Batch) -> Batch:
    """Returns "other_image" and so on: what the other one of each pair (2 i, 2 i + 1) of the batch is and is called.

    Pairs are made before the batch is cut into microbatches, and lie on one device: neither changes who meets whom.

    Raises:
        ValueError: a device's share of the batch is odd.
    """
    size = len(batch["label"])
    if size % 2:
        raise ValueError(
            f"config.augment.cutmix mixes pairs of images, and {size} is odd: make config.train.batch_size a multiple "
            "of twice the number of devices."
        )

    def swap(x: jax.Array) -> jax.Array:
        return x.reshape(size // 2, 2, *x.shape[1:])[:, ::-1].reshape(x.shape)

    return {f"other_{key}": swap(batch[key]) for key in ("image", "label", "teacher_logits") if key in batch}


def _example_keys(seeds: jax.Array, step: jax.Array, positions: jax.Array) -> jax.Array:
    """Returns one PRNG key an example, [B], of (seed, step, position in the global batch)."""

    def key(seed: jax.Array, position: jax.Array) -> jax.Array:
        return jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), step), position)

    return jax.vmap(key)(seeds, positions)


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
