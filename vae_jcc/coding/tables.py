"""Frozen integer tables: the only thing that turns bytes into symbols and back.

They are built once, on the host and in float64, from a trained prior; from then on they are data.
A receiver loads them and never rebuilds them, so no float can make two machines disagree.
"""

import hashlib
import heapq
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from vae_jcc.coding.errors import BitstreamError
from vae_jcc.coding.escape import INT32_MAX, INT32_MIN, excess_bits, fold

PRECISION = 24
MAX_SLOTS = 2**16
MAX_ROWS = 2**16

_MAGIC = b"VJCT"
_FORMAT_VERSION = 1
_HEADER = struct.Struct(">4sBBHI")  # magic, format version, precision, reserved (0), rows
_DIGEST_BYTES = 32


@dataclass(frozen=True, eq=False)
class CodingTables:
    """One row of integer counts per latent channel.

    Row k codes the symbols minima[k] .. maxima[k] in its slots 0 .. n-1, and every other 32-bit
    integer through its last slot, the escape slot. A slot's probability is count / 2**24.

    Attributes:
        minima: first symbol of each row.
        counts: for each row, uint32 [n + 1], read-only; each count >= 1, their sum 2**24.
        precision: log2 of every row's sum; 24 is the only one that format 1 knows.

    Raises:
        ValueError: on construction, when a row breaks one of these rules.
    """

    minima: tuple[int, ...]
    counts: tuple[np.ndarray, ...]
    precision: int = PRECISION

    def __post_init__(self) -> None:
        """Checks every rule of a row and freezes the arrays."""
        if self.precision != PRECISION:
            raise ValueError(f"The tables' precision is {self.precision}; it has to be {PRECISION}.")
        if not 1 <= len(self.counts) <= MAX_ROWS or len(self.counts) != len(self.minima):
            raise ValueError(
                f"Coding tables need 1..{MAX_ROWS} rows and a minimum for each; "
                f"got {len(self.counts)} rows and {len(self.minima)} minima."
            )
        rows = tuple(_checked_row(k, m, c) for k, (m, c) in enumerate(zip(self.minima, self.counts, strict=True)))
        object.__setattr__(self, "minima", tuple(int(m) for m in self.minima))
        object.__setattr__(self, "counts", rows)

    @classmethod
    def build(
        cls,
        pmfs: Sequence[np.ndarray],
        minima: Sequence[int],
        tail_masses: Sequence[float] | np.ndarray,
    ) -> "CodingTables":
        """Turns probabilities into counts with the least possible expected code length.

        Args:
            pmfs: for each row, float64 [n] >= 0, the probability of the symbols from its minimum on.
            minima: for each row, the first symbol.
            tail_masses: for each row, the probability of all other symbols together (both sides);
                it becomes the escape slot.

        A row and its tail are scaled to sum to 1 before they are rounded.

        Raises:
            ValueError: lengths differ, or a probability is negative or not finite, or a row is
                empty, too long, or zero throughout.
        """
        if not len(pmfs) == len(minima) == len(tail_masses):
            raise ValueError(
                "Every row needs a pmf, a minimum and a tail mass; got "
                f"{len(pmfs)}, {len(minima)} and {len(tail_masses)}."
            )
        rows = []
        for k, (pmf, tail) in enumerate(zip(pmfs, tail_masses, strict=True)):
            row = np.append(np.asarray(pmf, np.float64).ravel(), np.float64(tail))
            if not 2 <= len(row) <= MAX_SLOTS:
                raise ValueError(f"Row {k} has {len(row) - 1} symbols; 1..{MAX_SLOTS - 1} can be coded.")
            if not np.all(np.isfinite(row)) or row.min() < 0 or row.sum() <= 0:
                raise ValueError(
                    f"Row {k} holds a negative, infinite or undefined probability, or only zeros: "
                    "check the prior's parameters."
                )
            rows.append(_round_to_counts(row / row.sum(), 2**PRECISION))
        return cls(minima=tuple(int(m) for m in minima), counts=tuple(rows))

    @property
    def channels(self) -> int:
        """Number of rows, which is the number of latent channels."""
        return len(self.counts)

    @cached_property
    def maxima(self) -> tuple[int, ...]:
        """Last symbol of each row's support."""
        return tuple(m + len(c) - 2 for m, c in zip(self.minima, self.counts, strict=True))

    def __eq__(self, other: object) -> bool:
        """Tables are equal when their canonical bytes are."""
        return isinstance(other, CodingTables) and self.to_bytes() == other.to_bytes()

    def __hash__(self) -> int:
        """Hash of the canonical bytes."""
        return hash(self.fingerprint())

    def fingerprint(self) -> bytes:
        """Returns the SHA-256 of the canonical bytes, 32 bytes."""
        return hashlib.sha256(self.to_bytes()).digest()

    def to_bytes(self) -> bytes:
        """Returns the canonical bytes: the table file of docs/bitstream.md without its digest."""
        header = _HEADER.pack(_MAGIC, _FORMAT_VERSION, self.precision, 0, len(self.counts))
        index = b"".join(struct.pack(">iI", m, len(c)) for m, c in zip(self.minima, self.counts, strict=True))
        return header + index + np.concatenate(self.counts).astype(">u4").tobytes()

    @classmethod
    def from_bytes(cls, data: bytes, name: str = "coding tables") -> "CodingTables":
        """Reads canonical bytes; `name` stands for them in errors.

        Raises:
            BitstreamError: they are not coding tables, of a newer format, truncated, too long, or
                break a rule of the rows.
        """
        if data[:4] != _MAGIC[: len(data[:4])] or not data:
            raise BitstreamError(f"{name}: not a vae_jcc table file (its first bytes differ).")
        if len(data) < _HEADER.size:
            raise BitstreamError(f"{name}: truncated within the header.")
        _, version, precision, reserved, rows = _HEADER.unpack_from(data)
        if version != _FORMAT_VERSION or precision != PRECISION or reserved:
            raise BitstreamError(
                f"{name}: table format {version} with precision {precision}; this version reads "
                f"format {_FORMAT_VERSION} with precision {PRECISION}: update vae_jcc."
            )
        if not 1 <= rows <= MAX_ROWS:
            raise BitstreamError(f"{name}: altered, {rows} rows are not within 1..{MAX_ROWS}.")
        start = _HEADER.size + 8 * rows
        if len(data) < start:
            raise BitstreamError(f"{name}: truncated within the row index.")
        index = np.frombuffer(data, [("minimum", ">i4"), ("slots", ">u4")], rows, _HEADER.size)
        slots = index["slots"].astype(np.int64)
        expected = start + 4 * int(slots.sum())
        if len(data) != expected:
            problem = "truncated" if len(data) < expected else "followed by other bytes"
            raise BitstreamError(f"{name}: {problem} ({len(data)} bytes, {expected} expected).")
        counts = np.frombuffer(data, ">u4", offset=start).astype(np.uint32)
        try:
            return cls(
                minima=tuple(index["minimum"].tolist()),
                counts=tuple(np.split(counts, np.cumsum(slots)[:-1])),
            )
        except BitstreamError:
            raise
        except ValueError as error:
            raise BitstreamError(f"{name}: altered. {error}") from error

    def save(self, path: str | Path) -> None:
        """Writes the table file: canonical bytes, then their SHA-256."""
        data = self.to_bytes()
        Path(path).write_bytes(data + hashlib.sha256(data).digest())

    @classmethod
    def load(cls, path: str | Path) -> "CodingTables":
        """Reads a table file and checks its digest and every rule of the rows.

        Raises:
            BitstreamError: the file is not a table file, newer, truncated or altered.
            OSError: it cannot be read.
        """
        data = Path(path).read_bytes()
        if data[:4] != _MAGIC:
            raise BitstreamError(f"{path}: not a vae_jcc table file (its first bytes differ).")
        body, digest = data[:-_DIGEST_BYTES], data[-_DIGEST_BYTES:]
        if len(data) < _HEADER.size + _DIGEST_BYTES or hashlib.sha256(body).digest() != digest:
            raise BitstreamError(f"{path}: truncated or altered (its SHA-256 differs); copy the model's folder again.")
        return cls.from_bytes(body, str(path))

    def bits(self, symbols: np.ndarray) -> np.ndarray:
        """Returns the exact code length of every symbol in bits, without the coder's own overhead.

        Args:
            symbols: int32 [..., c].

        Returns:
            float64 [..., c]: bits of each symbol, an escaped one's slot and excess included.

        Raises:
            ValueError: the last axis is not the number of rows.
        """
        if symbols.ndim < 1 or symbols.shape[-1] != self.channels:
            raise ValueError(
                f"Symbols of shape {symbols.shape} do not fit {self.channels} rows: [..., {self.channels}] is needed."
            )
        flat = symbols.reshape(-1, self.channels)
        bits = np.empty(flat.shape, np.float64)
        for k, (low, high, counts) in enumerate(zip(self.minima, self.maxima, self.counts, strict=True)):
            column = flat[:, k].astype(np.int64)
            inside = (column >= low) & (column <= high)
            slots = np.where(inside, column - low, len(counts) - 1)
            bits[:, k] = self.precision - np.log2(counts.astype(np.float64))[slots]
            outside = column[~inside]
            if outside.size:
                bits[~inside, k] += excess_bits(fold(outside, np.asarray(low), np.asarray(high)))
        return bits.reshape(symbols.shape)

    def expected_bits(self, symbols: np.ndarray) -> np.ndarray:
        """Returns the bits of each image, float64 [...], of symbols int32 [..., h, w, c]: the sum of `bits`."""
        return self.bits(symbols).sum(axis=(-3, -2, -1))


def _checked_row(k: int, minimum: int, counts: np.ndarray) -> np.ndarray:
    """Returns the row as a read-only uint32 copy, or raises ValueError naming the broken rule."""
    wide = np.asarray(counts)
    if wide.ndim != 1 or not np.issubdtype(wide.dtype, np.integer):
        raise ValueError(f"Row {k}: counts have to be a vector of integers.")
    if not 2 <= len(wide) <= MAX_SLOTS:
        raise ValueError(f"Row {k} has {len(wide)} slots; 2..{MAX_SLOTS} are allowed.")
    if wide.min() < 1:
        raise ValueError(f"Row {k} has a slot without a count: its symbol could not be coded.")
    total = int(wide.sum(dtype=np.int64))
    if wide.max() >= 2**PRECISION or total != 2**PRECISION:
        raise ValueError(f"Row {k} sums to {total}, not to 2**{PRECISION}.")
    if not INT32_MIN <= minimum <= INT32_MAX - (len(wide) - 2):
        raise ValueError(f"Row {k}: its symbols from {minimum} on leave the range of 32-bit integers.")
    row = wide.astype(np.uint32)
    row.flags.writeable = False
    return row


def _round_to_counts(p: np.ndarray, total: int) -> np.ndarray:
    """Returns counts >= 1, int64 [n], that sum to `total` and minimise sum(-p * log(counts)).

    The cost is separable and convex, so greedy single steps from the floor of p * total reach
    the minimum (ties go to the lower index); the exchanges at the end settle what flooring at
    one count left unsettled.
    """
    counts = np.maximum(np.floor(p * total).astype(np.int64), 1)
    missing = total - int(counts.sum())
    step = 1 if missing > 0 else -1
    heap = [(_price(p[i], counts[i], step), i) for i in range(len(p))]
    heapq.heapify(heap)
    for _ in range(abs(missing)):
        _, i = heapq.heappop(heap)
        counts[i] += step
        heapq.heappush(heap, (_price(p[i], counts[i], step), i))
    while True:
        gain = p * np.log1p(1 / counts)
        with np.errstate(divide="ignore", invalid="ignore"):
            loss = np.where(counts > 1, -p * np.log1p(-1 / counts), np.inf)
        buyer, seller = int(np.argmax(gain)), int(np.argmin(loss))
        # The margin keeps rounding errors from trading the same count back and forth for ever.
        if buyer == seller or gain[buyer] <= loss[seller] * (1 + 1e-9):
            return counts
        counts[buyer] += 1
        counts[seller] -= 1


def _price(p: float, count: int, step: int) -> float:
    """Cost, in nats, of changing a count by `step` (+1 or -1); infinite below one count."""
    if step < 0 and count <= 1:
        return float("inf")
    return float(-p * np.log1p(step / count))
