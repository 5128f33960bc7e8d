import tracemalloc

import numpy as np
import pytest

from vae_jcc.coding import (
    BitstreamError,
    images_a_group,
    pack_file,
    pack_joined,
    pack_stream,
    peek,
    unpack_file,
    unpack_joined,
    unpack_stream,
)

FINGERPRINT = bytes(range(100, 132))
OTHER = bytes(range(32))
# The same first two bytes: only the checksum tells these models apart.
NEAR = FINGERPRINT[:2] + bytes(30)


def sample_stream(differ: bool) -> bytes:
    sizes = [(32, 32 + differ), (32, 32), (32, 32)]
    return pack_stream([b"first payload", b"", b"third"], FINGERPRINT, sizes)


def damage(kind: str):
    """A sample and the function that reads it."""
    if kind == "file":
        return pack_file(b"a payload of some length", FINGERPRINT, 300, 32), unpack_file
    if kind == "joined stream":
        return pack_joined([(3, b"three images"), (1, b""), (200, b"many")], FINGERPRINT, (16, 31)), unpack_joined
    return sample_stream(kind == "differing stream"), unpack_stream


KINDS = pytest.mark.parametrize("kind", ["file", "stream", "differing stream", "joined stream"])


@pytest.mark.parametrize("size", [(1, 1), (32, 32), (127, 128), (16383, 16383), (16384, 16384), (1, 2**28)])
def test_file_round_trip(size):
    payload = b"some payload"
    data = pack_file(payload, FINGERPRINT, *size)
    header, got = unpack_file(data, FINGERPRINT, max_pixels=2**28)
    assert got == payload and (header.height, header.width) == size
    assert (header.version, header.kind, header.count, header.coder_id) == (1, "file", 1, 0)
    assert header.fingerprint16 == FINGERPRINT[:2] and header == peek(data)
    assert header.header_bytes + len(payload) + 4 == len(data)
    if max(size) <= 16383:
        assert len(data) - len(payload) <= 12
    if size == (32, 32):
        assert len(data) - len(payload) == 10


def test_file_bytes_are_golden():
    assert pack_file(b"abc", FINGERPRINT, 32, 300).hex() == "ca20646520ac026162633d2df2ae"
    assert pack_file(b"", FINGERPRINT, 1, 1, coder_id=3)[1] == 0x23
    assert pack_joined([(2, b"abc")], FINGERPRINT, (32, 300), coder_id=1)[:-4].hex() == "ca3564650220ac020203616263"


def test_stream_round_trip():
    payloads = [b"x" * n for n in (3, 200, 0, 50)]
    for sizes in ([(32, 48)] * 4, [(32, 48), (1, 1), (16384, 3), (5, 5)]):
        data = pack_stream(payloads, FINGERPRINT, sizes)
        header, got, got_sizes = unpack_stream(data, FINGERPRINT)
        assert got == payloads and got_sizes == sizes and header == peek(data)
        assert header.count == 4 and header.kind == "stream"
        assert (header.height, header.width) == ((32, 48) if len(set(sizes)) == 1 else (None, None))


@pytest.mark.parametrize("size", [(1, 1), (32, 48), (300, 400), (5000, 6000)])
def test_joined_stream_round_trip(size):
    most = images_a_group(*size)
    groups = [(most, b"x" * 300), (1, b""), (max(1, most // 2), b"end")]
    data = pack_joined(groups, FINGERPRINT, size)
    header, got = unpack_joined(data, FINGERPRINT)
    assert got == groups and header == peek(data)
    assert (header.kind, header.count) == ("joined stream", sum(n for n, _ in groups))
    assert (header.height, header.width, header.coder_id) == (*size, 0)


def test_groups_are_bounded_by_pixels_and_by_number():
    assert [images_a_group(n, n) for n in (1, 11, 12, 32, 256, 257, 5000)] == [1024, 1024, 910, 128, 2, 1, 1]
    for images in (0, 129):
        with pytest.raises(ValueError, match="1 to 128 images of 32 x 32"):
            pack_joined([(images, b"ab")], FINGERPRINT, (32, 32))
    start = b"\xca\x34" + FINGERPRINT[:2]
    for count, images in ((b"\xff\x01", b"\x81\x01"), (b"\x05", b"\x00"), (b"\x05", b"\x06")):
        with pytest.raises(BitstreamError, match="altered: a group of"):
            unpack_joined(start + count + b"\x20\x20" + images + b"\x00" * 8, FINGERPRINT)


@pytest.mark.parametrize(("count", "low", "high"), [(100, 60, 140), (1000, 800, 900), (5000, 1, 2000)])
def test_a_stream_costs_at_most_two_bytes_an_image(count, low, high, rng):
    payloads = [bytes(int(n)) for n in rng.integers(low, high, count)]
    overhead = len(pack_stream(payloads, FINGERPRINT, [(32, 32)] * count)) - sum(map(len, payloads))
    assert overhead <= 2 * count + 24
    if high - low <= 128:
        assert overhead <= count + 24


@KINDS
def test_truncation_at_every_length_is_refused(kind):
    data, unpack = damage(kind)
    for length in range(len(data)):
        with pytest.raises(BitstreamError, match="truncated|empty"):
            unpack(data[:length], FINGERPRINT)


@KINDS
def test_every_flipped_bit_is_refused(kind):
    data, unpack = damage(kind)
    for i in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[i // 8] ^= 1 << i % 8
        with pytest.raises(BitstreamError):
            unpack(bytes(flipped), FINGERPRINT)


@KINDS
def test_appended_bytes_are_refused(kind):
    data, unpack = damage(kind)
    for extra in (b"\0", b"more", data):
        with pytest.raises(BitstreamError, match="altered"):
            unpack(data + extra, FINGERPRINT)


@KINDS
def test_another_model_is_refused_with_both_fingerprints(kind):
    data, unpack = damage(kind)
    with pytest.raises(BitstreamError, match=f"another model.*{FINGERPRINT[:2].hex()}.*{OTHER.hex()}"):
        unpack(data, OTHER)
    with pytest.raises(BitstreamError, match=f"another model.*{NEAR.hex()}"):
        unpack(data, NEAR)


def test_an_unknown_entropy_coder_is_refused():
    for data, unpack in (
        (pack_file(b"ab", FINGERPRINT, 3, 3, coder_id=3), unpack_file),
        (pack_stream([b"ab"], FINGERPRINT, [(3, 3)], coder_id=3), unpack_stream),
        (pack_joined([(1, b"ab")], FINGERPRINT, (3, 3), coder_id=3), unpack_joined),
    ):
        assert peek(data).coder_id == 3
        with pytest.raises(BitstreamError, match="entropy coder 3"):
            unpack(data, FINGERPRINT)


@KINDS
def test_what_is_not_ours_is_called_so(kind):
    data, unpack = damage(kind)
    for foreign in (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"x", b""):
        with pytest.raises(BitstreamError, match="[Nn]ot a vae_jcc file"):
            unpack(foreign, FINGERPRINT)
        with pytest.raises(BitstreamError, match="[Nn]ot a vae_jcc file"):
            peek(foreign)
    newer = bytes([data[0], data[1] & 0x1F | 2 << 5]) + data[2:]
    for read in (lambda d: unpack(d, FINGERPRINT), peek):
        with pytest.raises(BitstreamError, match="newer format, 2"):
            read(newer)
    with pytest.raises(BitstreamError, match="version 0"):
        peek(bytes([data[0], 0]) + data[2:])


def test_the_other_kind_is_named():
    with pytest.raises(BitstreamError, match="unpack_stream"):
        unpack_file(sample_stream(False), FINGERPRINT)
    with pytest.raises(BitstreamError, match="unpack_file"):
        unpack_stream(pack_file(b"abcdefgh", FINGERPRINT, 3, 3), FINGERPRINT)
    with pytest.raises(BitstreamError, match="a stream, not a joined stream: read it with unpack_stream"):
        unpack_joined(sample_stream(False), FINGERPRINT)
    with pytest.raises(BitstreamError, match="unpack_joined"):
        unpack_stream(pack_joined([(2, b"ab")], FINGERPRINT, (3, 3)), FINGERPRINT)


def test_images_over_the_limit_are_refused_by_name():
    with pytest.raises(BitstreamError, match="over max_pixels: 2 x 134217729"):
        unpack_file(pack_file(b"", FINGERPRINT, 2, 2**27 + 1), FINGERPRINT)
    data = pack_file(b"", FINGERPRINT, 10, 10)
    with pytest.raises(BitstreamError, match="over max_pixels"):
        unpack_file(data, FINGERPRINT, max_pixels=99)
    assert unpack_file(data, FINGERPRINT, max_pixels=100)[1] == b""
    for sizes in ([(10, 10)] * 2, [(1, 1), (10, 10)]):
        with pytest.raises(BitstreamError, match="over max_pixels"):
            unpack_stream(pack_stream([b"", b""], FINGERPRINT, sizes), FINGERPRINT, max_pixels=99)
    with pytest.raises(BitstreamError, match="over max_pixels"):
        unpack_joined(pack_joined([(2, b"")], FINGERPRINT, (10, 10)), FINGERPRINT, max_pixels=99)


def test_wild_claims_allocate_nothing():
    most = b"\xff\xff\xff\xff\x0f"  # 2**32 - 1
    start = b"\xca\x30" + FINGERPRINT[:2]
    claims = {
        "count": start + most + b"\x20\x20" + b"\0" * 50,
        "shortest": start + b"\x02\x20\x20" + most + b"\0" * 50,
        "extra": start + b"\x02\x20\x20\0" + most + b"\0" * 50,
    }
    joined = b"\xca\x34" + FINGERPRINT[:2] + most + b"\x20\x20" + b"\x80\x01\x00" * 15
    tracemalloc.start()
    for data in claims.values():
        with pytest.raises(BitstreamError, match="truncated"):
            unpack_stream(data, FINGERPRINT)
    with pytest.raises(BitstreamError, match="truncated"):
        unpack_joined(joined, FINGERPRINT)
    assert tracemalloc.get_traced_memory()[1] < 100_000
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("varint", "message"),
    [
        (b"\x00", "without pixels"),
        (b"\x81\x00", "no encoder writes"),
        (b"\xff\xff\xff\xff\x1f", "no encoder writes"),
        (b"\xff\xff\xff\xff\xff\x01", "beyond 32 bits"),
        (b"\xff\xff", "truncated"),
    ],
)
def test_bad_integers_are_refused(varint, message):
    with pytest.raises(BitstreamError, match=message):
        peek(b"\xca\x20ab\x05" + varint)


def test_streams_without_images_and_files_of_differing_sizes_are_refused():
    with pytest.raises(BitstreamError, match="no images"):
        peek(b"\xca\x30ab\x00\x20\x20\x00")
    for flags in (0x28, 0x3C, 0x2C):
        with pytest.raises(BitstreamError, match="sizes differ"):
            peek(bytes([0xCA, flags]) + b"ab\x20\x20\x20")
    with pytest.raises(BitstreamError, match="many are joined"):
        peek(b"\xca\x24ab\x20\x20")


def test_writers_refuse_wrong_arguments():
    for size in ((0, 1), (1, 2**32), (-1, 1)):
        with pytest.raises(ValueError, match="side is"):
            pack_file(b"", FINGERPRINT, *size)
    with pytest.raises(ValueError, match="32 bytes"):
        pack_file(b"", b"short", 1, 1)
    with pytest.raises(ValueError, match="32 bytes"):
        unpack_file(pack_file(b"", FINGERPRINT, 1, 1), b"short")
    with pytest.raises(ValueError, match="Coder ids"):
        pack_file(b"", FINGERPRINT, 1, 1, coder_id=4)
    with pytest.raises(ValueError, match="needs images"):
        pack_joined([], FINGERPRINT, (1, 1))
    with pytest.raises(ValueError, match="side is"):
        pack_joined([(1, b"")], FINGERPRINT, (0, 1))
    with pytest.raises(ValueError, match="images and a size"):
        pack_stream([], FINGERPRINT, [])
    with pytest.raises(ValueError, match="images and a size"):
        pack_stream([b""], FINGERPRINT, [])


def test_numpy_sizes_and_any_buffer_are_taken():
    size = np.int64(40), np.int64(30)
    assert pack_file(bytearray(b"ab"), FINGERPRINT, *size) == pack_file(b"ab", FINGERPRINT, 40, 30)
    assert pack_stream([b"ab"], FINGERPRINT, np.array([size])) == pack_stream([b"ab"], FINGERPRINT, [(40, 30)])
