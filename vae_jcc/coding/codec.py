"""Latent symbols to payload bytes and back.

symbols i32 [h, w, c] --> slots [c, h*w] (channel by channel) --> EntropyCoder --> bytes
                             |
                             +-- outside the row: escape slot + excess
"""

from collections.abc import Sequence

import numpy as np

from vae_jcc.coding import escape
from vae_jcc.coding.coder import RANGE_CODER, make_coder
from vae_jcc.coding.tables import CodingTables


class LatentCodec:
    """Codes latents with frozen tables; a payload is bytes without header or checksum.

    A payload has no redundancy: damaged ones decode to wrong symbols in silence. Keep them in the
    container (`pack_file`, `pack_stream`), which carries sizes, fingerprint and checksum.
    """

    def __init__(self, tables: CodingTables, coder_id: int = RANGE_CODER) -> None:
        """Prepares a coder for the tables.

        Raises:
            BitstreamError: this version has no coder with this id.
        """
        self.tables = tables
        self._coder = make_coder(coder_id, tables.counts)
        self._minima = np.array(tables.minima, np.int32)[:, None]
        self._last_slots = np.array([len(c) - 1 for c in tables.counts], np.uint32)[:, None]

    @property
    def coder_id(self) -> int:
        """Id of the entropy coder, for the container's header."""
        return self._coder.coder_id

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
        symbols = np.asarray(symbols)
        self._check(symbols)
        batch, height, width, channels = symbols.shape
        # Differences wrap around within 32 bits, so that one unsigned comparison finds both sides.
        planes = symbols.transpose(0, 3, 1, 2).reshape(batch, channels, height * width)
        offsets = (planes - self._minima).view(np.uint32)
        slots = np.minimum(offsets, self._last_slots)
        escaped = slots == self._last_slots
        with_escapes = set(np.flatnonzero(escaped.any(axis=(1, 2))).tolist())
        slots = slots.view(np.int32)
        return [
            self._coder.encode(s, self._fold(planes[b], escaped[b]) if b in with_escapes else None)
            for b, s in enumerate(slots)
        ]

    def decode_batch(self, payloads: Sequence[bytes], shape: tuple[int, int]) -> np.ndarray:
        """Returns the symbols, int32 [B, h, w, c], of payloads that share one latent grid (h, w).

        Raises:
            BitstreamError: no encoder can have written one of the payloads.
            ValueError: the shape is not two positive integers.
        """
        height, width = shape
        if height < 1 or width < 1:
            raise ValueError(f"A latent grid of {height} x {width} holds nothing: check the sizes.")
        slots = np.empty((len(payloads), self.tables.channels, height * width), np.int32)
        excesses = {}
        for b, payload in enumerate(payloads):
            excess = self._coder.decode(payload, slots[b])
            if excess is not None:
                excesses[b] = excess
        planes = slots + self._minima
        for b, excess in excesses.items():
            planes[b] = self._unfold(planes[b], slots[b], excess)
        grid = planes.reshape(len(payloads), self.tables.channels, height, width)
        return np.ascontiguousarray(grid.transpose(0, 2, 3, 1))

    def _check(self, symbols: np.ndarray) -> None:
        if symbols.dtype != np.int32:
            raise ValueError(f"Symbols have to be int32, not {symbols.dtype}.")
        if symbols.ndim != 4 or symbols.shape[3] != self.tables.channels or 0 in symbols.shape[1:3]:
            raise ValueError(
                f"Symbols of shape {symbols.shape[1:]} do not fit tables of "
                f"{self.tables.channels} channels: [h, w, {self.tables.channels}] is needed."
            )

    def _bounds(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        minima = np.array(self.tables.minima, np.int64)
        return minima[rows], np.array(self.tables.maxima, np.int64)[rows]

    def _fold(self, plane: np.ndarray, escaped: np.ndarray) -> np.ndarray:
        """Returns the excesses of the escaped symbols of one image, in coding order."""
        return escape.fold(plane[escaped], *self._bounds(np.nonzero(escaped)[0]))

    def _unfold(self, plane: np.ndarray, slots: np.ndarray, excess: np.ndarray) -> np.ndarray:
        """Returns one image's symbols with the escaped ones put in."""
        escaped = slots == self._last_slots.view(np.int32)
        plane[escaped] = escape.unfold(excess, *self._bounds(np.nonzero(escaped)[0]))
        return plane
