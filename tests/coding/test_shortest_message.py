"""A second encoder, in exact integers from docs/bitstream.md's definition, writes the library's bytes."""

import numpy as np
import pytest

from vae_jcc.coding import BitstreamError, CodingTables, LatentCodec

CLASSES = [2 ** (23 - k) for k in range(17)] + [8] * 16
BITS = [2**23, 2**23]
TOTAL = 2**24


def slots_of(symbols: np.ndarray, tables: CodingTables) -> list[tuple[list[int], int]]:
    """Returns (row, slot) of everything that the message of symbols [h, w, c] holds, in order."""
    slots, excesses = [], []
    for k, counts in enumerate(tables.counts):
        row, low = counts.tolist(), tables.minima[k]
        high = low + len(row) - 2
        for s in symbols[..., k].ravel().tolist():
            if low <= s <= high:
                slots.append((row, s - low))
            else:
                slots.append((row, len(row) - 1))
                excesses.append(2 * (s - high - 1) if s > high else 2 * (low - 1 - s) + 1)
    widths = [(e + 1).bit_length() - 1 for e in excesses]
    slots += [(CLASSES, k) for k in widths]
    return slots + [(BITS, (e + 1) >> i & 1) for e, k in zip(excesses, widths, strict=True) for i in reversed(range(k))]


def encode(slots: list[tuple[list[int], int]]) -> bytes:
    """The shortest byte string whose number lies in the interval of the slots, and of those the smallest."""
    low, size, bits = 0, 2**64 - 1, 64
    for row, slot in slots:
        scale = size >> 24
        low, size = low + scale * sum(row[:slot]), scale * row[slot]
        if size < 2**32:
            low, size, bits = low << 32, size << 32, bits + 32
    for length in range(bits // 8 + 1):
        shift = bits - 8 * length
        value = -(-low >> shift)
        if value << shift < low + size:
            return value.to_bytes(length, "big")
    raise AssertionError("No string fits.")


@pytest.mark.parametrize("shape", [(8, 8, 12), (1, 1, 1), (1, 1, 40), (3, 7, 2), (20, 20, 3)])
def test_writes_the_librarys_bytes(shape, make_tables, draw):
    height, width, channels = shape
    tables = make_tables(channels)
    symbols = draw(tables, 20, height, width)
    symbols[0, 0, 0, 0], symbols[1, -1, -1, -1] = -(2**31), 2**31 - 1
    for image, payload in zip(symbols, LatentCodec(tables).encode_batch(symbols), strict=True):
        assert encode(slots_of(image, tables)) == payload


def test_writes_the_librarys_bytes_where_carries_run_through_many_words(rng):
    # Nearly all of the mass at one end keeps the interval beside a multiple of 2**64, where carries and runs of ff are.
    third = TOTAL // 3
    rows = [[1, TOTAL - 2, 1], [TOTAL - 2, 1, 1], [1, 1, TOTAL - 2], [third, third, TOTAL - 2 * third]]
    lengths = set()
    for _ in range(1500):
        tables = CodingTables((0, 0), tuple(np.array(rows[i]) for i in rng.integers(0, 4, 2)))
        symbols = rng.choice(3, p=rng.dirichlet([0.3] * 3), size=(int(rng.integers(1, 40)), 1, 2)).astype(np.int32)
        payload = LatentCodec(tables).encode(symbols)
        assert encode(slots_of(symbols, tables)) == payload
        lengths.add(len(payload))
    assert 0 in lengths and max(lengths) > 60


def test_each_ending_of_the_library_is_met(rng):
    # Rare slots between even ones: endings of 0 to 4 bytes after the settled words, with and without a carry.
    row = np.array([2**23 - 1, 1, 2**23 - 1, 1])
    tables = CodingTables((0,), (row,))
    codec = LatentCodec(tables)
    for length in range(1, 30):
        for _ in range(30):
            symbols = rng.choice([0, 1, 2], p=[0.35, 0.3, 0.35], size=(length, 1, 1)).astype(np.int32)
            assert codec.encode(symbols) == encode(slots_of(symbols, tables))


def test_writes_the_librarys_bytes_next_to_a_carry(make_tables):
    # Symbols decoded from 7f ff ff ... keep the interval just below, or across, a number that ends in zero words.
    tables = make_tables(1, (20.0, 60.0))
    codec = LatentCodec(tables)
    compared = 0
    for first in range(1, 256):
        for amount in (4, 7, 9, 12, 20):
            try:
                symbols = codec.decode(bytes([first]) + b"\xff" * 40, (amount, 1))
            except BitstreamError:  # a sliver of the numbers belongs to no message, and this one to that sliver
                continue
            assert codec.encode(symbols) == encode(slots_of(symbols, tables))
            compared += 1
    assert compared > 1000


def test_no_shorter_string_and_no_smaller_one_decodes(make_tables, draw):
    """By trial: around a payload lie the only candidates, the numbers just below and above its shortened forms."""
    tables = make_tables(3, (0.2, 2.0))
    codec = LatentCodec(tables)
    symbols = draw(tables, 60, 4, 4)

    def decodes(number: int, length: int, image: np.ndarray) -> bool:
        if not 0 <= number < 256**length or (number == 0 and length):
            return False
        try:
            return np.array_equal(codec.decode(number.to_bytes(length, "big").rstrip(b"\0"), (4, 4)), image)
        except BitstreamError:
            return False

    for image, payload in zip(symbols, codec.encode_batch(symbols), strict=True):
        number, length = int.from_bytes(payload, "big"), len(payload)
        assert decodes(number, length, image)
        assert not decodes(number - 1, length, image)
        for shorter in range(length):
            prefix = number >> 8 * (length - shorter)
            assert not any(decodes(prefix + step, shorter, image) for step in (-1, 0, 1))


def test_a_message_of_first_slots_only_is_empty():
    tables = CodingTables((0, 5), (np.array([TOTAL - 2, 1, 1]), np.array([2, TOTAL - 3, 1])))
    codec = LatentCodec(tables)
    symbols = np.broadcast_to(np.array([0, 5], np.int32), (30, 30, 2)).copy()
    assert codec.encode(symbols) == b""
    np.testing.assert_array_equal(codec.decode(b"", (30, 30)), symbols)
