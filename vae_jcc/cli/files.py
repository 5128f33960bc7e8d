"""Inputs and outputs of the subcommands: what the arguments name, where results go, nothing half-written."""

import glob
import io
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from vae_jcc.data.images import decode_image, resize_and_crop
from vae_jcc.files import write_file

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif", ".ppm", ".pgm")
CODED = (".vjc",)
STANDARD = Path("-")


@dataclass(frozen=True)
class Input:
    """One file to work on.

    Attributes:
        path: of the file, or STANDARD.
        relative: what an output folder calls it: its path within the folder that was given, or its name.
        of_folder: whether a folder or a pattern named it, which may name more another time.
    """

    path: Path
    relative: Path
    of_folder: bool = False

    def __str__(self) -> str:
        """Names it in messages."""
        return "standard input" if self.path == STANDARD else str(self.path)

    def read(self) -> bytes:
        """Returns the bytes.

        Raises:
            ValueError: there is no such file; the message says what was looked for.
            OSError: it cannot be read.
        """
        if self.path == STANDARD:
            return sys.stdin.buffer.read()
        if self.path.is_dir():
            raise ValueError("this folder holds no file of a kind that the command reads")
        if not self.path.exists():
            raise ValueError("no such file, and no pattern that matches one")
        return self.path.read_bytes()


def expand(names: Iterable[str], suffixes: tuple[str, ...]) -> list[Input]:
    """Returns the files that the arguments name, in order.

    A folder stands for its files with these suffixes, at any depth; a pattern for the files that match it, ** across
    folders. A name that stands for nothing is returned as it is: reading it fails with the reason, and the others are
    still done.
    """
    inputs: list[Input] = []
    for name in names:
        path = Path(name)
        if name == "-":
            found = [Input(STANDARD, Path("stdin"))]
        elif path.is_dir():
            files = sorted(p for p in path.rglob("*") if p.suffix.lower() in suffixes and p.is_file())
            found = [Input(p, p.relative_to(path), of_folder=True) for p in files]
        elif path.exists():
            found = [Input(path, Path(path.name))]
        else:
            matches = sorted(Path(p) for p in glob.glob(name, recursive=True))
            found = [Input(p, Path(p.name), of_folder=True) for p in matches if p.is_file()]
        inputs += found or [Input(path, path)]
    return inputs


class Outputs:
    """Where results go, and a guard against two inputs with one result."""

    def __init__(self, output: str, inputs: list[Input]) -> None:
        """Decides between folder, file and standard output.

        Args:
            output: the option; "" means beside each input (standard output for standard input).
            inputs: all of them.

        Raises:
            ValueError: several results were to go to standard output or into one file.
        """
        self._in_folder = len(inputs) > 1 or any(source.of_folder for source in inputs)
        self._output = output
        self._taken: set[Path] = set()
        if (output == "-" and len(inputs) > 1) or (self._in_folder and Path(output).is_file()):
            raise ValueError(f"Several inputs, or those of a folder, need a folder as --output; {output} is none.")

    def place(self, source: Input, suffix: str, *, keep_name: bool = False) -> Path:
        """Returns where the result of one input goes; STANDARD is standard output.

        Args:
            source: the input.
            suffix: of the result.
            keep_name: append the suffix to the whole name (photo.vjc.png), so that a picture that is made never takes
                the place of the picture that it was made from.

        Raises:
            ValueError: another input's result is there already.
        """
        if self._output == "-" or (not self._output and source.path == STANDARD):
            return STANDARD
        folder = Path(self._output)
        if self._output and not self._in_folder and not folder.is_dir() and not self._output.endswith("/"):
            return folder
        base = folder / source.relative if self._output else source.path
        target = base.with_name(base.name + suffix) if keep_name else base.with_suffix(suffix)
        if target in self._taken:
            raise ValueError(f"{target} is another input's result already: give this one an --output of its own")
        self._taken.add(target)
        return target


def write_bytes(path: Path, data: bytes) -> None:
    """Writes the file whole or not at all, making folders that are missing; STANDARD is standard output."""
    if path == STANDARD:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, data)


def to_picture(data: bytes, channels: int, size: tuple[int, int] | None) -> np.ndarray:
    """Returns a picture file's pixels, uint8 [H, W, channels], upright as its EXIF says.

    Args:
        data: of a PNG, JPEG, WebP or another format that Pillow reads.
        channels: 1 makes colour grey (ITU-R 601 luma), 3 triples grey; transparency is dropped.
        size: (H, W) of the model's input, to scale and centre-crop to its shorter side as evaluation does; None keeps
            the picture's own size.

    Raises:
        CorruptImageError: it is empty, truncated or no picture.
    """
    image = decode_image(data, channels, "the picture", exif_orientation=True)
    return image if size is None else resize_and_crop(image, min(size))


def to_png(image: np.ndarray) -> bytes:
    """Returns the PNG file of uint8 [H, W, C]."""
    buffer = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(buffer, "PNG")
    return buffer.getvalue()


def to_npy(array: np.ndarray) -> bytes:
    """Returns the .npy file of an array."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()
