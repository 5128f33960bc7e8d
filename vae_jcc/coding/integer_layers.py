"""Pieces of integer networks: float32 that only ever holds integers below 2**24, and so is exact.

Weights are int8 in steps of 1/64, activations 0..255 in steps of 1/16; sums of their products are 2**6 times as fine as
an activation and 2**5 times as fine as a logit (entropy/fixed_point.py has the same numbers for training).
"""

import numpy as np

from vae_jcc.coding.distribution import IMPOSSIBLE

ACTIVATION_LIMIT = 255
SUMS_PER_STEP = np.float32(64)  # of an activation
_EXACT = 2**24
_LOGIT_SHIFT = np.float32(1 / 32)
_LOGIT_LIMIT = 2**15
SYMBOL_LIMIT = 15  # an input is a symbol within +-15, in steps of 1/16
_SYMBOL_STEPS = 16


def check_exact(matrix: np.ndarray, bias: np.ndarray) -> None:
    """Raises ValueError where sums of weights [in, out] times activations, plus bias [out], could reach 2**24."""
    largest = np.abs(matrix).sum(axis=0).max() * ACTIVATION_LIMIT
    # The rounding and the input that skips a residual block count too.
    largest += np.abs(bias).max() + 64 * ACTIVATION_LIMIT + 32
    if largest >= _EXACT:
        raise ValueError(f"A layer's sums reach {largest:.0f}; below {_EXACT} they are exact.")


def inputs(symbols: np.ndarray, levels: np.ndarray | None) -> np.ndarray:
    """Returns what a network reads for symbols int32: float32 of the same shape, in steps of 1/16, within +-255.

    Args:
        symbols: as they stand in the latent, 0 for escaped ones.
        levels: int32 [L], what stands for the symbols 0..L-1 of learned centres; None: the symbols themselves.
    """
    if levels is not None:
        return levels[symbols].astype(np.float32)
    return (np.clip(symbols, -SYMBOL_LIMIT, SYMBOL_LIMIT) * _SYMBOL_STEPS).astype(np.float32)


def activation(total: np.ndarray) -> np.ndarray:
    """Turns sums, in place, into activations: divided by 64, halves up, within 0..255."""
    total += np.float32(32)
    total *= np.float32(1 / 64)
    np.floor(total, out=total)
    return np.clip(total, 0, ACTIVATION_LIMIT, out=total)


def to_logits(total: np.ndarray) -> np.ndarray:
    """Returns sums as logits int32: divided by 32, rounded down."""
    return np.clip(np.floor(total * _LOGIT_SHIFT), -_LOGIT_LIMIT, _LOGIT_LIMIT).astype(np.int32)


def count_slots(base: np.ndarray) -> np.ndarray:
    """Returns the number of slots of each channel, int64 [c], of base logits [c, slots]."""
    return np.count_nonzero(base > IMPOSSIBLE // 2, axis=-1)
