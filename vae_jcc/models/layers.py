"""Convolution, normalisation and the residual blocks that encoder and classifier are built of."""

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from vae_jcc.models.convolution import conv_general_dilated
from vae_jcc.models.depthwise import DepthwiseConv
from vae_jcc.models.norm import BatchNorm

Stages = tuple[tuple[int, int, int], ...]


def conv(features: int, kernel: int, stride: int = 1, *, dtype: Any, name: str, bias: bool = False) -> nn.Conv:
    """Returns a square convolution, "same" padding, He-initialised: [B, H, W, C] to [B, ceil(H/s), ceil(W/s), F]."""
    return nn.Conv(
        features,
        (kernel, kernel),
        strides=stride,
        padding="SAME",
        use_bias=bias,
        dtype=dtype,
        kernel_init=nn.initializers.he_normal(),
        conv_general_dilated=conv_general_dilated,
        name=name,
    )


def max_pool(x: jax.Array) -> jax.Array:
    """Returns the maximum of 3x3 windows, stride 2, "same" padding: [B, H, W, C] to [B, ceil(H/2), ceil(W/2), C].

    Along rows, then along columns, as elementwise maxima: on CPUs their gradient takes a quarter of the time of XLA's
    own pooling. Of equal values each gets its share of the gradient.
    """

    def along(axis: int, x: jax.Array) -> jax.Array:
        size = x.shape[axis]
        pads = lax.padtype_to_pads((size,), (3,), (2,), "SAME")
        edges = [(*pads[0], 0) if a == axis else (0, 0, 0) for a in range(x.ndim)]
        x = lax.pad(x, jnp.array(-jnp.inf, x.dtype), edges)
        used = 2 * (-(-size // 2) - 1) + 1
        first, second, third = (lax.slice_in_dim(x, i, i + used, 2, axis) for i in range(3))
        return jnp.maximum(jnp.maximum(first, second), third)

    return along(2, along(1, x.astype(jnp.float32))).astype(x.dtype)  # bfloat16 has no fast maximum on CPUs


class ResidualBlock(nn.Module):
    """Pre-activation residual block (He et al. 2016, "Identity mappings"), two 3x3 convolutions.

    Maps [B, H, W, C] to [B, ceil(H/stride), ceil(W/stride), features]. Where the shape changes, the shortcut is a 1x1
    convolution of the activated input; with `as_published`, as in Chamain, Qi and Ding (2022), it is one of the input
    itself, and every convolution has a bias.
    """

    features: int
    stride: int = 1
    dtype: Any = jnp.float32
    axis_name: str | None = None
    conv_bias: bool = False
    as_published: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Applies the block."""
        bias = self.conv_bias or self.as_published
        norm_relu = partial(BatchNorm, train, relu=True, dtype=self.dtype, axis_name=self.axis_name)
        same_shape = self.stride == 1 and x.shape[-1] == self.features
        h = norm_relu(name="norm1")(x)
        shortcut = x
        if not same_shape:
            projection = conv(self.features, 1, self.stride, dtype=self.dtype, name="shortcut", bias=self.as_published)
            shortcut = projection(x if self.as_published else h)
        h = conv(self.features, 3, self.stride, dtype=self.dtype, name="conv1", bias=bias)(h)
        h = norm_relu(name="norm2")(h)
        h = conv(self.features, 3, dtype=self.dtype, name="conv2", bias=bias)(h)
        return h + shortcut


class SeparableBlock(nn.Module):
    """Residual block of a depthwise convolution, which mixes positions, and two 1x1 ones, which mix channels.

    Maps [B, H, W, C] to [B, ceil(H/stride), ceil(W/stride), features]. It is the block of Liu et al. 2022 ("A ConvNet
    for the 2020s") with ReLU, and with batch normalisation, which folds into the convolution before it. Where
    the shape changes, the shortcut is a 1x1 convolution of the input.
    """

    features: int
    stride: int
    kernel: int  # side of the depthwise filters
    expansion: int  # channels between the two 1x1 convolutions, over features
    dtype: Any = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Applies the block."""
        shortcut = x
        if self.stride != 1 or x.shape[-1] != self.features:
            shortcut = conv(self.features, 1, self.stride, dtype=self.dtype, name="shortcut")(x)
        h = DepthwiseConv(self.kernel, self.stride, name="depthwise")(x)
        h = BatchNorm(train, dtype=self.dtype, axis_name=self.axis_name, name="norm")(h)
        h = nn.relu(conv(self.expansion * self.features, 1, dtype=self.dtype, name="conv1")(h))
        return conv(self.features, 1, dtype=self.dtype, name="conv2")(h) + shortcut


class ResidualStages(nn.Module):
    """Residual blocks in stages of (channels, blocks, stride of the first block), closed by norm and ReLU (optional).

    Maps [B, H, W, C] to [B, ceil(H/s), ceil(W/s), F] with s the product of the strides. With `separable_kernel` they
    are separable blocks. With `remat` the backward pass runs each block again and needs its input alone; `out_dtype` is
    the closing norm's, where it is not `dtype`.
    """

    stages: Stages
    dtype: Any = jnp.float32
    axis_name: str | None = None
    conv_bias: bool = False
    final_norm: bool = True
    final_relu: bool = True
    as_published: bool = False
    separable_kernel: int = 0
    expansion: int = 2
    remat: bool = False
    out_dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Applies the stages."""
        for i, (features, blocks, stride) in enumerate(self.stages):
            for j in range(blocks):
                x = self._block(features, stride if j == 0 else 1, f"stage{i}_block{j}")(x, train)
        if self.final_norm:
            dtype = self.out_dtype or self.dtype
            return BatchNorm(train, self.final_relu, dtype, self.axis_name, name="norm")(x)
        return nn.relu(x) if self.final_relu else x

    def _block(self, features: int, stride: int, name: str) -> Any:
        """Returns the block of this name, in the stages' kind."""
        kind: Any = SeparableBlock if self.separable_kernel else ResidualBlock
        if self.remat:
            kind = nn.remat(kind, static_argnums=(2,))  # 2 is `train`
        if self.separable_kernel:
            sizes = (self.separable_kernel, self.expansion)
            return kind(features, stride, *sizes, self.dtype, self.axis_name, name=name)
        return kind(features, stride, self.dtype, self.axis_name, self.conv_bias, self.as_published, name=name)
