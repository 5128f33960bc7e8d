"""Winograd's convolution and its gradients against XLA's plain one in float64, and where it is used."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from vae_jcc.models import convolution, parts, winograd

# (batch, rows, columns, channels in, channels out, padding)
CASES = [
    (6, 8, 8, 5, 7, ((1, 1), (1, 1))),
    (4, 7, 9, 3, 4, ((1, 1), (1, 1))),
    (8, 6, 11, 2, 3, ((0, 0), (0, 0))),
    (3, 4, 5, 2, 3, ((2, 1), (0, 2))),
    (2, 1, 1, 4, 2, ((1, 1), (1, 1))),
]


def plain(x, kernel, pads):
    return lax.conv_general_dilated(x, kernel, (1, 1), pads, dimension_numbers=("NHWC", "HWIO", "NHWC"))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_value_and_kernel_gradient_are_a_plain_convolutions(case, monkeypatch):
    *shape, c_out, pads = case
    monkeypatch.setattr(parts, "_part_bytes", lambda: 1)  # small parts: one and several are among the cases
    rng = np.random.default_rng(0)
    x, kernel = rng.normal(size=shape), rng.normal(size=(3, 3, shape[3], c_out))
    with jax.enable_x64(True):
        want, vjp = jax.vjp(lambda kernel: plain(x, kernel, pads), jnp.asarray(kernel))
        dy = rng.normal(size=want.shape)
        (want_gradient,) = vjp(jnp.asarray(dy))
    x, kernel, dy = (jnp.asarray(a, jnp.float32) for a in (x, kernel, dy))
    for got, exact in (
        (jax.jit(winograd.convolve, static_argnums=2)(x, kernel, pads), want),
        (jax.jit(winograd.kernel_gradient, static_argnums=2)(x, dy, pads), want_gradient),
    ):
        assert got.dtype == jnp.float32 and got.shape == exact.shape
        np.testing.assert_allclose(got, exact, rtol=0, atol=1e-5 * np.abs(exact).max())


@pytest.mark.parametrize("pads", [((1, 1), (1, 1)), ((2, 2), (0, 2))], ids=str)
def test_training_uses_it_on_cpus_and_inference_does_not(pads, monkeypatch):
    calls = []

    def counted(*args, **kwargs):
        calls.append(1)
        return original(*args, **kwargs)

    original = winograd.convolve
    monkeypatch.setattr(winograd, "convolve", counted)
    monkeypatch.setattr(convolution, "_WINOGRAD_PAYS", True)
    convolution.convolve.clear_cache()
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(2, 8, 8, 32)), jnp.float32)
    kernel = jnp.asarray(rng.normal(size=(3, 3, 32, 32)), jnp.float32)

    def ours(x, kernel):
        return convolution.conv_general_dilated(x, kernel, (1, 1), pads)

    np.testing.assert_array_equal(ours(x, kernel), plain(x, kernel, pads))
    assert not calls
    y, vjp = jax.vjp(ours, x, kernel)
    want, want_vjp = jax.vjp(lambda x, kernel: plain(x, kernel, pads), x, kernel)
    dy = jnp.asarray(rng.normal(size=y.shape), jnp.float32)
    for got, exact in zip((y, *vjp(dy)), (want, *want_vjp(dy)), strict=True):
        np.testing.assert_allclose(got, exact, rtol=0, atol=2e-5 * np.abs(exact).max())
    assert len(calls) == 2  # the value and the gradient with respect to x


@pytest.mark.parametrize(
    ("shape", "kernel", "stride", "padding", "precision"),
    [
        ((2, 8, 8, 31), (3, 3, 31, 64), 1, "SAME", None),  # transforms outweigh the products
        ((2, 5, 5, 64), (3, 3, 64, 64), 1, "SAME", None),  # 25 of the tiles' 64 pixels
        ((2, 8, 8, 64), (3, 3, 64, 64), 2, "SAME", None),
        ((2, 8, 8, 64), (5, 5, 64, 64), 1, "SAME", None),
        ((2, 6, 6, 64), (3, 3, 64, 64), 1, ((3, 3), (1, 1)), None),  # padding that a gradient would have to undo
        ((2, 8, 8, 64), (3, 3, 64, 64), 1, "SAME", lax.Precision.HIGHEST),
    ],
)
def test_it_is_not_used_where_it_does_not_pay(shape, kernel, stride, padding, precision, monkeypatch):
    monkeypatch.setattr(winograd, "convolve", None)
    monkeypatch.setattr(winograd, "kernel_gradient", None)
    monkeypatch.setattr(convolution, "_WINOGRAD_PAYS", True)
    convolution.convolve.clear_cache()
    x, kernel = jnp.ones(shape), jnp.ones(kernel)
    y, vjp = jax.vjp(
        lambda *a: convolution.conv_general_dilated(*a, (stride, stride), padding, precision=precision), x, kernel
    )
    vjp(y)
