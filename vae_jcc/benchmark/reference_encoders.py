"""ResNet-18 and ResNet-34 (He et al. 2016, "Deep residual learning"): what a device runs that classifies by itself.

image [B, H, W, C] -> stem (7x7, stride 2, max-pool; or 3x3) -> 4 stages of basic blocks -> mean -> dense -> logits

They stand beside our encoders in the same framework, so that a comparison is of networks and not of libraries. At 1000
classes and 3 channels they have the published 11,689,512 and 21,797,672 parameters.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from vae_jcc.models.convolution import conv_general_dilated

BLOCKS = {"resnet18": (2, 2, 2, 2), "resnet34": (3, 4, 6, 3)}
_FEATURES = (64, 128, 256, 512)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with normalisation after each: [B, H, W, C] to [B, ceil(H/s), ceil(W/s), features]."""

    features: int
    stride: int = 1

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Applies the block; where the shape changes, the shortcut is a 1x1 convolution."""
        h = nn.relu(_norm("norm1")(_conv(self.features, 3, self.stride, "conv1")(x)))
        h = _norm("norm2")(_conv(self.features, 3, 1, "conv2")(h))
        if self.stride != 1 or x.shape[-1] != self.features:
            x = _norm("shortcut_norm")(_conv(self.features, 1, self.stride, "shortcut")(x))
        return nn.relu(h + x)


class ResNet(nn.Module):
    """Maps images float32 [B, H, W, C] in [0, 1] to logits float32 [B, num_classes], with running statistics.

    Attributes:
        blocks: in each of the four stages.
        num_classes: of the logits.
        small_images: a 3x3 stem without stride and pool, as is usual for CIFAR's 32x32 pixels, of which the published
            stem leaves a single cell.
    """

    blocks: tuple[int, ...]
    num_classes: int = 1000
    small_images: bool = False

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        """Classifies."""
        x = (images - 0.5) * 4.0
        if self.small_images:
            x = nn.relu(_norm("stem_norm")(_conv(64, 3, 1, "stem")(x)))
        else:
            x = nn.relu(_norm("stem_norm")(_conv(64, 7, 2, "stem")(x)))
            x = nn.max_pool(x, (3, 3), (2, 2), padding=((1, 1), (1, 1)))
        for i, (features, count) in enumerate(zip(_FEATURES, self.blocks, strict=True)):
            for j in range(count):
                x = BasicBlock(features, 2 if i > 0 and j == 0 else 1, name=f"stage{i}_block{j}")(x)
        return nn.Dense(self.num_classes, name="logits")(jnp.mean(x, axis=(1, 2)))


def _conv(features: int, kernel: int, stride: int, name: str) -> nn.Conv:
    pad = kernel // 2
    return nn.Conv(
        features,
        (kernel, kernel),
        strides=stride,
        padding=((pad, pad), (pad, pad)),
        use_bias=False,
        conv_general_dilated=conv_general_dilated,
        name=name,
    )


def _norm(name: str) -> nn.BatchNorm:
    return nn.BatchNorm(use_running_average=True, epsilon=1e-5, name=name)
