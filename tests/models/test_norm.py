"""Batch normalization against Flax's own: values, gradients, running statistics, devices, and what it keeps."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vae_jcc.models.norm import BatchNorm


class Reference(nn.Module):
    """Flax's batch normalization, then ReLU where asked for; its variables have the same names."""

    train: bool
    relu: bool
    dtype: object = jnp.float32

    @nn.compact
    def __call__(self, x):
        norm = nn.BatchNorm(not self.train, momentum=0.9, epsilon=1e-5, dtype=self.dtype)
        nn.share_scope(self, norm)
        return nn.relu(norm(x)) if self.relu else norm(x)


@pytest.fixture
def x(rng):
    """Activations [6, 4, 5, 3]: channels of other means and spreads."""
    return jnp.asarray(rng.normal((0.0, 2.0, -1.0), (1.0, 0.7, 30.0), (6, 4, 5, 3)), jnp.float32)


@pytest.fixture
def variables(rng):
    """Scales (one is negative), biases and running statistics."""
    draw = lambda low, high: jnp.asarray(rng.uniform(low, high, 3), jnp.float32)  # noqa: E731
    return {
        "params": {"scale": draw(0.5, 2.0).at[1].multiply(-1), "bias": draw(-1.0, 1.0)},
        "batch_stats": {"mean": draw(-1.0, 1.0), "var": draw(0.5, 2.0)},
    }


def results(module, variables, x, weights):
    """Returns (output, running statistics, gradients of sum(weights * output) by the parameters and x)."""

    def loss(params, x):
        h, updates = module.apply(variables | {"params": params}, x, mutable=["batch_stats"])
        return jnp.sum(weights * h), (h, updates.get("batch_stats", variables["batch_stats"]))

    gradients, (h, statistics) = jax.grad(loss, (0, 1), has_aux=True)(variables["params"], x)
    return h, statistics, gradients


@pytest.mark.parametrize("relu", [True, False])
def test_training_is_flax_batch_normalization(relu, x, variables, rng):
    weights = jnp.asarray(rng.normal(size=x.shape), jnp.float32)
    ours, theirs = (results(kind(True, relu), variables, x, weights) for kind in (BatchNorm, Reference))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5), ours, theirs)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("relu", [True, False])
def test_inference_is_flax_batch_normalization_to_the_bit(relu, dtype, x, variables):
    x = x.astype(dtype)
    ours, theirs = (jax.jit(kind(False, relu, dtype).apply)(variables, x) for kind in (BatchNorm, Reference))
    assert ours.dtype == theirs.dtype == dtype
    np.testing.assert_array_equal(ours, theirs)


def test_bfloat16_activations_have_float32_statistics(x, variables, rng):
    weights = jnp.asarray(rng.normal(size=x.shape), jnp.float32)
    x = x.astype(jnp.bfloat16)
    ours, theirs = (results(kind(True, True, jnp.bfloat16), variables, x, weights) for kind in (BatchNorm, Reference))
    assert ours[0].dtype == ours[2][1].dtype == jnp.bfloat16
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), ours[1], theirs[1])
    for a, b in zip(jax.tree.leaves((ours[0], ours[2])), jax.tree.leaves((theirs[0], theirs[2])), strict=True):
        np.testing.assert_allclose(a.astype(np.float32), b.astype(np.float32), rtol=0.02, atol=0.02)


def test_devices_normalize_by_the_whole_batch(x, variables, rng):
    weights = jnp.asarray(rng.normal(size=x.shape), jnp.float32)
    h, statistics, (by_params, by_x) = results(BatchNorm(True, True), variables, x, weights)
    split = lambda a: a.reshape(2, 3, *a.shape[1:])  # noqa: E731
    per_device = jax.pmap(
        lambda x, w: results(BatchNorm(True, True, axis_name="data"), variables, x, w),
        axis_name="data",
        devices=jax.devices()[:2],
    )
    h2, statistics2, (by_params2, by_x2) = per_device(split(x), split(weights))
    np.testing.assert_allclose(h2, split(h), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(by_x2, split(by_x), rtol=1e-4, atol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a[0], b, rtol=1e-5), statistics2, statistics)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a.sum(0), b, rtol=1e-4, atol=1e-5), by_params2, by_params)


def test_a_constant_channel_stays_finite(x, variables):
    x = x.at[..., 0].set(1e3)
    for leaf in jax.tree.leaves(results(BatchNorm(True, True), variables, x, jnp.ones(x.shape))):
        assert np.isfinite(leaf).all()


@pytest.mark.parametrize(("relu", "arrays"), [(True, 2), (False, 1)])
def test_only_input_and_output_are_kept_for_the_gradient(relu, arrays, x, variables):
    module = BatchNorm(True, relu)

    def saved(x):
        return jax.vjp(lambda x: module.apply(variables, x, mutable=["batch_stats"])[0], x)[1]

    kept = sum(leaf.size for leaf in jax.tree.leaves(jax.eval_shape(saved, x)))
    assert arrays * x.size <= kept <= arrays * x.size + 10 * x.shape[-1]
