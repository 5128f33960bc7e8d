"""What symbols stand for, as one value: encoder, receiver and evaluation take it and need not know the kind.

Both kinds are named tuples of arrays, so compiled functions take them as arguments, like parameters.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from vae_jcc.quantization import rounding, soft_to_hard


class Rounding(NamedTuple):
    """Symbol s of channel k stands for s + offset[k]."""

    offset: Any  # float32 [c]

    def quantize(self, y: jax.Array) -> jax.Array:
        """Returns the symbols int32 [..., c] of latents float32 [..., c]."""
        return rounding.quantize(y, self.offset)

    def dequantize(self, symbols: jax.Array) -> jax.Array:
        """Returns y_hat float32 [..., c] of symbols int32 [..., c]."""
        return rounding.dequantize(symbols, self.offset)


class Centres(NamedTuple):
    """Symbol s stands for values[s], in every channel."""

    values: Any  # float32 [L]

    def quantize(self, y: jax.Array) -> jax.Array:
        """Returns the symbols int32 [..., c], 0..L-1, of latents float32 [..., c]."""
        return soft_to_hard.nearest(y, jnp.asarray(self.values))

    def dequantize(self, symbols: jax.Array) -> jax.Array:
        """Returns y_hat float32 [..., c] of symbols int32 [..., c].

        Coding tables have an escape code, so bytes that no encoder wrote can hold other symbols than 0..L-1: they stand
        for the first or the last centre.
        """
        return jnp.take(jnp.asarray(self.values), symbols, mode="clip")


Quantizer = Rounding | Centres
