"""Batch normalization (Ioffe and Szegedy 2015) whose gradient keeps less and is made in fewer passes over memory.

Differentiated operation by operation, normalization and the ReLU behind it keep over three arrays of the activations'
size for the backward pass. Their gradient needs two, which are there anyway: the input x and the output h. With the
batch's mean m and variance v, r = (v + epsilon)^(-1/2), N values a channel, and for the gradient dh of the output
dy = dh where h > 0,

    db = sum(dy)     dg = sum(dy (x - m)) r     dx = g r (dy - db / N - (x - m) r dg / N)
"""

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

_EPSILON = 1e-5
_MOMENTUM = 0.9  # of the running statistics

# h of x's shape; mean and variance, float32 [C], which normalized it.
Normalized = tuple[jax.Array, jax.Array, jax.Array]


class BatchNorm(nn.Module):
    """Maps [..., C] to the same shape; its variables are those of `nn.BatchNorm`, and so is what it computes.

    Statistics are always float32 and span the whole global batch.
    """

    train: bool  # use the batch's own statistics and update the running ones
    relu: bool = False  # apply ReLU to the result
    dtype: Any = jnp.float32  # of the result
    # The device axis to average statistics over, where the step runs once a device; None where the batch is one global
    # array.
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Normalizes."""
        channels = x.shape[-1:]
        mean = self.variable("batch_stats", "mean", jnp.zeros, channels)
        var = self.variable("batch_stats", "var", jnp.ones, channels)
        scale = self.param("scale", nn.initializers.ones, channels)
        bias = self.param("bias", nn.initializers.zeros, channels)
        if not self.train:
            return _apply(x, mean.value, var.value, scale, bias, self.relu, self.dtype)
        h, batch_mean, batch_var = _normalize(
            x, scale, bias, self.relu, jnp.dtype(self.dtype), None if self.is_initializing() else self.axis_name
        )
        if not self.is_initializing():
            mean.value = _MOMENTUM * mean.value + (1 - _MOMENTUM) * batch_mean
            var.value = _MOMENTUM * var.value + (1 - _MOMENTUM) * batch_var
        return h


def _apply(x: Any, mean: Any, var: Any, scale: Any, bias: Any, relu: bool, dtype: Any) -> jax.Array:
    h = ((x - mean) * (lax.rsqrt(var + _EPSILON) * scale) + bias).astype(dtype)
    return nn.relu(h) if relu else h


@partial(jax.custom_vjp, nondiff_argnums=(3, 4, 5))
def _normalize(
    x: jax.Array, scale: jax.Array, bias: jax.Array, relu: bool, dtype: Any, axis_name: str | None
) -> Normalized:
    """Normalizes x [..., C] by its own statistics, which have no gradient of their own."""
    return _forward(x, scale, bias, relu, dtype, axis_name)[0]


def _forward(
    x: jax.Array, scale: jax.Array, bias: jax.Array, relu: bool, dtype: Any, axis_name: str | None
) -> tuple[Normalized, Any]:
    wide = x.astype(jnp.float32)
    mean, mean_of_squares = _mean_over_devices(_sum(wide) / _count(x), _sum(jnp.square(wide)) / _count(x), axis_name)
    var = jnp.maximum(0.0, mean_of_squares - jnp.square(mean))
    h = _apply(x, mean, var, scale, bias, relu, dtype)
    return (h, mean, var), (x, h if relu else None, mean, var, scale)


def _backward(relu: bool, dtype: Any, axis_name: str | None, saved: Any, gradients: Normalized) -> Any:
    x, h, mean, var, scale = saved
    r = lax.rsqrt(var + _EPSILON)
    dy = jnp.where(h > 0, gradients[0], 0) if relu else gradients[0]
    # In terms of x, not of x - mean, which would be another array of its size to make and to keep.
    d_bias = _sum(dy.astype(jnp.float32))
    d_scale = (_sum(dy * x.astype(jnp.float32)) - mean * d_bias) * r
    mean_dy, mean_projection = _mean_over_devices(d_bias / _count(x), d_scale / _count(x), axis_name)
    slope = -scale * jnp.square(r) * mean_projection
    dx = (scale * r) * dy + slope * x - (scale * r * mean_dy + slope * mean)
    return dx.astype(x.dtype), d_scale, d_bias


_normalize.defvjp(_forward, _backward)


def _sum(x: jax.Array) -> jax.Array:
    return jnp.sum(x, axis=tuple(range(x.ndim - 1)))


def _count(x: jax.Array) -> int:
    """Returns how many values a channel has."""
    return x.size // x.shape[-1]


def _mean_over_devices(a: jax.Array, b: jax.Array, axis_name: str | None) -> tuple[jax.Array, jax.Array]:
    """Returns the means of both, in one exchange."""
    if axis_name is None:
        return a, b
    a, b = lax.pmean(jnp.stack([a, b]), axis_name)
    return a, b
