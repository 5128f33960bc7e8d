"""`vae-jcc classify` and `inspect`: what a file shows, and what it is made of."""

import json
from argparse import Namespace
from pathlib import Path

import numpy as np

from vae_jcc.cli.files import CODED, PICTURES, STANDARD, expand, for_each, read_bytes, read_picture
from vae_jcc.receiver import Receiver


def classify(options: Namespace) -> int:
    """Prints the likeliest classes of each picture of each input."""
    paths = expand(options.inputs, CODED + PICTURES)
    receiver = Receiver.load(options.model)
    edge = None

    def one(path: Path) -> None:
        nonlocal edge
        if path == STANDARD or path.suffix.lower() not in PICTURES:
            data = read_bytes(path)
        else:
            if edge is None:
                from vae_jcc.edge import EdgeEncoder

                edge = EdgeEncoder(receiver.artifact)
            size = receiver.artifact.input_size if options.resize else None
            coded = edge.compress(read_picture(path, receiver.artifact.channels, size))
            assert isinstance(coded, bytes)
            data = coded
        rows = np.atleast_2d(receiver.classify(data))
        for i, row in enumerate(rows):
            best = np.argsort(-row)[: max(options.top, 1)]
            named = {receiver.class_names[k]: float(row[k]) for k in best}
            if options.json:
                print(json.dumps({"input": str(path), "picture": i, "bytes": len(data), "classes": named}))
            else:
                label = f"{path}[{i}]" if len(rows) > 1 else str(path)
                text = ", ".join(f"{name} {p:.1%}" for name, p in named.items())
                print(f"{label} ({len(data)} bytes): {text}")

    return for_each(paths, one)


def inspect(options: Namespace) -> int:
    """Prints header fields, bytes by part and bits by channel."""
    paths = expand(options.inputs, CODED)
    receiver = Receiver.load(options.model)

    def one(path: Path) -> None:
        fields = {"input": str(path)} | receiver.inspect(read_bytes(path))
        if options.json:
            print(json.dumps(fields))
        else:
            print("\n".join(f"{key:16} {value}" for key, value in fields.items()))

    return for_each(paths, one)
