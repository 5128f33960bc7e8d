"""The receiver's classifier: it names what the camera saw from the decoded latent, without rebuilding the picture.

y_hat [B, h, w, c] -> 3x3 convolution -> residual stages -> mean over the grid -> dense -> logits [B, K]
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from vae_jcc.models.layers import ResidualStages, Stages, conv


class Classifier(nn.Module):
    """Maps y_hat float32 [B, h, w, c] to logits float32 [B, num_classes]; any h and w."""

    num_classes: int
    stages: Stages
    stem_kernel: int = 3
    dtype: Any = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(self, y_hat: jax.Array, train: bool = False) -> jax.Array:
        """Classifies."""
        x = conv(self.stages[0][0], self.stem_kernel, dtype=self.dtype, name="stem")(y_hat.astype(self.dtype))
        x = ResidualStages(self.stages, self.dtype, self.axis_name, name="stages")(x, train)
        x = jnp.mean(x.astype(jnp.float32), axis=(1, 2))
        return nn.Dense(self.num_classes, name="logits")(x)
