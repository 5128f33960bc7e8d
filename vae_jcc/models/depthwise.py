"""Depthwise convolution: every channel is filtered by a kernel of its own (Howard et al. 2017, "MobileNets").

    out[b, y, x, c] = sum_{i, j} K[i, j, c] * in[b, s y + i - pad, s x + j - pad, c]

It is written as this sum of shifted products, which the compiler fuses into one pass over memory; XLA's own grouped
convolution takes many times as long on CPUs. So is its gradient with respect to the input, the same sum with the kernel
turned around. The kernel's gradient is a sum over positions for each tap, on CPUs image by image, which stay in the
cache meanwhile.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax


@partial(jax.jit, static_argnums=2)
def depthwise_conv(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """Returns [B, ceil(H/stride), ceil(W/stride), C] of x [B, H, W, C] and kernel [k, k, C], "same" padding.

    Products and their sum are float32; the result has the type of x. `benchmark.cost` counts it by its name.
    """
    return _depthwise(x, kernel, stride)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _depthwise(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    size = -(-x.shape[1] // stride), -(-x.shape[2] // stride)
    return _filter(_pad(x, kernel.shape[0], stride), kernel, size, stride).astype(x.dtype)


def _forward(x: jax.Array, kernel: jax.Array, stride: int) -> Any:
    return _depthwise(x, kernel, stride), (x, kernel)


def _backward(stride: int, saved: Any, dy: jax.Array) -> Any:
    x, kernel = saved
    side, zero = kernel.shape[0], jnp.zeros((), dy.dtype)
    # dx[t] = sum_i K[i] dy[(t + pad - i) / stride]: spread dy out again, and slide the turned kernel over it.
    sizes = zip(x.shape[1:3], dy.shape[1:3], _same_pads(x, side, stride), strict=True)
    edges = [(side - 1 - low, n + low - stride * (m - 1) - 1, stride - 1) for n, m, (low, _) in sizes]
    spread = lax.pad(dy, zero, ((0, 0, 0), *edges, (0, 0, 0)))
    dx = _filter(spread, kernel[::-1, ::-1], x.shape[1:3], 1).astype(x.dtype)

    def at_once(padded: jax.Array, dy: jax.Array) -> jax.Array:
        taps = [jnp.sum(_float(w) * _float(dy), (0, 1, 2)) for w in _windows(padded, side, dy.shape[1:3], stride)]
        return jnp.stack(taps)

    def image_by_image(padded: jax.Array, dy: jax.Array) -> jax.Array:
        def add(total: jax.Array, pair: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
            return total + at_once(pair[0][None], pair[1][None]), None

        return lax.scan(add, jnp.zeros((side * side, x.shape[-1])), (padded, dy))[0]

    taps = lax.platform_dependent(_pad(x, side, stride), dy, cpu=image_by_image, default=at_once)
    return dx, taps.reshape(kernel.shape).astype(kernel.dtype)


_depthwise.defvjp(_forward, _backward)


def _same_pads(x: jax.Array, side: int, stride: int) -> Any:
    """Returns ((top, bottom), (left, right)) of "same" padding."""
    return lax.padtype_to_pads(x.shape[1:3], (side, side), (stride, stride), "SAME")


def _pad(x: jax.Array, side: int, stride: int) -> jax.Array:
    return jnp.pad(x, ((0, 0), *_same_pads(x, side, stride), (0, 0)))


def _windows(padded: jax.Array, side: int, size: tuple[int, ...], stride: int) -> Iterator[jax.Array]:
    """Yields what each tap of the kernel sees, [B, *size, C], tap by tap."""
    ends = [stride * (n - 1) + 1 for n in size]
    for i in range(side):
        for j in range(side):
            yield padded[:, i : i + ends[0] : stride, j : j + ends[1] : stride]


def _filter(padded: jax.Array, kernel: jax.Array, size: tuple[int, ...], stride: int) -> jax.Array:
    """Returns the sum of the windows, weighted by kernel [k, k, C], float32 [B, *size, C]."""
    taps = _float(kernel).reshape(-1, kernel.shape[-1])
    windows = _windows(padded, kernel.shape[0], size, stride)
    return sum((_float(w) * k for w, k in zip(windows, taps, strict=True)), jnp.zeros(()))


def _float(x: jax.Array) -> jax.Array:
    return x.astype(jnp.float32)


class DepthwiseConv(nn.Module):
    """`depthwise_conv` with a He-initialised kernel [side, side, C]."""

    side: int
    stride: int = 1

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Filters x [B, H, W, C]."""
        # One input channel a filter: the fan-in is the kernel's side squared.
        init = nn.initializers.variance_scaling(2.0, "fan_in", "truncated_normal", in_axis=(0, 1), out_axis=2)
        kernel = self.param("kernel", init, (self.side, self.side, x.shape[-1]))
        return depthwise_conv(x, kernel, self.stride)
