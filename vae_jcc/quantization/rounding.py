"""Rounding to integer symbols around an offset, and its straight-through gradient."""

import jax
import jax.numpy as jnp


def quantize(y: jax.Array, offset: jax.Array, dead_zone: jax.Array | float = 0.0) -> jax.Array:
    """Returns the symbols int32 [..., c]: round(y - offset), ties to even, after a step of `dead_zone` towards 0.

    Args:
        y: latents, float32 [..., c].
        offset: the value that symbol 0 stands for in each channel, float32 [c].
        dead_zone: what the bin of symbol 0 grows by at either end, and the others shift by: video encoders' rounding
            offset of 1/2 - dead_zone (Sullivan and Sun, "On dead-zone plus uniform threshold scalar quantization",
            VCIP 2005).
    """
    z = y - offset
    return jnp.round(jnp.sign(z) * jnp.maximum(jnp.abs(z) - dead_zone, 0.0)).astype(jnp.int32)


def dequantize(symbols: jax.Array, offset: jax.Array) -> jax.Array:
    """Returns y_hat float32 [..., c]: what the receiver works on, symbols + offset."""
    return symbols.astype(jnp.float32) + offset


def straight_through_round(y: jax.Array, offset: jax.Array) -> jax.Array:
    """Returns round(y - offset) + offset with the gradient of y (Bengio et al. 2013; Minnen and Singh 2020)."""
    hard = jnp.round(y - offset) + offset
    return y + jax.lax.stop_gradient(hard - y)
