"""Soft-to-hard quantization: each latent becomes the nearest of L learned centres (Chamain, Qi and Ding 2022).

Agustsson et al. ("Soft-to-hard vector quantization", NeurIPS 2017) in the form of Mentzer et al. (CVPR 2018, section
3.2): with squared distances d_j = (y - centre_j)**2 and a softness sigma of 1,

    a = softmax(-sigma * d),    q_soft = sum_j a_j centre_j,    q_hard = the nearest centre.

The forward pass has q_hard, the backward pass the gradient of q_soft, with respect to the latents and to the centres.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

SIGMA = 1.0
_RANGE = 2.0  # centres start within +-2, uniformly


def _squared_distances(y: jax.Array, centres: jax.Array) -> jax.Array:
    return jnp.square(y[..., None] - centres)


def nearest(y: jax.Array, centres: jax.Array) -> jax.Array:
    """Returns the index int32 [...] of the centre, of [L], that is nearest to y [...]; ties go to the lower index."""
    return jnp.argmin(_squared_distances(y, centres), axis=-1).astype(jnp.int32)


def soft_assignment(y: jax.Array, centres: jax.Array) -> jax.Array:
    """Returns the weight of each centre, of [L], for y [...]: [..., L], positive, with sum 1."""
    return jax.nn.softmax(-SIGMA * _squared_distances(y, centres), axis=-1)


def soft_to_hard(y: jax.Array, centres: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns what the receiver works on and what the rate is taken of; both forward hard, backward soft.

    Args:
        y: latents, float32 [...].
        centres: float32 [L].

    Returns:
        y_hat float32 [...], forward exactly the nearest centre, and the target float32 [..., L], forward one-hot.
    """
    assignment = soft_assignment(y, centres)
    symbols = nearest(y, centres)
    soft = jnp.sum(assignment * centres, axis=-1)
    return _hard(soft, centres[symbols]), _hard(assignment, jax.nn.one_hot(symbols, centres.shape[0]))


def _hard(soft: jax.Array, hard: jax.Array) -> jax.Array:
    """Returns `hard`, to the bit, with the gradient of `soft`."""
    return jax.lax.stop_gradient(hard) + (soft - jax.lax.stop_gradient(soft))


class LearnedCentres(nn.Module):
    """The parameter float32 [count] of the centres."""

    count: int

    @nn.compact
    def __call__(self) -> jax.Array:
        """Returns the centres."""
        return self.param("values", _uniform, (self.count,))


def _uniform(key: jax.Array, shape: tuple[int, ...], dtype: jnp.dtype = jnp.float32) -> jax.Array:
    return jax.random.uniform(key, shape, dtype, -_RANGE, _RANGE)
