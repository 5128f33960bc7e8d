"""The serial context model: each symbol's distribution from the symbols that were coded before it.

The "probability estimator" of Chamain, Qi and Ding (2022), taken from Mentzer et al., "Conditional probability models
for deep image compression" (CVPR 2018, section 3.3): masked 3-D convolutions over the latent as a volume of depth c.
Symbols are coded plane by plane (channel by channel), each in raster order; a kernel of 2 x 3 x 3 sees the plane before
whole and its own plane up to the current place (the first layer without it).

    values [B, h, w, c] -> volume [B, c, h, w, 1] -> first masked convolution -> residual block(s) -> masked convolution
                                                              -> + base[c, slots] -> base-2 logits [B, h, w, c, slots]

With `fixed=True` the pass is the integer arithmetic of fixed_point.py; only that form may decide what is decoded.
"""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from vae_jcc.entropy import fixed_point

Layer = dict[str, jax.Array]  # "kernel" [2, 3, 3, in, out], "bias" [out]
MOST_BITS = 24.0  # of a symbol in training: rarer ones are escaped
LOG2_IMPOSSIBLE = -1e6  # base logit, in bits, of a slot that a channel does not have


def kernel_mask(first: bool) -> np.ndarray:
    """Returns float32 [2, 3, 3, 1, 1]: 1 where a kernel may look, in the plane before (0) and its own (1)."""
    mask = np.ones((2, 3, 3, 1, 1), np.float32)
    mask[1, 1, 1 if first else 2 :] = 0.0
    mask[1, 2] = 0.0
    return mask


def masked_convolution(volume: jax.Array, layer: Layer, *, first: bool, fixed: bool) -> jax.Array:
    """Returns the masked 2x3x3 convolution of float32 [B, c, h, w, in] as [B, c, h, w, out]; zeros lie outside.

    Depth has two taps only, so it is a 2-D convolution of each plane stacked on the one before.
    """
    kernel, bias = layer["kernel"], layer["bias"]
    if fixed:
        kernel, bias = fixed_point.weight(kernel), fixed_point.bias(bias)
    kernel = kernel * kernel_mask(first)
    before = jnp.pad(volume[:, :-1], ((0, 0), (1, 0), (0, 0), (0, 0), (0, 0)))
    stacked = jnp.concatenate([before, volume], axis=-1)
    batch, depth, height, width, features = stacked.shape
    out = jax.lax.conv_general_dilated(
        stacked.reshape(batch * depth, height, width, features),
        jnp.concatenate([kernel[0], kernel[1]], axis=2),
        (1, 1),
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    return out.reshape(batch, depth, height, width, -1) + bias


def network_logits(layers: Sequence[Layer], values: jax.Array, *, fixed: bool) -> jax.Array:
    """Returns base-2 logits float32 [B, h, w, c, slots] of values float32 [B, h, w, c], before the base is added.

    Args:
        layers: first, two for each residual block, last.
        values: what stands for the symbols; the logits at a place depend on earlier places only.
        fixed: integer arithmetic (values have to be multiples of 1/16, of magnitude up to 255/16).
    """
    activate = fixed_point.activation if fixed else nn.relu
    volume = jnp.moveaxis(values, 3, 1)[..., None]
    x = activate(masked_convolution(volume, layers[0], first=True, fixed=fixed))
    for inner, outer in zip(layers[1:-1:2], layers[2:-1:2], strict=True):
        h = activate(masked_convolution(x, inner, first=False, fixed=fixed))
        x = activate(x + masked_convolution(h, outer, first=False, fixed=fixed))
    out = masked_convolution(x, layers[-1], first=False, fixed=fixed)
    return jnp.moveaxis(fixed_point.logit(out) if fixed else out, 1, 3)


def slot_bits(logits: jax.Array, slots: jax.Array) -> jax.Array:
    """Returns the bits of slots int32 [...] under base-2 logits [..., slots]: -log2 of their softmax."""
    log2_sum = jax.nn.logsumexp(logits * jnp.log(2.0), axis=-1) / jnp.log(2.0)
    return log2_sum - jnp.take_along_axis(logits, slots[..., None], axis=-1)[..., 0]


def straight_through_bits(logits: jax.Array, places: jax.Array) -> jax.Array:
    """Returns `slot_bits` of the slots that places float32 [...] round to, under base-2 logits [..., slots].

    Their gradient by the places is that of the expected bits of places with uniform noise of width 1, the bits between
    two slots being linear.
    """
    lengths = jax.nn.logsumexp(logits * jnp.log(2.0), axis=-1, keepdims=True) / jnp.log(2.0) - logits
    lengths = jnp.minimum(lengths, MOST_BITS)

    def at(places: jax.Array) -> jax.Array:
        distances = jnp.clip(places, 0, logits.shape[-1] - 1)[..., None] - jnp.arange(logits.shape[-1])
        return jnp.sum(jax.nn.relu(1.0 - jnp.abs(distances)) * lengths, axis=-1)

    slope = jax.lax.stop_gradient(at(places + 0.5) - at(places - 0.5))
    fixed = jax.lax.stop_gradient(places)
    return at(jnp.round(fixed)) + slope * (places - fixed)


class ContextModel(nn.Module):
    """Parameters of the serial context model; `layers()` hands them to the functions above.

    Attributes:
        channels: c of the latent.
        slots: alternatives that a symbol has.
        features: of the hidden layers ("k", 24 in the paper).
        blocks: residual blocks (1 in the paper).
    """

    channels: int
    slots: int
    features: int = 24
    blocks: int = 1

    def setup(self) -> None:
        """Declares the parameters; at first all slots are nearly alike."""
        widths = [1, *[self.features] * (1 + 2 * self.blocks), self.slots]
        hidden, last = nn.initializers.he_normal(in_axis=(0, 1, 2, 3)), nn.initializers.normal(0.01)
        self._layers = [
            {
                "kernel": self.param(
                    f"kernel{i}", last if i == 2 * self.blocks + 1 else hidden, (2, 3, 3, d_in, d_out)
                ),
                "bias": self.param(f"bias{i}", nn.initializers.zeros_init(), (d_out,)),
            }
            for i, (d_in, d_out) in enumerate(zip(widths[:-1], widths[1:], strict=True))
        ]
        self._base = self.param("base", nn.initializers.zeros_init(), (self.channels, self.slots))

    def layers(self) -> list[Any]:
        """Returns the parameters of the convolutions."""
        return self._layers

    def __call__(self, values: jax.Array, fixed: bool = False) -> jax.Array:
        """Returns base-2 logits float32 [B, h, w, c, slots] of values float32 [B, h, w, c]."""
        base = fixed_point.to_grid(self._base, fixed_point.LOGIT_BITS) if fixed else self._base
        return network_logits(self._layers, values, fixed=fixed) + base
