"""The hyperprior's training form: the table is the formula's, and fixed point equals the integers that code."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vae_jcc.coding.hyperprior import HyperpriorContext
from vae_jcc.entropy import fixed_point
from vae_jcc.entropy.context import LOG2_IMPOSSIBLE
from vae_jcc.entropy.export import from_integers, to_integers
from vae_jcc.entropy.hyperprior import HyperpriorModel, bin_logits, export_hyperprior, scale_table

POSITIONS, SLOTS = ((-16, 0, 16, 0, 0), (-16, 0, 0, 0, 0), (-32, -16, 0, 16, 0)), (4, 3, 5)


def model_and_inputs(shape=(4, 6), seed=0):
    model = HyperpriorModel(POSITIONS, SLOTS, features=12, side_channels=3)
    rng = np.random.default_rng(seed)
    planes = rng.integers(-3, 4, (4, 3, *shape)).astype(np.int32)
    values = jnp.asarray(planes.transpose(0, 2, 3, 1), jnp.float32)
    params = jax.jit(model.init)(jax.random.key(0), values)["params"]
    params = jax.tree.map(lambda x: x + jnp.asarray(rng.normal(0, 0.2, x.shape), jnp.float32), params)
    present = np.arange(5) < np.array(SLOTS)[:, None]
    return model, params | {"base": jnp.where(present, params["base"], LOG2_IMPOSSIBLE)}, planes, values


@pytest.mark.parametrize("shape", [(1, 1), (4, 6), (7, 2)])
def test_the_networks_are_the_trained_ones_to_the_bit(shape):
    model, params, planes, values = model_and_inputs(shape)
    tensors = to_integers(params)
    assert all(np.array_equal(to_integers(from_integers(tensors))[name], value) for name, value in tensors.items())
    exported = export_hyperprior(params, model)
    assert all(tensor.flags.c_contiguous for tensor in exported.values())  # others would be written as they lie
    context = HyperpriorContext(tensors | exported)
    trained = jax.jit(model.apply, static_argnums=2)({"params": params}, values, True)
    present = np.arange(5) < np.array(SLOTS)[:, None]
    integers = np.moveaxis(context.logits(planes), 1, 3)
    expected = np.asarray(trained * 2**fixed_point.LOGIT_BITS)
    assert np.array_equal(integers[..., present], expected[..., present])
    assert np.all(integers[..., ~present] < -(2**23))


def test_the_bits_of_z_are_those_that_it_is_coded_in():
    model, params, planes, values = model_and_inputs((9, 7))
    apply = jax.jit(partial(model.apply, mutable="side"), static_argnums=2)
    side = apply({"params": params}, values, True)[1]["side"]["bits"][0]
    slots, logits = HyperpriorContext(to_integers(params) | export_hyperprior(params, model)).side(planes)
    outside = np.log2(np.exp2(logits / 32).sum(axis=1))  # log2 of the mass within +-7, which coding renormalises to
    bits = -np.take_along_axis(logits / 32, slots.T, axis=1).sum(axis=0)
    assert np.all(outside <= 0.1) and np.unique(slots).size > 5
    np.testing.assert_allclose(bits, side, atol=slots.shape[1] / 64 + 1e-3)


def test_the_table_is_the_formula():
    distance, octave = jnp.arange(512) / 16.0, jnp.arange(32)[:, None] / 4.0
    np.testing.assert_allclose(scale_table() / 32, bin_logits(distance, octave), atol=1 / 64 + 1e-3)
    assert np.all(scale_table()[:, 0] == 0) and np.all(np.diff(scale_table()) <= 0)


def test_every_parameter_gets_a_gradient_in_both_forms():
    model, params, _, values = model_and_inputs((8, 8))

    def loss(params, fixed):
        variables, rngs = {"params": params}, {"noise": jax.random.key(1)}
        logits, side = model.apply(variables, values, fixed, rngs=rngs, mutable="side")
        return jax.nn.log_softmax(logits)[..., 0].mean() + side["side"]["bits"][0].mean()

    for fixed in (False, True):
        grads = jax.tree.leaves(jax.jit(jax.grad(loss), static_argnums=1)(params, fixed))
        assert all(np.isfinite(g).all() and np.abs(g).max() > 0 for g in grads)
