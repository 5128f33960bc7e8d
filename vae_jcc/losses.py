"""The training objective: accuracy against rate, term by term with its source.

Every function is a mean or a per-example value, so nothing scales with the batch size.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax


def bits_per_pixel(bits: Any, height: int, width: int) -> Any:
    """Returns bpp: bits (a number or an array) over the pixels of the image as it came in (no padding)."""
    return bits / (height * width)


def cross_entropy(logits: jax.Array, labels: jax.Array, label_smoothing: float = 0.0) -> jax.Array:
    """Returns the cross-entropy in nats, [B], of logits [B, K] against labels int32 [B].

    With label smoothing e the target is (1 - e) * one_hot + e / K (Szegedy et al. 2016, section 7).
    """
    targets = optax.smooth_labels(jax.nn.one_hot(labels, logits.shape[-1]), label_smoothing)
    return optax.softmax_cross_entropy(logits, targets)


def distillation(logits: jax.Array, teacher_logits: jax.Array, temperature: float) -> jax.Array:
    """Returns T^2 * KL(teacher || student) at temperature T in nats, [B] (Hinton et al. 2015, section 2)."""
    teacher = jax.nn.log_softmax(teacher_logits / temperature)
    student = jax.nn.log_softmax(logits / temperature)
    return temperature**2 * jnp.sum(jnp.exp(teacher) * (teacher - student), axis=-1)


def rate_penalty(bpp: jax.Array, lam: jax.Array | float) -> jax.Array:
    """Returns lam * bpp: the Lagrangian of accuracy under a rate constraint; bpp is the batch mean."""
    return lam * bpp


def rate_hinge(bpp: jax.Array, beta: jax.Array | float, target: float) -> jax.Array:
    """Returns beta * max(bpp - target, 0): no reward below the target (Chamain, Qi, Ding 2022).

    It acts on the batch mean, so easy images may spend less and hard ones more.
    """
    return beta * jnp.maximum(bpp - target, 0.0)


def mean_squared_error(images: jax.Array, reconstruction: jax.Array) -> jax.Array:
    """Returns the mean squared error of [B, H, W, C] images in [0, 1], as [B]."""
    return jnp.mean(jnp.square(images - reconstruction), axis=(1, 2, 3))
