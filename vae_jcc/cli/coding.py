"""`vae-jcc encode`, `decode`, `recode` and `reconstruct`."""

import json
import sys
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

import numpy as np

from vae_jcc.cli.bulk import Bulk
from vae_jcc.cli.files import CODED, PICTURES, STANDARD, Input, Outputs, expand, to_npy, to_picture, to_png, write_bytes
from vae_jcc.coding import CODERS, pack_stream, unpack_file
from vae_jcc.edge import EdgeEncoder
from vae_jcc.receiver import Receiver

Load = Callable[[Input], np.ndarray]


def encode(options: Namespace) -> int:
    """Codes pictures to a file each, or all of them to one stream."""
    if options.joined and not options.stream:
        raise ValueError("--joined is said of a stream: give --stream too.")
    if options.stream and not options.output:
        raise ValueError("--stream makes one file of all pictures: name it with --output.")
    inputs = expand(options.inputs, PICTURES)
    edge = EdgeEncoder.load(options.model, options.coder, options.dead_zone)
    size = edge.artifact.input_size if options.resize else None

    def load(source: Input) -> np.ndarray:
        return to_picture(source.read(), edge.artifact.channels, size)

    return (_encode_stream if options.stream else _encode_files)(options, inputs, edge, load)


def _encode_files(options: Namespace, inputs: list[Input], edge: EdgeEncoder, load: Load) -> int:
    outputs = Outputs(options.output, inputs)
    done = _Tally()

    def store(source: Input, image: np.ndarray, data: bytes) -> None:
        target = outputs.place(source, ".vjc")
        write_bytes(target, data)
        done.add(image, len(data), f"{source} -> {target}")
        if options.json and target != STANDARD:
            height, width = image.shape[:2]
            row = {"input": str(source.path), "output": str(target), "height": height, "width": width}
            print(json.dumps(row | {"bytes": len(data), "bpp_file": 8 * len(data) / (height * width)}))

    status = Bulk(load, edge.compress_all, store, options.batch_size).run(inputs)
    if not options.json:
        done.say()
    return status


def _encode_stream(options: Namespace, inputs: list[Input], edge: EdgeEncoder, load: Load) -> int:
    payloads: list[bytes] = []
    sizes: list[tuple[int, int]] = []
    writer = edge.joined_writer()
    done = _Tally()

    def store(_: Input, image: np.ndarray, data: bytes) -> None:
        # Only the payload is kept, so that a stream of many large pictures does not fill the memory.
        payloads.append(unpack_file(data, edge.artifact.fingerprint)[1])
        sizes.append((image.shape[0], image.shape[1]))
        done.add(image, 0, f"1 picture -> {options.output}")

    def join(_: Input, image: np.ndarray, symbols: np.ndarray) -> None:
        writer.add(symbols, (image.shape[0], image.shape[1]))
        done.add(image, 0, f"1 picture -> {options.output}")

    if options.joined:
        status = Bulk(load, edge.symbols, join, options.batch_size).run(inputs)
    else:
        status = Bulk(load, edge.compress_all, store, options.batch_size).run(inputs)
    if not done.images:
        raise ValueError("No picture could be read, so no stream is written.")
    fingerprint, coder_id = edge.artifact.fingerprint, CODERS.index(options.coder)
    data = writer.finish() if options.joined else pack_stream(payloads, fingerprint, sizes, coder_id)
    write_bytes(Path(options.output), data)
    done.size = len(data)
    if options.json and options.output != "-":
        print(json.dumps({"output": options.output, "images": done.images, "bytes": done.size, "bpp_file": done.bpp}))
    else:
        done.say()
    return status


def recode(options: Namespace) -> int:
    """Writes files and streams with the same symbols coded by another entropy coder."""
    receiver = Receiver.load(options.model, options.max_pixels)
    receiver.artifact.make_codec(options.coder)  # a coder that cannot be used is told once, not for every file
    inputs = expand(options.inputs, CODED)
    outputs = Outputs(options.output, inputs)

    def store(source: Input, _: bytes, result: bytes) -> None:
        write_bytes(outputs.place(source, f".{options.coder}.vjc"), result)

    return Bulk(
        lambda source: source.read(), lambda items: [receiver.recode(data, options.coder) for data in items], store
    ).run(inputs)


def decode(options: Namespace) -> int:
    """Writes latent symbols as .npy: int32 [h, w, c] of a file, [B, h, w, c] of a stream."""
    receiver = Receiver.load(options.model, options.max_pixels)
    return _convert(options, receiver.symbols, to_npy, ".npy", keep_name=False, stack=True)


def reconstruct(options: Namespace) -> int:
    """Writes the pictures that the decoder makes, as PNG; a stream's are numbered."""
    receiver = Receiver.load(options.model, options.max_pixels)
    return _convert(options, receiver.reconstruct, to_png, ".png", keep_name=True, stack=False)


def _convert(
    options: Namespace,
    convert: Callable[[bytes], np.ndarray | list[np.ndarray]],
    to_bytes: Callable[[np.ndarray], bytes],
    suffix: str,
    *,
    keep_name: bool,
    stack: bool,
) -> int:
    """Turns each coded file into one array file; a stream into one where the arrays stack, else into numbered ones."""
    inputs = expand(options.inputs, CODED)
    outputs = Outputs(options.output, inputs)

    def store(source: Input, _: bytes, result: np.ndarray | list[np.ndarray]) -> None:
        target = outputs.place(source, suffix, keep_name=keep_name)
        if isinstance(result, list) and stack and len({array.shape for array in result}) == 1:
            result = np.stack(result)
        if isinstance(result, np.ndarray):
            write_bytes(target, to_bytes(result))
            return
        if target == STANDARD:
            raise ValueError("a stream's pictures do not fit on standard output: name a file or folder with --output")
        for i, array in enumerate(result):
            write_bytes(target.with_name(f"{target.stem}_{i:05d}{suffix}"), to_bytes(array))

    return Bulk(lambda source: source.read(), lambda items: [convert(data) for data in items], store).run(inputs)


class _Tally:
    """Sums up what was coded, for one closing line on standard error."""

    def __init__(self) -> None:
        self.images, self.size, self._pixels, self._label = 0, 0, 0, ""

    def add(self, image: np.ndarray, size: int, label: str) -> None:
        self.images += 1
        self.size += size
        self._pixels += image.shape[0] * image.shape[1]
        self._label = label

    @property
    def bpp(self) -> float:
        return 8 * self.size / self._pixels

    def say(self) -> None:
        if self.images:
            what = self._label if self.images == 1 else f"{self.images:,} pictures"
            print(f"{what}: {self.size:,} bytes, {self.bpp:.3f} bpp", file=sys.stderr)
