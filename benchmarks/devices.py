"""Do bytes made on one device decode exactly on another, and does it name the same classes?

    python benchmarks/devices.py encode --model cifar10 --model cifar10_lean -o runs/devices                # there
    python benchmarks/devices.py check --model cifar10 --model cifar10_lean --made runs/devices -o FILE.json  # here

`encode` codes a split on JAX's default device and leaves about 0.5 to 1 MB for each model: MODEL.vjc, one stream of all
images; MODEL.npz, the first 8 bytes of the SHA-256 of each image's symbols (int32, little-endian, C order), and the
class that the receiver names from its bytes; MODEL.json, the SHA-256 of all symbols, device and versions. `check`
decodes the streams on a second device, in batches of another size, and exits with 1 if any symbol differs:

    models
        mismatched_images         images that decode to other symbols than the first device coded
        same_symbols              whether the SHA-256 of all symbols is the first device's
        mismatched_predictions    images of which the receivers name different classes, from the same bytes
        same_pixels               whether both devices were given the same images
        encoded_differently       images whose bytes differ when this device codes them, and the symbols that do: no
                                  error, for encoders compute in floating point
        top1                      "there", "bytes_from_there" classified here, and coded and classified "here"
        made                      MODEL.json: on what the stream was made, and how

Models are named alike on both devices. JAX_DEFAULT_MATMUL_PRECISION=highest keeps a GPU from rounding to TF32.
"""

import argparse
import hashlib
import json
import shlex
import sys
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from vae_jcc.artifact import Artifact
from vae_jcc.benchmark.measuring import machine
from vae_jcc.coding import pack_stream, unpack_stream
from vae_jcc.data.pipeline import eval_batches
from vae_jcc.data.sources import open_source
from vae_jcc.evaluate import check_fits, evaluation_view
from vae_jcc.inference import make_classify_fn, make_encode_fn
from vae_jcc.models.joint import build_classifier, build_encoder
from vae_jcc.publish import describe_run

_BATCH_SIZES = {"encode": 256, "check": 100}


def main() -> None:
    """Encodes, or checks what another device encoded."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    tasks = parser.add_subparsers(dest="task", required=True)
    for name, batch_size in _BATCH_SIZES.items():
        task = tasks.add_parser(name)
        task.add_argument("--model", action="append", required=True, help="a shipped model's name or a folder; repeat")
        task.add_argument("--data", default="cifar10", metavar="SOURCE", help="as config.dataset.name")
        task.add_argument("--split", default="test")
        task.add_argument("--batch-size", type=int, default=batch_size)
        task.add_argument("-o", "--output", type=Path, required=True, help="JSON file; of encode, a folder")
        if name == "check":
            task.add_argument("--made", type=Path, required=True, metavar="DIR", help="what encode wrote")
    options = parser.parse_args()
    run = describe_run(shlex.join(["python", "benchmarks/devices.py", *sys.argv[1:]]))
    run |= machine("jax", "jaxlib", "flax", "numpy", "constriction", "pillow")
    run |= {
        "batch_size": options.batch_size,
        "matmul_precision": jax.config.values["jax_default_matmul_precision"] or "default",
    }
    if options.task == "encode":
        for model in options.model:
            _write(model, options, run)
        return
    rows = [_compare(model, options) for model in options.model]
    report = {"dataset": options.data, "split": options.split, "models": rows} | run
    print(json.dumps(report, indent=1))
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(report, indent=1) + "\n")
    if any(row["mismatched_images"] or not row["same_symbols"] for row in rows):
        sys.exit(1)


class Coded(NamedTuple):
    """A split as this device codes it: symbols int32 [N, h, w, c], payloads, (H, W), labels [N], SHA-256 of pixels."""

    symbols: np.ndarray
    payloads: list[bytes]
    size: tuple[int, int]
    labels: np.ndarray
    pixels: str


def _write(model: str, options: argparse.Namespace, run: dict[str, Any]) -> None:
    artifact = Artifact.load(model)
    coded = _encode(artifact, options)
    decoded, classes = _receive(artifact, coded.payloads, coded.size, options.batch_size)
    if not np.array_equal(decoded, coded.symbols):
        sys.exit(f"{model}: its bytes do not decode to the symbols that were coded, even on this device.")
    stream = pack_stream(coded.payloads, artifact.fingerprint, [coded.size] * len(coded.payloads))
    facts = {
        "model": model,
        "n_images": len(classes),
        "weights": dict(artifact.digests),
        "pixels_sha256": coded.pixels,
        "symbols_sha256": _sha256(coded.symbols).hex(),
        "top1": float(np.mean(classes == coded.labels)),
    }
    options.output.mkdir(parents=True, exist_ok=True)
    _file(options.output, model, "vjc").write_bytes(stream)
    np.savez_compressed(_file(options.output, model, "npz"), digests=_digests(coded.symbols), classes=classes)
    _file(options.output, model, "json").write_text(json.dumps(facts | run, indent=1) + "\n")
    print(f"{model}: {len(classes)} images, {len(stream)} bytes, top-1 {facts['top1']:.2%}, on {run['device']}")


def _compare(model: str, options: argparse.Namespace) -> dict[str, Any]:
    artifact = Artifact.load(model)
    made = json.loads(_file(options.made, model, "json").read_text())
    here = _encode(artifact, options)
    if made["weights"] != artifact.digests or made["n_images"] != len(here.labels):
        sys.exit(f"{model}: {options.made} was made with other weights or another split: encode it again.")
    stream = _file(options.made, model, "vjc").read_bytes()
    payloads = unpack_stream(stream, artifact.fingerprint)[1]
    symbols, classes = _receive(artifact, payloads, here.size, options.batch_size)
    own_classes = _receive(artifact, here.payloads, here.size, options.batch_size)[1]
    with np.load(_file(options.made, model, "npz")) as arrays:
        digests, classes_there = arrays["digests"], arrays["classes"]
    return {
        "model": model,
        "data_note": artifact.dataset_note if options.data == artifact.dataset else "",
        "context": artifact.context,
        "n_images": len(payloads),
        "bytes_stream": len(stream),
        "mismatched_images": int(np.any(_digests(symbols) != digests, axis=1).sum()),
        "same_symbols": _sha256(symbols).hex() == made["symbols_sha256"],
        "mismatched_predictions": int(np.sum(classes != classes_there)),
        "same_pixels": here.pixels == made["pixels_sha256"],
        "encoded_differently": {
            "images": sum(a != b for a, b in zip(payloads, here.payloads, strict=True)),
            "symbols": int(np.sum(symbols != here.symbols)),
            "of_symbols": symbols.size,
        },
        "top1": {
            "there": made["top1"],
            "bytes_from_there": float(np.mean(classes == here.labels)),
            "here": float(np.mean(own_classes == here.labels)),
        },
        "made": made,
    }


def _encode(artifact: Artifact, options: argparse.Namespace) -> Coded:
    source = open_source(options.data, options.split)
    check_fits(artifact, source)
    image_size, margin = evaluation_view(artifact, source.info)
    encode, edge = make_encode_fn(build_encoder(artifact.config)), artifact.variables("encoder")
    codec, pixels = artifact.make_codec(), hashlib.sha256()
    parts, payloads, labels = [], [], []
    for batch in eval_batches(source, batch_size=options.batch_size, image_size=image_size, margin=margin):
        keep = batch["mask"] > 0
        parts.append(np.asarray(encode(edge, artifact.quantizer, batch["image"]))[keep])
        payloads += codec.encode_batch(parts[-1])
        labels.append(batch["label"][keep])
        pixels.update(batch["image"][keep].tobytes())
        size = batch["image"].shape[1:3]
    return Coded(np.concatenate(parts), payloads, size, np.concatenate(labels), pixels.hexdigest())


def _receive(
    artifact: Artifact, payloads: list[bytes], size: tuple[int, int], batch_size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the symbols int32 [N, h, w, c] and the classes int32 [N] that payloads decode to, batch by batch."""
    classify = make_classify_fn(build_classifier(artifact.config, len(artifact.class_names)))
    variables, codec, grid = artifact.variables("classifier"), artifact.make_codec(), artifact.grid(*size)
    parts, classes = [], []
    for start in range(0, len(payloads), batch_size):
        symbols = codec.decode_batch(payloads[start : start + batch_size], grid)
        filled = np.pad(symbols, [(0, batch_size - len(symbols)), (0, 0), (0, 0), (0, 0)])  # nothing compiles twice
        logits = np.asarray(classify(variables, artifact.quantizer, filled))[: len(symbols)]
        parts.append(symbols)
        classes.append(logits.argmax(axis=1).astype(np.int32))
    return np.concatenate(parts), np.concatenate(classes)


def _sha256(symbols: np.ndarray) -> bytes:
    return hashlib.sha256(symbols.astype("<i4").tobytes()).digest()


def _digests(symbols: np.ndarray) -> np.ndarray:
    """Returns the first 8 bytes of the SHA-256 of each image's symbols, uint8 [N, 8]."""
    return np.array([list(_sha256(image)[:8]) for image in symbols], np.uint8)


def _file(folder: Path, model: str, suffix: str) -> Path:
    return folder / f"{model.strip('./').replace('/', '_')}.{suffix}"


if __name__ == "__main__":
    main()
