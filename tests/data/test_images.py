"""Decoding and sizing pictures."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.features import check

from vae_jcc.data.errors import CorruptImageError
from vae_jcc.data.images import decode_image, read_header, resize_and_crop


def png(array: np.ndarray, mode: str | None = None) -> bytes:
    buffer = io.BytesIO()
    picture = Image.fromarray(array)
    (picture.convert(mode) if mode else picture).save(buffer, "PNG")
    return buffer.getvalue()


def test_colour_and_grey_keep_every_value(rng: np.random.Generator) -> None:
    colour = rng.integers(0, 256, (7, 5, 3), np.uint8)
    np.testing.assert_array_equal(decode_image(png(colour), 3, "it"), colour)
    grey = rng.integers(0, 256, (7, 5), np.uint8)
    np.testing.assert_array_equal(decode_image(png(grey), 1, "it"), grey[..., None])
    np.testing.assert_array_equal(decode_image(png(grey), 3, "it"), np.repeat(grey[..., None], 3, 2))


def test_colour_to_grey_is_luma() -> None:
    green = np.zeros((2, 2, 3), np.uint8)
    green[..., 1] = 200
    assert decode_image(png(green), 1, "it")[0, 0, 0] == round(0.587 * 200)


def test_sixteen_bits_are_scaled_not_clipped() -> None:
    levels = np.array([[0, 256, 32768, 65535]], np.uint16)
    assert decode_image(png(levels), 1, "it")[0, :, 0].tolist() == [0, 1, 128, 255]


def test_alpha_and_palette(rng: np.random.Generator) -> None:
    colour = rng.integers(0, 256, (4, 4, 3), np.uint8)
    with_alpha = np.concatenate([colour, np.full((4, 4, 1), 255, np.uint8)], axis=2)
    np.testing.assert_array_equal(decode_image(png(with_alpha), 3, "it"), colour)
    flat = np.full((4, 4, 3), (255, 0, 0), np.uint8)
    np.testing.assert_array_equal(decode_image(png(flat, "P"), 3, "it"), flat)


_needs_avif = pytest.mark.skipif(not check("avif"), reason="this Pillow has no AVIF; 11.3 and later do")


@pytest.mark.parametrize("kind", ["jpg", "png", "webp", pytest.param("avif", marks=_needs_avif)])
def test_exif_turns_upright_and_the_header_agrees(tmp_path: Path, kind: str) -> None:
    picture = Image.new("RGB", (20, 10))
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    path = tmp_path / f"turned.{kind}"
    picture.save(path, exif=exif)
    assert decode_image(path, 3, "it", exif_orientation=True).shape == (20, 10, 3)
    assert decode_image(path, 3, "it").shape == (10, 20, 3)
    assert read_header(path) == (20, 10, False)


@pytest.mark.parametrize("data", [b"", b"no picture", png(np.zeros((64, 64, 3), np.uint8))[:-30]])
def test_damage_names_the_picture(data: bytes) -> None:
    with pytest.raises(CorruptImageError, match=r"^cat\.png (is empty|cannot be decoded)"):
        decode_image(data, 3, "cat.png")


def test_every_truncation_of_a_jpeg_is_noticed(rng: np.random.Generator) -> None:
    buffer = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (16, 16, 3), np.uint8)).save(buffer, "JPEG")
    whole = buffer.getvalue()
    for length in range(0, len(whole) - 2, 7):
        with pytest.raises(CorruptImageError):
            decode_image(whole[:length], 3, "it")


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CorruptImageError, match="gone.png"):
        decode_image(tmp_path / "gone.png", 3, str(tmp_path / "gone.png"))


def test_right_size_is_untouched(rng: np.random.Generator) -> None:
    image = rng.integers(0, 256, (9, 9, 3), np.uint8)
    np.testing.assert_array_equal(resize_and_crop(image, 9), image)


@pytest.mark.parametrize("shape", [(30, 20, 3), (20, 31, 1), (7, 99, 3), (5, 5, 1)])
def test_any_shape_becomes_the_square(shape: tuple[int, int, int], rng: np.random.Generator) -> None:
    square = resize_and_crop(rng.integers(0, 256, shape, np.uint8), 10)
    assert square.shape == (10, 10, shape[2]) and square.dtype == np.uint8


def test_the_crop_is_central_after_scaling_the_shorter_side() -> None:
    image = np.zeros((8, 24, 1), np.uint8)
    image[:, 8:16] = 255  # the middle third of the width
    np.testing.assert_array_equal(resize_and_crop(image, 8), np.full((8, 8, 1), 255))
    assert resize_and_crop(image, 4)[:, 1:3].min() > 250
