"""Latent symbols to payload bytes and back, each symbol under the distribution that a context model gives it.

symbols i32 [h, w, c] --> slots [c, h, w] --> context model --> counts [c, h, w, slots] --> range coder --> bytes

The message is that of `LatentCodec` (docs/bitstream.md, sections 4 to 6) with other counts: the tables say which
symbols a channel has slots for, the context model how likely each is. An escaped symbol counts as 0 in the contexts of
others, because what it really is comes last in the message. A hyperprior's own latent comes before all slots.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from vae_jcc.coding import escape
from vae_jcc.coding.batch_decoder import BatchDecoder
from vae_jcc.coding.coder import RANGE_CODER, load_range_coder
from vae_jcc.coding.distribution import counts_of
from vae_jcc.coding.hyperprior import HyperpriorContext
from vae_jcc.coding.integer_layers import count_slots
from vae_jcc.coding.one_latent import OneLatent
from vae_jcc.coding.parallel_context import ParallelContext
from vae_jcc.coding.serial_context import SerialContext
from vae_jcc.coding.slots import SlotMap
from vae_jcc.coding.tables import PRECISION, CodingTables

Context = SerialContext | ParallelContext | HyperpriorContext

# Encoding: enough images to share what each call of NumPy costs, few enough for their columns to stay in the cache.
_IMAGES_AT_ONCE = 16
_PLACES_AT_ONCE = 1024  # of larger grids fewer images
_DECODED_AT_ONCE = 256


class ContextCodec(OneLatent):
    """Codes latents with a context model; the counterpart of `LatentCodec`, with the same methods."""

    coder_id = RANGE_CODER

    def __init__(self, tables: CodingTables, context: Context) -> None:
        """Joins tables (whose counts are not used) and a context model.

        Raises:
            BitstreamError: the range coder's library is not installed.
            ValueError: the context model's slots are not those of the tables.
        """
        slots = count_slots(context.base)
        if slots.tolist() != [len(row) for row in tables.counts]:
            raise ValueError(f"The context model has {slots.tolist()} slots a channel; the tables have other rows.")
        self.tables = tables
        self._context = context
        self._range_coder = load_range_coder()
        self._map = SlotMap(tables)

    def encode_batch(self, symbols: np.ndarray) -> list[bytes]:
        """Returns the payload of each latent of int32 [B, h, w, c], any values.

        Raises:
            ValueError: wrong dtype or shape.
        """
        payloads = []
        for part in self._parts(symbols):
            planes, escaped, slots, counts, side = self._in_order(part)
            for b in range(len(part)):
                excess = self._map.fold(planes[b], escaped[b])
                first = None if side is None else (side[0][b], side[1])
                payloads.append(self._range_coder.encode_with_counts(slots[b], counts[b], excess, first))
        return payloads

    def encode_joined(self, symbols: np.ndarray) -> bytes:
        """Returns one payload of all latents of int32 [B, h, w, c], any values.

        What stands at a place in each image comes one after the other; the places are in coding order.

        Raises:
            ValueError: wrong dtype or shape, or no image.
        """
        parts = self._parts(self._map.checked_group(np.asarray(symbols)))
        *found, sides = zip(*map(self._in_order, parts), strict=True)
        planes, escaped, slots, counts = map(np.concatenate, found)
        first = None
        if sides[0] is not None:
            first = np.concatenate([side[0] for side in sides]).T.reshape(-1), sides[0][1].repeat(len(planes), axis=0)
        excess = self._map.fold(np.moveaxis(planes, 0, -1), np.moveaxis(escaped, 0, -1))
        by_place = counts.transpose(1, 0, 2).reshape(-1, counts.shape[-1])
        return self._range_coder.encode_with_counts(slots.T.reshape(-1), by_place, excess, first)

    def decode_batch(self, payloads: Sequence[bytes], shape: tuple[int, int]) -> np.ndarray:
        """Returns the symbols, int32 [B, h, w, c], of payloads that share one latent grid (h, w).

        Raises:
            BitstreamError: no encoder can have written one of the payloads.
            ValueError: the shape is not two positive integers.
        """
        height, width = self._map.checked_grid(shape)
        in_step = isinstance(self._context, SerialContext)
        make_decoder = BatchDecoder if in_step else self._range_coder.SeparateDecoder
        parts = [np.empty((0, height, width, self.tables.channels), np.int32)]
        for start in range(0, len(payloads), _DECODED_AT_ONCE):
            some = payloads[start : start + _DECODED_AT_ONCE]
            decoder = make_decoder(some)
            planes, escaped = self._decode_slots(decoder, len(some), height, width)
            excesses = {
                b: decoder.decode_excess(b, int(np.count_nonzero(escaped[b])))
                for b in np.flatnonzero(escaped.any(axis=(1, 2, 3))).tolist()
            }
            parts.append(self._map.to_symbols(planes, excesses))
        return np.concatenate(parts)

    def decode_joined(self, payload: bytes, images: int, shape: tuple[int, int]) -> np.ndarray:
        """Returns the symbols, int32 [images, h, w, c], of a joined payload; errors as `decode_batch`."""
        decoder = self._range_coder.JoinedDecoder(payload, images)
        planes, escaped = self._decode_slots(decoder, images, *self._map.checked_grid(shape))
        excess = np.zeros(escaped.shape, np.int64)
        # They come in the order of the places, the images one after the other at each: as views [c, h, w, B] have them.
        np.moveaxis(excess, 0, -1)[np.moveaxis(escaped, 0, -1)] = decoder.decode_excess(int(np.count_nonzero(escaped)))
        excesses = {b: excess[b][escaped[b]] for b in np.flatnonzero(escaped.any(axis=(1, 2, 3))).tolist()}
        return self._map.to_symbols(planes, excesses)

    def bits(self, symbols: np.ndarray) -> np.ndarray:
        """Returns the exact code length of every symbol in bits, float64 [B, h, w, c], of int32 [B, h, w, c].

        The coder's own ending is not in it; an escaped symbol's slot and excess are. The bits of a hyperprior's own
        latent are shared out evenly over all symbols of the image.

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
            side = self._side(planes, escaped)
            if side is not None:
                found = np.take_along_axis(side[1], side[0].T, axis=-1)
                bits += (PRECISION - np.log2(found)).sum(axis=0)[:, None, None, None] / bits[0].size
            lengths.append(bits.transpose(0, 2, 3, 1))
        return np.concatenate(lengths)

    def _parts(self, symbols: np.ndarray) -> list[np.ndarray]:
        symbols = self._map.checked(np.asarray(symbols))
        images = max(1, min(_IMAGES_AT_ONCE, _PLACES_AT_ONCE // (symbols.shape[1] * symbols.shape[2])))
        return [symbols[start : start + images] for start in range(0, len(symbols), images)]

    def _in_order(self, part: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, Any]:
        """Returns what is coded of symbols int32 [B, h, w, c]; n places are in coding order.

        Returns:
            planes int32 and escaped bool, each [B, c, h, w]; slots int32 [B, n]; their counts int64 [B, n, slots]; and
            what `_side` returns.
        """
        planes, slots, escaped = self._map.to_slots(part)
        order = self._context.order(part.shape[1:3])
        counts = self._counts(planes, escaped).reshape(len(part), len(order), -1)[:, order]
        return planes, escaped, slots.reshape(len(part), -1)[:, order], counts, self._side(planes, escaped)

    def _counts(self, planes: np.ndarray, escaped: np.ndarray) -> np.ndarray:
        """Returns counts int64 [B, c, h, w, slots] of symbols int32 [B, c, h, w], all of them known."""
        return counts_of(self._context.logits(np.where(escaped, 0, planes)))

    def _side(self, planes: np.ndarray, escaped: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
        """Returns slots int32 [B, n] that come before all others, and their counts int64 [n, slots], or None."""
        if not isinstance(self._context, HyperpriorContext):
            return None
        slots, logits = self._context.side(np.where(escaped, 0, planes))
        return slots, counts_of(logits)

    def _decode_slots(self, decoder: Any, batch: int, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns the slots int32 that a decoder reads, and which of them are escaped, bool, each [B, c, h, w]."""
        order = self._context.order((height, width))
        minima, last = (np.repeat(x, height * width)[order][:, None] for x in (self._map.minima, self._map.last_slots))
        ordered = np.empty((len(order), batch), np.int32)
        done = 0

        def read(logits: np.ndarray, side: bool = False) -> np.ndarray:
            nonlocal done
            if side:
                return np.asarray(decoder.decode(counts_of(logits)))
            now = slice(done, done + len(logits))
            ordered[now] = found = decoder.decode(counts_of(logits))
            done = now.stop
            return np.where(found == last[now], 0, found + minima[now])

        self._context.decode(batch, (height, width), read)
        slots = np.empty((batch, len(order)), np.int32)
        slots[:, order] = ordered.T
        planes = slots.reshape(batch, self.tables.channels, height, width)
        return planes, planes == self._map.last_slots[:, None, None]
