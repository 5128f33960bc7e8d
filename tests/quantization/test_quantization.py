"""Noise and rounding."""

import jax
import jax.numpy as jnp
import numpy as np

from vae_jcc.quantization import add_uniform_noise, dequantize, quantize, straight_through_round


def test_noise_is_uniform_and_belongs_to_the_example(key):
    """Within half a bin, flat, and independent of the other examples of the batch."""
    keys = jax.random.split(key, 64)
    y = jnp.zeros((64, 4, 4, 8))
    noise = add_uniform_noise(keys, y)
    assert np.all(np.abs(noise) <= 0.5)
    np.testing.assert_allclose(np.var(noise), 1 / 12, rtol=0.05)
    np.testing.assert_array_equal(add_uniform_noise(keys[5:9], y[5:9]), noise[5:9])


def test_straight_through_is_rounding_with_the_gradient_of_y(rng):
    """Forward and backward against the definition."""
    y, offset = jnp.asarray(rng.normal(0, 3, (5, 2, 2, 3)), jnp.float32), jnp.array([0.1, -0.3, 0.0])
    y_hat = straight_through_round(y, offset)
    np.testing.assert_allclose(y_hat, dequantize(quantize(y, offset), offset), atol=1e-6)
    weights = jnp.asarray(rng.normal(size=y.shape), jnp.float32)
    grad = jax.grad(lambda v: (weights * straight_through_round(v, offset)).sum())(y)
    np.testing.assert_array_equal(grad, weights)


def test_dequantize_stays_within_half_a_bin(rng):
    """|y_hat - y| <= 1/2."""
    y, offset = jnp.asarray(rng.normal(0, 30, (200, 3)), jnp.float32), jnp.array([0.25, -0.49, 3.0])
    assert np.all(np.abs(dequantize(quantize(y, offset), offset) - y) <= 0.5 + 1e-5)
