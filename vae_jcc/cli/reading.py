"""`vae-jcc classify` and `inspect`: what a file shows, and what it is made of."""

import json
import sys
from argparse import Namespace
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from vae_jcc.cli.bulk import Bulk
from vae_jcc.cli.files import CODED, PICTURES, Input, expand, to_picture
from vae_jcc.coding import CODERS, BitstreamError, peek
from vae_jcc.receiver import Receiver


def classify(options: Namespace) -> int:
    """Prints the likeliest classes of every picture in every input; a picture file is coded in memory first."""
    command = _Classify(options)
    return Bulk(command.load, command.compute, command.store, options.batch_size).run(
        expand(options.inputs, CODED + PICTURES)
    )


class _Classify:
    """The three steps of `classify`."""

    def __init__(self, options: Namespace) -> None:
        self._options = options
        self._receiver = Receiver.load(options.model, options.max_pixels)

    @cached_property
    def _edge(self) -> Any:
        from vae_jcc.edge import EdgeEncoder

        return EdgeEncoder(self._receiver.artifact)

    def load(self, source: Input) -> bytes | np.ndarray:
        """Returns coded bytes, or the pixels where the input is a picture file."""
        data = source.read()
        try:
            peek(data)
            return data
        except BitstreamError:
            if not data or source.path.suffix.lower() in CODED:
                raise
        artifact = self._receiver.artifact
        image = to_picture(data, artifact.channels, artifact.input_size if self._options.resize else None)
        if image.shape[:2] != artifact.input_size:
            (h, w), (model_h, model_w) = image.shape[:2], artifact.input_size
            note = f"{source}: {w}x{h} pixels; the model learned from {model_w}x{model_h}, --resize brings it there"
            print(f"vae-jcc: {note}", file=sys.stderr)
        return image

    def compute(self, items: Sequence[bytes | np.ndarray]) -> list[tuple[bytes, np.ndarray]]:
        """Returns (bytes, probabilities [B, K]) for each item."""
        images = [item for item in items if isinstance(item, np.ndarray)]
        coded = iter(self._edge.compress(images) if images else [])
        files = [next(coded) if isinstance(item, np.ndarray) else item for item in items]
        ends = np.cumsum([peek(data).count for data in files])
        rows = np.split(self._receiver.classify(files), ends[:-1])
        return list(zip(files, rows, strict=True))

    def store(self, source: Input, item: bytes | np.ndarray, result: tuple[bytes, np.ndarray]) -> None:
        """Prints a line for each picture."""
        data, rows = result
        names = self._receiver.class_names
        for i, row in enumerate(rows):
            best = np.argsort(-row, kind="stable")[: self._options.top]
            if self._options.json:
                top = [{"class": names[k], "probability": round(float(row[k]), 6)} for k in best]
                print(json.dumps({"input": str(source.path), "index": i, "bytes": len(data), "top": top}))
                continue
            label = f"{source}[{i}]" if len(rows) > 1 else str(source)
            size = f"coded to {len(data)} bytes" if isinstance(item, np.ndarray) else f"{len(data)} bytes"
            size = size if len(rows) == 1 else f"{len(rows)} pictures in {size}"
            print(f"{label} ({size}): " + ", ".join(f"{names[k]} {row[k]:.1%}" for k in best))


def inspect(options: Namespace) -> int:
    """Prints what files and streams are made of; without a model, what their headers say."""
    receiver = Receiver.load(options.model, options.max_pixels) if options.model else None

    def describe(data: bytes) -> dict[str, Any]:
        return _header_fields(data) if receiver is None else receiver.inspect(data)

    def store(source: Input, _: bytes, fields: dict[str, Any]) -> None:
        if options.json:
            print(json.dumps({"input": str(source.path)} | fields))
        else:
            print(_as_text(str(source), fields))

    inputs = expand(options.inputs, CODED)
    return Bulk(lambda source: source.read(), lambda items: [describe(data) for data in items], store).run(inputs)


def _header_fields(data: bytes) -> dict[str, Any]:
    header = peek(data)
    return {
        "kind": header.kind,
        "format": header.version,
        "coder": CODERS[header.coder_id] if header.coder_id < len(CODERS) else f"unknown, {header.coder_id}",
        "fingerprint": header.fingerprint16.hex(),
        "images": header.count,
        "height": header.height,
        "width": header.width,
        "bytes": {"total": len(data)},
    }


def _as_text(name: str, fields: dict[str, Any]) -> str:
    """Returns the fields as an indented block."""
    size = f"{fields['width']} x {fields['height']} pixels" if fields["height"] else "of different sizes"
    lines = [
        name,
        f"  {fields['kind']}, format {fields['format']}, {fields['images']} image(s), {size}",
        f"  model         {fields['fingerprint']}",
        f"  coder         {fields['coder']}",
        "  bytes         " + ", ".join(f"{part} {count:,}" for part, count in fields["bytes"].items()),
    ]
    if "channel_bits" in fields:
        latent = " x ".join(map(str, fields["latent"])) if fields["latent"] else "of different sizes"
        bits = " ".join(f"{b:.1f}" for b in fields["channel_bits"])
        lines += [
            f"  bpp           payload {fields['bpp_payload']:.4f}, file {fields['bpp_file']:.4f}",
            f"  latent        {latent} (h x w x c)",
            f"  channel bits  {bits}",
        ]
    else:
        lines.append("  (--model NAME|DIR verifies the content and shows the payload by channel)")
    return "\n".join(lines)
