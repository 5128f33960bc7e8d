"""Noise and rounding."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vae_jcc.quantization import (
    Centres,
    Rounding,
    add_uniform_noise,
    dequantize,
    quantize,
    straight_through_round,
)


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


def test_a_dead_zone_moves_every_threshold_away_from_zero(rng):
    """Against floor(|z| + 1/2 - width) with the sign of z; a width of 0 is plain rounding, ties included."""
    y, offset = jnp.asarray(rng.normal(0, 2, (500, 3)), jnp.float32), jnp.array([0.1, -0.3, 0.0])
    z = np.asarray(y - offset, np.float64)
    for width in (0.04, 0.3, 0.75):
        symbols = np.sign(z) * np.floor(np.maximum(np.abs(z) + 0.5 - width, 0.0))
        near = np.abs((np.abs(z) - width) % 1 - 0.5) < 1e-5
        np.testing.assert_array_equal(np.where(near, 0, quantize(y, offset, width)), np.where(near, 0, symbols))
    halves = jnp.arange(-6, 7) / 2
    np.testing.assert_array_equal(quantize(halves, jnp.zeros(13), 0.0), jnp.round(halves))


def test_a_dead_zone_is_the_encoders_alone(rng):
    y, plain = jnp.asarray(rng.normal(0, 2, (500, 3)), jnp.float32), Rounding(jnp.array([0.1, -0.3, 0.0]))
    wide = plain.with_dead_zone(0.2)
    symbols = wide.quantize(y)
    assert np.all(np.abs(symbols) <= np.abs(plain.quantize(y))) and np.any(symbols != plain.quantize(y))
    np.testing.assert_array_equal(wide.dequantize(symbols), plain.dequantize(symbols))


@pytest.mark.parametrize("width", [-0.1, float("nan"), float("inf")])
def test_a_dead_zone_that_cannot_be_is_refused(width):
    with pytest.raises(ValueError, match="dead zone"):
        Rounding(jnp.zeros(3)).with_dead_zone(width)


def test_learned_centres_have_no_dead_zone():
    centres = Centres(jnp.array([-1.0, 0.5]))
    assert centres.with_dead_zone(0.0) is centres
    with pytest.raises(ValueError, match="learned centres"):
        centres.with_dead_zone(0.1)
