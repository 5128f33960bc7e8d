"""Learned centres: nearest forward, a soft assignment backward, one value from symbols to centres."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vae_jcc.entropy.categorical import symbol_bits, target_bits
from vae_jcc.quantization import Centres, LearnedCentres, Rounding, dequantize, quantize, soft_to_hard

CENTRES = jnp.array([1.25, -0.5, 0.25])  # learned centres come in any order


@pytest.fixture
def y(rng):
    return jnp.asarray(rng.normal(0, 1.5, (4, 3, 2, 5)), jnp.float32)


def test_symbols_are_those_of_the_nearest_centre_and_ties_go_to_the_lower_index(y):
    centres = Centres(CENTRES)
    symbols = np.asarray(centres.quantize(y))
    assert symbols.dtype == np.int32
    chosen = np.asarray(centres.dequantize(symbols))
    distances = np.abs(np.asarray(y)[..., None] - np.asarray(CENTRES))
    np.testing.assert_array_equal(np.abs(chosen - y), distances.min(axis=-1))
    ties = centres.quantize(jnp.array([0.75, -0.125]))  # between centres 0 and 2, and 1 and 2
    np.testing.assert_array_equal(ties, [0, 1])


def test_symbols_come_back_and_others_stand_for_the_ends():
    centres = Centres(np.asarray(CENTRES))
    symbols = jnp.arange(3)
    np.testing.assert_array_equal(centres.quantize(centres.dequantize(symbols)), symbols)
    np.testing.assert_array_equal(centres.dequantize(jnp.array([-7, 3, 2**31 - 1])), [1.25, 0.25, 0.25])


def test_rounding_is_the_same_concept(y):
    offset = jnp.array([0.1, -0.3, 0.0, 0.5, 0.2])
    rounding = Rounding(offset)
    np.testing.assert_array_equal(rounding.quantize(y), quantize(y, offset))
    np.testing.assert_array_equal(rounding.dequantize(rounding.quantize(y)), dequantize(quantize(y, offset), offset))


def test_forward_is_hard_to_the_bit(y):
    y_hat, target = jax.jit(soft_to_hard)(y, CENTRES)
    symbols = Centres(CENTRES).quantize(y)
    np.testing.assert_array_equal(y_hat, CENTRES[symbols])
    np.testing.assert_array_equal(target, jax.nn.one_hot(symbols, 3))


def test_backward_is_the_soft_assignments_by_definition(y, rng):
    weights = jnp.asarray(rng.normal(size=y.shape), jnp.float32)
    target_weights = jnp.asarray(rng.normal(size=(*y.shape, 3)), jnp.float32)

    def estimated(y, centres):
        y_hat, target = soft_to_hard(y, centres)
        return (weights * y_hat).sum() + (target_weights * target).sum()

    def by_definition(y, centres):
        e = jnp.exp(-((y[..., None] - centres) ** 2))
        a = e / e.sum(axis=-1, keepdims=True)
        return (weights * (a * centres).sum(axis=-1)).sum() + (target_weights * a).sum()

    for got, want in zip(
        jax.grad(estimated, (0, 1))(y, CENTRES), jax.grad(by_definition, (0, 1))(y, CENTRES), strict=True
    ):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


def test_centres_start_within_two(key):
    values = LearnedCentres(1000).init(key)["params"]["values"]
    assert values.shape == (1000,)
    assert -2.0 <= values.min() < -1.9 and 1.9 < values.max() <= 2.0


def test_bits_are_those_of_the_symbols_and_the_gradient_prefers_the_cheaper_centre(y, rng):
    base = jnp.asarray(rng.normal(size=(5, 3)), jnp.float32)
    target = soft_to_hard(y, CENTRES)[1]
    symbols = Centres(CENTRES).quantize(y)
    probabilities = np.exp2(base) / np.exp2(base).sum(axis=1, keepdims=True)
    want = -np.log2(probabilities[np.arange(5), symbols])
    np.testing.assert_allclose(target_bits(base, target), want, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(symbol_bits(base, symbols), want, rtol=1e-4, atol=1e-5)
    cheap_left = jnp.array([[4.0, 0.0]])
    gradient = jax.grad(lambda y: target_bits(cheap_left, soft_to_hard(y, jnp.array([-1.0, 1.0]))[1]).sum())
    assert gradient(jnp.array([0.2])) > 0
