"""Rounding to integer symbols around an offset, and its straight-through gradient."""

import jax
import jax.numpy as jnp


def quantize(y: jax.Array, offset: jax.Array) -> jax.Array:
    """Returns the symbols int32 [..., c]: round(y - offset), ties to even.

    Args:
        y: latents, float32 [..., c].
        offset: the value that symbol 0 stands for in each channel, float32 [c].
    """
    return jnp.round(y - offset).astype(jnp.int32)


def dequantize(symbols: jax.Array, offset: jax.Array) -> jax.Array:
    """Returns y_hat float32 [..., c]: what the receiver works on, symbols + offset."""
    return symbols.astype(jnp.float32) + offset


def straight_through_round(y: jax.Array, offset: jax.Array) -> jax.Array:
    """Returns round(y - offset) + offset with the gradient of y (Bengio et al. 2013; Minnen and Singh 2020)."""
    hard = jnp.round(y - offset) + offset
    return y + jax.lax.stop_gradient(hard - y)
