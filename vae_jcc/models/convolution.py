"""Convolution that is also fast on a CPU; on every other device it is XLA's own.

On CPUs XLA computes the gradient with respect to the kernel as a convolution over transposed copies of the activations
and of their gradient, and bfloat16 convolutions no faster than float32 ones. Its matrix products are better: they keep
to the cache, and bfloat16 ones run on the matrix units that newer CPUs have (AMX). So here, with the columns of each
window laid side by side,

    X'[b, h, w, (j, ci)]  =  X[b, h, s w + j, ci]
    Y[b, h, w, co]        =  sum_i  sum_{(j, ci)} X'[b, s h + i, w, (j, ci)] K[i, (j, ci), co]     bfloat16
    dK[i, co, (j, ci)]    =  sum_{b, h, w} dY[b, h, w, co] X'[b, s h + i, w, (j, ci)]              any type

are matrix products, of as many images at a time as stay in the cache (in float32, where windows are few or have few
channels, dK is one product of dY and whole windows). The gradient with respect to X is a convolution
of dY with the kernel turned around, or with a part of it for each place between two strides. Threads that share a
product need larger ones, and sums over images are then made in another order: on CPUs gradients depend in their last
bits on the number of cores.

An image that is smaller than the kernel makes XLA fall back to plain loops, some ten times as slow
(benchmarks/small_images.py), unless its padding comes before the convolution. So it does here, in inference too.

Training in float32, and a teacher, make 3x3 convolutions of stride 1 with fewer multiplications (models/winograd.py).
Inference does not: a single image would wait longer, and bytes would depend on how many images are coded at a time.
"""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from vae_jcc.models import parts, winograd

_NHWC = ("NHWC", "HWIO", "NHWC")


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
    return convolve(lhs, rhs, strides, tuple((int(a), int(b)) for a, b in padding), precision)


Pads = winograd.Pads
# Older ones multiply matrices too slowly for it to gain: what is left is a longer compilation.
_WINOGRAD_PAYS = jax.__version_info__ >= (0, 12)


@partial(jax.jit, static_argnums=(2, 3, 4))
def convolve(x: jax.Array, kernel: jax.Array, strides: tuple[int, ...], pads: Pads, precision: Any) -> jax.Array:
    """`conv_general_dilated` with explicit padding; `benchmark.cost` counts it by its name."""
    return _convolve(x, kernel, strides, pads, precision)


def _xla(strides: tuple[int, ...], pads: Pads, precision: Any) -> Any:
    """Returns XLA's own convolution, a function of (activations, kernel)."""
    return partial(
        lax.conv_general_dilated,
        window_strides=strides,
        padding=pads,
        dimension_numbers=_NHWC,
        precision=precision,
    )


@partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _convolve(x: jax.Array, kernel: jax.Array, strides: tuple[int, ...], pads: Pads, precision: Any) -> jax.Array:
    by_xla = _xla(strides, pads, precision)
    if x.dtype != jnp.bfloat16 and not _is_narrower(x, kernel):
        return by_xla(x, kernel)
    return lax.platform_dependent(x, kernel, cpu=partial(_on_cpu, strides, pads, precision), default=by_xla)


def _on_cpu(strides: tuple[int, ...], pads: Pads, precision: Any, x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Returns Y [B, H', W', Co] of x [B, H, W, Ci] and kernel [kh, kw, Ci, Co], where XLA's own convolution is slow."""
    if x.dtype == jnp.bfloat16:
        return _by_products(strides, pads, x, kernel)
    x = lax.pad(x, jnp.zeros((), x.dtype), [(low, high, 0) for low, high in ((0, 0), *pads, (0, 0))])
    # The barrier: else XLA makes it the convolution's own padding again.
    return _xla(strides, ((0, 0), (0, 0)), precision)(lax.optimization_barrier(x), kernel)


def _is_narrower(x: jax.Array, kernel: jax.Array) -> bool:
    """Returns whether x [B, H, W, C] has fewer rows or columns than the kernel [kh, kw, ...], not counting padding."""
    return x.shape[1] < kernel.shape[0] or x.shape[2] < kernel.shape[1]


def _forward(x: jax.Array, kernel: jax.Array, strides: tuple[int, ...], pads: Pads, precision: Any) -> Any:
    if _suits_winograd(x, kernel, strides, pads, precision):
        by_winograd = partial(winograd.convolve, pads=pads)
        y = lax.platform_dependent(x, kernel, cpu=by_winograd, default=_xla(strides, pads, precision))
    else:
        y = _convolve(x, kernel, strides, pads, precision)
    return y, (x, kernel)


def _backward(strides: tuple[int, ...], pads: Pads, precision: Any, saved: Any, dy: jax.Array) -> Any:
    x, kernel = saved
    conv = _xla(strides, pads, precision)

    def dx_by_xla(kernel: jax.Array, dy: jax.Array) -> jax.Array:
        return jax.linear_transpose(lambda x: conv(x, kernel), x)(dy)[0]

    def dk_by_xla(x: jax.Array, dy: jax.Array) -> jax.Array:
        return jax.linear_transpose(lambda kernel: conv(x, kernel), kernel)(dy)[0]

    dx_on_cpu: Any = dx_by_xla
    dk_on_cpu: Any = partial(_kernel_gradient, kernel.shape, strides, pads, precision)
    if x.dtype == jnp.bfloat16 or _is_narrower(dy, kernel):
        dx_on_cpu = partial(_input_gradient, x.shape[1:3], strides, pads, precision)
    if x.dtype != jnp.bfloat16 and (strides[0] > 1 or x.shape[3] < 32):  # few or small windows are cheap to copy
        dk_on_cpu = partial(_kernel_gradient_by_windows, kernel.shape, strides, pads, precision)
    elif _suits_winograd(x, kernel, strides, pads, precision):
        dx_on_cpu = partial(_input_gradient_by_winograd, pads)
        dk_on_cpu = partial(winograd.kernel_gradient, pads=pads)
    return (
        lax.platform_dependent(kernel, dy, cpu=dx_on_cpu, default=dx_by_xla),
        lax.platform_dependent(x, dy, cpu=dk_on_cpu, default=dk_by_xla),
    )


_convolve.defvjp(_forward, _backward)


def _suits_winograd(x: jax.Array, kernel: jax.Array, strides: tuple[int, ...], pads: Pads, precision: Any) -> bool:
    """Returns whether the fewer multiplications of `winograd` outweigh its transforms, as measured."""
    plain = kernel.shape[:2] == (3, 3) and strides == (1, 1) and max(map(max, pads)) <= 2
    in_float32 = x.dtype == jnp.float32 and precision in (None, lax.Precision.DEFAULT)
    large = min(kernel.shape[2:]) >= 32 and winograd.filled(x, pads) >= 0.75
    return _WINOGRAD_PAYS and plain and in_float32 and large


def _input_gradient_by_winograd(pads: Pads, kernel: jax.Array, dy: jax.Array) -> jax.Array:
    """Returns dX [B, H, W, Ci] from kernel [3, 3, Ci, Co] and dy [B, H', W', Co]."""
    edges = tuple((2 - low, 2 - high) for low, high in pads)
    return winograd.convolve(dy, kernel[::-1, ::-1].swapaxes(2, 3), edges)


def _by_products(strides: tuple[int, ...], pads: Pads, x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Returns Y [B, H', W', Co] of x [B, H, W, Ci] and kernel [kh, kw, Ci, Co], in the type of x."""
    kh, kw, c_in, c_out = kernel.shape
    height, width = (n + sum(pad) for n, pad in zip(x.shape[1:3], pads, strict=True))
    rows, columns = (height - kh) // strides[0] + 1, (width - kw) // strides[1] + 1
    matrices = kernel.reshape(kh, kw * c_in, c_out)

    def part(x: jax.Array) -> jax.Array:
        x = lax.pad(x, jnp.zeros((), x.dtype), [(low, high, 0) for low, high in ((0, 0), *pads, (0, 0))])
        x = _side_by_side(x, kw, columns, strides[1])

        def of_kernel_row(i: int) -> jax.Array:
            used = slice(i, i + strides[0] * (rows - 1) + 1, strides[0])
            if strides[0] == 1:  # cheaper to multiply the few unused rows than to copy the used ones
                return _multiply(x, matrices[i])[:, used]
            return _multiply(x[:, used], matrices[i])

        return sum((of_kernel_row(i) for i in range(1, kh)), of_kernel_row(0)).astype(x.dtype)

    # The matrices stay in the cache from part to part, and pay for themselves from some number of rows on.
    image_bytes = height * columns * (x.dtype.itemsize * kw * c_in + 4 * kh * c_out)
    return parts.each(part, x, image_bytes, matrices.nbytes)


def _input_gradient(
    size: tuple[int, ...], strides: tuple[int, ...], pads: Pads, precision: Any, kernel: jax.Array, dy: jax.Array
) -> jax.Array:
    """Returns dX [B, *size, Ci] from kernel [kh, kw, Ci, Co] and dy [B, H', W', Co].

    Rows and columns of X that leave the same rest when divided by the stride see the same part of the kernel: a
    convolution of stride 1 makes them, and nothing is multiplied by zeros.
    """
    counts = tuple(-(-n // s) for n, s in zip(size, strides, strict=True))

    def with_rests(*rests: int) -> jax.Array:
        """Returns [B, ceil(H / s), ceil(W / s), Ci], which may reach beyond the end of X."""
        first = [(rest + low) % s for rest, s, (low, _) in zip(rests, strides, pads, strict=True)]
        part = kernel[first[0] :: strides[0], first[1] :: strides[1]]
        if not part.size:
            return jnp.zeros((dy.shape[0], *counts, kernel.shape[2]), dy.dtype)
        edges = []
        for axis, (low, _) in enumerate(pads):
            met = (rests[axis] + low) // strides[axis]  # row of dY that the part's row 0 is multiplied by for row 0
            edges.append((part.shape[axis] - 1 - met, counts[axis] - dy.shape[1 + axis] + met))
        return _on_cpu((1, 1), tuple(edges), precision, dy, part[::-1, ::-1].swapaxes(2, 3))

    # The barrier: else each number of the stack would be picked out of the parts one by one.
    made = lax.optimization_barrier([with_rests(*rests) for rests in np.ndindex(*strides)])
    dx = jnp.stack(made).reshape(*strides, dy.shape[0], *counts, -1).transpose(2, 3, 0, 4, 1, 5)
    dx = dx.reshape(dy.shape[0], *(n * s for n, s in zip(counts, strides, strict=True)), -1)
    return dx[:, : size[0], : size[1]]


def _kernel_gradient(
    shape: tuple[int, ...], strides: tuple[int, ...], pads: Pads, precision: Any, x: jax.Array, dy: jax.Array
) -> jax.Array:
    """Returns dK [kh, kw, Ci, Co] from x [B, H, W, Ci] and dy [B, H', W', Co], in the type of x."""
    kh, kw, c_in, c_out = shape
    height, rows, columns = x.shape[1], *dy.shape[1:3]

    def part(x: jax.Array, dy: jax.Array) -> jax.Array:
        """Returns [(i, co), (j, ci)]: one product, of dY once for each row of the kernel, moved to the rows of x."""
        x = _side_by_side(jnp.pad(x, ((0, 0), (0, 0), pads[1], (0, 0))), kw, columns, strides[1])
        dy = _transpose(dy.reshape(-1, c_out)).reshape(c_out, -1, rows, columns)

        def for_kernel_row(i: int) -> jax.Array:
            low = i - pads[0][0]
            edges = (low, height - strides[0] * (rows - 1) - 1 - low, strides[0] - 1)
            return lax.pad(dy, jnp.zeros((), dy.dtype), ((0, 0, 0), (0, 0, 0), edges, (0, 0, 0)))

        moved = jnp.concatenate([for_kernel_row(i) for i in range(kh)]).reshape(kh * c_out, -1)
        return _multiply(moved, x.reshape(-1, kw * c_in), precision)

    image_bytes = height * columns * x.dtype.itemsize * (kw * c_in + kh * c_out)
    total = parts.total(part, (x, dy), image_bytes)
    return total.reshape(kh, c_out, kw, c_in).transpose(0, 2, 3, 1).astype(x.dtype)


def _kernel_gradient_by_windows(
    shape: tuple[int, ...], strides: tuple[int, ...], pads: Pads, precision: Any, x: jax.Array, dy: jax.Array
) -> jax.Array:
    """`_kernel_gradient` as one product of dY and whole windows of x."""
    kh, kw, c_in, c_out = shape
    rows, columns = dy.shape[1:3]

    def part(x: jax.Array, dy: jax.Array) -> jax.Array:
        """Returns [co, (i, j, ci)]."""
        x = jnp.pad(x, ((0, 0), *pads, (0, 0)))
        reach = (strides[0] * (rows - 1) + 1, strides[1] * (columns - 1) + 1)
        windows = [x[:, i : i + reach[0] : strides[0], j : j + reach[1] : strides[1]] for i, j in np.ndindex(kh, kw)]
        windows = lax.optimization_barrier(jnp.concatenate(windows, axis=3)).reshape(-1, kh * kw * c_in)
        return lax.dot_general(dy.reshape(-1, c_out), windows, (((0,), (0,)), ((), ())), precision=precision)

    sum_bytes = x.dtype.itemsize * math.prod(shape)
    image_bytes = rows * columns * x.dtype.itemsize * kh * kw * c_in
    # Smaller parts than others': the windows are written and read once. A large sum is added to less often.
    total = parts.total(part, (x, dy), 4 * image_bytes, sum_bytes)
    return total.reshape(c_out, kh, kw, c_in).transpose(1, 2, 3, 0)


def _side_by_side(x: jax.Array, side: int, columns: int, stride: int) -> jax.Array:
    """Returns X' [B, H, columns, side * C] of x [B, H, W, C]."""
    windows = [x[:, :, j : j + stride * (columns - 1) + 1 : stride] for j in range(side)]
    # The barrier keeps the copy from being made anew for every product that reads it.
    return lax.optimization_barrier(jnp.concatenate(windows, axis=3))


def _multiply(a: jax.Array, b: jax.Array, precision: Any = None) -> jax.Array:
    """Returns the float32 product [..., n] of a [..., m] and b [m, n]."""
    contracted = (((a.ndim - 1,), (0,)), ((), ()))
    return lax.dot_general(a, b, contracted, precision=precision, preferred_element_type=jnp.float32)


def _transpose(x: jax.Array) -> jax.Array:
    """Returns x [m, n] as [n, m], by way of integers.

    Else the compiler merges the transpose into the product that uses it, which is then several times slower.
    """
    integers = jnp.dtype(f"uint{8 * x.dtype.itemsize}")
    return lax.bitcast_convert_type(lax.bitcast_convert_type(x, integers).T, x.dtype)
