"""The mean-scale hyperprior: a small latent z, coded first, says where each symbol lies and how widely it spreads.

Minnen, Balle and Toderici, "Joint autoregressive and hierarchical priors for learned image compression" (NeurIPS 2018),
without the autoregression. coding/hyperprior.py draws the networks and runs the trained integers; this file trains.
A slot's base-2 logit is its channel's (at first that of the tables, so that nothing has to be learned twice) plus

    log2 P(|symbol - mean| <= 1/2) - log2 P(at distance 0)          of a logistic distribution with the scale

which is 0 everywhere where the scale is wide. In training the rate of z is that of z plus uniform noise under a deep
factorized prior; the synthesis sees z rounded, straight through.
"""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from vae_jcc.coding.distribution import STEPS_PER_BIT
from vae_jcc.coding.hyperprior import SCALES, SIDE_LIMIT
from vae_jcc.entropy import fixed_point
from vae_jcc.entropy.factorized import FactorizedPrior, bin_prob
from vae_jcc.entropy.tabulate import prior_layers

SCALES_PER_OCTAVE = 4
SMALLEST_SCALE_LOG2 = -3.0  # the first row of the table: a logistic scale of 1/8 symbol; the last one is 27
DISTANCES = 512  # columns of the table: 32 symbols in steps of 1/16
POSITION_BITS = fixed_point.ACTIVATION_BITS  # fractional bits of means and positions: 1/16 symbol
_SMALL = nn.initializers.variance_scaling(0.1, "fan_in", "normal")
_FIRST_OCTAVE = 5.0  # of the scale at the start of training, above the smallest: 4 symbols


def scale_table() -> np.ndarray:
    """Returns the logits at each scale and distance, int16 [32, 512] in steps of 1/32 bit, computed in float64."""
    scale = 2.0 ** (SMALLEST_SCALE_LOG2 + np.arange(SCALES)[:, None] / SCALES_PER_OCTAVE)
    distance = np.arange(DISTANCES) / 2.0**POSITION_BITS
    log2_sigmoid = lambda x: -np.logaddexp(0.0, -x) / np.log(2.0)  # noqa: E731
    bits = log2_sigmoid((distance + 0.5) / scale) + log2_sigmoid((0.5 - distance) / scale)
    return np.rint(STEPS_PER_BIT * (bits - bits[:, :1])).astype(np.int16)


def bin_logits(distance: jax.Array, octave: jax.Array) -> jax.Array:
    """Returns log2 P(distance) - log2 P(0) of unit bins, in bits, where the scale is `octave` above the smallest.

    With s the logistic function, P(d) = s(u) - s(l) = s(u) s(-l) (1 - exp(l - u)), and the last factor does not depend
    on d: no difference of tails is formed.
    """
    scale = jnp.exp2(SMALLEST_SCALE_LOG2 + octave)
    log_sigmoid = jax.nn.log_sigmoid
    natural = log_sigmoid((distance + 0.5) / scale) + log_sigmoid((0.5 - distance) / scale)
    return (natural - 2 * log_sigmoid(0.5 / scale)) / jnp.log(2.0)


class HyperpriorModel(nn.Module):
    """Parameters and forward pass, every symbol being known.

    The bits of z, float32 [B], are sown as "bits" into the collection "side": of noisy z where a "noise" key is given,
    else of z as it is coded.

    Attributes:
        positions: where each slot's symbol lies, in steps of 1/16, [c][slots].
        slots: number of slots of each channel, the escape slot included.
        features: of the hidden layers.
        side_channels: of z.
    """

    positions: tuple[tuple[int, ...], ...]
    slots: tuple[int, ...]
    features: int = 48
    side_channels: int = 4

    @nn.compact
    def __call__(self, values: jax.Array, fixed: bool = False) -> jax.Array:
        """Returns base-2 logits float32 [B, h, w, c, slots] of values float32 [B, h, w, c].

        Args:
            values: what stands for the symbols.
            fixed: integer arithmetic (values have to be multiples of 1/16, of magnitude up to 255/16).
        """
        positions = np.array(self.positions, np.float32) / 2**POSITION_BITS
        base = self.param("base", nn.initializers.zeros_init(), positions.shape)
        base = fixed_point.to_grid(base, fixed_point.LOGIT_BITS) if fixed else base
        z = self._analysis(values, fixed)
        self.sow("side", "bits", self._side_bits(z))
        means, octaves = self._synthesis(fixed_point.to_grid(z, 0), (values.shape[1], values.shape[2]), fixed)
        # Farther symbols count as the farthest of the table, in both forms.
        distance = jnp.minimum(jnp.abs(positions - means[..., None]), (DISTANCES - 1) / 2**POSITION_BITS)
        if fixed:
            logits = _tabulated(distance, octaves[..., None])
        else:
            logits = bin_logits(distance, octaves[..., None])
        is_symbol = np.arange(positions.shape[1]) < np.array(self.slots)[:, None] - 1
        return base + jnp.where(is_symbol, logits, 0.0)

    def _analysis(self, values: jax.Array, fixed: bool) -> jax.Array:
        """Returns z before rounding, float32 [B, ceil(h / 4), ceil(w / 4), side channels], within +-7."""
        x = self._convolution("analysis_0", values, 5, self.features, fixed, stride=2)
        x = self._convolution("analysis_1", _activate(x, fixed), 3, self.side_channels, fixed, stride=2)
        return jnp.clip(x, -SIDE_LIMIT, SIDE_LIMIT)

    def _side_bits(self, z: jax.Array) -> jax.Array:
        if self.has_rng("noise"):
            seen = z + jax.random.uniform(self.make_rng("noise"), z.shape, z.dtype, -0.5, 0.5)
        else:
            seen = fixed_point.to_grid(z, 0)
        bits = FactorizedPrior(self.side_channels, init_scale=1.0, name="prior").bits(seen)
        return bits.sum(axis=(1, 2, 3))

    def _synthesis(self, z: jax.Array, shape: tuple[int, int], fixed: bool) -> tuple[jax.Array, jax.Array]:
        """Returns means, in symbols, and scales, in octaves above the smallest, both float32 [B, h, w, c]."""
        half = -(-shape[0] // 2), -(-shape[1] // 2)
        x = self._convolution("synthesis_0", z, 3, 4 * self.features, fixed)
        x = _depth_to_space(_activate(x, fixed), half)
        x = self._convolution("synthesis_1", x, 3, 4 * self.features, fixed)
        x = _depth_to_space(_activate(x, fixed), shape)
        x = self._convolution("synthesis_2", x, 1, 2 * len(self.slots), fixed)
        means, octaves = jnp.split(x, 2, axis=-1)
        octaves = jnp.clip(octaves, 0.0, (SCALES - 1) / SCALES_PER_OCTAVE)
        if fixed:
            means = fixed_point.to_grid(means, POSITION_BITS)
            octaves = fixed_point.to_grid(octaves, SCALES_PER_OCTAVE.bit_length() - 1)
        return means, octaves

    def _convolution(self, name: str, x: jax.Array, side: int, out: int, fixed: bool, stride: int = 1) -> jax.Array:
        # Small z and small differences of the outputs at first: z costs little until it has learned to save something.
        init = {"analysis_1": _SMALL, "synthesis_2": nn.initializers.normal(0.05)}.get(
            name, nn.initializers.he_normal()
        )
        bias_init = _first_scales if name == "synthesis_2" else nn.initializers.zeros_init()
        kernel = self.param(f"kernel_{name}", init, (side, side, x.shape[-1], out))
        bias = self.param(f"bias_{name}", bias_init, (out,))
        if fixed:
            kernel, bias = fixed_point.weight(kernel), fixed_point.bias(bias)
        padding = [(side // 2, side // 2)] * 2
        dimensions = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(x, kernel, (stride, stride), padding, dimension_numbers=dimensions) + bias


def export_hyperprior(params: Mapping[str, Any], model: HyperpriorModel) -> dict[str, np.ndarray]:
    """Returns what codes besides the kernels, biases and base: "positions", "scales" and "side", integers.

    "side" has the logits of z = -7..7 under the trained prior, in steps of 1/32 bit, computed in float64.
    """
    with jax.enable_x64(True):
        layers = [{k: jnp.asarray(v) for k, v in layer.items()} for layer in prior_layers(params["prior"])]
        z = jnp.arange(-SIDE_LIMIT, SIDE_LIMIT + 1.0)[:, None] + jnp.zeros(model.side_channels)
        prob = np.ascontiguousarray(np.asarray(bin_prob(layers, z)).T)  # as tensors are written
    side = np.rint(STEPS_PER_BIT * np.log2(np.maximum(prob, 2.0**-30))).astype(np.int32)
    return {"positions": np.array(model.positions, np.int32), "scales": scale_table(), "side": side}


def _first_scales(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
    return jnp.repeat(jnp.array([0.0, _FIRST_OCTAVE], dtype), shape[0] // 2)


def _activate(x: jax.Array, fixed: bool) -> jax.Array:
    return fixed_point.activation(x) if fixed else nn.relu(x)


def _tabulated(distance: jax.Array, octave: jax.Array) -> jax.Array:
    """Returns `bin_logits` as the table has them, with the gradients of the formula."""
    row = (octave * SCALES_PER_OCTAVE).astype(int)
    column = (distance * 2**POSITION_BITS).astype(int)
    exact = jnp.asarray(scale_table() / STEPS_PER_BIT, jnp.float32)[row, column]
    smooth = bin_logits(distance, octave)
    return exact + (smooth - jax.lax.stop_gradient(smooth))


def _depth_to_space(x: jax.Array, shape: tuple[int, int]) -> jax.Array:
    """Returns [B, h, w, F] of x [B, ceil(h / 2), ceil(w / 2), 4 F]: place (2 i + a, 2 j + b) has block 2 a + b."""
    batch, height, width, features = x.shape
    x = x.reshape(batch, height, width, 2, 2, features // 4).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(batch, 2 * height, 2 * width, -1)[:, : shape[0], : shape[1]]
