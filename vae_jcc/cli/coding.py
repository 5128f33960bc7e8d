"""`vae-jcc encode`, `decode` and `reconstruct`."""

import io
import sys
from argparse import Namespace
from pathlib import Path

import numpy as np

from vae_jcc.cli.files import CODED, PICTURES, expand, for_each, picture_bytes, place, read_bytes, read_picture, write_bytes
from vae_jcc.receiver import Receiver


def encode(options: Namespace) -> int:
    """Codes pictures to files, or all of them to one stream."""
    from vae_jcc.edge import EdgeEncoder

    paths = expand(options.inputs, PICTURES)
    edge = EdgeEncoder.load(options.model)
    channels = edge.artifact.channels
    size = edge.artifact.input_size if options.resize else None
    if options.stream:
        if not options.output:
            raise ValueError("--stream needs --output: one file for all pictures.")
        images = [read_picture(path, channels, size) for path in paths]
        data = edge.compress_stream(images)
        write_bytes(Path(options.output), data)
        pixels = sum(image.shape[0] * image.shape[1] for image in images)
        print(f"{options.output}: {len(images)} pictures, {len(data)} bytes, {_bpp(data, pixels)}", file=sys.stderr)
        return 0

    def one(path: Path) -> None:
        image = read_picture(path, channels, size)
        data = edge.compress(image)
        assert isinstance(data, bytes)
        target = place(options.output, path, ".vjc", len(paths) > 1)
        write_bytes(target, data)
        print(f"{path} -> {target}: {len(data)} bytes, {_bpp(data, image.shape[0] * image.shape[1])}", file=sys.stderr)

    return for_each(paths, one)


def decode(options: Namespace) -> int:
    """Writes the latent symbols int32 [h, w, c] ([B, h, w, c] for a stream of one size) as .npy."""
    paths = expand(options.inputs, CODED)
    receiver = Receiver.load(options.model)

    def one(path: Path) -> None:
        symbols = receiver.symbols(read_bytes(path))
        if isinstance(symbols, list):
            if len({s.shape for s in symbols}) > 1:
                raise ValueError("the stream's pictures differ in size, so their symbols do not fit one array.")
            symbols = np.stack(symbols)
        buffer = io.BytesIO()
        np.save(buffer, symbols, allow_pickle=False)
        write_bytes(place(options.output, path, ".npy", len(paths) > 1), buffer.getvalue())

    return for_each(paths, one)


def reconstruct(options: Namespace) -> int:
    """Writes the picture that the decoder makes of each file; a stream's pictures are numbered."""
    paths = expand(options.inputs, CODED)
    receiver = Receiver.load(options.model)

    def one(path: Path) -> None:
        pictures = receiver.reconstruct(read_bytes(path))
        target = place(options.output, path, ".png", len(paths) > 1)
        if isinstance(pictures, np.ndarray):
            write_bytes(target, picture_bytes(pictures))
            return
        if str(target) == "-":
            raise ValueError("a stream's pictures do not fit on standard output: give a name with --output.")
        for i, picture in enumerate(pictures):
            write_bytes(target.with_name(f"{target.stem}_{i:05d}.png"), picture_bytes(picture))

    return for_each(paths, one)


def _bpp(data: bytes, pixels: int) -> str:
    return f"{8 * len(data) / pixels:.3f} bpp"
