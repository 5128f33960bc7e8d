"""What the rest of the package knows of an entropy coder, and the coders that there are.

A coder turns one message into bytes and back: rows of slots, then the excesses of the escaped ones. Its id is its place
in CODERS and travels in the container's header, so whoever reads a file knows which one made it.
"""

from collections.abc import Sequence
from types import ModuleType
from typing import Protocol

import numpy as np

from vae_jcc.coding.errors import BitstreamError

# By id, as docs/bitstream.md numbers them: our own range coder, and tensorflow-compression's.
CODERS = ("range", "tfc")
RANGE_CODER, TFC_CODER = 0, 1


class EntropyCoder(Protocol):
    """Codes the slots of one image with the rows that it was made for.

    Slot len(row) - 1 of a row is its escape slot; each one in the message has an excess, in the
    order of the slots (row by row, each row in raster order).
    """

    coder_id: int

    def encode(self, slots: np.ndarray, excess: np.ndarray | None) -> bytes:
        """Returns the message of slots, int32 [c, n], with excesses, int64 [escapes] or None."""

    def decode(self, message: bytes, out: np.ndarray) -> np.ndarray | None:
        """Fills `out`, contiguous int32 [c, n], with slots; returns the excesses (None: no escapes).

        Raises:
            BitstreamError: no encoder can have written the message.
        """


def make_coder(name: str, rows: Sequence[np.ndarray]) -> EntropyCoder:
    """Returns the coder with this name in CODERS, made for rows of counts.

    Raises:
        BitstreamError: the library that runs it is not installed; the message has the command that brings it.
        ValueError: there is no such coder.
    """
    if name not in CODERS:
        raise ValueError(f"There is no entropy coder {name!r}: choose {' or '.join(CODERS)}.")
    # Imported here, so that this room loads where only one of the two libraries is installed.
    if name == "tfc":
        from vae_jcc.coding.tfc_coder import TfcCoder

        return TfcCoder(rows)
    coder: EntropyCoder = load_range_coder().RangeCoder(rows)
    return coder


def load_range_coder() -> ModuleType:
    """Returns the module `range_coder`.

    Raises:
        BitstreamError: its library is not installed.
    """
    try:
        from vae_jcc.coding import range_coder
    except ModuleNotFoundError as error:
        raise BitstreamError("The range coder needs constriction: pip install 'constriction==0.5.*'.") from error
    return range_coder
