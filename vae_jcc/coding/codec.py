"""Latent symbols to payload bytes and back.

symbols i32 [h, w, c] --> slots [c, h*w] (channel by channel) --> EntropyCoder --> bytes
                             |
                             +-- outside the row: escape slot + excess
"""

from collections.abc import Iterable, Sequence

import numpy as np

from vae_jcc.coding.batch_decoder import BatchDecoder
from vae_jcc.coding.batch_encoder import BatchEncoder
from vae_jcc.coding.coder import RANGE_CODER, make_coder
from vae_jcc.coding.one_latent import OneLatent
from vae_jcc.coding.slots import SlotMap
from vae_jcc.coding.tables import CodingTables

# From so many images on, a few NumPy operations for all of them beat a library call for each; the bytes are the same.
_IN_STEP_FROM = 1024
_IN_STEP_AT_ONCE = 8192  # so that the state of all stays in the processor's cache


class LatentCodec(OneLatent):
    """Codes latents with frozen tables; a payload is bytes without header or checksum.

    A payload has no redundancy: damaged ones decode to wrong symbols in silence. Keep them in the
    container (`pack_file`, `pack_stream`), which carries sizes, fingerprint and checksum.
    """

    def __init__(self, tables: CodingTables, coder: str = "range") -> None:
        """Prepares the coder with this name in CODERS for the tables.

        Raises:
            BitstreamError: the library that runs it is not installed; the message has the command that brings it.
            ValueError: there is no such coder.
        """
        self.tables = tables
        self._coder = make_coder(coder, tables.counts)
        self._map = SlotMap(tables)

    @property
    def coder_id(self) -> int:
        """Id of the entropy coder, for the container's header."""
        return self._coder.coder_id

    def encode_batch(self, symbols: np.ndarray) -> list[bytes]:
        """Returns the payload of each latent of int32 [B, h, w, c], any values.

        Raises:
            ValueError: wrong dtype or shape.
        """
        planes, slots, escaped = self._map.to_slots(self._map.checked(np.asarray(symbols)))
        with_escapes = set(np.flatnonzero(escaped.any(axis=(1, 2, 3))).tolist())
        flat = slots.reshape(*slots.shape[:2], slots.shape[2] * slots.shape[3])
        in_step = self._goes_in_step(len(flat))
        payloads = self._encode_in_step(flat) if in_step else [b""] * len(flat)
        for b in with_escapes if in_step else range(len(flat)):
            excess = self._map.fold(planes[b], escaped[b]) if b in with_escapes else None
            payloads[b] = self._coder.encode(flat[b], excess)
        return payloads

    def bits(self, symbols: np.ndarray) -> np.ndarray:
        """Returns the exact code length of every symbol in bits, float64 [B, h, w, c], of int32 [B, h, w, c].

        That is by the tables' 24-bit counts; the coder's own ending is not in it.
        """
        return self.tables.bits(symbols)

    def decode_batch(self, payloads: Sequence[bytes], shape: tuple[int, int]) -> np.ndarray:
        """Returns the symbols, int32 [B, h, w, c], of payloads that share one latent grid (h, w).

        Raises:
            BitstreamError: no encoder can have written one of the payloads.
            ValueError: the shape is not two positive integers.
        """
        height, width = self._map.checked_grid(shape)
        if self._goes_in_step(len(payloads)):
            slots = self._decode_in_step(payloads, height * width)
            escaped = np.any(slots == self._map.last_slots[:, None], axis=(1, 2))
            again: Iterable[int] = np.flatnonzero(escaped).tolist()
        else:
            slots = np.empty((len(payloads), self.tables.channels, height * width), np.int32)
            again = range(len(payloads))
        excesses = {}
        for b in again:
            excess = self._coder.decode(payloads[b], slots[b])
            if excess is not None:
                excesses[b] = excess
        return self._map.to_symbols(slots.reshape(len(payloads), self.tables.channels, height, width), excesses)

    def encode_joined(self, symbols: np.ndarray) -> bytes:
        """Returns one payload of all latents of int32 [B, h, w, c], any values.

        It is that of one latent [h * w, B, c]: what stands at a place in each image comes one after the other.

        Raises:
            ValueError: wrong dtype or shape, or no image.
        """
        images, height, width, channels = self._map.checked_group(np.asarray(symbols)).shape
        return self.encode(symbols.transpose(1, 2, 0, 3).reshape(height * width, images, channels))

    def decode_joined(self, payload: bytes, images: int, shape: tuple[int, int]) -> np.ndarray:
        """Returns the symbols, int32 [images, h, w, c], of a joined payload; errors as `decode_batch`."""
        height, width = self._map.checked_grid(shape)
        symbols = self.decode(payload, (height * width, images))
        return np.ascontiguousarray(symbols.reshape(height, width, images, -1).transpose(2, 0, 1, 3))

    def _goes_in_step(self, images: int) -> bool:
        return images >= _IN_STEP_FROM and self.coder_id == RANGE_CODER

    def _encode_in_step(self, slots: np.ndarray) -> list[bytes]:
        """Returns the messages of slots int32 [B, c, places] of many images at once; excesses are left out."""
        messages = []
        for start in range(0, len(slots), _IN_STEP_AT_ONCE):
            part = slots[start : start + _IN_STEP_AT_ONCE]
            encoder = BatchEncoder(len(part))
            for k, row in enumerate(self.tables.counts):
                encoder.encode_row(np.ascontiguousarray(part[:, k].T), row.astype(np.int64))
            messages += encoder.finish()
        return messages

    def _decode_in_step(self, payloads: Sequence[bytes], places: int) -> np.ndarray:
        """Returns the slots int32 [B, c, places] of many payloads at once; excesses are left unread."""
        parts = []
        for start in range(0, len(payloads), _IN_STEP_AT_ONCE):
            decoder = BatchDecoder(payloads[start : start + _IN_STEP_AT_ONCE])
            rows = [decoder.decode_row(row.astype(np.int64), places) for row in self.tables.counts]
            parts.append(np.stack(rows).transpose(2, 0, 1))
        return np.ascontiguousarray(np.concatenate(parts))
