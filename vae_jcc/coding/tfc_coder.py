"""The range coder of tensorflow-compression (TFC), for exchange with those who use it; docs/tfc.md.

The message is that of docs/bitstream.md, sections 4 and 6, with counts of 16 bits, the most that TFC takes. Its own
escape code (rows of negative precision) is not used: it cannot code every 32-bit integer, and it reads altered data
for ever. With rows of positive precision every byte string decodes to slots, and `entropy_decode_finalize` says whether
an encoder can have written it.
"""

import os
from collections.abc import Sequence
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np

from vae_jcc.coding import escape
from vae_jcc.coding.coder import TFC_CODER
from vae_jcc.coding.errors import BitstreamError
from vae_jcc.coding.tables import PRECISION

_BITS = 16
MAKE_ENVIRONMENT = (
    "python3.11 -m venv tfc && tfc/bin/pip install -r requirements-tfc.txt && tfc/bin/pip install --no-deps -e ."
)


class TfcCoder:
    """TFC's range coder: 32-bit state, 16-bit words, 16-bit counts."""

    coder_id = TFC_CODER

    def __init__(self, rows: Sequence[np.ndarray]) -> None:
        """Prepares TFC's lookup table of rows, each integers [slots] that sum to 2**24.

        Raises:
            BitstreamError: tensorflow-compression is not installed.
        """
        self._tf, self._tfc = _load()
        # One vector for all rows; each is its precision, then its cumulative counts from 0 to 2**16.
        table = [
            np.concatenate([[_BITS, 0], np.cumsum(to_16_bits(row))])
            for row in (*rows, escape.CLASS_COUNTS, escape.BIT_COUNTS)
        ]
        self._lookup = self._tf.constant(np.concatenate(table), self._tf.int32)
        self._last = np.array([[len(row) - 1] for row in rows], np.int32)
        self._classes, self._bits = len(rows), len(rows) + 1  # places of the two fixed rows

    def encode(self, slots: np.ndarray, excess: np.ndarray | None) -> bytes:
        """Returns the message of slots, int32 [c, n], with excesses, int64 [escapes] or None."""
        rows, values = [self._row_of_slots(slots.shape[1])], [slots.reshape(-1)]
        if excess is not None and len(excess):
            for row, part in zip((self._classes, self._bits), escape.to_classes_and_bits(excess), strict=True):
                rows.append(np.full(len(part), row, np.int32))
                values.append(part)
        encoder = self._tfc.create_range_encoder([], self._lookup)
        encoder = self._tfc.entropy_encode_index(encoder, np.concatenate(rows), np.concatenate(values))
        return bytes(self._tfc.entropy_encode_finalize(encoder).numpy())

    def decode(self, message: bytes, out: np.ndarray) -> np.ndarray | None:
        """Fills `out`, contiguous int32 [c, n], with slots; returns the excesses (None: no escapes).

        Raises:
            BitstreamError: no encoder can have written the message.
        """
        decoder = self._tfc.create_range_decoder(message, self._lookup)
        out[...] = self._read(decoder, self._row_of_slots(out.shape[1])).reshape(out.shape)
        escapes, excess = int(np.count_nonzero(out == self._last)), None
        if escapes:
            read_classes, read_bits = (partial(self._read_row, decoder, row) for row in (self._classes, self._bits))
            excess = escape.read_excesses(read_classes, read_bits, escapes)
        if not self._tfc.entropy_decode_finalize(decoder).numpy():
            raise BitstreamError("The payload is altered: it is no message of these tables.")
        return excess

    def _row_of_slots(self, amount: int) -> np.ndarray:
        return np.repeat(np.arange(len(self._last), dtype=np.int32), amount)

    def _read_row(self, decoder: Any, row: int, amount: int) -> np.ndarray:
        return self._read(decoder, np.full(amount, row, np.int32))

    def _read(self, decoder: Any, rows: np.ndarray) -> np.ndarray:
        """Returns the next slots, int32 [n], each under its row; the decoder itself moves on."""
        _, slots = self._tfc.entropy_decode_index(decoder, rows, rows.shape, self._tf.int32)
        return np.asarray(slots)


def to_16_bits(row: np.ndarray) -> np.ndarray:
    """Returns counts int64 [slots] that sum to 2**16, each at least 1, of counts that sum to 2**24.

    What rounding down leaves over goes to the first of the largest slots.
    """
    wide = np.asarray(row, np.int64)
    counts = 1 + (wide * (2**_BITS - len(wide)) >> PRECISION)
    counts[np.argmax(wide)] += 2**_BITS - counts.sum()
    return counts


def _load() -> tuple[Any, Any]:
    """Returns the modules tensorflow and tensorflow_compression."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # it reports every accelerator that it does not find
    try:
        tensorflow_compression = import_module("tensorflow_compression")
        return import_module("tensorflow"), tensorflow_compression
    except ImportError as error:
        raise BitstreamError(
            "Entropy coder tfc needs tensorflow-compression, which cannot be installed beside JAX (docs/tfc.md). Make "
            f"its environment in a checkout of vae_jcc, and code or recode there: {MAKE_ENVIRONMENT}"
        ) from error
