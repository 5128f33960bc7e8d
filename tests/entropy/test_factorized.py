"""The deep factorized prior: sums, monotonicity, tails, special cases."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vae_jcc.entropy.factorized import FactorizedPrior, bin_bits, bin_prob, logits_cumulative, quantile
from vae_jcc.entropy.tabulate import prior_layers, tabulate


@pytest.fixture
def params(key):
    """A prior over 4 channels with every parameter moved off its symmetric start."""
    prior = FactorizedPrior(4, init_scale=6.0)
    params = prior.init(key, jnp.zeros((1, 4)))["params"]
    keys = iter(jax.random.split(key, 100))
    return jax.tree.map(lambda p: p + 0.3 * jax.random.normal(next(keys), p.shape), params)


@pytest.fixture
def layers(params):
    """The same, layer by layer."""
    return [{k: jnp.asarray(v, jnp.float32) for k, v in layer.items()} for layer in prior_layers(params)]


def test_probabilities_of_all_bins_sum_to_one(layers):
    """Unit bins at any offset partition the line."""
    y = jnp.arange(-400, 401)[:, None] + jnp.array([0.0, 0.2, -0.4, 0.5])
    np.testing.assert_allclose(bin_prob(layers, y).sum(0), 1.0, rtol=1e-5)


def test_bits_are_minus_log2_of_probability(layers):
    """The two functions describe one distribution."""
    y = jnp.linspace(-12, 12, 97)[:, None] + jnp.zeros(4)
    np.testing.assert_allclose(jnp.exp2(-bin_bits(layers, y)), bin_prob(layers, y), rtol=1e-5, atol=1e-9)


def test_bin_probability_is_the_difference_of_cumulatives(layers):
    """Against the definition, where float32 can form it."""
    y = jnp.linspace(-5, 5, 41)[:, None] + jnp.zeros(4)
    c = lambda x: jax.nn.sigmoid(logits_cumulative(layers, x))  # noqa: E731
    np.testing.assert_allclose(bin_prob(layers, y), c(y + 0.5) - c(y - 0.5), rtol=1e-3, atol=1e-6)


def test_cumulative_increases(layers):
    """Monotonic whatever the parameters."""
    y = jnp.linspace(-100, 100, 2001)[:, None] + jnp.zeros(4)
    assert np.all(np.diff(logits_cumulative(layers, y), axis=0) > 0)


def test_values_and_gradients_are_finite_far_out(layers):
    """|y| up to 1e5, in y and in the parameters."""
    y = jnp.concatenate([-jnp.logspace(5, -3, 50), jnp.zeros(1), jnp.logspace(-3, 5, 50)])[:, None] + jnp.zeros(4)
    bits, grad_y = bin_bits(layers, y), jax.grad(lambda v: bin_bits(layers, v).sum())(y)
    grad_layers = jax.grad(lambda v: bin_bits(v, y).sum())(layers)
    assert np.all(np.isfinite(bits)) and np.all(bits >= 0) and np.all(np.isfinite(grad_y))
    assert all(np.all(np.isfinite(g)) for g in jax.tree.leaves(grad_layers))
    assert np.all(bits[0] > bits[40]) and np.all(bits[-1] > bits[60])


def test_without_hidden_units_it_is_a_logistic_distribution(key):
    """Special case with a closed form."""
    prior = FactorizedPrior(1, filters=(), init_scale=2.0)
    params = prior.init(key, jnp.zeros((1, 1)))["params"]
    layers = [{k: jnp.asarray(v, jnp.float32) for k, v in layer.items()} for layer in prior_layers(params)]
    scale, shift = jax.nn.softplus(params["matrix0"][0, 0, 0]), params["bias0"][0, 0]
    y = jnp.linspace(-4, 4, 17)[:, None]
    want = jax.nn.sigmoid(scale * (y + 0.5) + shift) - jax.nn.sigmoid(scale * (y - 0.5) + shift)
    np.testing.assert_allclose(bin_prob(layers, y), want, rtol=1e-5)


def test_quantile_inverts_the_cumulative(layers):
    """Bisection finds the logit that it was asked for."""
    for logit in (-3.0, 0.0, 2.5):
        np.testing.assert_allclose(logits_cumulative(layers, quantile(layers, logit)), logit, atol=1e-3)


def test_tables_cost_what_the_prior_says(params, layers, rng):
    """Code length of the integer tables against the float prior on its own samples."""
    offset = np.asarray(quantile(layers, 0.0))
    tables = tabulate(params, offset)
    support = np.arange(-300, 301)
    pmf = np.asarray(bin_prob(layers, jnp.asarray(support[:, None] + offset, jnp.float32)), np.float64)
    symbols = np.stack([rng.choice(support, 5000, p=p / p.sum()) for p in pmf.T], axis=-1).astype(np.int32)
    ideal = float(bin_bits(layers, symbols + offset).sum())
    assert float(tables.bits(symbols).sum()) == pytest.approx(ideal, rel=2e-3)
