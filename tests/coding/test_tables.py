import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vae_jcc.coding import BitstreamError, CodingTables

TOTAL = 2**24


def two_rows() -> CodingTables:
    return CodingTables((-1, 0), (np.array([4194304, 8388608, 4194303, 1]), np.array([12582912, 4194304])))


probability = st.one_of(st.just(0.0), st.floats(1e-300, 1e-6), st.floats(0, 1), st.floats(1, 1e6))


@settings(max_examples=100, deadline=None)
@given(st.lists(probability, min_size=1, max_size=60), probability)
def test_built_rows_keep_every_rule(pmf, tail):
    if sum(pmf) + tail == 0:
        with pytest.raises(ValueError, match="only zeros"):
            CodingTables.build([np.array(pmf)], [-3], [tail])
        return
    counts = CodingTables.build([np.array(pmf)], [-3], [tail]).counts[0]
    assert len(counts) == len(pmf) + 1 and counts.dtype == np.uint32
    assert counts.sum(dtype=np.int64) == TOTAL and counts.min() >= 1 and counts.max() < TOTAL
    # A symbol moves from its ideal count by the counts that improbable ones need, and by rounding.
    ideal = np.append(pmf, tail) / (sum(pmf) + tail) * TOTAL
    assert np.all(np.abs(counts - ideal) <= len(counts) + 1)


def test_rounding_reaches_the_least_cost():
    # Against all ways to share 12 counts among 4 slots.
    from vae_jcc.coding.tables import _round_to_counts

    rng = np.random.default_rng(3)
    for _ in range(30):
        p = rng.dirichlet([0.5] * 4)
        got = _round_to_counts(p, 12)
        costs = [
            -(p * np.log([a, b, c, 12 - a - b - c])).sum()
            for a in range(1, 10)
            for b in range(1, 11 - a)
            for c in range(1, 12 - a - b)
        ]
        assert -(p * np.log(got)).sum() == pytest.approx(min(costs), rel=1e-12)


def test_building_is_golden():
    # Pins the rounding: another machine that builds tables from the same parameters gets the same ones.
    pmf = np.array([1, 4, 16, 40, 16, 4, 1]) / 128
    tables = CodingTables.build([pmf, np.array([0.25, 0.5])], [-3, 7], [0.01, 0.25])
    assert tables.counts[0].tolist() == [201456, 805822, 3223288, 8058221, 3223288, 805822, 201456, 257863]
    assert tables.counts[1].tolist() == [TOTAL // 4, TOTAL // 2, TOTAL // 4]
    assert tables.maxima == (3, 8)


@pytest.mark.parametrize(
    ("pmfs", "minima", "tails", "message"),
    [
        ([[0.5]], [0], [], "Every row needs"),
        ([[0.5, -0.1]], [0], [0.1], "negative"),
        ([[0.5, np.nan]], [0], [0.1], "undefined"),
        ([[0.5, np.inf]], [0], [0.1], "infinite"),
        ([[]], [0], [0.1], "0 symbols"),
        ([np.ones(2**16)], [0], [0.1], "65536 symbols"),
        ([], [], [], "0 rows"),
        ([[0.5, 0.5]], [2**31 - 1], [0.1], "32-bit"),
    ],
)
def test_build_refuses(pmfs, minima, tails, message):
    with pytest.raises(ValueError, match=message):
        CodingTables.build([np.array(p, np.float64) for p in pmfs], minima, tails)


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ([TOTAL], "slots"),
        ([TOTAL, 0], "without a count"),
        ([TOTAL - 1, 2], "sums to"),
        ([TOTAL - 2, 1], "sums to"),
        ([2**32 + TOTAL - 1, 1], "sums to"),
        ([0.5, 0.5], "integers"),
        ([[1, TOTAL - 1]], "vector"),
    ],
)
def test_construction_refuses(counts, message):
    with pytest.raises(ValueError, match=message):
        CodingTables((0,), (np.array(counts),))


def test_tables_are_frozen():
    source = np.array([TOTAL - 1, 1])
    tables = CodingTables((0,), (source,))
    source[0] = 7
    assert tables.counts[0][0] == TOTAL - 1
    with pytest.raises(ValueError, match="read-only"):
        tables.counts[0][0] = 7
    with pytest.raises(AttributeError):
        tables.minima = (3,)


def test_save_and_load(tmp_path, make_tables):
    tables = make_tables(5)
    tables.save(tmp_path / "tables.bin")
    loaded = CodingTables.load(tmp_path / "tables.bin")
    assert loaded == tables and hash(loaded) == hash(tables) and loaded.minima == tables.minima
    assert loaded.fingerprint() == tables.fingerprint() == hashlib.sha256(tables.to_bytes()).digest()
    assert CodingTables.from_bytes(tables.to_bytes()) == tables
    assert two_rows() != tables


def test_every_flipped_bit_and_every_truncation_of_a_table_file_is_refused(tmp_path):
    path = tmp_path / "tables.bin"
    two_rows().save(path)
    whole = path.read_bytes()
    for i in range(8 * len(whole)):
        damaged = bytearray(whole)
        damaged[i // 8] ^= 1 << i % 8
        path.write_bytes(damaged)
        with pytest.raises(BitstreamError, match=r"tables\.bin"):
            CodingTables.load(path)
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(BitstreamError, match=r"tables\.bin"):
            CodingTables.load(path)


def test_canonical_bytes_without_digest_name_what_is_wrong():
    data = two_rows().to_bytes()
    for length in range(len(data)):
        with pytest.raises(BitstreamError, match="truncated|not a vae_jcc table file"):
            CodingTables.from_bytes(data[:length])
    with pytest.raises(BitstreamError, match="followed by other bytes"):
        CodingTables.from_bytes(data + b"\0")
    with pytest.raises(BitstreamError, match="update vae_jcc"):
        CodingTables.from_bytes(data[:4] + b"\2" + data[5:])
    # 2**32 - 1 rows, or 2**32 - 1 slots: refused by the lengths, before any allocation.
    with pytest.raises(BitstreamError, match="rows"):
        CodingTables.from_bytes(data[:8] + b"\xff" * 4 + data[12:])
    with pytest.raises(BitstreamError, match="truncated"):
        CodingTables.from_bytes(data[:16] + b"\xff" * 4 + data[20:])
    with pytest.raises(BitstreamError, match="sums to"):
        CodingTables.from_bytes(data[:-1] + b"\1")


def test_bits_are_the_integer_tables_code_length():
    tables = two_rows()
    symbols = np.array([[[0, 0], [1, 0], [-1, -3]]], np.int32)
    bits = tables.bits(symbols)
    expected = [[1.0, 24 - np.log2(12582912)], [24 - np.log2(4194303), 24 - np.log2(12582912)], [2.0, 2 + 3 + 2]]
    np.testing.assert_allclose(bits, [expected], rtol=1e-14)
    assert tables.expected_bits(symbols) == pytest.approx(np.sum(expected))
    # Far escapes: 24 bits for the slot of one count, 21 for the class, 32 below the leading one.
    assert tables.bits(np.array([-(2**31), 0], np.int32))[0] == 24 + 21 + 31
    with pytest.raises(ValueError, match="do not fit"):
        tables.bits(np.zeros((2, 2, 3), np.int32))
