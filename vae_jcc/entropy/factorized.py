"""The deep factorized prior (Balle, Minnen, Singh, Hwang, Johnston, ICLR 2018, appendix 6.1).

Each channel has its own cumulative distribution, a monotonic network of one input and one output:

    f_k(x) = g_k(softplus(H_k) x + b_k),   g_k(x) = x + tanh(a_k) * tanh(x),   c(x) = sigmoid(f_K(...f_1(x)))

The latent plus unit uniform noise has the density c(y + 1/2) - c(y - 1/2), which at an integer (plus offset) is also
the probability of the symbol: that is why one function serves the training loss and the coding tables. All maths is in
free functions of arrays; the Linen class at the end only declares the parameters.
"""

import math
from collections.abc import Mapping, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

# Layer by layer: "matrix" [c, d_out, d_in], "bias" [c, d_out], and "factor" [c, d_out] on all but the last.
Layers = Sequence[Mapping[str, jax.Array]]

_BISECTION_STEPS = 64
_BISECTION_RANGE = 1e4


def logits_cumulative(layers: Layers, y: jax.Array) -> jax.Array:
    """Returns the logit of each channel's cumulative distribution at y: [..., c] to [..., c], increasing in y."""
    return _from_rows(_logits(layers, _to_rows(y)), y.shape)


def _logits(layers: Layers, rows: jax.Array) -> jax.Array:
    """Returns `logits_cumulative` of rows [c, n], one row a channel."""
    hidden = [rows]
    for layer in layers:
        matrix, bias = jax.nn.softplus(layer["matrix"]), layer["bias"]
        out = []
        # The networks are a few units wide: sums of elementwise products fuse into one loop over the latents, where
        # batched matrix products of size 3 would not.
        for i in range(matrix.shape[1]):
            x = sum(matrix[:, i, j, None] * h for j, h in enumerate(hidden)) + bias[:, i, None]
            if "factor" in layer:
                x = x + jnp.tanh(layer["factor"][:, i, None]) * jnp.tanh(x)
            out.append(x)
        hidden = out
    return hidden[0]


def _to_rows(y: jax.Array) -> jax.Array:
    """Returns y [..., c] as [c, n]: parameters are then constant along rows, which is several times faster on CPUs."""
    return jax.lax.optimization_barrier(jnp.moveaxis(y, -1, 0).reshape(y.shape[-1], -1))


def _from_rows(rows: jax.Array, shape: Sequence[int]) -> jax.Array:
    """Returns rows [c, n] in the shape [..., c] of what `_to_rows` was given."""
    return jnp.moveaxis(jax.lax.optimization_barrier(rows).reshape(shape[-1], *shape[:-1]), 0, -1)


def _log_bin_prob(layers: Layers, y: jax.Array) -> jax.Array:
    """Returns log(c(y + 1/2) - c(y - 1/2)), natural, finite wherever y is."""
    rows = _to_rows(y)
    upper, lower = _logits(layers, rows + 0.5), _logits(layers, rows - 0.5)
    # sigmoid(u) - sigmoid(l) = sigmoid(u) * sigmoid(-l) * (1 - exp(l - u)): no difference of near-equal tails is ever
    # formed, so nothing underflows; the floor only guards a gap lost to rounding far out.
    gap = jnp.maximum(upper - lower, 1e-6)
    log_prob = jax.nn.log_sigmoid(upper) + jax.nn.log_sigmoid(-lower) + jnp.log(-jnp.expm1(-gap))
    return _from_rows(log_prob, y.shape)


def bin_bits(layers: Layers, y: jax.Array) -> jax.Array:
    """Returns the bits of a unit-wide bin around y, [..., c] to [..., c]: -log2 of `bin_prob`, >= 0.

    Values and gradients are finite for |y| up to 1e5. The caller adds noise or rounds; nothing is quantized here.
    """
    return jnp.maximum(-_log_bin_prob(layers, y), 0.0) / jnp.log(2.0)


def bin_prob(layers: Layers, y: jax.Array) -> jax.Array:
    """Returns the probability of a unit-wide bin around y, [..., c] to [..., c], in [0, 1]."""
    return jnp.exp(jnp.minimum(_log_bin_prob(layers, y), 0.0))


def quantile(layers: Layers, logit: jax.Array | float) -> jax.Array:
    """Returns where each channel's cumulative distribution has the given logit, float32 [c], by bisection.

    Bisection needs no auxiliary loss and no learned quantiles. Not differentiable: the result is a constant.
    """
    layers = jax.lax.stop_gradient(layers)
    channels = layers[0]["matrix"].shape[0]
    low = jnp.full((channels,), -_BISECTION_RANGE, layers[0]["bias"].dtype)

    def halve(_: int, bounds: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        low, high = bounds
        middle = 0.5 * (low + high)
        left = logits_cumulative(layers, middle) < logit
        return jnp.where(left, middle, low), jnp.where(left, high, middle)

    low, high = jax.lax.fori_loop(0, _BISECTION_STEPS, halve, (low, -low))
    return 0.5 * (low + high)


def quantization_offset(layers: Layers) -> jax.Array:
    """Returns the median of each channel, float32 [c]: the value that symbol 0 stands for.

    A bin centred on the median puts the most mass into one symbol, which is what low rates live on.
    """
    return quantile(layers, 0.0)


class FactorizedPrior(nn.Module):
    """Parameters of the deep factorized prior over the last axis; `layers()` hands them to the functions above."""

    channels: int
    filters: tuple[int, ...] = (3, 3, 3)
    init_scale: float = 10.0

    def setup(self) -> None:
        """Declares the parameters so that the initial distribution spans about +-init_scale."""
        sizes = (1, *self.filters, 1)
        scale = self.init_scale ** (1 / (len(self.filters) + 1))
        layers = []
        for k, (d_in, d_out) in enumerate(zip(sizes[:-1], sizes[1:], strict=True)):
            start = math.log(math.expm1(1 / scale / d_out))
            layer = {
                "matrix": self.param(f"matrix{k}", nn.initializers.constant(start), (self.channels, d_out, d_in)),
                "bias": self.param(f"bias{k}", _uniform_bias, (self.channels, d_out)),
            }
            if k < len(self.filters):
                layer["factor"] = self.param(f"factor{k}", nn.initializers.zeros_init(), (self.channels, d_out))
            layers.append(layer)
        self._layers = layers

    def layers(self) -> Layers:
        """Returns the parameters, layer by layer."""
        return self._layers

    def bits(self, y: jax.Array) -> jax.Array:
        """Returns `bin_bits` at y, [..., c] to [..., c]."""
        return bin_bits(self._layers, y)

    def offset(self) -> jax.Array:
        """Returns `quantization_offset`, float32 [c]."""
        return quantization_offset(self._layers)

    def __call__(self, y: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Returns (bits at y [..., c], offset [c])."""
        return self.bits(y), self.offset()


def _uniform_bias(key: jax.Array, shape: tuple[int, ...], dtype: jnp.dtype = jnp.float32) -> jax.Array:
    return jax.random.uniform(key, shape, dtype, -0.5, 0.5)
