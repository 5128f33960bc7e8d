"""The range coder of docs/bitstream.md, run by the constriction library, which takes its tables as floats.

For n slots it sets

    cdf[i] = floor(sum(p[:i]) * scale) + i    with    scale = (2**24 - n) / sum(p)

(`perfect=False`). With p = counts - 1 every term is an integer below 2**24, scale is exactly 1
and cdf is exactly the cumulative sum of the counts: no float takes part in a decision.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import constriction
import numpy as np

from vae_jcc.coding import escape
from vae_jcc.coding.coder import RANGE_CODER
from vae_jcc.coding.errors import BitstreamError

_queue: Any = constriction.stream.queue
_Categorical: Any = constriction.stream.model.Categorical
_CLASSES = _Categorical(escape.CLASS_COUNTS - 1.0, perfect=False)
_BITS = _Categorical(escape.BIT_COUNTS - 1.0, perfect=False)
_BY_SYMBOL = _Categorical(perfect=False)

# A call of the library costs about as much as coding 20 symbols. Below this many table entries a
# plane, one call with a table per symbol is faster in both directions than one call per row.
_SMALL_PLANE_ENTRIES = 256


class RangeCoder:
    """The range coder: 64-bit state, 32-bit words, 24-bit counts, shortest possible ending."""

    coder_id = RANGE_CODER

    def __init__(self, rows: Sequence[np.ndarray]) -> None:
        """Prepares the library's models of rows, each integers [slots] that sum to 2**24."""
        self._rows = [np.asarray(row, np.float64) - 1.0 for row in rows]
        self._models = [_Categorical(row, perfect=False) for row in self._rows]
        self._last = np.array([[len(row) - 1] for row in rows], np.int32)
        self._longest = int(self._last.max()) + 1
        self._small: tuple[int, np.ndarray] | None = None

    def encode(self, slots: np.ndarray, excess: np.ndarray | None) -> bytes:
        """Returns the message of slots, int32 [c, n], with excesses, int64 [escapes] or None."""
        encoder = _queue.RangeEncoder()
        if self._is_small(slots.shape[1]):
            encoder.encode(slots.reshape(-1), _BY_SYMBOL, self._table_per_symbol(slots.shape[1]))
        else:
            for plane, model in zip(slots, self._models, strict=True):
                encoder.encode(plane, model)
        return _end_message(encoder, excess)

    def decode(self, message: bytes, out: np.ndarray) -> np.ndarray | None:
        """Fills `out`, contiguous int32 [c, n], with slots; returns the excesses (None: no escapes)."""
        return _guarded(self._decode, _open_message(message), out)

    def _decode(self, decoder: Any, out: np.ndarray) -> np.ndarray | None:
        amount = out.shape[1]
        if self._is_small(amount):
            table = self._table_per_symbol(amount)
            out[...] = decoder.decode(_BY_SYMBOL, table).reshape(out.shape)
        else:
            decode = decoder.decode
            np.concatenate([decode(model, amount) for model in self._models], out=out.reshape(-1))
        escaped = out == self._last
        if not escaped.any():
            return None
        return _read_excess(decoder, int(np.count_nonzero(escaped)))

    def _is_small(self, amount: int) -> bool:
        return amount * self._longest <= _SMALL_PLANE_ENTRIES

    def _table_per_symbol(self, amount: int) -> np.ndarray:
        """Returns the rows as float64 [c * amount, slots], padded with slots of no count (p = -1).

        A padded slot adds -1 + 1 to the library's cumulative sum, so it is empty and never found.
        The last one asked for is kept: the images of a data set have one size.
        """
        small = self._small  # read once: another thread may replace it
        if small is None or small[0] != amount:
            table = np.full((len(self._rows), self._longest), -1.0)
            for line, row in zip(table, self._rows, strict=True):
                line[: len(row)] = row
            self._small = small = amount, np.repeat(table, amount, axis=0)
        return small[1]


def encode_with_counts(
    slots: np.ndarray,
    counts: np.ndarray,
    excess: np.ndarray | None,
    side: tuple[np.ndarray, np.ndarray] | None = None,
) -> bytes:
    """Returns the message of slots, int32 [n], each under counts of its own.

    Args:
        slots: in coding order.
        counts: int64 [n, slots], each row sums to 2**24; slots without a count stand at the end of a row.
        excess: of the escaped slots in coding order, int64, or None.
        side: slots int32 [m] and counts int64 [m, slots] that come before all others.
    """
    encoder = _queue.RangeEncoder()
    if side is not None:
        encoder.encode(np.ascontiguousarray(side[0]), _BY_SYMBOL, side[1] - 1.0)
    encoder.encode(slots, _BY_SYMBOL, counts - 1.0)  # an absent slot's -1 cancels against the +1 of cdf
    return _end_message(encoder, excess)


class SeparateDecoder:
    """Decodes B messages, many symbols of each at a time: `BatchDecoder` for models that know many counts at once."""

    def __init__(self, messages: Sequence[bytes]) -> None:
        """Reads the messages as if zeros followed each.

        Raises:
            BitstreamError: a message ends in a zero byte, which no encoder writes.
        """
        self._decoders = [_open_message(message) for message in messages]

    def decode(self, counts: np.ndarray) -> np.ndarray:
        """Returns the next n slots of each message, int32 [n, B], under counts int64 [n, B, slots] that sum to 2**24.

        Raises:
            BitstreamError: no encoder can have written one of the messages.
        """
        tables = np.ascontiguousarray(counts.transpose(1, 0, 2) - 1.0)
        return np.stack(
            [_guarded(d.decode, _BY_SYMBOL, t) for d, t in zip(self._decoders, tables, strict=True)], axis=1
        )

    def decode_excess(self, image: int, escapes: int) -> np.ndarray:
        """Returns the excesses, int64 [escapes], at the end of one message.

        Raises:
            BitstreamError: no encoder can have written the message.
        """
        return _guarded(_read_excess, self._decoders[image], escapes)


class JoinedDecoder:
    """Decodes one message that holds the symbols of B images: at each place those of all images, one after the other.

    `BatchDecoder` and `SeparateDecoder` read B messages in place of it.
    """

    def __init__(self, message: bytes, images: int) -> None:
        """Reads the message of B images as if zeros followed.

        Raises:
            BitstreamError: the message ends in a zero byte, which no encoder writes.
        """
        self._decoder, self._images = _open_message(message), images

    def decode(self, counts: np.ndarray) -> np.ndarray:
        """Returns the next n slots of each image, int32 [n, B], under counts int64 [n, B, slots] that sum to 2**24.

        Raises:
            BitstreamError: no encoder can have written the message.
        """
        tables = np.ascontiguousarray(counts.reshape(-1, counts.shape[-1]) - 1.0)
        return np.asarray(_guarded(self._decoder.decode, _BY_SYMBOL, tables)).reshape(-1, self._images)

    def decode_excess(self, escapes: int) -> np.ndarray:
        """Returns the excesses, int64 [escapes], at the end of the message.

        Raises:
            BitstreamError: no encoder can have written the message.
        """
        return _guarded(_read_excess, self._decoder, escapes)


def _open_message(message: bytes) -> Any:
    if message[-1:] == b"\0":
        raise BitstreamError("The payload is altered: it ends in a zero byte that means nothing.")
    padded = message + b"\0" * (-len(message) % 4)
    return _queue.RangeDecoder(np.frombuffer(padded, ">u4").astype(np.uint32))


def _read_excess(decoder: Any, escapes: int) -> np.ndarray:
    return escape.read_excesses(partial(decoder.decode, _CLASSES), partial(decoder.decode, _BITS), escapes)


def _end_message(encoder: Any, excess: np.ndarray | None) -> bytes:
    if excess is not None and len(excess):
        classes, bits = escape.to_classes_and_bits(excess)
        encoder.encode(classes, _CLASSES)
        encoder.encode(bits, _BITS)
    return _shortest_message(encoder)


def _guarded(decode: Callable[..., Any], *args: Any) -> Any:
    """Calls `decode` and turns whatever the library raises on bad data into BitstreamError."""
    try:
        return decode(*args)
    except BitstreamError:
        raise
    except BaseException as error:
        # A panic of the library derives from BaseException; an interrupt has to pass through.
        if isinstance(error, (AssertionError, ValueError)) or type(error).__name__ == "PanicException":
            raise BitstreamError("The payload is altered: it is no message of these tables.") from error
        raise


def _shortest_message(encoder: Any) -> bytes:
    """Ends the message with the fewest bytes that decode, read as if zeros followed.

    After the last symbol any number within [low, low + size) decodes; `low` is the coder's state,
    64 bits that come after the words already settled. The number with the most trailing zero
    bytes is written without them (the smallest, where several are that short).
    """
    settled, (low, size) = encoder.pos()
    words = encoder.get_compressed().astype(">u4").tobytes()
    head = words[: 4 * settled]
    # The library has already ended the message with low + 2**32 - 1; if that overflowed the 64
    # bits, the carry is in `head`, and seen from there the interval starts below zero.
    if low > 2**64 - 2**32:
        low -= 2**64
    for length in range(5):
        shift = 64 - 8 * length
        ending = -(-low >> shift)
        if (ending << shift) < low + size:
            break
    if length:
        return head + ending.to_bytes(length, "big")
    if ending:  # the interval reaches past the 64 bits: carry into the settled words
        head = head.rstrip(b"\xff")
        return head[:-1] + bytes([head[-1] + 1])
    return head.rstrip(b"\0")
