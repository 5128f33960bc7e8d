"""Shapes, sizes, padding and cost of the networks."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import (
    cifar10,
    cifar10_fine_small_grid,
    cifar10_lean_small_grid,
    cifar10_patchify,
    imagenet,
    imagenette,
    quickstart,
)
from configs.paper import ae_v1, ae_v2, ae_v3, ae_v4
from vae_jcc.benchmark.cost import count_macs, count_parameters
from vae_jcc.models.decoder import depth_to_space
from vae_jcc.models.joint import build_classifier, build_decoder, build_encoder, build_model
from vae_jcc.models.layers import max_pool


@pytest.mark.parametrize(
    ("config", "channels", "parameters"),
    [
        (cifar10, 3, 75_596),
        (cifar10_lean_small_grid, 3, 24_532),
        (cifar10_fine_small_grid, 3, 97_812),
        (cifar10_patchify, 3, 86_316),
        (imagenet, 3, 98_912),
        (quickstart, 1, 14_950),
    ],
)
def test_encoder_sizes(config, channels, parameters):
    """The edge half stays as small as it says."""
    encoder = build_encoder(config.get_config())
    variables = jax.eval_shape(encoder.init, jax.random.key(0), jnp.zeros((1, 64, 64, channels)))
    assert count_parameters(variables["params"]) == parameters


@pytest.mark.parametrize(
    ("config", "side", "latent", "parameters", "macs_per_pixel"),
    [
        (ae_v1, 32, (8, 8, 16), 24_272, 3_292),
        (ae_v2, 32, (8, 8, 16), 385_776, 51_952),
        (ae_v3, 160, (20, 20, 32), 98_976, 4_360),
        (ae_v4, 160, (20, 20, 32), 1_550_816, 56_224),
    ],
)
def test_the_papers_encoders_are_as_large_and_as_costly_as_published(config, side, latent, parameters, macs_per_pixel):
    """AE-V3 and AE-V4 as counted from the published code; AE-V1 and AE-V2 are relatives, so these are our own."""
    encoder = build_encoder(config.get_config())
    images = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
    variables = jax.eval_shape(encoder.init, jax.random.key(0), images)
    assert count_parameters(variables["params"]) == parameters
    assert jax.eval_shape(encoder.apply, variables, images).shape == (1, *latent)
    assert count_macs(encoder.apply, variables, images) == macs_per_pixel * side**2


def test_the_papers_classifier_is_as_large_as_published():
    """At 1000 classes, every bias counted."""
    classifier = build_classifier(ae_v3.get_config(), 1000)
    y_hat = jax.ShapeDtypeStruct((1, 20, 20, 32), jnp.float32)
    assert count_parameters(jax.eval_shape(classifier.init, jax.random.key(0), y_hat)["params"]) == 11_345_128


def test_the_published_latent_is_the_last_norms(key, rng):
    """AE-V4 ends on a norm behind its convolution: over a training batch the latent has mean 0 and variance 1."""
    config = ae_v2.get_config()
    config.model.encoder.stem_features, config.model.encoder.stages = 8, ((8, 1, 1), (8, 1, 2))
    encoder = build_encoder(config)
    images = jnp.asarray(rng.random((4, 32, 32, 3)), jnp.float32)
    y, variables = jax.jit(lambda k, x: encoder.init_with_output(k, x, train=True))(key, images)
    assert set(variables["params"]) == {"stem", "stages", "latent", "norm"}
    np.testing.assert_allclose(y.mean(axis=(0, 1, 2)), 0.0, atol=1e-5)
    np.testing.assert_allclose(y.var(axis=(0, 1, 2)), 1.0, rtol=1e-2)


@pytest.mark.parametrize("size", [(1, 1), (4, 4), (5, 7), (32, 32), (33, 18)])
@pytest.mark.parametrize("config", [cifar10, cifar10_patchify, imagenette])
def test_any_size_gives_whole_cells(config, size, key):
    """h = ceil(H / stride): every image of at least a pixel has a latent."""
    encoder = build_encoder(config.get_config())
    shape = jax.eval_shape(lambda k: encoder.init_with_output(k, jnp.zeros((2, *size, 3)))[0], key).shape
    assert shape[1:3] == tuple(-(-s // encoder.stride) for s in size)


def test_padding_repeats_the_edge(key, rng):
    """An image and the same image padded by hand give one latent."""
    encoder = build_encoder(quickstart.get_config())
    image = jnp.asarray(rng.random((1, 26, 27, 1)), jnp.float32)
    padded = jnp.pad(image, ((0, 0), (0, 2), (0, 1), (0, 0)), mode="edge")
    variables = encoder.init(key, image)
    np.testing.assert_array_equal(encoder.apply(variables, image), encoder.apply(variables, padded))


def test_decoder_returns_the_size_asked_for(key):
    """Cropped on the way back."""
    config = quickstart.get_config()
    decoder = build_decoder(config, 1)
    y_hat = jnp.zeros((1, 7, 7, config.model.latent_channels))
    out = jax.eval_shape(lambda k: decoder.init_with_output(k, y_hat, (26, 27))[0], key)
    assert out.shape == (1, 26, 27, 1)


def test_depth_to_space_places_blocks():
    """Channel (i, j) of a cell becomes its pixel (i, j)."""
    x = jnp.arange(2 * 3 * 4).reshape(1, 2, 3, 4)
    out = depth_to_space(x, 2)
    assert out.shape == (1, 4, 6, 1)
    np.testing.assert_array_equal(out[0, 2:4, 2:4, 0].reshape(-1), x[0, 1, 1])


def test_bad_encoder_settings_say_what_to_do():
    """One clear error each."""
    config = cifar10_patchify.get_config()
    config.model.encoder.stem_kernel = 6
    with pytest.raises(ValueError, match="kernel .6. must equal its stride .4."):
        build_encoder(config)
    config.model.encoder.kind = "transformer"
    with pytest.raises(ValueError, match="'residual' or 'patchify'"):
        build_encoder(config)


def test_rounding_is_what_evaluation_sees_and_noise_what_the_rate_sees(key, rng):
    """Evaluation is deterministic; training's rate depends on the noise, its classifier ("mixed") does not."""
    model = build_model(quickstart.get_config(), 10, 1)
    images = jnp.asarray(rng.random((4, 28, 28, 1)), jnp.float32)
    variables = model.init(key, images)

    def train(seed, quantizer):
        keys = jax.random.split(jax.random.key(seed), 4)
        return model.apply(variables, images, keys, train=True, quantizer=quantizer, mutable=["batch_stats"])[0]

    a, b = train(1, "mixed"), train(2, "mixed")
    np.testing.assert_array_equal(a.logits, b.logits)
    assert np.all(a.bits != b.bits)
    assert np.any(train(1, "noise").logits != train(2, "noise").logits)


def test_the_rate_given_other_symbols_starts_at_the_priors_and_teaches_each_part_its_own(key, rng):
    config = quickstart.get_config()
    plain = build_model(config, 10, 1)
    config.entropy.kind, config.entropy.context.features = "parallel", 6
    model = build_model(config, 10, 1)
    images, keys = jnp.asarray(rng.uniform(size=(4, 28, 28, 1)), jnp.float32), jax.random.split(key, 4)
    variables = model.init(key, images)
    assert "context" in variables["params"]

    def bits(params, of=model, train=True):
        apply = {"train": True, "mutable": ["batch_stats"]} if train else {"train": False}
        outputs = of.apply({**variables, "params": params}, images, keys, **apply)
        return (outputs[0] if train else outputs).bits.sum()

    params = variables["params"]
    alone = {part: params[part] for part in params if part != "context"}
    np.testing.assert_allclose(bits(params, train=False), bits(alone, plain, train=False), rtol=0.05)
    ours, prior_alone = jax.grad(bits)(params), jax.grad(lambda p: bits(p, plain))(alone)
    for part in ("encoder", "context"):
        assert optax.tree.norm(ours[part]) > 0
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3), ours["prior"], prior_alone["prior"]
    )


def test_macs_are_counted_from_shapes():
    """A 3x3 convolution, 2 to 5 channels, on 4x4 outputs: 16 * 5 * 18."""
    kernel = jnp.zeros((3, 3, 2, 5))
    conv = lambda x: jax.lax.conv_general_dilated(  # noqa: E731
        x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    assert count_macs(jax.jit(conv), jnp.zeros((1, 4, 4, 2))) == 16 * 5 * 18
    assert count_macs(lambda a, b: a @ b, jnp.zeros((2, 3)), jnp.zeros((3, 7))) == 42


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("size", [(7, 8), (6, 9), (1, 2)])
def test_max_pool_is_flaxs_with_its_gradient(size, dtype):
    # Distinct values, which bfloat16 holds exactly: where values are equal, the gradients are shared out differently.
    x = jnp.asarray(np.random.default_rng(0).permutation(2 * 72)[: 2 * size[0] * size[1]], dtype)
    x = x.reshape(1, *size, 2) - 64

    def flax(x):
        return nn.max_pool(x, (3, 3), (2, 2), padding="SAME")

    np.testing.assert_array_equal(max_pool(x), flax(x))
    assert max_pool(x).dtype == dtype
    weights = jnp.arange(flax(x).size, dtype=dtype).reshape(flax(x).shape)
    ours, theirs = (jax.grad(lambda x, pool=pool: jnp.sum(pool(x) * weights))(x) for pool in (max_pool, flax))
    np.testing.assert_array_equal(ours, theirs)
