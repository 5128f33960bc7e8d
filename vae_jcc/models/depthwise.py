"""Depthwise convolution: every channel is filtered by a kernel of its own (Howard et al. 2017, "MobileNets").

    out[b, y, x, c] = sum_{i, j} K[i, j, c] * in[b, s y + i - pad, s x + j - pad, c]

It is written as this sum of shifted products, which the compiler fuses into one pass over memory; XLA's own grouped
convolution takes many times as long on CPUs, and so does its kernel gradient on GPUs.
"""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax


@partial(jax.jit, static_argnums=2)
def depthwise_conv(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """Returns [B, ceil(H/stride), ceil(W/stride), C] of x [B, H, W, C] and kernel [k, k, C], "same" padding.

    Products and their sum are float32; the result has the type of x. `benchmark.cost` counts it by its name.
    """
    side = kernel.shape[0]
    pads = lax.padtype_to_pads(x.shape[1:3], (side, side), (stride, stride), "SAME")
    rows, columns = (-(-n // stride) for n in x.shape[1:3])
    padded = jnp.pad(x, ((0, 0), *pads, (0, 0)))
    total: jax.Array | float = 0.0
    for i in range(side):
        for j in range(side):
            ends = (i + stride * (rows - 1) + 1, j + stride * (columns - 1) + 1)
            window = padded[:, i : ends[0] : stride, j : ends[1] : stride]
            total = total + window.astype(jnp.float32) * kernel[i, j].astype(jnp.float32)
    return jnp.asarray(total).astype(x.dtype)


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
