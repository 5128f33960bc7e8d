"""Additive uniform noise: the differentiable proxy for rounding (Balle et al. 2017, section 3)."""

import jax


def add_uniform_noise(keys: jax.Array, y: jax.Array) -> jax.Array:
    """Returns y + u with u ~ U(-1/2, 1/2), drawn for each example from its own key.

    One key an example makes the noise independent of how a batch is spread over devices.

    Args:
        keys: PRNG keys, [B].
        y: latents, float32 [B, h, w, c].
    """
    noise = jax.vmap(lambda key: jax.random.uniform(key, y.shape[1:], minval=-0.5, maxval=0.5))(keys)
    return y + noise
