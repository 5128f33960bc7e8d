"""Encoded image to uint8 array, and array to the size that a batch needs.

Pillow decodes, on every machine: the same file must not become different pixels because OpenCV
happens to be installed. benchmarks/jpeg_decoding.py holds it against other libraries.
"""

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from vae_jcc.data.crop import Crop
from vae_jcc.data.errors import CorruptImageError

_SIXTEEN_BIT_MODES = frozenset({"I", "I;16", "I;16L", "I;16B", "I;16N"})
_GREY_MODES = _SIXTEEN_BIT_MODES | {"1", "L", "LA"}
_EXIF_FORMATS = frozenset({"AVIF", "JPEG", "MPO", "WEBP"})
_SWAPS_SIDES = frozenset({5, 6, 7, 8})  # EXIF orientations that turn by a quarter
_EXIF_ORIENTATION = 0x0112


def decode_image(
    encoded: bytes | Path, channels: int, name: str, *, exif_orientation: bool = False, crop: Crop | None = None
) -> np.ndarray:
    """Decodes a JPEG, PNG or WebP.

    Args:
        encoded: the file's bytes, or its path.
        channels: 1 (grey, by ITU-R 601 luma) or 3 (RGB). An alpha channel is dropped.
        name: what to call the image in an error.
        exif_orientation: turn a JPEG, PNG, WebP or AVIF upright as its EXIF tag says, as viewers do.
        crop: cut this and scale it to its square. A JPEG is then decoded at 1/2, 1/4 or 1/8 of its size where the
            crop has pixels enough.

    Returns:
        uint8 [H, W, channels]; H = W = crop.side with a crop.

    Raises:
        CorruptImageError: the image is empty, truncated or not an image; the message has `name`.
    """
    try:
        data = encoded if isinstance(encoded, bytes) else encoded.read_bytes()
        if not data:
            raise CorruptImageError(f"{name} is empty.")
        with Image.open(io.BytesIO(data)) as image:
            turns = exif_orientation and _has_exif(image)
            if crop is None:
                return _to_array(ImageOps.exif_transpose(image) if turns else image, channels)
            return _decode_crop(image, channels, turns, crop)
    except (CorruptImageError, MemoryError):
        raise
    # Pillow's decoders raise a dozen unrelated types on damaged input (OSError, SyntaxError,
    # struct.error, IndexError ...), and no list of them is complete.
    except Exception as error:
        raise CorruptImageError(f"{name} cannot be decoded: {_one_line(error)}.") from error


def read_header(path: Path) -> tuple[int, int, bool]:
    """Reads what an image file says about itself, without decoding it.

    Returns:
        Height and width once upright (EXIF), and whether it is grey.

    Raises:
        CorruptImageError: the file is empty or no image.
    """
    try:
        if path.stat().st_size == 0:
            raise CorruptImageError(f"{path} is empty.")
        with Image.open(path) as image:
            width, height = image.size
            if _has_exif(image) and _orientation(image) in _SWAPS_SIDES:
                width, height = height, width
            return height, width, image.mode in _GREY_MODES
    except CorruptImageError:
        raise
    except Exception as error:
        raise CorruptImageError(f"{path} cannot be decoded: {_one_line(error)}.") from error


def resize_and_crop(image: np.ndarray, side: int) -> np.ndarray:
    """Scales the shorter side to `side` (bicubic, antialiased) and cuts out the centre.

    An image that already has the wanted size comes back untouched, to the bit.

    Args:
        image: uint8 [H, W, C].
        side: of the square that is wanted, in pixels.

    Returns:
        uint8 [side, side, C].
    """
    height, width, channels = image.shape
    if min(height, width) != side:
        scale = side / min(height, width)
        height, width = max(side, round(height * scale)), max(side, round(width * scale))
        pixels = Image.fromarray(image[..., 0] if channels == 1 else image)
        image = np.asarray(pixels.resize((width, height), Image.Resampling.BICUBIC)).reshape(height, width, channels)
    top, left = (height - side) // 2, (width - side) // 2
    return image[top : top + side, left : left + side]


def resized_crop(image: np.ndarray, crop: Crop) -> np.ndarray:
    """Cuts a crop from a decoded image uint8 [H, W, C] and scales it to its square uint8 [side, side, C]."""
    height, width, channels = image.shape
    return _scale(Image.fromarray(image[..., 0] if channels == 1 else image), crop.box(height, width), crop.side)


def _has_exif(image: Image.Image) -> bool:
    # A PNG may keep EXIF behind its pixels, where asking would decode them all: only what stands before them counts.
    return image.format in _EXIF_FORMATS or (image.format == "PNG" and "exif" in image.info)


def _orientation(image: Image.Image) -> int:
    return image.getexif().get(_EXIF_ORIENTATION, 1)


def _decode_crop(image: Image.Image, channels: int, turns: bool, crop: Crop) -> np.ndarray:
    width, height = image.size
    swapped = turns and _orientation(image) in _SWAPS_SIDES
    left, top, right, bottom = crop.box(width, height) if swapped else crop.box(height, width)
    # The picture may shrink by 2, 4 or 8 while it is decoded, as long as no side of the box falls below the square's.
    room = min(right - left, bottom - top) // crop.side
    shrink = 8 if room >= 8 else 4 if room >= 4 else 2 if room >= 2 else 1
    if shrink > 1 and image.draft(None, (max(width // shrink, 1), max(height // shrink, 1))) is None:
        shrink = 1  # no JPEG
    image = ImageOps.exif_transpose(image) if turns else image
    box = (left / shrink, top / shrink, right / shrink, bottom / shrink)
    return _scale(_to_mode(image, channels), box, crop.side)


def _scale(image: Image.Image, box: tuple[float, float, float, float], side: int) -> np.ndarray:
    # Antialiased bilinear: torchvision's choice for such crops too, and bicubic costs a quarter of the speed.
    pixels = np.asarray(image.resize((side, side), Image.Resampling.BILINEAR, box=box))
    return pixels if pixels.ndim == 3 else pixels[..., None]


def _to_array(image: Image.Image, channels: int) -> np.ndarray:
    pixels = np.array(_to_mode(image, channels))
    return pixels if channels == 3 else pixels[..., None]


def _to_mode(image: Image.Image, channels: int) -> Image.Image:
    if image.mode in _SIXTEEN_BIT_MODES:
        # Pillow's own conversion clips 16 bits at 255 and leaves a white picture.
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    mode = "RGB" if channels == 3 else "L"
    return image if image.mode == mode else image.convert(mode)


def _one_line(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):  # Pillow's own words end in the address of a buffer
        return "no image format that Pillow knows"
    text = " ".join(str(error).split()).rstrip(".")
    return text or type(error).__name__
