"""The tfc coder: for real where tensorflow-compression is installed (docs/tfc.md), its bytes and refusals everywhere.

In that environment there is no JAX: `pytest --confcutdir=tests/coding` keeps the conftest.py above from being loaded.
"""

import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from vae_jcc import Receiver
from vae_jcc.cli import main
from vae_jcc.coding import BitstreamError, CodingTables, LatentCodec, pack_file, pack_stream, peek, unpack_file
from vae_jcc.coding.escape import BIT_COUNTS, CLASS_COUNTS
from vae_jcc.coding.tfc_coder import MAKE_ENVIRONMENT, to_16_bits

DOCS = Path(__file__).parents[2] / "docs"

needs_tfc = pytest.mark.skipif(
    find_spec("tensorflow_compression") is None, reason="tensorflow-compression is not here (docs/tfc.md)"
)
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # TensorFlow 2.14's own, at import

# Written by tensorflow-compression 2.14.1; a change breaks files that others have.
GOLDEN_TABLES = CodingTables.build([np.ones(5), 0.5 ** np.abs(np.arange(-8, 9))], [-2, -8], [0.01, 1e-4])
GOLDEN = {
    "inside": "0fd3b2aca8c4f1255b9d49088ce4f4a8fc5bf3f9d2515731",
    "outside": "0fd3b2acc98600ea7afbfca17a2351215cc06187b7b2fddba5e3a829faaf3cffffd8",
    "zeros": "00" * 44,
}


def golden_symbols(name: str) -> np.ndarray:
    image = np.stack([np.arange(30).reshape(5, 6) % 5 - 2, np.arange(30).reshape(5, 6) * 7 % 9 - 4], -1)
    if name == "outside":
        image[2, 3] = (1000, -(2**31))
    return (np.zeros_like(image) - (2, 8) if name == "zeros" else image).astype(np.int32)


class Message:
    """Section 8 of docs/bitstream.md, in plain integers."""

    def __init__(self, payload: bytes) -> None:
        self.payload, self.at, self.range = payload, 0, 2**32
        self.point = self.next() << 16 | self.next()

    def next(self) -> int:
        word = (self.payload[self.at : self.at + 2] + b"\0\0")[:2]
        self.at += 2
        return int.from_bytes(word, "big")

    def slot(self, row: list[int]) -> int:
        left = i = 0
        while self.range * (left + row[i]) // 2**16 <= self.point:
            left += row[i]
            i += 1
        start = self.range * left // 2**16
        self.point -= start
        self.range = self.range * (left + row[i]) // 2**16 - start
        if self.range <= 2**16:
            self.range <<= 16
            self.point = self.point << 16 | self.next()
        return i


def coarse(counts: list[int]) -> list[int]:
    row = [1 + c * (2**16 - len(counts)) // 2**24 for c in counts]
    row[counts.index(max(counts))] += 2**16 - sum(row)
    return row


def read_payload(payload: bytes, tables: CodingTables, height: int, width: int) -> np.ndarray:
    message = Message(payload)
    rows = [coarse(counts.tolist()) for counts in tables.counts]
    slots = [[message.slot(row) for _ in range(height * width)] for row in rows]
    escaped = [(k, i) for k, row in enumerate(rows) for i, s in enumerate(slots[k]) if s == len(row) - 1]
    classes = [message.slot(coarse(CLASS_COUNTS.tolist())) for _ in escaped]
    symbols = np.array(slots) + np.array(tables.minima)[:, None]
    for (k, i), size in zip(escaped, classes, strict=True):
        value = 1
        for _ in range(size):
            value = 2 * value + message.slot(coarse(BIT_COUNTS.tolist()))
        side, distance = (value - 1) % 2, (value - 1) // 2
        symbols[k, i] = tables.minima[k] - 1 - distance if side else tables.maxima[k] + 1 + distance
    return symbols.T.reshape(height, width, len(rows))


def slots_of(symbols: np.ndarray, tables: CodingTables) -> list[tuple[list[int], int]]:
    """Returns (coarse row, slot) of everything that the message of symbols [h, w, c] holds, in order."""
    slots, excesses = [], []
    for k, (low, high) in enumerate(zip(tables.minima, tables.maxima, strict=True)):
        row = coarse(tables.counts[k].tolist())
        for s in symbols[..., k].ravel().tolist():
            slots.append((row, s - low if low <= s <= high else len(row) - 1))
            if not low <= s <= high:
                excesses.append(2 * (s - high - 1) if s > high else 2 * (low - 1 - s) + 1)
    widths = [(e + 1).bit_length() - 1 for e in excesses]
    slots += [(coarse(CLASS_COUNTS.tolist()), k) for k in widths]
    even = coarse(BIT_COUNTS.tolist())
    return slots + [(even, (e + 1) >> i & 1) for e, k in zip(excesses, widths, strict=True) for i in reversed(range(k))]


def write_payload(slots: list[tuple[list[int], int]]) -> bytes:
    low, size, words = 0, 2**32, 0
    for row, slot in slots:
        start, end = size * sum(row[:slot]) // 2**16, size * sum(row[: slot + 1]) // 2**16
        low, size = low + start, end - start
        if size <= 2**16:
            low, size, words = low << 16, size << 16, words + 1
    last = low + size - 1
    number = next(n for n in (-(-low >> bits) << bits for bits in (32, 24, 16)) if n <= last)
    settled = 0
    while settled < words and low >> 16 * (words - settled + 1) == last >> 16 * (words - settled + 1):
        settled += 1
    data = number.to_bytes(2 * words + 4, "big")
    return data[: 2 * settled] + data[2 * settled :].rstrip(b"\0")


@pytest.mark.parametrize("name", GOLDEN)
def test_a_reader_and_a_writer_by_the_document_agree_with_tfcs_bytes(name):
    assert write_payload(slots_of(golden_symbols(name), GOLDEN_TABLES)).hex() == GOLDEN[name]
    symbols = read_payload(bytes.fromhex(GOLDEN[name]), GOLDEN_TABLES, 5, 6)
    np.testing.assert_array_equal(symbols, golden_symbols(name))


def test_rows_of_16_bits_keep_every_slot(make_tables):
    extremes = [[2**24 - 2**16 + 1] + [1] * (2**16 - 1), [2**8] * 2**16, [384] * 2**15 + [128] * 2**15, [2**24 - 1, 1]]
    for counts in (*make_tables(30).counts, *(np.array(row) for row in extremes)):
        row = to_16_bits(counts)
        assert row.min() >= 1 and row.sum() == 2**16
        assert np.argmax(row) == np.argmax(counts)
        if len(counts) < 1000:
            assert row.tolist() == coarse(counts.tolist())


def test_without_the_package_the_command_that_makes_its_environment_is_named(monkeypatch, make_tables):
    monkeypatch.setitem(sys.modules, "tensorflow_compression", None)
    with pytest.raises(BitstreamError, match="tfc needs tensorflow-compression") as refusal:
        LatentCodec(make_tables(2), "tfc")
    assert MAKE_ENVIRONMENT in str(refusal.value) and MAKE_ENVIRONMENT in (DOCS / "tfc.md").read_text()


def test_the_room_loads_without_the_range_coders_library():
    code = (
        "import sys; sys.modules['constriction'] = None\n"
        "import numpy as np\n"
        "from vae_jcc.coding import BitstreamError, CodingTables, LatentCodec, pack_file, unpack_file\n"
        "assert unpack_file(pack_file(b'ab', bytes(32), 3, 4), bytes(32))[1] == b'ab'\n"
        "try:\n"
        "    LatentCodec(CodingTables.build([np.ones(4)], [0], [0.01]))\n"
        "except BitstreamError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "The range coder needs constriction: pip install 'constriction==0.5.*'.\n", done.stderr


@needs_tfc
@pytest.mark.parametrize("name", GOLDEN)
def test_payload_bytes_are_golden(name):
    codec = LatentCodec(GOLDEN_TABLES, "tfc")
    assert codec.coder_id == 1
    assert codec.encode(golden_symbols(name)).hex() == GOLDEN[name]
    np.testing.assert_array_equal(codec.decode(bytes.fromhex(GOLDEN[name]), (5, 6)), golden_symbols(name))


@needs_tfc
@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, 192), (8, 8, 12), (3, 7, 2), (20, 20, 7)])
def test_round_trip(shape, make_tables, draw):
    height, width, channels = shape
    tables = make_tables(channels)
    codec, symbols = LatentCodec(tables, "tfc"), draw(tables, 20, height, width)
    payloads = codec.encode_batch(symbols)
    decoded = codec.decode_batch(payloads, (height, width))
    assert decoded.dtype == np.int32
    np.testing.assert_array_equal(decoded, symbols)
    for image, payload in zip(symbols[:4], payloads, strict=False):
        assert write_payload(slots_of(image, tables)) == payload
        np.testing.assert_array_equal(read_payload(payload, tables, height, width), image)
    joined = codec.encode_joined(symbols)
    np.testing.assert_array_equal(codec.decode_joined(joined, 20, (height, width)), symbols)
    in_one = symbols.transpose(1, 2, 0, 3).reshape(height * width, 20, channels)
    np.testing.assert_array_equal(read_payload(joined, tables, height * width, 20), in_one)


@needs_tfc
def test_carries_and_endings_are_the_documents(rng):
    # Rows that give nearly everything to one end of the interval make long runs of ff and 00 bytes.
    total, ends = 2**24, set()
    rows = [[1, total - 2, 1], [total - 2, 1, 1], [total // 3, total // 3, total - 2 * (total // 3)]]
    for _ in range(400):
        tables = CodingTables((0, 0), tuple(np.array(rows[i]) for i in rng.integers(0, 3, 2)))
        symbols = rng.choice(3, p=rng.dirichlet([0.4] * 3), size=(int(rng.integers(1, 30)), 1, 2)).astype(np.int32)
        codec = LatentCodec(tables, "tfc")
        payload = codec.encode(symbols)
        assert write_payload(slots_of(symbols, tables)) == payload
        np.testing.assert_array_equal(codec.decode(payload, (len(symbols), 1)), symbols)
        ends.add(payload[-1:])
    assert {b"", b"\0"} < ends


@needs_tfc
def test_every_32_bit_integer_can_be_coded(rng):
    for minimum in (-(2**31), 2**31 - 5, 0):
        codec = LatentCodec(CodingTables.build([np.ones(4)] * 2, [minimum, -2], [0.01] * 2), "tfc")
        symbols = rng.integers(-(2**31), 2**31, (20, 3, 2, 2), dtype=np.int64).astype(np.int32)
        symbols[0].flat[:4] = (-(2**31), -(2**31) + 1, 2**31 - 2, 2**31 - 1)
        np.testing.assert_array_equal(codec.decode_batch(codec.encode_batch(symbols), (3, 2)), symbols)


@needs_tfc
def test_payloads_are_as_long_as_the_range_coders(make_tables, draw):
    tables = make_tables(12)
    symbols = draw(tables, 200, 8, 8)
    ours, theirs = (sum(map(len, LatentCodec(tables, coder).encode_batch(symbols))) for coder in ("range", "tfc"))
    assert theirs == pytest.approx(ours, rel=0.005)


@needs_tfc
def test_altered_payloads_end_in_symbols_or_in_the_documented_exception(make_tables, draw, rng):
    tables = make_tables(4)
    codec, refused = LatentCodec(tables, "tfc"), 0
    for payload in [*codec.encode_batch(draw(tables, 200, 3, 3)), b"\xff" * 60, bytes(60)]:
        damaged = bytearray(payload)
        damaged[int(rng.integers(len(damaged)))] ^= int(rng.integers(1, 256))
        try:
            assert codec.decode(bytes(damaged), (3, 3)).shape == (3, 3, 4)
        except BitstreamError as error:
            assert "altered" in str(error)
            refused += 1
    assert refused > 50


@needs_tfc
def test_the_container_refuses_damage_and_names_the_coder(make_tables, draw):
    tables = make_tables(3)
    codec, fingerprint = LatentCodec(tables, "tfc"), tables.fingerprint()
    data = pack_file(codec.encode(draw(tables, 1, 4, 4)[0]), fingerprint, 16, 16, codec.coder_id)
    assert peek(data).coder_id == unpack_file(data, fingerprint)[0].coder_id == 1
    for bit in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(BitstreamError):
            unpack_file(bytes(flipped), fingerprint)


@needs_tfc
def test_files_and_streams_go_over_and_back(tmp_path: Path, draw, capsys):
    """With a shipped model: what the header says decides who reads, and nothing but the payloads changes."""
    receiver = Receiver.load("cifar10")
    tables, fingerprint = receiver.artifact.tables, receiver.artifact.fingerprint
    grid, sizes = receiver.artifact.grid(32, 32), [(32, 32), (31, 30), (32, 32)]
    symbols = draw(tables, 3, *grid)
    payloads = LatentCodec(tables).encode_batch(symbols)
    (tmp_path / "one.vjc").write_bytes(pack_file(payloads[0], fingerprint, 32, 32))
    (tmp_path / "many.vjc").write_bytes(pack_stream(payloads, fingerprint, sizes))

    assert main(["recode", "--model", "cifar10", "--coder", "tfc", str(tmp_path)]) == 0
    for name, count in (("one", 1), ("many", 3)):
        before, after = ((tmp_path / f"{name}{kind}.vjc").read_bytes() for kind in ("", ".tfc"))
        assert (peek(before).coder_id, peek(after).coder_id) == (0, 1)
        assert receiver.recode(after, "range") == before
        (old, new), same = map(receiver.inspect, (before, after)), ("kind", "images", "latent", "channel_bits")
        assert (old["coder"], new["coder"]) == ("range", "tfc")
        assert [old[key] for key in same] == [new[key] for key in same]
        np.testing.assert_array_equal(np.stack(receiver.symbols([after, before])), [*symbols[:count]] * 2)
    assert main(["decode", "--model", "cifar10", str(tmp_path / "one.tfc.vjc")]) == 0
    np.testing.assert_array_equal(np.load(tmp_path / "one.tfc.npy"), symbols[0])
    assert main(["inspect", str(tmp_path / "one.tfc.vjc")]) == 0
    assert "coder         tfc" in capsys.readouterr().out


@needs_tfc
def test_the_documents_python_runs():
    (code,) = re.findall(r"```python\n(.*?)```", (DOCS / "tfc.md").read_text(), re.DOTALL)
    exec(code, {})
