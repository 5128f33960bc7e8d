"""The optional picture: an image rebuilt from the same latent, for people who want to look.

    y_hat [B, h, w, c] -> 3x3 convolution -> residual blocks -> (convolution, depth to space) x log2(stride) -> image

Upsampling is sub-pixel (Shi et al. 2016): transposed convolutions are far slower to train on CPUs and leave
checkerboards.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from vae_jcc.models.layers import ResidualStages, conv


def depth_to_space(x: jax.Array, factor: int) -> jax.Array:
    """Rearranges [B, h, w, C * factor**2] to [B, h * factor, w * factor, C]."""
    b, h, w, c = x.shape
    x = x.reshape(b, h, w, factor, factor, c // factor**2)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(b, h * factor, w * factor, c // factor**2)


class Decoder(nn.Module):
    """Maps y_hat float32 [B, h, w, c] to images float32 [B, H, W, channels], near [0, 1] (clip before showing)."""

    channels: int
    stride: int
    features: int
    blocks: int
    dtype: Any = jnp.float32
    axis_name: str | None = None
    remat: bool = False

    @nn.compact
    def __call__(self, y_hat: jax.Array, size: tuple[int, int], train: bool = False) -> jax.Array:
        """Reconstructs at `size` = (H, W); what padding added inside the encoder is cropped off again."""
        x = conv(self.features, 3, dtype=self.dtype, name="stem")(y_hat.astype(self.dtype))
        stages = ((self.features, self.blocks, 1),)
        x = ResidualStages(stages, self.dtype, self.axis_name, remat=self.remat, name="stages")(x, train)
        scale, features = self.stride, self.features
        while scale > 1:
            factor = 2 if scale % 2 == 0 else scale
            features = max(features // 2, 16)
            x = conv(features * factor**2, 3, dtype=self.dtype, name=f"up{scale}", bias=True)(x)
            x = nn.relu(depth_to_space(x, factor))
            scale //= factor
        # In float32: bfloat16 has steps of half a grey level and more.
        x = conv(self.channels, 3, dtype=jnp.float32, name="pixels", bias=True)(x)
        return 0.5 + 0.25 * x[:, : size[0], : size[1]]
