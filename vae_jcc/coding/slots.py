"""Symbols and the slots of their rows: slot i of channel k is the symbol minima[k] + i, the last slot is the escape."""

import numpy as np

from vae_jcc.coding import escape
from vae_jcc.coding.tables import CodingTables


class SlotMap:
    """Maps latents int32 [B, h, w, c] to slots [B, c, h, w] and back, escaped symbols included."""

    def __init__(self, tables: CodingTables) -> None:
        self.channels = tables.channels
        self.minima = np.array(tables.minima, np.int32)
        self.last_slots = np.array([len(row) - 1 for row in tables.counts], np.int32)
        self._low, self._high = np.array(tables.minima, np.int64), np.array(tables.maxima, np.int64)

    def checked(self, symbols: np.ndarray) -> np.ndarray:
        """Returns symbols if they are int32 [B, h, w, c] of this many channels.

        Raises:
            ValueError: they are not.
        """
        if symbols.dtype != np.int32:
            raise ValueError(f"Symbols have to be int32, not {symbols.dtype}.")
        if symbols.ndim != 4 or symbols.shape[3] != self.channels or 0 in symbols.shape[1:3]:
            raise ValueError(
                f"Symbols of shape {symbols.shape[1:]} do not fit tables of "
                f"{self.channels} channels: [h, w, {self.channels}] is needed."
            )
        return symbols

    def checked_group(self, symbols: np.ndarray) -> np.ndarray:
        """Returns symbols if they are as in `checked`, of one image at least.

        Raises:
            ValueError: they are not.
        """
        if not len(self.checked(symbols)):
            raise ValueError("A joined payload needs images; got none.")
        return symbols

    def checked_grid(self, shape: tuple[int, int]) -> tuple[int, int]:
        """Returns (h, w) if both are positive.

        Raises:
            ValueError: they are not.
        """
        height, width = shape
        if height < 1 or width < 1:
            raise ValueError(f"A latent grid of {height} x {width} holds nothing: check the sizes.")
        return height, width

    def to_slots(self, symbols: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns planes int32, slots int32 and escaped bool, each [B, c, h, w], of symbols int32 [B, h, w, c]."""
        planes = np.ascontiguousarray(symbols.transpose(0, 3, 1, 2))
        # Differences wrap around within 32 bits, so that one unsigned comparison finds both sides.
        offsets = (planes - self.minima[:, None, None]).view(np.uint32)
        last = self.last_slots[:, None, None].view(np.uint32)
        slots = np.minimum(offsets, last)
        return planes, slots.view(np.int32), slots == last

    def to_symbols(self, slots: np.ndarray, excesses: dict[int, np.ndarray]) -> np.ndarray:
        """Returns symbols int32 [B, h, w, c] of slots int32 [B, c, h, w].

        Args:
            slots: as decoded.
            excesses: image to the excesses of its escape slots, int64, in coding order.

        Raises:
            BitstreamError: an excess leads beyond 32 bits.
        """
        planes = slots + self.minima[:, None, None]
        for b, excess in excesses.items():
            escaped = slots[b] == self.last_slots[:, None, None]
            planes[b][escaped] = escape.unfold(excess, *self._bounds(escaped))
        return np.ascontiguousarray(planes.transpose(0, 2, 3, 1))

    def fold(self, planes: np.ndarray, escaped: np.ndarray) -> np.ndarray:
        """Returns the excesses, int64, of one image's escaped symbols in coding order; both are [c, h, w]."""
        return escape.fold(planes[escaped], *self._bounds(escaped))

    def _bounds(self, escaped: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        channels = np.nonzero(escaped)[0]
        return self._low[channels], self._high[channels]
