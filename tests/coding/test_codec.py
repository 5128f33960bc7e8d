import subprocess
import sys
import textwrap

import constriction
import numpy as np
import pytest

from vae_jcc.coding import BitstreamError, CodingTables, LatentCodec
from vae_jcc.coding.range_coder import _guarded

EXTREMES = (-(2**31), -(2**31) + 1, -(2**16), 2**16 - 1, 2**31 - 2, 2**31 - 1)


@pytest.mark.parametrize(
    "shape", [(1, 1, 1), (1, 1, 5), (1, 1, 192), (2, 2, 64), (8, 8, 12), (3, 7, 2), (20, 20, 7), (40, 1, 3)]
)
def test_round_trip(shape, make_tables, draw):
    height, width, channels = shape
    tables = make_tables(channels)
    codec = LatentCodec(tables)
    symbols = draw(tables, 40, height, width)
    payloads = codec.encode_batch(symbols)
    decoded = codec.decode_batch(payloads, (height, width))
    assert decoded.dtype == np.int32 and decoded.flags.c_contiguous
    np.testing.assert_array_equal(decoded, symbols)
    for image, payload in zip(symbols[:5], payloads, strict=False):
        assert codec.encode(image) == payload
        np.testing.assert_array_equal(codec.decode(payload, (height, width)), image)
    assert not any(p.endswith(b"\0") for p in payloads)


def test_strided_and_reversed_input_codes_the_same(make_tables, draw):
    tables = make_tables(6)
    codec = LatentCodec(tables)
    symbols = draw(tables, 8, 9, 9)
    strided = np.asfortranarray(symbols)
    assert codec.encode_batch(strided) == codec.encode_batch(symbols)
    assert codec.encode_batch(symbols[::-2, ::-1]) == codec.encode_batch(symbols[::-2, ::-1].copy())


def test_every_32_bit_integer_can_be_coded(make_tables, rng):
    for minimum in (-(2**31), 2**31 - 5, 0):
        tables = CodingTables.build([np.ones(4)] * 2, [minimum, -2], [0.01] * 2)
        codec = LatentCodec(tables)
        symbols = rng.integers(-(2**31), 2**31, (50, 3, 2, 2), dtype=np.int64).astype(np.int32)
        symbols[0].flat[: len(EXTREMES)] = EXTREMES
        symbols[1].flat[:8:2] = np.array([minimum - 1, minimum, minimum + 3, minimum + 4]).astype(np.int32)
        payloads = codec.encode_batch(symbols)
        np.testing.assert_array_equal(codec.decode_batch(payloads, (3, 2)), symbols)
        assert 8 * sum(map(len, payloads)) <= tables.expected_bits(symbols).sum() + 5 * len(symbols)


@pytest.mark.parametrize(("shape", "widths"), [((8, 8, 12), (0.3, 6)), ((8, 8, 12), (0.1, 0.4)), ((4, 4, 3), (0.1, 1))])
def test_small_messages_cost_at_most_a_hundredth_and_five_bits_more_than_ideal(shape, widths, make_tables, draw):
    height, width, channels = shape
    tables = make_tables(channels, widths)
    symbols = draw(tables, 500, height, width)
    ideal = tables.expected_bits(symbols).sum()
    real = 8 * sum(map(len, LatentCodec(tables).encode_batch(symbols)))
    assert ideal < real <= 1.01 * ideal + 5 * 500
    # The ending costs what docs/bitstream.md says: 3 bits on average, never a word.
    assert (real - ideal) / 500 < 3.5


def test_payload_bytes_are_golden():
    # A change here breaks every file in the world: it needs a new format version.
    tables = CodingTables.build([np.ones(5), 0.5 ** np.abs(np.arange(-8, 9))], [-2, -8], [0.01, 1e-4])
    image = np.stack([np.arange(30).reshape(5, 6) % 5 - 2, np.arange(30).reshape(5, 6) * 7 % 9 - 4], -1).astype(
        np.int32
    )
    codec = LatentCodec(tables)
    inside = codec.encode(image)
    image[2, 3] = (1000, -(2**31))
    outside = codec.encode(image)
    row = codec.encode(image[:1])  # a small plane takes the other way through the library
    assert inside.hex() == "0fd1b33a97ef297d0677effcf40c5d4e36cddf618e803c"
    assert outside.hex() == "0fd1b33ab8aac7299a613c9b2a6b8f2db2dd0311a68ef726ee85c643062e42d3647f14"
    assert row.hex() == "0fd094883f"


def test_both_ways_through_the_library_write_the_same(make_tables, draw, monkeypatch):
    tables = make_tables(9, (0.3, 2))
    symbols = draw(tables, 30, 3, 2)
    small = LatentCodec(tables).encode_batch(symbols)
    monkeypatch.setattr("vae_jcc.coding.range_coder._SMALL_PLANE_ENTRIES", 0)
    codec = LatentCodec(tables)
    assert codec.encode_batch(symbols) == small
    np.testing.assert_array_equal(codec.decode_batch(small, (3, 2)), symbols)


def test_altered_payloads_end_in_symbols_or_in_the_documented_exception(make_tables, draw, rng):
    tables = make_tables(4)
    codec = LatentCodec(tables)
    refused = 0
    for payload in codec.encode_batch(draw(tables, 300, 3, 3)):
        damaged = bytearray(payload)
        damaged[int(rng.integers(len(damaged)))] ^= int(rng.integers(1, 256))
        try:
            assert codec.decode(bytes(damaged), (3, 3)).shape == (3, 3, 4)
        except BitstreamError as error:
            assert "altered" in str(error)
            refused += 1
    assert refused > 0
    with pytest.raises(BitstreamError, match="altered"):
        codec.decode(b"\xff" * 60, (8, 8))
    with pytest.raises(BitstreamError, match="zero byte"):
        codec.decode(b"\x12\0", (1, 1))


def test_what_the_library_raises_is_converted_and_an_interrupt_is_not():
    def panic():
        model = constriction.stream.model.QuantizedGaussian(-5, 5)
        constriction.stream.queue.RangeEncoder().encode(
            np.array([0], np.int32), model, np.array([0.0]), np.array([-1.0])
        )

    def stop():
        raise KeyboardInterrupt

    def assertion():
        raise AssertionError

    for fault in (panic, assertion):
        with pytest.raises(BitstreamError, match="altered"):
            _guarded(fault)
    with pytest.raises(KeyboardInterrupt):
        _guarded(stop)


@pytest.mark.parametrize(
    "symbols",
    [np.zeros((2, 2, 4), np.int64), np.zeros((2, 2, 3), np.int32), np.zeros((0, 2, 4), np.int32), np.zeros(4)],
)
def test_encode_refuses_wrong_symbols(symbols, make_tables):
    with pytest.raises(ValueError, match="Symbols"):
        LatentCodec(make_tables(4)).encode(symbols)


def test_decode_refuses_an_empty_grid_and_an_unknown_coder(make_tables):
    tables = make_tables(2)
    with pytest.raises(ValueError, match="0 x 3"):
        LatentCodec(tables).decode(b"", (0, 3))
    with pytest.raises(ValueError, match="'arithmetic': choose range or tfc"):
        LatentCodec(tables, "arithmetic")


def test_an_empty_batch_is_an_empty_list(make_tables):
    codec = LatentCodec(make_tables(2))
    assert codec.encode_batch(np.zeros((0, 2, 2, 2), np.int32)) == []
    assert codec.decode_batch([], (2, 2)).shape == (0, 2, 2, 2)


def test_needs_neither_jax_nor_flax_nor_tensorflow(tmp_path, make_tables, draw):
    tables = make_tables(3)
    symbols = draw(tables, 1, 4, 4)[0]
    tables.save(tmp_path / "tables")
    (tmp_path / "payload").write_bytes(LatentCodec(tables).encode(symbols))
    np.save(tmp_path / "symbols.npy", symbols)
    script = f"""
        import sys
        blocked = ("jax", "jaxlib", "flax", "tensorflow", "optax", "orbax", "grain", "PIL", "ml_collections")
        for name in blocked:
            sys.modules[name] = None
        import numpy as np
        from vae_jcc.coding import BitstreamError, CodingTables, LatentCodec, pack_file, unpack_file
        tables = CodingTables.load({str(tmp_path / "tables")!r})
        payload = open({str(tmp_path / "payload")!r}, "rb").read()
        fingerprint = tables.fingerprint()
        _, payload = unpack_file(pack_file(payload, fingerprint, 32, 32), fingerprint)
        decoded = LatentCodec(tables).decode(payload, (4, 4))
        assert np.array_equal(decoded, np.load({str(tmp_path / "symbols.npy")!r}))
        print("decoded")
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=False)
    assert done.stdout == "decoded\n", done.stderr


def test_many_images_in_step_give_what_each_gives_alone(make_tables, draw, monkeypatch):
    """Escapes, empty payloads and every length are among them; damage is found on either path."""
    tables = make_tables(3)
    codec, symbols = LatentCodec(tables), draw(tables, 40, 4, 5)
    symbols[3, 1, 2, 0], symbols[7, 0, 0, 2] = 5000, -(2**31)
    payloads = codec.encode_batch(symbols)
    monkeypatch.setattr("vae_jcc.coding.codec._IN_STEP_FROM", 1)
    monkeypatch.setattr("vae_jcc.coding.codec._IN_STEP_AT_ONCE", 16)
    assert codec.encode_batch(symbols) == payloads
    assert np.array_equal(codec.decode_batch(payloads, (4, 5)), symbols)
    with pytest.raises(BitstreamError, match="zero byte"):
        codec.decode_batch([*payloads, payloads[0] + b"\0"], (4, 5))
