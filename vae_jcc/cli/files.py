"""Inputs and outputs of the subcommands: expansion, progress, one bad file among many, nothing half-written."""

import glob
import io
import os
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
CODED = (".vjc",)
STANDARD = Path("-")


def expand(inputs: Iterable[str], suffixes: tuple[str, ...]) -> list[Path]:
    """Returns the files that the arguments name: a folder stands for its files with these suffixes, at any depth.

    Raises:
        ValueError: an argument names nothing.
    """
    paths: list[Path] = []
    for name in inputs:
        path = Path(name)
        if name == "-" or path.is_file():
            found = [path]
        elif path.is_dir():
            found = sorted(p for p in path.rglob("*") if p.suffix.lower() in suffixes)
        else:
            found = sorted(Path(p) for p in glob.glob(name, recursive=True) if Path(p).is_file())
        if not found:
            raise ValueError(f"No input: {name} is no file and no pattern or folder with {' '.join(suffixes)} files.")
        paths += found
    return paths


def for_each(paths: list[Path], work: Callable[[Path], None]) -> int:
    """Runs `work` on each file; one that fails is reported, the others are still done. Returns the exit status."""
    from rich.console import Console
    from rich.progress import track

    console, failed = Console(stderr=True), 0
    quiet = len(paths) < 2 or not sys.stderr.isatty()
    for path in track(paths, console=console, disable=quiet, description=""):
        try:
            work(path)
        except (ValueError, OSError, UnidentifiedImageError) as error:
            failed += 1
            print(f"vae-jcc: {path}: {error}", file=sys.stderr)
    return 1 if failed else 0


def read_bytes(path: Path) -> bytes:
    """Returns the file's bytes, or standard input's for "-"."""
    return sys.stdin.buffer.read() if path == STANDARD else path.read_bytes()


def write_bytes(path: Path, data: bytes) -> None:
    """Writes the file whole or not at all (a temporary file, renamed), or to standard output for "-"."""
    if path == STANDARD:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)


def place(output: str, source: Path, suffix: str, several: bool) -> Path:
    """Returns where the result of one input goes.

    Args:
        output: the option; "" means beside the input (standard output for standard input).
        source: the input.
        suffix: of the result.
        several: there are more inputs, so the output is a folder.

    Raises:
        ValueError: several inputs were to go to standard output.
    """
    if output == "-" or (not output and source == STANDARD):
        if several:
            raise ValueError("several inputs do not fit on standard output: give a folder with --output.")
        return STANDARD
    if not output:
        return source.with_suffix(suffix)
    folder = Path(output)
    if several or folder.is_dir():
        return folder / (f"stdin{suffix}" if source == STANDARD else source.with_suffix(suffix).name)
    return folder


def read_picture(path: Path, channels: int, size: tuple[int, int] | None = None) -> np.ndarray:
    """Returns a picture as uint8 [H, W, channels], turned as its EXIF says.

    Args:
        path: of the file, or "-".
        channels: 1 turns colour into grey, 3 grey into RGB.
        size: (H, W) to scale and centre-crop to, or None to keep the picture's own.

    Raises:
        ValueError: the file is empty or no whole picture.
    """
    from PIL import ImageOps

    try:
        picture = ImageOps.exif_transpose(Image.open(io.BytesIO(read_bytes(path))))
        picture = picture.convert("L" if channels == 1 else "RGB")
    except (OSError, SyntaxError) as error:
        raise ValueError(f"not a readable picture ({error})") from error
    if size is not None:
        picture = ImageOps.fit(picture, (size[1], size[0]), Image.Resampling.LANCZOS)
    pixels = np.asarray(picture)
    return pixels.reshape(*pixels.shape[:2], channels)


def picture_bytes(image: np.ndarray) -> bytes:
    """Returns the PNG file of uint8 [H, W, C]."""
    buffer = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(buffer, "PNG")
    return buffer.getvalue()
