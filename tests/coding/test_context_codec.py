"""The context codec: exact whatever the batch, the order or the machinery, and as short as its distributions say."""

import subprocess
import sys
from functools import partial

import numpy as np
import pytest

from vae_jcc.coding import BitstreamError, CodingTables
from vae_jcc.coding.batch_decoder import BatchDecoder
from vae_jcc.coding.context_codec import ContextCodec
from vae_jcc.coding.distribution import IMPOSSIBLE, counts_of
from vae_jcc.coding.hyperprior import HyperpriorContext
from vae_jcc.coding.parallel_context import ParallelContext
from vae_jcc.coding.range_coder import SeparateDecoder, encode_with_counts
from vae_jcc.coding.serial_context import SerialContext

ROWS = (4, 3, 6)  # slots of each channel


def make_base(rng, rows):
    present = np.arange(max(rows)) < np.array(rows)[:, None]
    return np.where(present, rng.integers(-150, 0, (len(rows), max(rows))), IMPOSSIBLE).astype(np.int32)


def make_serial(seed=0, rows=ROWS, features=24, blocks=1, strength=30):
    rng = np.random.default_rng(seed)
    widths = [1, *[features] * (1 + 2 * blocks), max(rows)]
    tensors = {"base": make_base(rng, rows)}
    for i, (d_in, d_out) in enumerate(zip(widths[:-1], widths[1:], strict=True)):
        tensors[f"kernel{i}"] = rng.integers(-strength, strength + 1, (2, 3, 3, d_in, d_out)).astype(np.int8)
        tensors[f"bias{i}"] = rng.integers(-2000, 2000, d_out).astype(np.int32)
    return SerialContext(tensors)


def make_parallel(seed=0, rows=ROWS, features=24, strength=30):
    rng = np.random.default_rng(seed)
    groups = np.arange(len(rows)) * 2 // len(rows)
    tensors = {"base": make_base(rng, rows), "groups": groups.astype(np.int32)}
    for p in range(1, 4):
        out = int(np.sum(groups == p // 2)) * max(rows)
        shapes = [(5, 5, len(rows), features), (features, features), (features, out)]
        for i, shape in enumerate(shapes):
            tensors[f"kernel{p}_{i}"] = rng.integers(-strength, strength + 1, shape).astype(np.int8)
            tensors[f"bias{p}_{i}"] = rng.integers(-2000, 2000, shape[-1]).astype(np.int32)
    return ParallelContext(tensors)


def make_hyperprior(seed=0, rows=ROWS, features=8, strength=30):
    rng = np.random.default_rng(seed)
    channels, side = len(rows), 2
    layers = {
        "analysis_0": (5, 5, channels, features),
        "analysis_1": (3, 3, features, side),
        "synthesis_0": (3, 3, side, 4 * features),
        "synthesis_1": (3, 3, features, 4 * features),
        "synthesis_2": (1, 1, features, 2 * channels),
    }
    positions = 16 * (np.arange(max(rows)) - np.array(rows)[:, None] // 2)
    scales = -(np.arange(80) * 40 // (1 + np.arange(32)[:, None]))
    tensors = {"base": make_base(rng, rows), "positions": positions, "scales": scales}
    tensors["side"] = rng.integers(-150, 0, (side, 15))
    for name, shape in layers.items():
        tensors[f"kernel_{name}"] = rng.integers(-strength, strength + 1, shape).astype(np.int8)
        tensors[f"bias_{name}"] = rng.integers(-2000, 2000, shape[-1]).astype(np.int32)
    tensors["bias_synthesis_2"][channels:] += 4000
    return HyperpriorContext(tensors)


def make_tables(rows=ROWS):
    return CodingTables.build([np.full(n - 1, 1 / n) for n in rows], [-(n // 2) for n in rows], [0.01] * len(rows))


@pytest.fixture(params=[make_serial, make_parallel, make_hyperprior])
def codec(request):
    return ContextCodec(make_tables(), request.param())


def draw(batch=5, height=4, width=6, seed=1, spread=2):
    return np.random.default_rng(seed).integers(-spread, spread + 1, (batch, height, width, len(ROWS))).astype(np.int32)


@pytest.mark.parametrize("shape", [(1, 1), (4, 6), (7, 2)])
@pytest.mark.parametrize("spread", [1, 40])  # 40: most symbols are escaped
def test_round_trip_does_not_depend_on_the_batch(codec, shape, spread):
    symbols = draw(20, *shape, spread=spread)
    together = codec.encode_batch(symbols)
    assert together == [codec.encode(image) for image in symbols]
    assert np.array_equal(codec.decode_batch(together, shape), symbols)
    for image, payload in zip(symbols[:4], together[:4], strict=True):
        assert np.array_equal(codec.decode(payload, shape), image)


def test_large_grids_are_encoded_as_small_ones_are():
    """More places than are encoded at once, whatever the number of images."""
    codec, symbols = ContextCodec(make_tables(), make_parallel()), draw(3, 33, 32)
    together = codec.encode_batch(symbols)
    assert together == [codec.encode(image) for image in symbols]
    assert np.array_equal(codec.decode_batch(together, (33, 32)), symbols)


def test_the_payload_is_as_long_as_the_distributions_say(codec):
    symbols = draw(50, 8, 8)
    ideal = codec.bits(symbols).sum(axis=(1, 2, 3))
    real = np.array([8 * len(payload) for payload in codec.encode_batch(symbols)])
    assert np.all(real >= ideal - 8) and np.all(real - ideal < 9)
    assert np.mean(real - ideal) < 5


@pytest.mark.parametrize("make", [*(partial(make_serial, blocks=n) for n in (0, 1, 2)), make_parallel, make_hyperprior])
def test_decoding_asks_for_what_the_parallel_pass_computed(make):
    context, planes = make(), draw(3).transpose(0, 3, 1, 2)
    order = context.order(planes.shape[2:])
    expected = context.logits(planes).reshape(3, len(order), -1)[:, order].transpose(1, 0, 2)
    known, seen = planes.reshape(3, -1)[:, order].T, []

    def read(logits, side=False):
        if side:
            return context.side(planes)[0].T
        start = sum(map(len, seen))
        seen.append(logits)
        return known[start : start + len(logits)]

    context.decode(3, planes.shape[2:], read)
    assert np.array_equal(np.concatenate(seen), expected)
    assert np.array_equal(np.sort(order), np.arange(len(order)))


def test_the_network_is_the_trained_one_to_the_bit():
    import jax
    import jax.numpy as jnp

    from vae_jcc.entropy import fixed_point
    from vae_jcc.entropy.context import ContextModel
    from vae_jcc.entropy.export import from_integers, to_integers

    model = ContextModel(channels=3, slots=5, blocks=2)
    planes = draw(4).transpose(0, 3, 1, 2)
    values = jnp.asarray(planes.transpose(0, 2, 3, 1), jnp.float32)
    rng = np.random.default_rng(0)
    params = model.init(jax.random.key(0), values)["params"]
    params = jax.tree.map(lambda x: x + jnp.asarray(rng.normal(0, 0.2, x.shape), jnp.float32), params)
    trained = model.apply({"params": params}, values, True)
    integers = SerialContext(to_integers(params)).logits(planes)
    again = to_integers(from_integers(to_integers(params)))
    assert all(np.array_equal(again[name], value) for name, value in to_integers(params).items())
    assert np.array_equal(np.moveaxis(integers, 1, 3), np.asarray(trained * 2**fixed_point.LOGIT_BITS).astype(int))


def test_counts_sum_and_follow_the_logits():
    rng = np.random.default_rng(0)
    logits = rng.integers(-400, 400, (2000, 7)).astype(np.int32)
    logits[:, 5:] = np.where(rng.random((2000, 1)) < 0.5, IMPOSSIBLE, logits[:, 5:])
    logits[0] = [2**20, *[-(2**20)] * 6]
    counts = counts_of(logits)
    present = logits > IMPOSSIBLE // 2
    assert np.all(counts.sum(axis=1) == 2**24) and np.all((counts >= 1) == present) and counts.max() < 2**24
    expected = np.where(present, 2.0 ** ((logits - logits.max(1, keepdims=True)) / 32), 0)
    np.testing.assert_allclose(counts / 2**24, expected / expected.sum(1, keepdims=True), atol=1e-5)


@pytest.mark.parametrize(
    ("make", "golden"),
    [
        (make_serial, "3af9dd0fee28afb95a2aa39df392d97904bfa7fff5be3e8bf3feb7"),
        (make_parallel, "6031894120db5d5b41ec6d"),
        (make_hyperprior, "965f3caf251d33a0903426"),
    ],
)
def test_golden_bytes(make, golden):
    symbols = (np.arange(3 * 2 * 3).reshape(1, 3, 2, 3) * 7 % 5 - 2).astype(np.int32)
    symbols[0, 1, 1, 2] = 1000
    assert ContextCodec(make_tables(), make(7)).encode_batch(symbols)[0].hex() == golden


def test_altered_payloads_are_refused_or_decode_to_something_else(codec):
    symbols = draw(1, 8, 8)
    payload = codec.encode_batch(symbols)[0]
    for bit in range(0, 8 * len(payload) - 8, 5):  # not the last byte: more than one value may mean the same
        altered = bytearray(payload)
        altered[bit // 8] ^= 1 << bit % 8
        try:
            assert not np.array_equal(codec.decode(bytes(altered), (8, 8)), symbols[0])
        except BitstreamError:
            pass
    with pytest.raises(BitstreamError, match="zero byte"):
        codec.decode(payload + b"\0", (8, 8))


def test_what_does_not_fit_is_named():
    with pytest.raises(ValueError, match="slots a channel"):
        ContextCodec(make_tables((4, 3, 5)), make_serial())
    with pytest.raises(ValueError, match="exact"):
        make_serial(features=600, strength=127)
    with pytest.raises(ValueError, match="residual block"):
        SerialContext({"base": np.zeros((3, 4), np.int32)})
    with pytest.raises(ValueError, match="Pass 1"):
        ParallelContext({"base": np.zeros((3, 4), np.int32), "groups": np.zeros(3, np.int32)})
    with pytest.raises(ValueError, match="needs bias_analysis_0"):
        HyperpriorContext({"base": np.zeros((3, 4), np.int32)})
    with pytest.raises(ValueError, match="int32"):
        ContextCodec(make_tables(), make_serial()).encode_batch(draw().astype(np.int64))
    with pytest.raises(ValueError, match="holds nothing"):
        ContextCodec(make_tables(), make_serial()).decode(b"", (0, 2))


def test_coding_needs_no_jax():
    code = "import sys; sys.modules['jax'] = None\nfrom vae_jcc.coding.context_codec import ContextCodec; print('ok')"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "ok\n"


@pytest.mark.parametrize("decoder", [BatchDecoder, SeparateDecoder])
def test_excesses_are_decoded_one_message_at_a_time(decoder):
    counts = np.full((4, 2, 2), 2**23)
    excess = np.array([0, 5, 2**33 - 3], np.int64)
    messages = [encode_with_counts(np.array([0, 1, 1, 1], np.int32), counts[:, 0], excess), b"\x80"]
    both = decoder(messages)
    slots = both.decode(counts)
    assert slots[:, 0].tolist() == [0, 1, 1, 1] and slots[:, 1].tolist() == [1, 0, 0, 0]
    assert np.array_equal(both.decode_excess(0, 3), excess)
