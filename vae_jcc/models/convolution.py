"""Convolution whose kernel gradient is also fast on a CPU; on every other device it is XLA's own.

XLA computes the gradient with respect to the kernel as a convolution over transposed copies of the activations and of
their gradient, which on CPUs takes 2-3 times as long as the forward pass. Here it is one matrix product over the
batch and all positions,

    dK[co, i, j, ci] = sum_{b, h, w} dY[b, h, w, co] * X[b, s h + i, s w + j, ci],

with the windows of X laid out side by side (im2col) for so many images at a time that they stay in the cache.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

_NHWC = ("NHWC", "HWIO", "NHWC")
_CACHE_BYTES = 6 * 2**20  # of windows at a time; measured best between 4 and 8 MiB on CPUs with 1-2 MiB of L2


def conv_general_dilated(
    lhs: jax.Array,
    rhs: jax.Array,
    window_strides: Sequence[int],
    padding: Any,
    lhs_dilation: Any = None,
    rhs_dilation: Any = None,
    dimension_numbers: Any = None,
    feature_group_count: int = 1,
    precision: Any = None,
) -> jax.Array:
    """`lax.conv_general_dilated` for the undilated, ungrouped NHWC case, in the form that `nn.Conv` calls.

    Args:
        lhs: activations [B, H, W, Ci].
        rhs: kernel [kh, kw, Ci, Co].
        window_strides: (rows, columns).
        padding: "SAME", "VALID" or ((top, bottom), (left, right)).
        lhs_dilation: 1 or None.
        rhs_dilation: 1 or None.
        dimension_numbers: those of NHWC activations and HWIO kernels; `nn.Conv` uses no others.
        feature_group_count: 1.
        precision: of the products.

    Returns:
        [B, H', W', Co].
    """
    assert feature_group_count == 1 and all(d == 1 for d in (*(lhs_dilation or ()), *(rhs_dilation or ())))
    strides = tuple(window_strides)
    if isinstance(padding, str):
        padding = lax.padtype_to_pads(lhs.shape[1:3], rhs.shape[:2], strides, padding)
    return _conv(lhs, rhs, strides, tuple((int(a), int(b)) for a, b in padding), precision)


Pads = tuple[tuple[int, int], ...]


@partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _conv(x: jax.Array, kernel: jax.Array, strides: tuple[int, ...], pads: Pads, precision: Any) -> jax.Array:
    return lax.conv_general_dilated(x, kernel, strides, pads, dimension_numbers=_NHWC, precision=precision)


def _forward(x: jax.Array, kernel: jax.Array, strides: tuple[int, ...], pads: Pads, precision: Any) -> Any:
    return _conv(x, kernel, strides, pads, precision), (x, kernel)


def _backward(strides: tuple[int, ...], pads: Pads, precision: Any, saved: Any, dy: jax.Array) -> Any:
    x, kernel = saved
    conv = partial(lax.conv_general_dilated, window_strides=strides, padding=pads, dimension_numbers=_NHWC)
    (dx,) = jax.linear_transpose(lambda x: conv(x, kernel, precision=precision), x)(dy)

    def by_convolution(x: jax.Array, dy: jax.Array) -> jax.Array:
        return jax.linear_transpose(lambda kernel: conv(x, kernel, precision=precision), kernel)(dy)[0]

    by_product = partial(_kernel_gradient, kernel.shape, strides, pads, precision)
    return dx, lax.platform_dependent(x, dy, cpu=by_product, default=by_convolution)


_conv.defvjp(_forward, _backward)


def _kernel_gradient(
    shape: tuple[int, ...], strides: tuple[int, ...], pads: Pads, precision: Any, x: jax.Array, dy: jax.Array
) -> jax.Array:
    """Returns dK [kh, kw, Ci, Co] from x [B, H, W, Ci] and dy [B, H', W', Co]."""
    kh, kw, c_in, c_out = shape
    batch, rows, columns = dy.shape[:3]

    def part(x: jax.Array, dy: jax.Array) -> jax.Array:  # [Co, kh * kw * Ci]
        x = jnp.pad(x, ((0, 0), *pads, (0, 0)))
        ends = (strides[0] * (rows - 1) + 1, strides[1] * (columns - 1) + 1)
        windows = [
            x[:, i : i + ends[0] : strides[0], j : j + ends[1] : strides[1]] for i in range(kh) for j in range(kw)
        ]
        side_by_side = jnp.concatenate(windows, axis=3).reshape(-1, kh * kw * c_in)
        # Contracting the first axes with the wider matrix on the right is the order that CPU kernels like best.
        contracted = (((0,), (0,)), ((), ()))
        return lax.dot_general(
            dy.reshape(-1, c_out), side_by_side, contracted, precision=precision, preferred_element_type=jnp.float32
        )

    images = max(1, _CACHE_BYTES // (rows * columns * kh * kw * c_in * x.dtype.itemsize))
    while batch % images:
        images -= 1
    # The batch is split so that its leading part stays the leading axis: sharded over devices, it remains so.
    x, dy = (a.reshape(images, batch // images, *a.shape[1:]) for a in (x, dy))

    def add(i: jax.Array | int, total: jax.Array) -> jax.Array:
        return total + part(*(lax.dynamic_index_in_dim(a, i, axis=1, keepdims=False) for a in (x, dy)))

    total = jnp.zeros((c_out, kh * kw * c_in), jnp.float32)
    total = add(0, total) if images == batch else lax.fori_loop(0, batch // images, add, total)
    return total.reshape(c_out, kh, kw, c_in).transpose(1, 2, 3, 0).astype(x.dtype)
