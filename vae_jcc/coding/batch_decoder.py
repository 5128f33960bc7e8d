"""The range decoder of docs/bitstream.md, in step over many messages.

A serial context model asks for one symbol of every image, then runs its network, then asks for the next. A library's
decoder would be called once an image for each; here one step is a few NumPy operations for the whole batch. The bytes
are the same.
"""

from collections.abc import Sequence

import numpy as np

from vae_jcc.coding import escape
from vae_jcc.coding.errors import BitstreamError
from vae_jcc.coding.tables import PRECISION

_PART_BITS = 12
_WORD = np.uint64(32)
_LOW = np.uint64(2**32)


class BatchDecoder:
    """Decodes B messages, one symbol of each at a time."""

    def __init__(self, messages: Sequence[bytes]) -> None:
        """Reads the messages as if zeros followed each.

        Raises:
            BitstreamError: a message ends in a zero byte, which no encoder writes.
        """
        if any(message[-1:] == b"\0" for message in messages):
            raise BitstreamError("The payload is altered: it ends in a zero byte that means nothing.")
        longest = max(-(-len(message) // 4) for message in messages)
        # One word of zeros at the end, where every position past a message stays.
        width = max(longest, 2) + 1
        padded = b"".join(message.ljust(4 * width, b"\0") for message in messages)
        self._words = np.frombuffer(padded, ">u4").reshape(len(messages), width).astype(np.uint64)
        self._next = np.full(len(messages), 2)
        self._point = self._words[:, 0] << _WORD | self._words[:, 1]
        self._range = np.full(len(messages), 2**64 - 1, np.uint64)
        self._images = np.arange(len(messages))

    def decode(self, counts: np.ndarray) -> np.ndarray:
        """Returns the next n slots of each message, int32 [n, B], under counts int64 [n, B, slots] that sum to 2**24.

        Raises:
            BitstreamError: no encoder can have written one of the messages.
        """
        return np.stack([self._step(place) for place in counts]).astype(np.int32)

    def decode_row(self, row: np.ndarray, number: int) -> np.ndarray:
        """Returns the next slots of each message, int32 [number, B], all under one row of counts int64 [slots].

        Raises:
            BitstreamError: no encoder can have written one of the messages.
        """
        ends = np.cumsum(row)
        starts = ends - row
        # The slot in which each of the 2**12 equal parts of the range begins; few parts hold more than one.
        first = np.searchsorted(ends, np.arange(2**_PART_BITS) << (PRECISION - _PART_BITS), side="right")
        widths, left = row.astype(np.uint64), starts.astype(np.uint64)
        out = np.empty((number, len(self._range)), np.int32)
        for slots in out:
            scale = self._range >> np.uint64(PRECISION)
            quantile = self._quantile(scale)
            slots[...] = first[quantile >> (PRECISION - _PART_BITS)]
            late = np.flatnonzero(ends[slots] <= quantile)
            if late.size:
                slots[late] = np.searchsorted(ends, quantile[late], side="right")
            self._take(scale, left[slots], widths[slots])
        return out

    def decode_excess(self, image: int, escapes: int) -> np.ndarray:
        """Returns the excesses, int64 [escapes], at the end of one message; nothing can be read from it after that.

        Raises:
            BitstreamError: no encoder can have written the message.
        """
        alone = self._alone(image)

        def read(row: np.ndarray, number: int) -> np.ndarray:
            return np.array([alone._step(row[None])[0] for _ in range(number)], np.int32)

        classes = read(escape.CLASS_COUNTS, escapes)
        return escape.from_classes_and_bits(classes, read(escape.BIT_COUNTS, int(classes.sum(dtype=np.int64))))

    def _step(self, counts: np.ndarray) -> np.ndarray:
        """Returns the next slot of each message, int64 [B], under counts int64 [B, slots].

        Raises:
            BitstreamError: no encoder can have written one of the messages.
        """
        ends = np.cumsum(counts, axis=-1)
        scale = self._range >> np.uint64(PRECISION)
        quantile = self._quantile(scale)
        slots = np.count_nonzero(ends <= quantile[:, None], axis=-1)
        count = counts[self._images, slots]
        self._take(scale, (ends[self._images, slots] - count).astype(np.uint64), count.astype(np.uint64))
        return slots

    def _quantile(self, scale: np.ndarray) -> np.ndarray:
        quantile = (self._point // scale).view(np.int64)
        if quantile.max() >= 2**PRECISION:
            raise BitstreamError("The payload is altered: it is no message of these tables.")
        return quantile

    def _take(self, scale: np.ndarray, left: np.ndarray, width: np.ndarray) -> None:
        """Narrows each range to a slot and reads the next word where that makes it short."""
        self._point -= scale * left
        self._range = scale * width
        short = np.flatnonzero(self._range < _LOW)
        if short.size:
            self._range[short] <<= _WORD
            self._point[short] = self._point[short] << _WORD | self._words[short, self._next[short]]
            self._next[short] = np.minimum(self._next[short] + 1, self._words.shape[1] - 1)

    def _alone(self, image: int) -> "BatchDecoder":
        single = object.__new__(BatchDecoder)
        for name in ("_words", "_next", "_point", "_range"):
            setattr(single, name, getattr(self, name)[image : image + 1].copy())
        single._images = self._images[:1]
        return single
