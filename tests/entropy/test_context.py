"""The serial context model: causal, as large as published, and the same in fixed point in any order of summation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vae_jcc.entropy import fixed_point
from vae_jcc.entropy.context import MOST_BITS, ContextModel, slot_bits, straight_through_bits


def variables_and_values(slots=3, channels=4, blocks=1, seed=0):
    model = ContextModel(channels, slots, blocks=blocks)
    rng = np.random.default_rng(seed)
    values = jnp.asarray(rng.integers(-40, 40, (2, 5, 6, channels)) / 16, jnp.float32)
    variables = model.init(jax.random.key(seed), values)
    noise = lambda x: x + jnp.asarray(rng.normal(0, 0.1, x.shape), jnp.float32)  # noqa: E731
    return model, jax.tree.map(noise, variables), values


def test_it_has_the_papers_parameters():
    model = ContextModel(16, 2)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 8, 8, 16)))["params"]
    count = sum(int(np.prod(leaf.shape)) for name, leaf in shapes.items() if name != "base")
    assert count == 22_106


@pytest.mark.parametrize("fixed", [False, True])
def test_a_place_depends_on_earlier_places_only_and_on_its_neighbours(fixed):
    model, variables, values = variables_and_values()
    channels, height, width = 4, 5, 6
    before = model.apply(variables, values, fixed)
    place = (2, 3, 1)  # row, column, channel
    changed = model.apply(variables, values.at[:, *place].add(2.0), fixed)
    differs = np.asarray(jnp.any(before != changed, axis=(0, 4)))
    order = np.moveaxis(np.arange(channels * height * width).reshape(channels, height, width), 0, 2)
    assert not differs[order <= order[place]].any()
    assert differs[2, 4, 1] and differs[2, 3, 2] and differs[3, 3, 1]


def test_fixed_point_is_exact_and_close_to_float():
    model, variables, values = variables_and_values(blocks=2)
    fixed = np.asarray(model.apply(variables, values, True))
    assert np.array_equal(fixed * 2**fixed_point.LOGIT_BITS, np.round(fixed * 2**fixed_point.LOGIT_BITS))
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda x: jnp.asarray(np.asarray(x), jnp.float64), (variables, values))
        assert np.array_equal(np.asarray(model.apply(*wide, True)), fixed)
    assert np.array_equal(np.asarray(jax.jit(model.apply, static_argnums=2)(variables, values, True)), fixed)
    exact = np.asarray(model.apply(variables, values, False))
    assert np.corrcoef(fixed.ravel(), exact.ravel())[0, 1] > 0.98


def test_fixed_point_passes_gradients():
    model, variables, values = variables_and_values()
    slots = jnp.asarray(np.random.default_rng(1).integers(0, 3, values.shape))

    def bits(variables, fixed):
        return slot_bits(model.apply(variables, values, fixed), slots).mean()

    exact, fixed = (jax.grad(bits)(variables, f)["params"] for f in (False, True))
    for name, g in exact.items():
        similarity = jnp.vdot(g, fixed[name]) / (jnp.linalg.norm(g) * jnp.linalg.norm(fixed[name]))
        assert similarity > 0.9, name


def test_slot_bits_are_those_of_the_softmax():
    logits = jnp.log2(jnp.array([[0.5, 0.25, 0.25], [0.125, 0.125, 0.75]]))
    np.testing.assert_allclose(slot_bits(logits + 3.0, jnp.array([0, 1])), [1.0, 3.0], rtol=1e-6)


def test_straight_through_bits_are_those_of_the_rounded_slots_and_teach_the_logits_so():
    rng = np.random.default_rng(2)
    logits, places = rng.normal(0, 2, (40, 7)).astype(np.float32), rng.uniform(0, 6, 40).astype(np.float32)
    slots = np.round(places).astype(int)
    np.testing.assert_allclose(straight_through_bits(logits, places), slot_bits(logits, slots), rtol=1e-5, atol=1e-5)
    ours = jax.grad(lambda x: straight_through_bits(x, places).sum())(logits)
    np.testing.assert_allclose(ours, jax.grad(lambda x: slot_bits(x, slots).sum())(logits), atol=1e-5)


def test_their_gradient_by_the_places_is_that_of_the_expected_bits_under_noise():
    """Against central differences of the mean over the noise, the bits between two slots being linear."""
    rng = np.random.default_rng(3)
    logits, places = rng.normal(0, 2, (6, 9)), rng.uniform(1, 7, 6)
    lengths = np.log2(np.exp2(logits).sum(1, keepdims=True)) - logits
    noise = (np.arange(20_000) + 0.5) / 20_000 - 0.5

    def expected(k, at):
        return np.interp(at + noise, np.arange(9), lengths[k]).mean()

    slope = jax.grad(lambda at: straight_through_bits(jnp.float32(logits), at).sum())(jnp.float32(places))
    wanted = [(expected(k, at + 1e-3) - expected(k, at - 1e-3)) / 2e-3 for k, at in enumerate(places)]
    np.testing.assert_allclose(slope, wanted, atol=2e-3)


def test_impossible_symbols_cost_what_an_escape_may_and_push_back():
    logits = jnp.where(jnp.arange(9) == 4, 0.0, -500.0)
    bits = lambda at: straight_through_bits(logits, at)  # noqa: E731
    assert bits(4.2) == 0 and bits(7.0) == MOST_BITS == bits(30.0)
    assert jax.grad(bits)(4.0) == 0 and jax.grad(bits)(4.3) > 0 > jax.grad(bits)(3.7)
    assert jax.grad(bits)(30.0) == 0
