"""Random-resized crops: what is drawn, what is cut, and that nothing but seed, batch and place decides it."""

import io
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vae_jcc.data.array_source import ArraySource, load_into_memory
from vae_jcc.data.crop import Crop, RandomResizedCrop
from vae_jcc.data.errors import CorruptImageError, DataError
from vae_jcc.data.images import decode_image, resized_crop
from vae_jcc.data.order import Shard
from vae_jcc.data.pipeline import eval_batches, train_iterator
from vae_jcc.data.sources import SourceInfo, open_source

STREAMED, IN_MEMORY = 0, 2**30
FIXED = RandomResizedCrop(16, (0.5, 0.5), (1.0, 1.0))


def smooth(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """A picture that keeps its looks when it is scaled."""
    coarse = Image.fromarray(rng.integers(0, 256, (6, 6, 3), np.uint8))
    return np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC))


def encoded(array: np.ndarray, image_format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, image_format, **options)
    return buffer.getvalue()


def a_source(rng: np.random.Generator, count: int = 24) -> ArraySource:
    pixels = rng.integers(0, 256, (count, 20, 26, 3), np.uint8)
    info = SourceInfo("pixels", "train", count, count, tuple(map(str, range(count))), 3, (20, 26), "")
    return ArraySource(info, pixels, np.arange(count, dtype=np.int32))


@pytest.fixture
def folder(tmp_path: Path, rng: np.random.Generator) -> str:
    """Eleven pictures of different sizes, each its own class."""
    for i in range(11):
        path = tmp_path / f"class{i:02}" / "0.png"
        path.parent.mkdir()
        Image.fromarray(rng.integers(0, 256, (20 + i, 31 - i, 3), np.uint8)).save(path)
    return f"folder:{tmp_path}"


@settings(deadline=None, derandomize=True)
@given(
    height=st.integers(1, 600),
    width=st.integers(1, 600),
    seed=st.integers(0, 2**63),
    batch=st.integers(0, 2**40),
    scale=st.sampled_from([(0.08, 1.0), (0.35, 1.0), (1.0, 1.0), (0.001, 0.001)]),
)
def test_a_box_lies_inside_the_picture(
    height: int, width: int, seed: int, batch: int, scale: tuple[float, float]
) -> None:
    for crop in RandomResizedCrop(8, scale).draw(seed, batch, Shard(4)):
        left, top, right, bottom = crop.box(height, width)
        assert 0 <= left < right <= width and 0 <= top < bottom <= height


def test_area_shape_and_place_are_drawn_from_their_ranges() -> None:
    """Of a large picture: area uniform, logarithm of the shape uniform, any place, as the definition says."""
    crops = RandomResizedCrop(8, (0.1, 0.4), (0.5, 2.0)).draw(1, 0, Shard(4000))
    boxes = np.array([crop.box(4000, 4000) for crop in crops], float)
    left, top, right, bottom = boxes.T
    area, shape = (right - left) * (bottom - top) / 4000**2, np.log2((right - left) / (bottom - top))
    for values, low, high in ((area, 0.1, 0.4), (shape, -1.0, 1.0)):
        assert values.min() > low - 0.01 and values.max() < high + 0.01
        shares = np.histogram(values, 5, (low, high))[0] / len(values)
        assert np.abs(shares - 0.2).max() < 0.025
    assert abs(np.mean((left + right) / 2) - 2000) < 40 and abs(np.mean((top + bottom) / 2) - 2000) < 40
    assert left.min() < 50 and right.max() > 3950


def test_a_picture_too_long_for_any_box_gives_its_centre() -> None:
    crop = Crop(RandomResizedCrop(8, (1.0, 1.0)), (0.5,) * 22)
    assert crop.box(30, 300) == (130, 0, 170, 30)
    assert crop.box(300, 30) == (0, 130, 30, 170)


def test_draws_are_fixed_for_ever() -> None:
    """Golden: a run of today must go on with the same crops under a later NumPy."""
    crops = RandomResizedCrop(8).draw(7, 3, Shard(2))
    assert [crop.box(160, 213) for crop in crops] == GOLDEN


GOLDEN = [(101, 31, 198, 126), (19, 13, 154, 129)]


def test_shards_part_the_draws_of_the_global_batch() -> None:
    rule = RandomResizedCrop(8)
    whole = rule.draw(5, 9, Shard(12))
    assert sum((rule.draw(5, 9, Shard(12, i, 3)) for i in range(3)), []) == whole
    assert len({crop.draws for crop in whole + rule.draw(5, 10, Shard(12)) + rule.draw(6, 9, Shard(12))}) == 36


def test_the_right_part_is_cut() -> None:
    image = np.zeros((40, 60, 3), np.uint8)
    image[10:30, 20:50] = 255
    rule = RandomResizedCrop(10, (0.25, 0.25), (1.5, 1.5))  # 20 x 30 pixels
    crop = Crop(rule, (0.0,) * 20 + (10 / 21, 20 / 31 + 1e-9))
    assert crop.box(40, 60) == (20, 10, 50, 30)
    for cut in (resized_crop(image, crop), decode_image(encoded(image, "PNG"), 3, "it", crop=crop)):
        # The outermost pixels are averaged with their neighbours beyond the box.
        assert cut[1:-1, 1:-1].min() == 255 and cut.min() > 190


@pytest.mark.parametrize("size", [(96, 128), (61, 203), (20, 22)])
def test_decoding_in_part_is_decoding_and_cutting(size: tuple[int, int], rng: np.random.Generator) -> None:
    """A JPEG that is decoded at a fraction of its size looks the same; a PNG is the same to the bit."""
    image = smooth(rng, *size)
    jpeg, png = encoded(image, "JPEG", quality=95), encoded(image, "PNG")
    for crop in RandomResizedCrop(12, (0.3, 1.0)).draw(0, 0, Shard(8)):
        part, whole = decode_image(jpeg, 3, "it", crop=crop), resized_crop(decode_image(jpeg, 3, "it"), crop)
        assert part.shape == whole.shape == (12, 12, 3) and part.dtype == np.uint8
        assert np.abs(part.astype(int) - whole).mean() < 4
        np.testing.assert_array_equal(decode_image(png, 3, "it", crop=crop), resized_crop(image, crop))
        grey = decode_image(jpeg, 1, "it", crop=crop)
        assert grey.shape == (12, 12, 1)


def test_less_is_decoded_where_the_crop_allows(monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator) -> None:
    sizes = []
    resize = Image.Image.resize

    def recorded(self: Image.Image, *arguments: Any, **options: Any) -> Image.Image:
        sizes.append(self.size)
        return resize(self, *arguments, **options)

    jpeg = encoded(smooth(rng, 160, 240), "JPEG")
    monkeypatch.setattr(Image.Image, "resize", recorded)
    for side, factor in ((8, 8), (30, 4), (60, 2), (100, 1)):
        (crop,) = RandomResizedCrop(side, (0.5, 0.5), (1.0, 1.0)).draw(0, 0, Shard(1))
        decode_image(jpeg, 3, "it", crop=crop)
        assert sizes.pop() == (240 // factor, 160 // factor)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_turned_picture_is_cut_upright(rng: np.random.Generator, kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    picture = encoded(smooth(rng, 100, 160), kind, exif=exif, quality=95)
    upright = decode_image(picture, 3, "it", exif_orientation=True)
    assert upright.shape == (160, 100, 3)
    for crop in FIXED.draw(0, 0, Shard(4)):
        part = decode_image(picture, 3, "it", exif_orientation=True, crop=crop)
        assert np.abs(part.astype(int) - resized_crop(upright, crop)).mean() < 4


def test_damage_is_named_when_a_crop_is_decoded(rng: np.random.Generator) -> None:
    jpeg = encoded(smooth(rng, 64, 64), "JPEG")
    for data in (b"", jpeg[: len(jpeg) // 2]):
        with pytest.raises(CorruptImageError, match=r"^cat\.jpg "):
            decode_image(data, 3, "cat.jpg", crop=FIXED.draw(0, 0, Shard(1))[0])


def take(source: Any, count: int, start: dict[str, int] | None = None, **settings: Any) -> list[dict[str, np.ndarray]]:
    options: dict[str, Any] = {"batch_size": 4, "seed": 3, "image_size": 8, "crop_scale": (0.2, 1.0)} | settings
    with train_iterator(source, **options) as batches:
        if start is not None:
            batches.set_state(start)
        return [{k: v.copy() for k, v in batch.items()} for batch in islice(batches, count)]


def assert_same(one: list[dict[str, np.ndarray]], other: list[dict[str, np.ndarray]]) -> None:
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a["label"], b["label"])
        np.testing.assert_array_equal(a["image"], b["image"])


def test_workers_resume_and_shards_change_nothing(folder: str) -> None:
    source = open_source(folder, "train")
    expected = take(source, 6)
    assert {batch["image"].shape for batch in expected} == {(4, 8, 8, 3)}
    assert_same(take(source, 6, workers=2), expected)
    state = {"next_batch": 4, "seed": 3, "batch_size": 4, "examples": 11}
    assert_same(take(source, 2, start=state), expected[4:])
    halves = [take(source, 6, shard_index=i, shard_count=2) for i in range(2)]
    joined = [{k: np.concatenate([a[k], b[k]]) for k in a} for a, b in zip(*halves, strict=True)]
    assert_same(joined, expected)


def test_an_example_is_cut_anew_each_time(folder: str) -> None:
    seen: dict[int, list[bytes]] = {}
    for batch in take(open_source(folder, "train"), 10):
        for label, image in zip(batch["label"].tolist(), batch["image"], strict=True):
            seen.setdefault(label, []).append(image.tobytes())
    assert max(map(len, seen.values())) > 2
    assert all(len(set(views)) == len(views) for views in seen.values())


def test_pictures_in_memory_are_cut_alike(tmp_path: Path, rng: np.random.Generator) -> None:
    """Of one size and small enough they are decoded once; the crops are those of the files, to the bit."""
    for i in range(6):
        path = tmp_path / f"class{i}" / "0.png"
        path.parent.mkdir()
        Image.fromarray(rng.integers(0, 256, (20, 26, 3), np.uint8)).save(path)
    source = open_source(f"folder:{tmp_path}", "train")
    streamed = take(source, 4, memory_limit=STREAMED)
    assert_same(take(load_into_memory(source), 4, workers=2), streamed)
    for path in tmp_path.rglob("*.png"):  # in memory since the line above
        path.unlink()
    assert_same(take(source, 4, memory_limit=IN_MEMORY), streamed)


def test_a_plain_source_is_cut_too(rng: np.random.Generator) -> None:
    class Plain:
        def __init__(self, source: ArraySource) -> None:
            self.info, self.source = source.info, source

        def __len__(self) -> int:
            return len(self.source)

        def __getitem__(self, index: int) -> dict[str, Any]:
            return self.source[index]

    source = a_source(rng)
    assert_same(take(Plain(source), 5, memory_limit=STREAMED), take(source, 5))


def test_prepared_jpegs_are_cut_while_decoding(tfds_folder: str) -> None:
    source = open_source("imagenette/160px-v2", "train[:64]", data_dir=tfds_folder)
    (batch,) = take(source, 1, batch_size=64, image_size=64, crop_scale=(0.08, 1.0))
    assert batch["image"].shape == (64, 64, 64, 3)
    order = [source[i]["label"] for i in range(64)]
    assert sorted(batch["label"].tolist()) == sorted(order)
    assert batch["image"].std() > 30


def test_refuses_what_cannot_be(rng: np.random.Generator) -> None:
    source = a_source(rng)
    for wrong in ({"image_size": 0}, {"crop_scale": (0.0, 1.0)}, {"crop_scale": (0.9, 0.1)}, {"crop_scale": (0.5,)}):
        with pytest.raises(DataError, match=r"config\.dataset\.crop_scale"):
            take(source, 1, **wrong)
    with pytest.raises(DataError, match=r"config\.dataset\.crop_ratio"):
        take(source, 1, crop_ratio=(-1.0, 2.0))
    with pytest.raises(DataError, match=r"config\.dataset\.margin"):
        take(source, 1, margin=2)


@pytest.mark.parametrize(("side", "margin"), [(160, 48), (224, 16)])
def test_evaluation_at_resize_256_and_centre(side: int, margin: int, rng: np.random.Generator) -> None:
    """The margins that configs/imagenet.py gives: shorter side 256, then the centre, to the pixel."""
    picture = smooth(rng, 300, 401)
    scaled = Image.fromarray(picture).resize((round(401 * 256 / 300), 256), Image.Resampling.BICUBIC)
    left, top = (scaled.width - side) // 2, (256 - side) // 2
    expected = np.asarray(scaled)[top : top + side, left : left + side]
    info = SourceInfo("one", "test", 1, 1, ("a",), 3, (300, 401), "")
    source = ArraySource(info, picture[None], np.zeros(1, np.int32))
    for memory_limit in (STREAMED, IN_MEMORY):
        (batch,) = eval_batches(source, batch_size=1, image_size=side, margin=margin, memory_limit=memory_limit)
        np.testing.assert_array_equal(batch["image"][0], expected)
