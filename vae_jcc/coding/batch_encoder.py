"""The range encoder of docs/bitstream.md, in step over many messages: the same bytes as a library call for each.

`low` keeps its 64 bits; what is added beyond them is a carry into the words that it has given away. Carries are only
added to the last of these and ripple through at the end, for all messages at once.
"""

import numpy as np

from vae_jcc.coding.tables import PRECISION

_WORD = np.uint64(32)
_FULL = np.uint64(2**32)


class BatchEncoder:
    """Encodes B messages, one symbol of each at a time."""

    def __init__(self, messages: int) -> None:
        """Prepares empty messages."""
        # Word 0 stays zero: the first word's carry would go there, and there is none.
        self._words = np.zeros((messages, 32), np.uint64)
        self._last = np.zeros(messages, np.int64)
        self._low = np.zeros(messages, np.uint64)
        self._range = np.full(messages, 2**64 - 1, np.uint64)

    def encode_row(self, slots: np.ndarray, row: np.ndarray) -> None:
        """Appends slots int32 [n, B], all under one row of counts int64 [slots] that sum to 2**24."""
        left, widths = (np.cumsum(row) - row).astype(np.uint64), row.astype(np.uint64)
        for place in slots:
            scale = self._range >> np.uint64(PRECISION)
            low = self._low + scale * left[place]
            self._carry(low < self._low)
            self._low = low
            self._range = scale * widths[place]
            short = np.flatnonzero(self._range < _FULL)
            if short.size:
                last = self._last[short] + 1
                if last.max() == self._words.shape[1]:
                    self._words = np.concatenate([self._words, np.zeros_like(self._words)], axis=1)
                self._last[short] = last
                self._words[short, last] = low[short] >> _WORD
                self._low[short] = low[short] << _WORD
                self._range[short] <<= _WORD

    def finish(self) -> list[bytes]:
        """Returns the messages, each with the shortest ending, and of several the smallest."""
        # The gap to the next multiple of 2**(64 - 8 * length); the shortest length whose multiple lies in the interval.
        length = np.full(len(self._low), 4)
        gap = (0 - self._low) & np.uint64(2**32 - 1)
        for shorter in (3, 2, 1, 0):
            mask = np.uint64(2 ** (64 - 8 * shorter) - 1)
            fits = ((0 - self._low) & mask) < self._range
            length[fits], gap[fits] = shorter, ((0 - self._low) & mask)[fits]
        ending = self._low + gap
        self._carry(ending < self._low)
        for i in range(self._words.shape[1] - 1, 0, -1):
            self._words[:, i - 1] += self._words[:, i] >> _WORD
        data = self._words[:, 1:].astype(np.uint32).astype(">u4").tobytes()  # the lower 32 bits of each word
        tails = (ending >> _WORD).astype(">u4").tobytes()
        size = 4 * (self._words.shape[1] - 1)
        out = []
        for b, (words, extra) in enumerate(zip(self._last.tolist(), length.tolist(), strict=True)):
            head = data[b * size : b * size + 4 * words]
            out.append(head + tails[4 * b : 4 * b + extra] if extra else head.rstrip(b"\0"))
        return out

    def _carry(self, wrapped: np.ndarray) -> None:
        carried = np.flatnonzero(wrapped)
        if carried.size:
            self._words[carried, self._last[carried]] += np.uint64(1)
