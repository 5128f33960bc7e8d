"""Codes symbols outside a table's support, so that no latent is ever clipped.

A row spends its last slot, the escape slot, on such a symbol. How far outside it lies is the
*excess*, one non-negative integer that folds side and distance together:

    excess = 2 * (symbol - maximum - 1)       above the support
    excess = 2 * (minimum - 1 - symbol) + 1   below it

After all rows, each excess of the message is sent as an Elias-gamma code (Elias 1975) of
excess + 1: first the *class* k = floor(log2(excess + 1)) of every excess, then the k bits below
the leading one of every excess. Classes are coded with one fixed row instead of bit by bit, at
k + 1 bits for k <= 16 as in the original code and 21 bits above, which makes two vectorised calls
out of a loop. docs/bitstream.md is the specification.
"""

from collections.abc import Callable

import numpy as np

from vae_jcc.coding.errors import BitstreamError

INT32_MIN, INT32_MAX = -(2**31), 2**31 - 1

# Row of the classes 0..32: 2**-(k + 1) of the mass down to k = 16, the rest shared evenly. The
# largest excess is 2 * (2**32 - 2) + 1 < 2**33 - 1, so class 32 is the last that can occur.
CLASS_COUNTS = np.array([2 ** (23 - k) for k in range(17)] + [8] * 16, dtype=np.int64)
BIT_COUNTS = np.array([2**23, 2**23], dtype=np.int64)

_READ_AT_ONCE = 2**16


def fold(symbols: np.ndarray, minima: np.ndarray, maxima: np.ndarray) -> np.ndarray:
    """Returns the excess, int64 [n] >= 0, of symbols that lie outside their rows' support.

    Args:
        symbols: int32 [n], each below its row's minimum or above its row's maximum.
        minima: int64 [n], first symbol of each symbol's row.
        maxima: int64 [n], last symbol of each symbol's row.
    """
    wide = symbols.astype(np.int64)
    return np.where(wide > maxima, 2 * (wide - maxima - 1), 2 * (minima - 1 - wide) + 1)


def unfold(excess: np.ndarray, minima: np.ndarray, maxima: np.ndarray) -> np.ndarray:
    """Returns the symbols, int32 [n], of excesses: the inverse of `fold`.

    Raises:
        BitstreamError: a symbol does not fit into 32 bits, so no encoder wrote it.
    """
    distance = excess >> 1
    symbols = np.where(excess & 1, minima - 1 - distance, maxima + 1 + distance)
    if symbols.size and (symbols.min() < INT32_MIN or symbols.max() > INT32_MAX):
        raise BitstreamError("The payload is altered: an escaped symbol is beyond 32 bits.")
    return symbols.astype(np.int32)


def to_classes_and_bits(excess: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Splits excesses into classes, int32 [n], and the concatenated bits below each leading one.

    Returns:
        classes, int32 [n] in 0..32, and bits, int32 [sum(classes)] of 0 and 1, each excess's most
        significant bit first.
    """
    values = np.asarray(excess, np.int64) + 1
    # frexp is exact for integers below 2**53: values = m * 2**e with 0.5 <= m < 1.
    classes = (np.frexp(values.astype(np.float64))[1] - 1).astype(np.int32)
    owner, shift = _bit_places(classes)
    return classes, ((values[owner] >> shift) & 1).astype(np.int32)


def from_classes_and_bits(classes: np.ndarray, bits: np.ndarray) -> np.ndarray:
    """Returns the excesses, int64 [n]: the inverse of `to_classes_and_bits`."""
    owner, shift = _bit_places(classes)
    values = np.left_shift(np.int64(1), classes.astype(np.int64))
    np.add.at(values, owner, bits.astype(np.int64) << shift)
    return values - 1


def read_excesses(
    read_classes: Callable[[int], np.ndarray], read_bits: Callable[[int], np.ndarray], escapes: int
) -> np.ndarray:
    """Returns the excesses, int64 [escapes], from functions that return the next n classes or bits of a message."""
    classes = read_classes(escapes)
    excess = np.empty(escapes, np.int64)
    # In pieces: bits take up to 32 integers an excess, and a forged payload can claim that many for every symbol.
    for start in range(0, escapes, _READ_AT_ONCE):
        piece = slice(start, start + _READ_AT_ONCE)
        bits = read_bits(int(classes[piece].sum(dtype=np.int64)))
        excess[piece] = from_classes_and_bits(classes[piece], bits)
    return excess


def excess_bits(excess: np.ndarray) -> np.ndarray:
    """Returns the code length of each excess in bits, float64 [n], without the escape slot's own."""
    classes, _ = to_classes_and_bits(excess)
    return 24 - np.log2(CLASS_COUNTS[classes].astype(np.float64)) + classes


def _bit_places(classes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For every bit below a leading one: whose it is, and its significance, both int64 [sum]."""
    widths = classes.astype(np.int64)
    owner = np.repeat(np.arange(len(widths)), widths)
    ends = np.cumsum(widths)
    return owner, ends[owner] - 1 - np.arange(len(owner))
