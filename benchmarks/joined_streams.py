"""Streams of test images with a payload for each image, and with many in each payload: bytes, and milliseconds.

Command:   python benchmarks/joined_streams.py --json results/speed/joined_streams.json

Both hold the same symbols, so the same accuracy. Times are the entropy coder's and the context model's, without the
encoder or the classifier; both ways take turns for --rounds rounds, and the ratio is taken round by round.
"""

import argparse
import shlex
import sys
from typing import Any

import numpy as np

from vae_jcc import EdgeEncoder, Receiver
from vae_jcc.benchmark.measuring import seconds, spread, write_measurements
from vae_jcc.coding import pack_stream
from vae_jcc.data.array_source import common_size
from vae_jcc.data.pipeline import eval_batches
from vae_jcc.data.sources import open_source
from vae_jcc.evaluate import evaluation_view
from vae_jcc.publish import describe_run


def measure(name: str, images: int, rounds: int) -> dict[str, Any]:
    """Returns bytes of a shipped model's two streams, milliseconds for each, and joined over separate."""
    edge, receiver = EdgeEncoder.load(name), Receiver.load(name)
    codec, fingerprint = edge.artifact.make_codec(), edge.artifact.fingerprint
    d = edge.artifact.config.dataset
    source = open_source(d.name, d.test_split, data_dir=d.data_dir or None)
    image_size, margin = evaluation_view(edge.artifact, source.info)
    size, parts = common_size(source.info, image_size), []
    for batch in eval_batches(source, batch_size=500, image_size=image_size, margin=margin):
        parts += edge.symbols(batch["image"][batch["mask"] > 0])
        if len(parts) >= images:
            break
    symbols = np.stack(parts[:images])

    def write_separate() -> bytes:
        return pack_stream(codec.encode_batch(symbols), fingerprint, [size] * len(symbols), codec.coder_id)

    def write_joined() -> bytes:
        writer = edge.joined_writer()
        for one in symbols:
            writer.add(one, size)
        return writer.finish()

    streams = {"separate": write_separate(), "joined": write_joined()}
    for stream in streams.values():
        assert np.array_equal(np.stack(receiver.symbols(stream)), symbols)
    result: dict[str, Any] = {
        "model": name,
        "images": len(symbols),
        "context": edge.artifact.context,
        "bytes": {way: len(stream) for way, stream in streams.items()},
        "bpp": {way: 8 * len(stream) / (len(symbols) * size[0] * size[1]) for way, stream in streams.items()},
    }
    writers = {"separate": write_separate, "joined": write_joined}
    readers = {way: lambda s=stream: receiver.symbols(s) for way, stream in streams.items()}
    for task, ways in (("encode", writers), ("decode", readers)):
        times = [{way: 1000 * seconds(run) / len(symbols) for way, run in ways.items()} for _ in range(rounds)]
        result[task] = {f"{way}_ms": spread([t[way] for t in times]) for way in ways}
        result[task]["ratio"] = spread([t["joined"] / t["separate"] for t in times])
    return result


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description="Compare streams of separate and of joined messages.")
    shipped = ["cifar10", "cifar10_deep", "cifar10_lean", "cifar10_small_grid"]
    parser.add_argument("--models", nargs="+", default=shipped, metavar="NAME", help="shipped models")
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", default="", help="write the result to this file")
    options = parser.parse_args()
    rows = []
    for name in options.models:
        rows.append(measure(name, options.images, options.rounds))
        row = rows[-1]
        line = f"{name}: {row['bpp']['separate']:.4f} bpp separate, {row['bpp']['joined']:.4f} joined"
        for task in ("encode", "decode"):
            one, many, ratio = (row[task][key] for key in ("separate_ms", "joined_ms", "ratio"))
            line += f"; {task} {one['median']:.3f} and {many['median']:.3f} ms an image, "
            line += f"{ratio['median']:.2f}x ({ratio['min']:.2f}-{ratio['max']:.2f})"
        print(line, flush=True)
    command = shlex.join(["python", "benchmarks/joined_streams.py", *sys.argv[1:]])
    write_measurements(options.json, {"models": rows} | describe_run(command), "numpy", "constriction", "jax")


if __name__ == "__main__":
    main()
