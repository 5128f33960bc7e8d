"""Depthwise convolution against the grouped one, and encoders of separable blocks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import cifar10_separable, cifar10_separable_lean, default
from vae_jcc.benchmark.cost import count_macs, count_parameters
from vae_jcc.models.depthwise import depthwise_conv
from vae_jcc.models.joint import build_encoder


def grouped(x, kernel, stride):
    """The same by XLA: [B, H, W, C] and [k, k, C], a group for each channel."""
    return jax.lax.conv_general_dilated(
        x,
        kernel[:, :, None],
        (stride, stride),
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.shape[-1],
    )


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("side", "size"), [(5, (8, 8)), (3, (7, 10)), (5, (2, 3)), (4, (9, 8))])
def test_depthwise_is_the_grouped_convolution(side, size, stride, rng):
    """Values and both gradients, odd and even sizes, pictures smaller than the kernel too."""
    x = jnp.asarray(rng.normal(size=(2, *size, 3)), jnp.float32)
    kernel = jnp.asarray(rng.normal(size=(side, side, 3)), jnp.float32)
    (ours, ours_back), (theirs, theirs_back) = (
        jax.vjp(lambda x, k, f=f: f(x, k, stride), x, kernel) for f in (depthwise_conv, grouped)
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)
    weights = jnp.asarray(rng.normal(size=ours.shape), jnp.float32)
    for a, b in zip(ours_back(weights), theirs_back(weights), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


def test_depthwise_sums_in_float32(rng):
    """25 bfloat16 products summed in bfloat16 would be off by a percent of the sum of their sizes."""
    x = jnp.asarray(rng.normal(size=(1, 8, 8, 4)), jnp.bfloat16)
    kernel = jnp.asarray(rng.normal(size=(5, 5, 4)), jnp.float32)
    out = depthwise_conv(x, kernel, 1)
    assert out.dtype == jnp.bfloat16
    np.testing.assert_allclose(
        out.astype(jnp.float32), grouped(x.astype(jnp.float32), kernel, 1), rtol=2**-8, atol=1e-4
    )


def test_depthwise_work_is_counted():
    """25 for each output value, as many as the grouped convolution's."""
    x, kernel = jnp.zeros((1, 8, 8, 6)), jnp.zeros((5, 5, 6))
    assert count_macs(lambda x, k: depthwise_conv(x, k, 2), x, kernel) == 4 * 4 * 6 * 25
    assert count_macs(lambda x, k: grouped(x, k, 2), x, kernel) == 4 * 4 * 6 * 25


@pytest.mark.parametrize(
    ("config", "parameters", "macs"),
    [(cifar10_separable, 89_612, 32_665_600), (cifar10_separable_lean, 18_764, 6_035_456)],
)
def test_sizes(config, parameters, macs):
    """As the configurations say, with an 8x8 latent."""
    encoder = build_encoder(config.get_config())
    images = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    variables = jax.eval_shape(encoder.init, jax.random.key(0), images)
    assert count_parameters(variables["params"]) == parameters
    assert count_macs(encoder.apply, variables, images) == macs
    assert jax.eval_shape(encoder.apply, variables, images).shape == (1, 8, 8, 12)


def small_config():
    config = default.get_config()
    config.model.encoder.update({"stem_features": 4, "stages": ((4, 1, 1), (6, 1, 2)), "separable_kernel": 3})
    return config


def test_a_block_whose_last_kernel_is_zero_is_the_identity(key, rng):
    """What a deeper network starts with (state.py)."""
    config = small_config()
    config.model.encoder.latent_kernel, config.model.latent_channels = 0, 6
    images = jnp.asarray(rng.random((2, 8, 8, 3)), jnp.float32)
    variables = build_encoder(config).init(key, images)
    shallow = {kind: {**tree, "stages": dict(tree["stages"])} for kind, tree in variables.items()}
    variables["params"]["stages"]["stage0_block0"]["conv2"]["kernel"] *= 0.0
    for tree in shallow.values():
        del tree["stages"]["stage0_block0"]
        tree["stages"]["stage0_block0"] = tree["stages"].pop("stage1_block0")
    deep = build_encoder(config).apply(variables, images)
    config.model.encoder.stages = ((6, 1, 2),)
    np.testing.assert_allclose(build_encoder(config).apply(shallow, images), deep, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("key_name", "value"), [("separable_kernel", -1), ("expansion", 0)])
def test_sizes_that_make_no_block_are_refused(key_name, value):
    config = small_config()
    config.model.encoder[key_name] = value
    with pytest.raises(ValueError, match="side is 0 .dense blocks. or more, the expansion at least 1"):
        build_encoder(config)


@pytest.mark.parametrize("key_name", ["as_published", "conv_bias"])
def test_what_the_blocks_do_not_have_is_refused(key_name):
    config = small_config()
    config.model.encoder[key_name] = True
    with pytest.raises(ValueError, match="leave as_published and conv_bias off, or separable_kernel at 0"):
        build_encoder(config)
