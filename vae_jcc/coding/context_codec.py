"""Latent symbols to payload bytes and back, each symbol under the distribution that a context model gives it.

symbols i32 [h, w, c] --> slots [c, h, w] --> context model --> counts [c, h, w, slots] --> range coder --> bytes

The message is that of `LatentCodec` (docs/bitstream.md, sections 4 to 6) with other counts: the tables say which
symbols a channel has slots for, the context model how likely each is. An escaped symbol counts as 0 in the contexts of
others, because what it really is comes last in the message.
"""

from collections.abc import Sequence

import numpy as np

from vae_jcc.coding import escape
from vae_jcc.coding.batch_decoder import BatchDecoder
from vae_jcc.coding.coder import RANGE_CODER, decode_excess, encode_with_counts
from vae_jcc.coding.distribution import counts_of
from vae_jcc.coding.serial_context import SerialContext, has_slots
from vae_jcc.coding.slots import SlotMap
from vae_jcc.coding.tables import PRECISION, CodingTables

_IMAGES_AT_ONCE = 16  # encoding: so many images' columns stay in the processor's cache
_DECODED_AT_ONCE = 256


class ContextCodec:
    """Codes latents with a context model; the counterpart of `LatentCodec`, with the same methods."""

    coder_id = RANGE_CODER

    def __init__(self, tables: CodingTables, context: SerialContext) -> None:
        """Joins tables (whose counts are not used) and a context model.

        Raises:
            ValueError: the context model's slots are not those of the tables.
        """
        slots = has_slots(context.base)
        if slots.tolist() != [len(row) for row in tables.counts]:
            raise ValueError(f"The context model has {slots.tolist()} slots a channel; the tables have other rows.")
        self.tables = tables
        self._context = context
        self._map = SlotMap(tables)

    def encode(self, symbols: np.ndarray) -> bytes:
        """Returns the payload of one latent, int32 [h, w, c], any values.

        Raises:
            ValueError: wrong dtype or shape.
        """
        return self.encode_batch(np.asarray(symbols)[None])[0]

    def decode(self, payload: bytes, shape: tuple[int, int]) -> np.ndarray:
        """Returns the symbols, int32 [h, w, c], of a payload whose latent grid is `shape` = (h, w).

        Raises:
            BitstreamError: no encoder can have written the payload.
            ValueError: the shape is not two positive integers.
        """
        return self.decode_batch([payload], shape)[0]

    def encode_batch(self, symbols: np.ndarray) -> list[bytes]:
        """Returns the payload of each latent of int32 [B, h, w, c], any values.

        Raises:
            ValueError: wrong dtype or shape.
        """
        payloads = []
        for part in self._parts(symbols):
            planes, slots, escaped = self._map.to_slots(part)
            counts = self._counts(planes, escaped)
            for b in range(len(part)):
                excess = self._map.fold(planes[b], escaped[b]) if escaped[b].any() else None
                payloads.append(encode_with_counts(slots[b].reshape(-1), _flat(counts[b]), excess))
        return payloads

    def decode_batch(self, payloads: Sequence[bytes], shape: tuple[int, int]) -> np.ndarray:
        """Returns the symbols, int32 [B, h, w, c], of payloads that share one latent grid (h, w).

        Raises:
            BitstreamError: no encoder can have written one of the payloads.
            ValueError: the shape is not two positive integers.
        """
        height, width = self._map.checked_grid(shape)
        parts = [
            self._decode(payloads[start : start + _DECODED_AT_ONCE], height, width)
            for start in range(0, len(payloads), _DECODED_AT_ONCE)
        ]
        return np.concatenate(parts) if parts else np.empty((0, height, width, self.tables.channels), np.int32)

    def bits(self, symbols: np.ndarray) -> np.ndarray:
        """Returns the exact code length of every symbol in bits, float64 [B, h, w, c], of int32 [B, h, w, c].

        The coder's own ending is not in it; an escaped symbol's slot and excess are.

        Raises:
            ValueError: wrong dtype or shape.
        """
        lengths = []
        for part in self._parts(symbols):
            planes, slots, escaped = self._map.to_slots(part)
            counts = np.take_along_axis(self._counts(planes, escaped), slots[..., None], axis=-1)[..., 0]
            bits = PRECISION - np.log2(counts.astype(np.float64))
            for b in np.flatnonzero(escaped.any(axis=(1, 2, 3))):
                bits[b][escaped[b]] += escape.excess_bits(self._map.fold(planes[b], escaped[b]))
            lengths.append(bits.transpose(0, 2, 3, 1))
        return np.concatenate(lengths)

    def _parts(self, symbols: np.ndarray) -> list[np.ndarray]:
        symbols = self._map.checked(np.asarray(symbols))
        return [symbols[start : start + _IMAGES_AT_ONCE] for start in range(0, len(symbols), _IMAGES_AT_ONCE)]

    def _counts(self, planes: np.ndarray, escaped: np.ndarray) -> np.ndarray:
        """Returns counts int64 [B, c, h, w, slots] of symbols int32 [B, c, h, w], all of them known."""
        return counts_of(self._context.logits(np.where(escaped, 0, planes)))

    def _decode(self, payloads: Sequence[bytes], height: int, width: int) -> np.ndarray:
        batch = len(payloads)
        decoder = BatchDecoder(payloads)
        slots = np.empty((batch, self.tables.channels, height * width), np.int32)
        places = iter(np.ndindex(self.tables.channels, height * width))
        minima, last = self._map.minima, self._map.last_slots

        def next_symbols(channel: int, logits: np.ndarray) -> np.ndarray:
            found = decoder.decode(counts_of(logits)).astype(np.int32)
            slots[:, *next(places)] = found
            return np.where(found == last[channel], 0, found + minima[channel])

        self._context.decode(batch, (height, width), next_symbols)
        grid = slots.reshape(batch, self.tables.channels, height, width)
        escaped = grid == last[:, None, None]
        excesses = {
            b: decode_excess(decoder.alone(b), int(np.count_nonzero(escaped[b])))
            for b in np.flatnonzero(escaped.any(axis=(1, 2, 3))).tolist()
        }
        return self._map.to_symbols(grid, excesses)


def _flat(counts: np.ndarray) -> np.ndarray:
    return counts.reshape(-1, counts.shape[-1])
