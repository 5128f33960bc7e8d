"""Compressing and classifying: images/s at batch 1 and 256 and memory, ours and JPEG's, in one run.

    python benchmarks/inference.py --model cifar10 --json inference.json

Ours is what users call: `EdgeEncoder.compress` (network, entropy coder and container) and `Receiver.classify`
(container, entropy decoder, network). The other way is a camera that sends JPEG (Pillow, 4:2:0, optimized tables) and a
server that decodes it and runs the model's encoder and classifier, uncompiled into bytes, on the pixels: the same
network, so the ratio tells what the split and the coders cost or save. Pictures are drawn from --data where it is
given, else they are smooth noise. The sides take turns, --rounds times; figures are mean and standard deviation.
"""

import argparse
import functools
import io
import json
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from PIL import Image

from vae_jcc import EdgeEncoder, Receiver
from vae_jcc.benchmark.measuring import machine, mean_std, peak_mib, seconds, working_mib
from vae_jcc.benchmark.pictures import first_pictures, smooth_noise
from vae_jcc.data.augment import to_float
from vae_jcc.data.sources import open_source
from vae_jcc.models.joint import build_classifier, build_encoder

Side = dict[str, Callable[[Any], Any]]


def ours(edge: EdgeEncoder, receiver: Receiver) -> Side:
    """Returns compress (uint8 [B, H, W, C] to bytes) and classify (bytes to probabilities) of this project."""
    return {"compress": lambda images: edge.compress(images), "classify": lambda data: receiver.classify(data)}


def jpeg(receiver: Receiver, quality: int) -> Side:
    """Returns the same of a JPEG camera and a server that runs the whole network on pixels."""
    artifact = receiver.artifact
    encoder = build_encoder(artifact.config)
    classifier = build_classifier(artifact.config, len(artifact.class_names))
    parts = [artifact.variables(part) for part in ("encoder", "classifier")]

    @jax.jit
    def network(parts: Any, images: jax.Array) -> jax.Array:
        y: Any = encoder.apply(parts[0], to_float(images), train=False)
        logits: Any = classifier.apply(parts[1], y, train=False)
        return jax.nn.softmax(logits)

    def compress(images: np.ndarray) -> list[bytes]:
        files = []
        for image in images:
            file = io.BytesIO()
            picture = Image.fromarray(image[..., 0] if artifact.channels == 1 else image)
            picture.save(file, "JPEG", quality=quality, optimize=True)
            files.append(file.getvalue())
        return files

    def classify(files: list[bytes]) -> np.ndarray:
        pictures = np.stack([np.asarray(Image.open(io.BytesIO(file))) for file in files])
        return np.asarray(network(parts, pictures.reshape(*pictures.shape[:3], artifact.channels)))

    return {"compress": compress, "classify": classify}


def pictures(arguments: argparse.Namespace, receiver: Receiver, count: int) -> np.ndarray:
    """Returns uint8 [count, H, W, C]."""
    if arguments.data:
        return first_pictures(open_source(arguments.data, arguments.split), count, receiver.artifact.input_size)
    return smooth_noise(count, receiver.artifact.input_size, receiver.artifact.channels)


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Times both sides at each batch size."""
    edge, receiver = EdgeEncoder.load(arguments.model), Receiver.load(arguments.model)
    sides = {"vae_jcc": ours(edge, receiver), "jpeg": jpeg(receiver, arguments.quality)}
    result: dict[str, Any] = {"model": arguments.model, "jpeg_quality": arguments.quality, "rounds": arguments.rounds}
    result |= {"pictures": f"{arguments.data or 'smooth noise'} {list(receiver.artifact.input_size)}", "batches": {}}
    for batch in arguments.batches:
        images = pictures(arguments, receiver, batch)
        data = {name: side["compress"](images) for name, side in sides.items()}
        inputs = {(name, way): images if way == "compress" else data[name] for name in sides for way in sides[name]}
        calls = {key: functools.partial(sides[key[0]][key[1]], value) for key, value in inputs.items()}
        for call in calls.values():  # compiles
            call()
        memory = {key: working_mib(call) for key, call in calls.items()}
        rates: dict[tuple[str, str], list[float]] = {key: [] for key in calls}
        for _ in range(arguments.rounds):
            for key, call in calls.items():
                repeats = max(1, arguments.images // batch)
                rates[key].append(batch * repeats / seconds(lambda call=call, n=repeats: [call() for _ in range(n)]))
        for (name, way), values in rates.items():
            entry = result["batches"].setdefault(str(batch), {}).setdefault(way, {})
            ratios = [o / v for o, v in zip(rates["vae_jcc", way], values, strict=True)]
            entry[name] = {"images_per_s": mean_std(values), "working_mib": memory[name, way]}
            if name != "vae_jcc":
                entry["speed_of_vae_jcc_over_" + name] = mean_std(ratios)
        result["batches"][str(batch)]["bytes_per_image"] = {k: sum(map(len, v)) / batch for k, v in data.items()}
    result["peak_mib"] = peak_mib()
    return result | machine("jax", "numpy", "constriction", "pillow")


def main() -> None:
    """Parses the command line, measures, prints JSON and writes it where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="cifar10", help="a zoo name or an artifact's folder")
    parser.add_argument("--data", default="", help="as config.dataset.name; default: smooth noise")
    parser.add_argument("--split", default="test")
    parser.add_argument("--batches", type=int, nargs="+", default=(1, 256))
    parser.add_argument("--images", type=int, default=1024, help="images a measurement, at least one batch")
    parser.add_argument("--quality", type=int, default=10, help="of the JPEG side")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", default="", help="write the result to this file")
    arguments = parser.parse_args()
    text = json.dumps(measure(arguments), indent=1)
    print(text)
    if arguments.json:
        with open(arguments.json, "w") as file:
            file.write(text + "\n")


if __name__ == "__main__":
    main()
