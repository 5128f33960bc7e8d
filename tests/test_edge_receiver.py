import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vae_jcc import BitstreamError, EdgeEncoder, Receiver
from vae_jcc import inference as inference_module
from vae_jcc.artifact import Artifact
from vae_jcc.coding import pack_file, peek, unpack_file
from vae_jcc.inference import BATCH_SIZES, in_batches, make_classify_fn
from vae_jcc.model_folder import ArtifactError
from vae_jcc.models.joint import build_classifier, build_model

Make = Callable[..., None]


@pytest.fixture(scope="module")
def edge(tiny_folder: Path) -> EdgeEncoder:
    return EdgeEncoder.load(tiny_folder)


@pytest.fixture(scope="module")
def receiver(tiny_folder: Path) -> Receiver:
    return Receiver.load(tiny_folder)


def _joint_outputs(artifact: Artifact, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns symbols and logits of the joint model's own evaluation graph, with the artifact's offset."""
    model = build_model(artifact.config, 3, artifact.channels)
    variables = {part: artifact.variables(part) for part in artifact.parts}
    joint = {kind: {p: v[kind] for p, v in variables.items() if v[kind]} for kind in ("params", "batch_stats")}

    @jax.jit
    def run(joint: dict, images: jax.Array) -> tuple[jax.Array, jax.Array]:
        bound = model.bind(joint)
        y = bound.encoder(images.astype(jnp.float32) / 255.0)
        symbols = jnp.round(y - artifact.offset)
        return symbols.astype(jnp.int32), bound.classifier(symbols + artifact.offset)

    symbols, logits = run(joint, images)
    return np.asarray(symbols), np.asarray(logits)


def test_symbols_from_bytes_are_the_models(edge: EdgeEncoder, receiver: Receiver, pictures: np.ndarray) -> None:
    symbols, logits = _joint_outputs(receiver.artifact, pictures[:4])
    data = edge.compress(pictures[:4])
    assert isinstance(data, list)
    np.testing.assert_array_equal(np.stack(receiver.symbols(data)), symbols)
    assert len(np.unique(symbols)) > 5
    np.testing.assert_allclose(receiver.logits(data), logits, rtol=1e-5, atol=1e-5)


def test_logits_from_bytes_equal_evaluations_exactly(
    edge: EdgeEncoder, receiver: Receiver, pictures: np.ndarray
) -> None:
    artifact = receiver.artifact
    classify = make_classify_fn(build_classifier(artifact.config, 3))
    symbols = np.asarray(edge._encode(edge._variables, artifact.quantizer, pictures[:4]))
    expected = np.asarray(classify(artifact.variables("classifier"), artifact.quantizer, symbols))
    np.testing.assert_array_equal(receiver.logits(edge.compress(pictures[:4])), expected)


def test_one_picture_gives_one_answer(edge: EdgeEncoder, receiver: Receiver, pictures: np.ndarray) -> None:
    data = edge.compress(pictures[0])
    assert isinstance(data, bytes)
    probabilities = receiver.classify(data)
    assert probabilities.shape == (3,)
    assert probabilities.dtype == np.float32
    assert probabilities.sum() == pytest.approx(1.0, abs=1e-5)
    symbols = receiver.symbols(data)
    assert isinstance(symbols, np.ndarray)
    assert (symbols.shape, symbols.dtype) == ((4, 4, 3), np.int32)
    picture = receiver.reconstruct(data)
    assert isinstance(picture, np.ndarray)
    assert (picture.shape, picture.dtype) == ((16, 16, 3), np.uint8)
    assert receiver.class_names == ("ant", "bee", "cat")


def test_mixed_sizes_come_back_in_order(edge: EdgeEncoder, receiver: Receiver, rng: np.random.Generator) -> None:
    sizes = [(16, 16), (9, 31), (16, 16), (4, 4), (1, 1), (9, 31)]
    images = [rng.integers(0, 256, (*size, 3), np.uint8) for size in sizes]
    files = edge.compress(images)
    stream = edge.compress_stream(images)
    for data in (files, stream):
        pictures = receiver.reconstruct(data)
        assert [p.shape[:2] for p in pictures] == sizes
        assert receiver.classify(data).shape == (6, 3)
    for i, image in enumerate(images):
        alone = receiver.symbols(edge.compress(image))
        for data in (files, stream):
            np.testing.assert_array_equal(receiver.symbols(data)[i], alone)
    np.testing.assert_array_equal(receiver.classify(files), receiver.classify(stream))


def test_a_stream_costs_less_than_its_files(edge: EdgeEncoder, pictures: np.ndarray) -> None:
    files, stream = edge.compress(pictures), edge.compress_stream(pictures)
    payload = sum(len(data) - 10 for data in files)
    assert len(stream) < sum(map(len, files))
    assert len(stream) <= payload + 24 + 2 * len(pictures)


def test_joined_pictures_come_back_in_order(edge: EdgeEncoder, receiver: Receiver, rng: np.random.Generator) -> None:
    images = rng.integers(0, 256, (300, 16, 24, 3), np.uint8)  # more than a group
    stream, joined = edge.compress_stream(images), edge.compress_stream(images, joined=True)
    assert len(joined) < len(stream) - len(images)
    expected = receiver.symbols(stream)
    assert np.array_equal(np.stack(receiver.symbols(joined)), np.stack(expected))
    assert np.array_equal(np.stack(edge.symbols(images)), np.stack(expected))
    np.testing.assert_array_equal(receiver.classify(joined), receiver.classify(stream))
    files = edge.compress(images[:2])
    mixed = receiver.symbols([files[0], joined, files[1]])
    assert len(mixed) == 302
    assert np.array_equal(np.stack(mixed), np.stack([expected[0], *expected, expected[1]]))
    with pytest.raises(ValueError, match="images of one size: this one has 16 x 24 pixels, the first 5 x 9"):
        edge.compress_stream([np.zeros((5, 9, 3), np.uint8), images[0]], joined=True)
    with pytest.raises(ValueError, match="needs images"):
        edge.compress_stream([], joined=True)


def test_nothing_in_nothing_out(edge: EdgeEncoder, receiver: Receiver) -> None:
    assert edge.compress([]) == []
    assert receiver.classify([]).shape == (0, 3)
    assert receiver.symbols([]) == []
    assert receiver.reconstruct([]) == []
    with pytest.raises(ValueError, match="needs images"):
        edge.compress_stream([])


def test_grey_models_code_grey(tmp_path: Path, make_tiny: Make, rng: np.random.Generator) -> None:
    make_tiny(tmp_path / "grey", channels=1)
    edge, receiver = EdgeEncoder.load(tmp_path / "grey"), Receiver.load(tmp_path / "grey")
    data = edge.compress(rng.integers(0, 256, (12, 10, 1), np.uint8))
    assert receiver.reconstruct(data).shape == (12, 10, 1)
    with pytest.raises(ValueError, match=r"uint8 pictures \[H, W, 1\]; got uint8 \[12, 10, 3\]"):
        edge.compress(np.zeros((12, 10, 3), np.uint8))


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((16, 16, 3), np.float32),
        np.zeros((16, 16, 1), np.uint8),
        np.zeros((16, 16, 4), np.uint8),
        np.zeros((16, 16), np.uint8),
        np.zeros((0, 16, 3), np.uint8),
        [np.zeros((2, 16, 16, 3), np.uint8)],
    ],
)
def test_unfit_pictures_are_refused(edge: EdgeEncoder, image: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"codes uint8 pictures \[H, W, 3\]"):
        edge.compress(image)


def test_another_models_bytes_are_refused(
    edge: EdgeEncoder, tmp_path: Path, make_tiny: Make, pictures: np.ndarray
) -> None:
    make_tiny(tmp_path / "other", seed=1)
    other = Receiver.load(tmp_path / "other")
    streams = [edge.compress_stream(pictures, joined) for joined in (False, True)]
    for data in (edge.compress(pictures[0]), *streams):
        for method in (other.classify, other.symbols, other.reconstruct, other.inspect):
            with pytest.raises(BitstreamError, match="model"):
                method(data)


def test_every_truncation_and_bit_flip_is_refused(edge: EdgeEncoder, receiver: Receiver, pictures: np.ndarray) -> None:
    streams = [edge.compress_stream(pictures[:2], joined) for joined in (False, True)]
    for data in (edge.compress(pictures[0]), *streams):
        for length in range(len(data)):
            with pytest.raises(BitstreamError):
                receiver.symbols(data[:length])
        for bit in range(8 * len(data)):
            damaged = bytearray(data)
            damaged[bit // 8] ^= 1 << bit % 8
            with pytest.raises(BitstreamError):
                receiver.symbols(bytes(damaged))


def test_large_claims_are_refused(tiny_folder: Path, edge: EdgeEncoder, pictures: np.ndarray) -> None:
    careful = Receiver.load(tiny_folder, max_pixels=255)
    with pytest.raises(BitstreamError, match="255"):
        careful.symbols(edge.compress(pictures[0]))


def test_bytes_come_in_any_buffer(edge: EdgeEncoder, receiver: Receiver, pictures: np.ndarray) -> None:
    """As sockets and shared memory hand them over."""
    data = edge.compress(pictures[0])
    for buffer in (bytearray(data), memoryview(data)):
        np.testing.assert_array_equal(receiver.symbols(buffer), receiver.symbols(data))
        np.testing.assert_array_equal(receiver.classify([buffer, data]), receiver.classify([data, data]))
        assert receiver.inspect(buffer) == receiver.inspect(data) and receiver.recode(buffer, "range") == data


def test_recoding_keeps_the_symbols(edge: EdgeEncoder, receiver: Receiver, rng: np.random.Generator) -> None:
    images = [rng.integers(0, 256, (*size, 3), np.uint8) for size in ((16, 16), (9, 31), (16, 16))]
    joined = edge.compress_stream(images[::2], joined=True)
    for data in (edge.compress(images[1]), joined, edge.compress_stream(images)):
        assert receiver.recode(data, "range") == data
    with pytest.raises(ValueError, match="choose range or tfc"):
        receiver.recode(data, "ans")


def test_a_coder_that_is_not_installed_is_refused_with_its_remedy(
    tiny_folder: Path, edge: EdgeEncoder, receiver: Receiver, pictures: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorflow_compression", None)
    fingerprint, data = receiver.artifact.fingerprint, edge.compress(pictures[0])
    foreign = pack_file(unpack_file(data, fingerprint)[1], fingerprint, 16, 16, coder_id=1)
    requests: list[Callable[[], object]] = [
        lambda: EdgeEncoder.load(tiny_folder, "tfc"),
        lambda: receiver.recode(data, "tfc"),
        lambda: receiver.symbols(foreign),
        lambda: receiver.classify([data, foreign]),
        lambda: receiver.inspect(foreign),
    ]
    for request in requests:
        with pytest.raises(BitstreamError, match=r"requirements-tfc\.txt"):
            request()


def test_context_models_have_the_range_coder_alone(receiver: Receiver) -> None:
    with pytest.raises(BitstreamError, match="only the range coder can do"):
        replace(receiver.artifact, context="serial").make_codec("tfc")


def test_inspect_accounts_for_every_byte(edge: EdgeEncoder, receiver: Receiver, pictures: np.ndarray) -> None:
    data = edge.compress(pictures[0])
    fields = receiver.inspect(data)
    assert (fields["kind"], fields["images"], fields["height"], fields["width"]) == ("file", 1, 16, 16)
    assert fields["latent"] == [4, 4, 3]
    assert fields["fingerprint"] == receiver.artifact.fingerprint.hex()
    parts = fields["bytes"]
    assert parts["total"] == len(data) == parts["header"] + parts["payload"]
    assert parts["header"] <= 12
    assert fields["bpp_file"] == 8 * len(data) / 256
    assert len(fields["channel_bits"]) == 3
    assert min(fields["channel_bits"]) > 0
    # The coder rounds up to bytes and needs a few bits to end.
    assert 0 <= 8 * parts["payload"] - sum(fields["channel_bits"]) <= 16
    stream = receiver.inspect(edge.compress_stream(pictures))
    assert (stream["kind"], stream["images"]) == ("stream", 5)
    assert stream["channel_bits"][0] > fields["channel_bits"][0]
    joined = receiver.inspect(edge.compress_stream(pictures, joined=True))
    assert (joined["kind"], joined["images"], joined["height"]) == ("joined stream", 5, 16)
    assert joined["channel_bits"] == stream["channel_bits"]
    assert 0 <= 8 * joined["bytes"]["payload"] - sum(joined["channel_bits"]) <= 16


def test_a_model_without_a_decoder_says_so(tiny_copy: Path, edge: EdgeEncoder, pictures: np.ndarray) -> None:
    import json

    path = tiny_copy / "model.json"
    model = json.loads(path.read_text())
    del model["weights"]["decoder"]
    path.write_text(json.dumps(model))
    receiver, data = Receiver.load(tiny_copy), edge.compress(pictures[0])
    assert receiver.classify(data).shape == (3,)
    with pytest.raises(ArtifactError, match="has no decoder"):
        receiver.reconstruct(data)


def test_the_edge_loads_the_encoder_alone(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    real = Artifact.variables
    monkeypatch.setattr(Artifact, "variables", lambda self, part: asked.append(part) or real(self, part))
    EdgeEncoder.load(tiny_folder)
    assert asked == ["encoder"]


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 17, 300])
def test_batches_come_in_a_few_sizes(count: int, rng: np.random.Generator) -> None:
    seen: list[int] = []

    def double(batch: np.ndarray) -> jax.Array:
        seen.append(len(batch))
        return jnp.asarray(batch) * 2

    inputs = rng.integers(0, 100, (count, 3)).astype(np.int32)
    np.testing.assert_array_equal(in_batches(double, inputs, pixels=64), inputs * 2)
    assert set(seen) <= set(BATCH_SIZES)
    assert sum(seen) < 4 * count + 4


def test_large_images_come_in_small_batches(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference_module, "MAX_BATCH_PIXELS", 1000)
    for pixels, most in ((10, 64), (250, 4), (251, 1), (5000, 1)):
        seen: list[int] = []
        in_batches(lambda batch, seen=seen: seen.append(len(batch)) or jnp.asarray(batch), np.zeros((70, 1)), pixels)
        assert max(seen) == most


def test_decoding_and_inspecting_need_no_jax(tiny_folder: Path, edge: EdgeEncoder, pictures: np.ndarray) -> None:
    data = edge.compress_stream(pictures)
    assert peek(data).count == 5
    code = f"""
import sys
for blocked in ("jax", "jaxlib", "flax", "optax", "tensorflow", "ml_collections", "safetensors"):
    sys.modules[blocked] = None
from vae_jcc import Receiver
receiver = Receiver.load({str(tiny_folder)!r})
data = sys.stdin.buffer.read()
symbols = receiver.symbols(data)
assert receiver.inspect(data)["images"] == 5
print(sum(int(s.astype("i8").sum()) * (i + 1) for i, s in enumerate(symbols)))
"""
    done = subprocess.run([sys.executable, "-c", code], input=data, capture_output=True, check=False)
    symbols = Receiver.load(tiny_folder).symbols(data)
    expected = sum(int(s.astype(np.int64).sum()) * (i + 1) for i, s in enumerate(symbols))
    assert (done.returncode, done.stdout.decode()) == (0, f"{expected}\n"), done.stderr.decode()
