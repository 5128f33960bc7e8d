"""CutMix: every pixel is of one of two images, and the labels' shares are those of the pixels."""

import jax
import numpy as np
import pytest

from vae_jcc.data.augment import cutmix


@pytest.fixture
def keys():
    return jax.random.split(jax.random.key(3), 2000)


def test_shares_are_those_of_the_pixels(keys, rng):
    images = rng.uniform(0.0, 0.4, (2000, 8, 6, 3)).astype(np.float32)
    others = images + 0.5
    mixed, share = jax.jit(lambda *x: cutmix(*x, 1.0))(keys, images, others)
    own = np.asarray(mixed) == images
    assert np.all(own | (np.asarray(mixed) == others))
    assert np.all(own == own[..., :1]), "a pixel's channels come from one image"
    np.testing.assert_allclose(share, own[..., 0].mean(axis=(1, 2)), atol=1e-6)
    pasted = ~own[..., 0]
    np.testing.assert_array_equal(pasted, pasted.any(axis=2, keepdims=True) & pasted.any(axis=1, keepdims=True))
    # Two places of 0..1 are less than s / 2 apart with probability s - s^2 / 4; a box of area a has sides sqrt(a).
    a = (np.arange(1000) + 0.5) / 1000
    covered = (np.sqrt(a) - a / 4) ** 2
    assert np.mean(1 - np.asarray(share)) == pytest.approx(covered.mean(), abs=0.02)


def test_the_others_stay_whole(keys, rng):
    images, others = (rng.uniform(size=(2000, 4, 4, 1)).astype(np.float32) for _ in range(2))
    mixed, share = cutmix(keys, images, others, 0.3)
    whole = np.all(np.asarray(mixed) == images, axis=(1, 2, 3))
    np.testing.assert_array_equal(whole, np.asarray(share) == 1.0)
    # Some small boxes cover no pixel's centre.
    assert 0.7 < whole.mean() < 0.8
    unmixed, share = cutmix(keys, images, others, 0.0)
    np.testing.assert_array_equal(unmixed, images)
    np.testing.assert_array_equal(share, 1.0)
