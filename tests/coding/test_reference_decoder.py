"""A second decoder, in plain Python, written from docs/bitstream.md alone, reads what the library writes."""

import hashlib
import re
import zlib
from pathlib import Path

import numpy as np
import pytest

from vae_jcc.coding import CodingTables, LatentCodec, pack_file, pack_joined, pack_stream, unpack_file, unpack_stream


def read_tables(data: bytes) -> list[tuple[int, list[int]]]:
    """Section 3: returns (minimum, counts) of each row."""
    assert hashlib.sha256(data[:-32]).digest() == data[-32:]
    assert data[:8] == b"VJCT\x01\x18\x00\x00"
    words = [int.from_bytes(data[i : i + 4], "big") for i in range(8, len(data) - 32, 4)]
    rows, at = [], 1 + 2 * words[0]
    for k in range(words[0]):
        minimum, slots = words[1 + 2 * k : 3 + 2 * k]
        rows.append((minimum - 2**32 if minimum >= 2**31 else minimum, words[at : at + slots]))
        at += slots
    return rows


class Message:
    """Section 5."""

    def __init__(self, payload: bytes) -> None:
        self.payload, self.at, self.range = payload, 0, 2**64 - 1
        self.point = self.next() << 32 | self.next()

    def next(self) -> int:
        word = (self.payload[self.at : self.at + 4] + b"\0\0\0\0")[:4]
        self.at += 4
        return int.from_bytes(word, "big")

    def slot(self, row: list[int]) -> int:
        scale = self.range // 2**24
        q = self.point // scale
        assert q < 2**24
        left = i = 0
        while q >= left + row[i]:
            left += row[i]
            i += 1
        self.point -= scale * left
        self.range = scale * row[i]
        if self.range < 2**32:
            self.range <<= 32
            self.point = self.point << 32 | self.next()
        assert self.point < self.range and 2**32 <= self.range < 2**64
        return i


def read_payload(payload: bytes, rows: list[tuple[int, list[int]]], height: int, width: int) -> list[list[list[int]]]:
    """Section 4: returns the symbols [h][w][c]."""
    message = Message(payload)
    slots = [[message.slot(counts) for _ in range(height * width)] for _, counts in rows]
    symbols = read_excesses(message, slots, rows)
    return [[[plane[y * width + x] for plane in symbols] for x in range(width)] for y in range(height)]


def read_joined(payload: bytes, rows: list[tuple[int, list[int]]], images: int, height: int, width: int) -> list:
    """Section 9: returns the symbols [image][h][w][c]."""
    message = Message(payload)
    slots = [[message.slot(counts) for _ in range(height * width * images)] for _, counts in rows]
    return apart(read_excesses(message, slots, rows), images, height, width)


def apart(symbols: list[list[int]], images: int, height: int, width: int) -> list:
    """Section 9: returns [image][h][w][c] of [c][h * w * images], in which an image's neighbour is another image."""
    return [
        [[[plane[(y * width + x) * images + b] for plane in symbols] for x in range(width)] for y in range(height)]
        for b in range(images)
    ]


def read_excesses(message: Message, slots: list[list[int]], rows: list[tuple[int, list[int]]]) -> list[list[int]]:
    """Section 6: returns the symbols of slots, each [c][h * w]."""
    escaped = [(k, i) for k, (_, counts) in enumerate(rows) for i, s in enumerate(slots[k]) if s == len(counts) - 1]
    symbols = [[minimum + s for s in plane] for (minimum, _), plane in zip(rows, slots, strict=True)]
    classes = [message.slot([2 ** (23 - k) for k in range(17)] + [8] * 16) for _ in escaped]
    for (k, i), size in zip(escaped, classes, strict=True):
        value = 1
        for _ in range(size):
            value = 2 * value + message.slot([2**23, 2**23])
        excess, (minimum, counts) = value - 1, rows[k]
        maximum = minimum + len(counts) - 2
        symbols[k][i] = minimum - 1 - excess // 2 if excess % 2 else maximum + 1 + excess // 2
    return symbols


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        value |= (data[at] & 127) << shift
        at, shift = at + 1, shift + 7
        if data[at - 1] < 128:
            return value, at


def read_container(data: bytes, fingerprint: bytes) -> list[tuple[int, int, bytes]]:
    """Sections 1 and 2: returns (height, width, payload) of each image of a file or stream."""
    assert data[0] == 0xCA and data[1] >> 5 == 1 and data[1] & 3 == 0 and data[2:4] == fingerprint[:2]
    assert zlib.crc32(fingerprint + data[:-4]) == int.from_bytes(data[-4:], "little")
    stream, differ, at, end = data[1] & 16, data[1] & 8, 4, len(data) - 4
    count, height, width, shortest = 1, 0, 0, 0
    if stream:
        count, at = _varint(data, at)
    if not differ:
        height, at = _varint(data, at)
        width, at = _varint(data, at)
    if not stream:
        return [(height, width, data[at:end])]
    if data[1] & 4:
        return _read_groups(data, at, count)
    shortest, at = _varint(data, at)
    records = []
    for _ in range(count):
        if differ:
            height, at = _varint(data, at)
            width, at = _varint(data, at)
        extra, at = _varint(data, at)
        records.append((height, width, shortest + extra))
    images = []
    for height, width, length in records:
        images.append((height, width, data[at : at + length]))
        at += length
    assert at == end
    return images


def _read_groups(data: bytes, at: int, count: int) -> list[tuple[int, int, bytes]]:
    """Section 2, joined: returns the place of a group's first image, their number, and the payload."""
    records, done, groups = [], 0, []
    while done < count:
        images, at = _varint(data, at)
        length, at = _varint(data, at)
        records.append((done, images, length))
        done += images
    assert done == count
    for first, images, length in records:
        groups.append((first, images, data[at : at + length]))
        at += length
    assert at == len(data) - 4
    return groups


DOCUMENT = Path(__file__).parents[2] / "docs" / "bitstream.md"


@pytest.mark.parametrize("shape", [(8, 8, 12), (1, 1, 1), (1, 1, 40), (3, 7, 2), (20, 20, 3)])
def test_reads_the_librarys_messages(shape, make_tables, draw, tmp_path):
    height, width, channels = shape
    tables = make_tables(channels)
    symbols = draw(tables, 5, height, width)
    symbols[0, 0, 0, 0], symbols[1, -1, -1, -1] = -(2**31), 2**31 - 1
    tables.save(tmp_path / "tables")
    rows = read_tables((tmp_path / "tables").read_bytes())
    for image, payload in zip(symbols, LatentCodec(tables).encode_batch(symbols), strict=True):
        assert read_payload(payload, rows, height, width) == image.tolist()
    groups = [(n, LatentCodec(tables).encode_joined(part)) for n, part in ((2, symbols[:2]), (3, symbols[2:]))]
    fingerprint = tables.fingerprint()
    found = read_container(pack_joined(groups, fingerprint, (30, 200)), fingerprint)
    assert [(images, payload) for _, images, payload in found] == groups
    for first, images, payload in found:
        assert read_joined(payload, rows, images, height, width) == symbols[first : first + images].tolist()


def test_reads_messages_whose_carry_runs_through_many_words(rng):
    # Rows that give nearly everything to one end of the interval make long runs of ff and 00 bytes.
    total = 2**24
    rows = [[1, total - 2, 1], [total - 2, 1, 1], [total // 3, total // 3, total - 2 * (total // 3)]]
    for _ in range(400):
        counts = [rows[i] for i in rng.integers(0, 3, 2)]
        tables = CodingTables((0, 0), tuple(np.array(row) for row in counts))
        symbols = rng.choice(3, p=rng.dirichlet([0.4] * 3), size=(int(rng.integers(1, 30)), 1, 2)).astype(np.int32)
        codec = LatentCodec(tables)
        payload = codec.encode(symbols)
        assert read_payload(payload, list(zip((0, 0), counts, strict=True)), len(symbols), 1) == symbols.tolist()
        np.testing.assert_array_equal(codec.decode(payload, (len(symbols), 1)), symbols)


def test_reads_the_containers(make_tables, draw):
    tables = make_tables(3)
    fingerprint = tables.fingerprint()
    payloads = LatentCodec(tables).encode_batch(draw(tables, 6, 4, 4))
    assert read_container(pack_file(payloads[0], fingerprint, 30, 16384), fingerprint) == [(30, 16384, payloads[0])]
    for sizes in ([(30, 31)] * 6, [(30 + i, 200 * i + 1) for i in range(6)]):
        expected = [(*size, payload) for size, payload in zip(sizes, payloads, strict=True)]
        assert read_container(pack_stream(payloads, fingerprint, sizes), fingerprint) == expected


def test_the_documents_example_is_what_both_read_and_the_library_writes():
    text = DOCUMENT.read_text()
    blocks = re.finditer(r"```(table|payload|file|stream|joined)\n(.*?)```", text, re.DOTALL)
    hexes = {m[1]: bytes.fromhex(m[2]) for m in blocks}
    counts = (np.array([4194304, 8388608, 4194303, 1]), np.array([12582912, 4194304]))
    tables, fingerprint = CodingTables((-1, 0), counts), bytes(range(32))
    symbols = [[[0, 0], [1, 0], [-1, -3]]]
    assert hexes["table"] == tables.to_bytes() + tables.fingerprint()
    payload = LatentCodec(tables).encode(np.array(symbols, np.int32))
    assert hexes["payload"] == payload
    assert hexes["file"] == pack_file(payload, fingerprint, 17, 300)
    assert hexes["stream"] == pack_stream([payload] * 2, fingerprint, [(17, 300)] * 2)
    assert read_payload(hexes["payload"], read_tables(hexes["table"]), 1, 3) == symbols
    joined = LatentCodec(tables).encode_joined(np.array([symbols] * 2, np.int32))
    assert hexes["joined"] == pack_joined([(2, joined)], fingerprint, (17, 300))
    assert read_container(hexes["joined"], fingerprint) == [(0, 2, joined)]
    assert read_joined(joined, read_tables(hexes["table"]), 2, 1, 3) == [symbols] * 2
    assert read_container(hexes["file"], fingerprint) == [(17, 300, payload)]
    assert read_container(hexes["stream"], fingerprint) == [(17, 300, payload)] * 2
    assert unpack_file(hexes["file"], fingerprint)[1] == payload
    assert unpack_stream(hexes["stream"], fingerprint)[1:] == ([payload] * 2, [(17, 300)] * 2)
    # The prose states the same numbers.
    for kind in ("payload", "file", "stream", "joined"):
        assert f"{len(hexes[kind])} bytes" in text
    assert f"{tables.expected_bits(np.array(symbols, np.int32)):.1f} bits" in text
