"""Many images in one message: exact, as short as the distributions say, and for one image the message it has alone."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from vae_jcc.coding import BitstreamError, ContextCodec, JoinedWriter, LatentCodec, images_a_group, unpack_joined

FINGERPRINT = bytes(range(100, 132))


def _small():
    """The small models of the context codec's tests."""
    spec = importlib.util.spec_from_file_location("small", Path(__file__).with_name("test_context_codec.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


small = _small()
draw_small = small.draw


@pytest.fixture(params=["tables", "serial", "parallel", "hyperprior"])
def codec(request):
    tables = small.make_tables()
    if request.param == "tables":
        return LatentCodec(tables)
    return ContextCodec(tables, getattr(small, f"make_{request.param}")())


@pytest.mark.parametrize("shape", [(1, 1), (4, 6), (7, 2)])
@pytest.mark.parametrize("spread", [1, 40])  # 40: most symbols are escaped
@pytest.mark.parametrize("images", [1, 2, 37])
def test_round_trip(codec, shape, spread, images):
    symbols = draw_small(images, *shape, spread=spread)
    payload = codec.encode_joined(symbols)
    decoded = codec.decode_joined(payload, images, shape)
    assert decoded.dtype == np.int32 and np.array_equal(decoded, symbols)
    if images == 1:
        assert payload == codec.encode(symbols[0])


def test_escapes_of_some_images_only(codec):
    symbols = draw_small(9, spread=1)
    symbols[2, 1, 3, 0], symbols[2, 0, 0, 2], symbols[7, 3, 5, 1] = -(2**31), 2**31 - 1, 99
    assert np.array_equal(codec.decode_joined(codec.encode_joined(symbols), 9, (4, 6)), symbols)


def test_the_payload_is_as_long_as_the_distributions_say(codec):
    symbols = draw_small(60, 8, 8)
    ideal = codec.bits(symbols).sum()
    assert ideal - 8 <= 8 * len(codec.encode_joined(symbols)) < ideal + 9
    assert 8 * sum(map(len, codec.encode_batch(symbols))) > ideal + 2 * 60


def test_numpy_views_are_taken(codec):
    symbols = draw_small(6)
    assert codec.encode_joined(symbols[::2]) == codec.encode_joined(symbols[::2].copy())


def test_wrong_symbols_and_grids_are_refused(codec):
    with pytest.raises(ValueError, match="int32"):
        codec.encode_joined(draw_small().astype(np.int64))
    with pytest.raises(ValueError, match="do not fit"):
        codec.encode_joined(draw_small()[..., :2])
    with pytest.raises(ValueError, match="needs images; got none"):
        codec.encode_joined(draw_small(0))
    with pytest.raises(ValueError, match="holds nothing"):
        codec.decode_joined(b"abc", 3, (0, 4))


def test_altered_payloads_are_refused_or_decode_to_something_else(codec):
    symbols = draw_small(12)
    payload = codec.encode_joined(symbols)
    with pytest.raises(BitstreamError, match="zero byte"):
        codec.decode_joined(payload + b"\0", 12, (4, 6))
    for i in range(0, len(payload), 5):
        altered = bytearray(payload)
        altered[i] ^= 0x55
        try:
            decoded = codec.decode_joined(bytes(altered), 12, (4, 6))
        except BitstreamError:
            continue
        assert decoded.shape == symbols.shape and not np.array_equal(decoded, symbols)


def test_large_tables_and_grids(make_tables, draw):
    tables = make_tables(12)
    codec, symbols = LatentCodec(tables), draw(tables, 40, 16, 16)
    assert np.array_equal(codec.decode_joined(codec.encode_joined(symbols), 40, (16, 16)), symbols)


def test_golden_bytes():
    tables, symbols = small.make_tables(), draw_small(2, 2, 3)
    assert LatentCodec(tables).encode_joined(symbols).hex() == "c41f339bcfb3952b143a9f9580ff56e28ee228c1fb"
    context = ContextCodec(tables, small.make_parallel())
    assert context.encode_joined(symbols).hex() == "d722920261b1954a174b9026cae30a43fc"


def test_the_writer_fills_groups_and_keeps_the_order(codec):
    most = images_a_group(90, 100)
    symbols = draw_small(2 * most + 3, 2, 2)
    writer = JoinedWriter(codec, FINGERPRINT)
    for one in symbols:
        writer.add(one, (90, 100))
    header, groups = unpack_joined(writer.finish(), FINGERPRINT)
    assert [n for n, _ in groups] == [most, most, 3] and header.count == len(symbols)
    decoded = [codec.decode_joined(payload, n, (2, 2)) for n, payload in groups]
    assert np.array_equal(np.concatenate(decoded), symbols)


def test_the_writer_refuses_what_cannot_be_joined(codec):
    writer = JoinedWriter(codec, FINGERPRINT)
    with pytest.raises(ValueError, match="needs images"):
        writer.finish()
    symbols = draw_small(3)
    writer.add(symbols[0], (32, 48))
    with pytest.raises(ValueError, match="one size: this one has 48 x 32 pixels, the first 32 x 48"):
        writer.add(symbols[1], (48, 32))
    writer.add(symbols[2], (32, 48))
    header, groups = unpack_joined(writer.finish(), FINGERPRINT)
    assert header.count == 2
    assert np.array_equal(codec.decode_joined(groups[0][1], 2, (4, 6)), symbols[[0, 2]])
