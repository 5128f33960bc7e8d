"""Classical image codecs behind one interface, from maintained libraries.

    name    codec                quality              library
    jpeg    JPEG 4:2:0           libjpeg's, 1..95     Pillow
    j2k     JPEG 2000            PSNR in dB           Pillow (OpenJPEG)
    webp    WebP                 libwebp's, 0..100    Pillow
    heic    HEVC intra, 4:2:0    libheif's, 0..100    pillow-heif (x265); stands for BPG, which is HEVC intra too
    avif    AVIF 4:2:0           libavif's, 0..100    Pillow
    jxl     JPEG XL              libjxl's, 0..100     pillow-jxl-plugin

Only pixels go in, so comments and metadata of a source file never count. Two sizes are told apart: the file's bytes,
and its payload: the file without what a flat mid-grey image of the same size costs at the same quality, which is the
codec's headers and tables and next to no content. At 32x32 those are several times the content. Plugins are imported
when they are first needed.
"""

import importlib
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, features

# Quality and shape (H, W, C) to the options of Pillow's `save`.
Options = Callable[[int, tuple[int, ...]], dict[str, Any]]


class Coded(NamedTuple):
    """An image after a codec."""

    data: bytes  # the file
    payload_bytes: int  # without the codec's constant cost, at least 0


@dataclass(frozen=True)
class Codec:
    """One codec at fixed settings but quality.

    Attributes:
        name: as on the command line.
        title: as in tables and plots.
        format: Pillow's name of it.
        qualities: default points of a curve, from low to high rate.
        writers: options of Pillow's `save`, one function for each way to write the same pixels. The first makes the
            file; the payload is the smallest over all.
        plugin: module that teaches Pillow the format, with the package that has it; None where Pillow has it.
        feature: what Pillow calls the library in `PIL.features`; "" for plugins.
    """

    name: str
    title: str
    format: str
    qualities: tuple[int, ...]
    writers: tuple[Options, ...]
    plugin: tuple[str, str] | None = None
    feature: str = ""

    def require(self) -> None:
        """Makes sure that the codec can be used.

        Raises:
            ValueError: its library is missing; the message names the command that installs it.
        """
        others = f"or leave it out: --codecs {' '.join(name for name in CODECS if name != self.name)}"
        if self.plugin is None:
            if not features.check(self.feature):
                raise ValueError(f'{self.title} needs a newer Pillow: pip install --upgrade "pillow>=11.3", {others}')
            return
        module, package = self.plugin
        try:
            plugin = importlib.import_module(module)
        except ImportError as error:
            raise ValueError(
                f"{self.title} needs {package}, which cannot be imported ({error}): pip install 'vae-jcc[codecs]', "
                f"{others}"
            ) from error
        if module == "pillow_heif":
            plugin.register_heif_opener()

    def encode(self, image: np.ndarray, quality: int, writer: int = 0) -> bytes:
        """Returns the file of uint8 [H, W, C], C = 1 or 3, as the given one of `writers` makes it."""
        buffer = io.BytesIO()
        options = self.writers[writer](quality, image.shape)
        Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(buffer, self.format, **options)
        return buffer.getvalue()

    def decode(self, data: bytes, channels: int) -> np.ndarray:
        """Returns the pixels of a file, uint8 [H, W, channels]."""
        with Image.open(io.BytesIO(data)) as picture:
            pixels = np.asarray(picture.convert("L" if channels == 1 else "RGB"))
        return pixels.reshape(*pixels.shape[:2], channels)

    def compress(self, image: np.ndarray, quality: int) -> Coded:
        """Returns file and payload of uint8 [H, W, C]."""
        files = [self.encode(image, quality, writer) for writer in range(len(self.writers))]
        constant = constant_bytes(self.name, quality, image.shape)
        return Coded(files[0], max(min(len(file) - c for file, c in zip(files, constant, strict=True)), 0))

    def versions(self) -> dict[str, str]:
        """Returns the versions of the libraries that do the coding."""
        if self.plugin is not None:
            return {self.plugin[1]: version(self.plugin[1])}
        return {self.feature: str(features.version(self.feature))}


@lru_cache(maxsize=4096)
def constant_bytes(name: str, quality: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Returns what a flat mid-grey image of this shape costs, in bytes, as each of the codec's writers makes it."""
    codec = CODECS[name]
    flat = np.full(shape, 128, np.uint8)
    return tuple(len(codec.encode(flat, quality, writer)) for writer in range(len(codec.writers)))


def get_codecs(names: Sequence[str]) -> list[Codec]:
    """Returns the codecs of these names, each ready to be used.

    Raises:
        ValueError: there is no such codec, or its library is missing.
    """
    for name in names:
        if name not in CODECS:
            raise ValueError(f"There is no codec {name!r}: choose among {', '.join(CODECS)}.")
        CODECS[name].require()
    return [CODECS[name] for name in names]


def _jpeg(quality: int, shape: tuple[int, ...]) -> dict[str, Any]:
    return {"quality": quality, "subsampling": 2 if shape[-1] == 3 else -1}


def _jpeg_optimized(quality: int, shape: tuple[int, ...]) -> dict[str, Any]:
    return _jpeg(quality, shape) | {"optimize": True}


def _jpeg2000(quality: int, shape: tuple[int, ...]) -> dict[str, Any]:
    # The bare codestream, in luma and chroma. Quality is a PSNR because OpenJPEG's rate control counts headers, which
    # leaves nothing of a small image. Every resolution costs a packet header a component, so the coarsest band keeps 8
    # pixels: at 32x32 that saves a third of the payload at low rates.
    resolutions = min(max(min(shape[:2]).bit_length() - 3, 1), 6)
    options: dict[str, Any] = {"no_jp2": True, "irreversible": True, "num_resolutions": resolutions}
    return options | {"quality_mode": "dB", "quality_layers": [quality], "mct": int(shape[-1] == 3)}


def _webp(quality: int, shape: tuple[int, ...]) -> dict[str, Any]:
    return {"quality": quality, "method": 6}


def _heic(quality: int, shape: tuple[int, ...]) -> dict[str, Any]:
    return {"quality": quality, "chroma": 420}


def _avif(quality: int, shape: tuple[int, ...]) -> dict[str, Any]:
    return {"quality": quality, "subsampling": "4:2:0", "speed": 6, "max_threads": 1}


def _jpeg_xl(quality: int, shape: tuple[int, ...]) -> dict[str, Any]:
    return {"quality": quality, "effort": 7, "num_threads": 1}


# JPEG's two ways hold the same pixels: tables of an image's own make the smaller file, the standard's tables, which a
# receiver knows, the smaller payload of a small image.
CODECS: Mapping[str, Codec] = {
    codec.name: codec
    for codec in (
        Codec(
            "jpeg", "JPEG 4:2:0", "JPEG", (5, 10, 20, 35, 55, 80, 92), (_jpeg_optimized, _jpeg), feature="libjpeg_turbo"
        ),
        Codec("j2k", "JPEG 2000", "JPEG2000", (20, 22, 24, 26, 29, 32, 36), (_jpeg2000,), feature="jpg_2000"),
        Codec("webp", "WebP", "WEBP", (0, 2, 10, 30, 55, 80, 92), (_webp,), feature="webp"),
        Codec(
            "heic", "HEVC intra (HEIC)", "HEIF", (8, 18, 28, 36, 46, 58, 74), (_heic,), ("pillow_heif", "pillow-heif")
        ),
        Codec("avif", "AVIF", "AVIF", (8, 22, 34, 44, 56, 75, 93), (_avif,), feature="avif"),
        Codec("jxl", "JPEG XL", "JXL", (0, 10, 30, 55, 75, 88, 95), (_jpeg_xl,), ("pillow_jxl", "pillow-jxl-plugin")),
    )
}
