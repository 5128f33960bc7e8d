"""Arithmetic that every machine does alike, in the form that gradients can pass.

A network that predicts distributions decides what a decoder reads, so its coding-time form is integer arithmetic
(coding/integer_layers.py; Balle, Johnston and Minnen, "Integer networks for data compression with latent-variable
models", ICLR 2019). This file is the same arithmetic for training: values are integers times a power of two, kept in
float32. Every product and partial sum is then an integer times a power of two as well, and exact below 2**24 of them,
so the forward pass here equals the integer one to the bit, on any device and in any order of summation. Backward,
rounding passes the gradient (straight through) and clipping stops it.
"""

import jax
import jax.numpy as jnp

WEIGHT_BITS = 6  # fractional bits of a weight: steps of 1/64 within +-127/64
ACTIVATION_BITS = 4  # fractional bits of an activation: steps of 1/16 within 0..255/16
SUM_BITS = WEIGHT_BITS + ACTIVATION_BITS  # fractional bits of a sum of products, and of a bias
LOGIT_BITS = 5  # fractional bits of a base-2 logit: 1/32 bit
WEIGHT_LIMIT = 127
ACTIVATION_LIMIT = 255
LOGIT_LIMIT = 2**15  # of a network's logit, in its steps: 1,024 bits


def _straight_through(x: jax.Array, rounded: jax.Array) -> jax.Array:
    return x + jax.lax.stop_gradient(rounded - x)


def to_grid(x: jax.Array, fractional_bits: int) -> jax.Array:
    """Returns x at the nearest multiple of 2**-fractional_bits (halves up), with the gradient of x."""
    scale = 2.0**fractional_bits
    return _straight_through(x, jnp.floor(x * scale + 0.5) / scale)


def weight(x: jax.Array) -> jax.Array:
    """Returns a kernel as 8-bit steps: multiples of 1/64 within +-127/64."""
    limit = WEIGHT_LIMIT / 2**WEIGHT_BITS
    return to_grid(jnp.clip(x, -limit, limit), WEIGHT_BITS)


def bias(x: jax.Array) -> jax.Array:
    """Returns a bias on the grid of the sums that it is added to."""
    return to_grid(x, SUM_BITS)


def activation(x: jax.Array) -> jax.Array:
    """Returns ReLU(x) as 8-bit steps: multiples of 1/16 within 0..255/16."""
    return to_grid(jnp.clip(x, 0.0, ACTIVATION_LIMIT / 2**ACTIVATION_BITS), ACTIVATION_BITS)


def logit(x: jax.Array) -> jax.Array:
    """Returns a base-2 logit, in bits, rounded down to multiples of 1/32."""
    scale = 2.0**LOGIT_BITS
    limit = LOGIT_LIMIT / scale
    return _straight_through(x, jnp.clip(jnp.floor(x * scale) / scale, -limit, limit))
