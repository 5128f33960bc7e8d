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
    dead_zone: Any = 0.0  # of encoding alone: what symbols stand for stays the same

    def with_dead_zone(self, width: float) -> "Rounding":
        """Returns a quantizer that prefers small symbols: fewer bytes from the same model, for any receiver of it.

        Args:
            width: what the bin of symbol 0 grows by at either end, in steps of the quantizer, from 0; see
                `rounding.quantize`.

        Raises:
            ValueError: the width is negative or not finite.
        """
        if not 0.0 <= width < float("inf"):
            raise ValueError(f"A dead zone of {width} cannot be: give 0 for plain rounding, or a little more.")
        return self._replace(dead_zone=width)

    def quantize(self, y: jax.Array) -> jax.Array:
        """Returns the symbols int32 [..., c] of latents float32 [..., c]."""
        return rounding.quantize(y, self.offset, self.dead_zone)

    def dequantize(self, symbols: jax.Array) -> jax.Array:
        """Returns y_hat float32 [..., c] of symbols int32 [..., c]."""
        return rounding.dequantize(symbols, self.offset)


class Centres(NamedTuple):
    """Symbol s stands for values[s], in every channel."""

    values: Any  # float32 [L]

    def with_dead_zone(self, width: float) -> "Centres":
        """Returns itself for 0.

        Raises:
            ValueError: any other width: learned centres have no symbol that stands for nothing.
        """
        if width:
            raise ValueError("This model has learned centres, so there is no dead zone around zero: leave it at 0.")
        return self

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
