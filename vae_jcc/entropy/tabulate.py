"""From the trained prior to the integer tables that code with it: once, on the host, in float64.

Of rounded latents that is the factorized prior; of learned centres, whose symbols are 0..L-1, a distribution for each
channel.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vae_jcc.coding import CodingTables
from vae_jcc.entropy.factorized import bin_prob, logits_cumulative, quantile

# Mass that each side may leave to the escape code, as a logit. 2**-14: an escape costs about 20 bits, so the tails
# cost less than 0.003 bits a symbol, and tables stay short.
_TAIL_LOGIT = 14.0 * float(np.log(2.0))
_MAX_SUPPORT = 4096  # symbols; a channel wider than that leaves the rest to the escape code


def prior_layers(variables: Mapping[str, Any]) -> list[dict[str, np.ndarray]]:
    """Returns the prior's layers in float64 from the parameters under "prior"."""
    count = sum(name.startswith("matrix") for name in variables)
    return [
        {
            kind: np.asarray(variables[f"{kind}{k}"], np.float64)
            for kind in ("matrix", "bias", "factor")
            if f"{kind}{k}" in variables
        }
        for k in range(count)
    ]


def as_float32(layers: Iterable[Mapping[str, np.ndarray]]) -> list[dict[str, jax.Array]]:
    """Returns the layers as the model itself computes with them."""
    return [{name: jnp.asarray(value, jnp.float32) for name, value in layer.items()} for layer in layers]


def tabulate(variables: Mapping[str, Any], offset: np.ndarray) -> CodingTables:
    """Returns the coding tables of a trained factorized prior.

    Args:
        variables: the prior's parameters.
        offset: what symbol 0 stands for, float32 [c]; symbol s of channel k has the probability of the unit bin around
            s + offset[k].
    """
    with jax.enable_x64(True):
        layers = [{k: jnp.asarray(v) for k, v in layer.items()} for layer in prior_layers(variables)]
        middle = jnp.asarray(np.asarray(offset, np.float64))
        low = np.floor(np.asarray(quantile(layers, -_TAIL_LOGIT) - middle)).astype(int)
        high = np.ceil(np.asarray(quantile(layers, _TAIL_LOGIT) - middle)).astype(int)
        low, high = np.maximum(low, -_MAX_SUPPORT // 2), np.minimum(high, _MAX_SUPPORT // 2)
        symbols = np.arange(low.min(), high.max() + 1)
        pmf = np.asarray(bin_prob(layers, jnp.asarray(symbols[:, None]) + middle))
        below = jax.nn.sigmoid(logits_cumulative(layers, jnp.asarray(low) - 0.5 + middle))
        above = jax.nn.sigmoid(-logits_cumulative(layers, jnp.asarray(high) + 0.5 + middle))
        tails = np.asarray(below + above)
    rows = [pmf[low[k] - symbols[0] : high[k] - symbols[0] + 1, k] for k in range(len(low))]
    return CodingTables.build(rows, [int(v) for v in low], [float(t) for t in tails])


def tabulate_categorical(base: np.ndarray) -> CodingTables:
    """Returns the coding tables of symbols 0..L-1, from base-2 logits [c, L] of each channel."""
    logits = np.asarray(base, np.float64)
    rows = np.exp2(logits - logits.max(axis=1, keepdims=True))
    return CodingTables.build(list(rows / rows.sum(axis=1, keepdims=True)), [0] * len(rows), [0.0] * len(rows))


def count_logits(counts: np.ndarray) -> np.ndarray:
    """Returns base-2 logits float32 [c, L] from how often each symbol was seen, [c, L]; each counts once more."""
    counts = np.asarray(counts, np.float64) + 1.0
    return np.log2(counts / counts.sum(axis=1, keepdims=True)).astype(np.float32)
