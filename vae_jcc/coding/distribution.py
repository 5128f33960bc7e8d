"""From a network's integer logits to the counts that code a symbol: integers all the way.

A logit is in steps of 1/32 bit, relative to the other slots of its symbol: slot i has the weight

    w_i = M[d % 32] >> (d // 32)     d = max(z) - z_i,   M[r] = round(2**(20 - r / 32)),   0 from d = 672 on

and the count 1 + w_i * (2**24 - n) // sum(w), n being the slots that the symbol has. What the division leaves over goes
to the first slot with the largest logit, so that the counts sum to 2**24.
"""

import numpy as np

from vae_jcc.coding.tables import PRECISION

STEPS_PER_BIT = 32
WEIGHT_BITS = 20
# A base logit at or below this marks a slot that its channel does not have; such slots follow the escape slot.
IMPOSSIBLE = -(2**24)

_RANGE = STEPS_PER_BIT * (WEIGHT_BITS + 1)
# No fractional part of these 32 values is within 0.01 of a half, so every libm rounds them alike.
_MANTISSAS = np.array([round(2.0 ** (WEIGHT_BITS - r / STEPS_PER_BIT)) for r in range(STEPS_PER_BIT)], np.int64)
_WEIGHTS = np.array([_MANTISSAS[d % STEPS_PER_BIT] >> (d // STEPS_PER_BIT) for d in range(_RANGE)] + [0], np.int64)


def counts_of(logits: np.ndarray) -> np.ndarray:
    """Returns counts int64 [..., slots] that sum to 2**24 from logits int32 [..., slots] in steps of 1/32 bit.

    A slot whose logit is below IMPOSSIBLE / 2 gets no count, every other slot at least 1.
    """
    present = logits > IMPOSSIBLE // 2
    below = np.minimum(logits.max(axis=-1, keepdims=True) - logits, _RANGE)
    weights = _WEIGHTS[below]
    free = 2**PRECISION - np.count_nonzero(present, axis=-1)[..., None]
    counts = present + weights * free // weights.sum(axis=-1, keepdims=True)
    rest = 2**PRECISION - counts.sum(axis=-1, keepdims=True)
    first = below.argmin(axis=-1)[..., None]
    np.put_along_axis(counts, first, np.take_along_axis(counts, first, axis=-1) + rest, axis=-1)
    return counts
