"""The edge half: an image becomes a small latent grid.

    image [B, H, W, C] -> pad to whole cells -> stem convolution -> residual stages -> convolution -> y [B, h, w, c]

One class covers the family:

* "residual": overlapping stem (optionally max-pooled), then residual stages. With `as_published`, a 7x7 stem, a pool
  and 32 or 128 channels it is AE-V3 or AE-V4 of Chamain, Qi and Ding (2022), layer by layer: every convolution has a
  bias, shortcuts leave out norm and ReLU, and the last norm makes the latent (configs/paper).
* "patchify": the stem's kernel equals its stride, so the image is cut into cells and nearly all arithmetic happens on
  the latent grid (as in Duan et al., "Efficient feature compression for edge-cloud systems", 2022). For the leanest
  devices.

With `separable_kernel` the stages are of separable blocks, which do more with a parameter than dense 3x3 ones.
"""

from math import prod
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from vae_jcc.models.layers import ResidualStages, Stages, conv, max_pool
from vae_jcc.models.norm import BatchNorm


class Encoder(nn.Module):
    """Maps images float32 [B, H, W, C] in [0, 1] to y float32 [B, ceil(H/stride), ceil(W/stride), latent_channels]."""

    latent_channels: int
    stem_features: int
    stem_kernel: int
    stem_stride: int
    stem_pool: bool
    stages: Stages
    latent_kernel: int = 1
    conv_bias: bool = False
    as_published: bool = False
    separable_kernel: int = 0
    expansion: int = 2
    dtype: Any = jnp.float32
    axis_name: str | None = None
    remat: bool = False

    @property
    def stride(self) -> int:
        """Side of one latent cell in pixels."""
        return self.stem_stride * (2 if self.stem_pool else 1) * prod(stage[2] for stage in self.stages)

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
        """Encodes; an image that is not a whole number of cells is padded at the bottom and right by its edge."""
        height, width = images.shape[1:3]
        pad_h, pad_w = -height % self.stride, -width % self.stride
        if pad_h or pad_w:
            images = jnp.pad(images, ((0, 0), (0, pad_h), (0, pad_w), (0, 0)), mode="edge")
        # Pixels of natural images have a standard deviation near 0.25 around mid-grey.
        x = ((images - 0.5) * 4.0).astype(self.dtype)
        stem = conv(
            self.stem_features,
            self.stem_kernel,
            self.stem_stride,
            dtype=self.dtype,
            name="stem",
            bias=self.as_published,
        )
        x = stem(x)
        if self.stem_pool:
            x = max_pool(x)
        norm_at_the_end = self.as_published and self.latent_kernel > 0
        x = ResidualStages(
            self.stages,
            self.dtype,
            self.axis_name,
            self.conv_bias,
            final_norm=not norm_at_the_end,
            final_relu=self.latent_kernel > 0 and not norm_at_the_end,
            as_published=self.as_published,
            separable_kernel=self.separable_kernel,
            expansion=self.expansion,
            remat=self.remat,
            out_dtype=None if self.latent_kernel else jnp.float32,
            name="stages",
        )(x, train)
        # The layer that makes the latent computes in float32: bfloat16 has steps of 1/16 symbol at 8 symbols.
        if self.latent_kernel:
            x = conv(self.latent_channels, self.latent_kernel, dtype=jnp.float32, name="latent", bias=True)(x)
        if norm_at_the_end:
            x = BatchNorm(train, axis_name=self.axis_name, name="norm")(x)
        return x.astype(jnp.float32)
