"""The receiver's classifier: it names what the camera saw from the decoded latent, without rebuilding the picture.

y_hat [B, h, w, c] -> 3x3 convolution -> residual stages -> mean over the grid -> dense -> logits [B, K]
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from vae_jcc.models.layers import ResidualStages, Stages, conv


class Classifier(nn.Module):
    """Maps y_hat float32 [B, h, w, c] to logits float32 [B, num_classes]; any h and w.

    With `as_published` it has the biases and shortcuts of Chamain, Qi and Ding (2022).
    """

    num_classes: int
    stages: Stages
    stem_kernel: int = 3
    as_published: bool = False
    dtype: Any = jnp.float32
    axis_name: str | None = None
    remat: bool = False

    @nn.compact
    def __call__(self, y_hat: jax.Array, train: bool = False) -> jax.Array:
        """Classifies."""
        stem = conv(self.stages[0][0], self.stem_kernel, dtype=self.dtype, name="stem", bias=self.as_published)
        x = stem(y_hat.astype(self.dtype))
        stages = ResidualStages(
            self.stages,
            self.dtype,
            self.axis_name,
            as_published=self.as_published,
            remat=self.remat,
            name="stages",
        )
        x = stages(x, train)
        if self.dtype == jnp.bfloat16:
            # Else XLA's CPU compiler (jaxlib 0.11.2) merges the mean into the bfloat16 stages, and returns NaN.
            x = jax.lax.optimization_barrier(x)
        x = jnp.mean(x.astype(jnp.float32), axis=(1, 2))
        return nn.Dense(self.num_classes, name="logits")(x)
