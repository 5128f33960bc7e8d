"""Is the serial context model exact, and how fast does it decode?

Command:   python benchmarks/context_coding.py --model DIR --output results/entropy_models/context_coding.json

--model is an artifact that codes with a serial context model. Three answers:

* Mismatches: the test images are coded in a process of one thread and in batches of one size, and decoded in a process
  of all cores and in batches of another; and the model's logits in NumPy, in JAX under jit and in JAX step by step are
  compared on 256 images. Every symbol and every logit has to be equal.
* Milliseconds an image of decoding a batch of 256.
* The same by a loop that runs the whole network again for each symbol, as published code does. That takes minutes, so
  it is timed at a few symbols and multiplied; both sides in turn, in one run.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import jax
import numpy as np

from vae_jcc.artifact import Artifact
from vae_jcc.benchmark.measuring import machine, mean_std, seconds
from vae_jcc.coding import SerialContext, pack_stream, unpack_stream
from vae_jcc.coding.distribution import counts_of
from vae_jcc.data.pipeline import eval_batches
from vae_jcc.data.sources import open_source
from vae_jcc.entropy.context import ContextModel
from vae_jcc.entropy.export import from_integers
from vae_jcc.entropy.fixed_point import LOGIT_BITS
from vae_jcc.evaluate import evaluation_view
from vae_jcc.inference import make_encode_fn
from vae_jcc.models.joint import build_encoder
from vae_jcc.publish import describe_run

CODED_AT_ONCE, DECODED_AT_ONCE = 37, 256
_NAIVE_SYMBOLS = 4


def main() -> None:
    """Runs all three and writes them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, metavar="DIR")
    parser.add_argument("--output", type=Path, required=True, help="JSON file")
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--worker", nargs=2, metavar=("encode|decode", "DIR"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    artifact = Artifact.load(options.model)
    if options.worker:
        _work(artifact, options.worker[0], Path(options.worker[1]))
        return
    if artifact.context != "serial":
        sys.exit(f"{options.model} does not code with a serial context model.")
    symbols = _symbols(artifact, options.images)
    report = {
        "model": str(options.model),
        "images": len(symbols),
        "latent": list(symbols.shape[1:]),
        "mismatched_images": _mismatches(options.model, symbols),
        "mismatched_logits": _mismatched_logits(artifact, symbols[:256]),
    } | _speed(artifact, symbols[:DECODED_AT_ONCE], options.rounds)
    command = shlex.join(["python", "benchmarks/context_coding.py", *sys.argv[1:]])
    report |= describe_run(command) | machine("numpy", "jax")
    print(json.dumps(report, indent=1))
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(report, indent=1) + "\n")


def _symbols(artifact: Artifact, images: int) -> np.ndarray:
    d = artifact.config.dataset
    source = open_source(d.name, d.test_split, data_dir=d.data_dir or None)
    image_size, margin = evaluation_view(artifact, source.info)
    encode, edge = make_encode_fn(build_encoder(artifact.config)), artifact.variables("encoder")
    parts = [
        np.asarray(encode(edge, artifact.quantizer, batch["image"]))[batch["mask"] > 0]
        for batch in eval_batches(source, batch_size=500, image_size=image_size, margin=margin)
    ]
    return np.concatenate(parts)[:images]


def _mismatches(model: str, symbols: np.ndarray) -> int:
    """Returns how many images a second process, with other threads and batches, decodes to other symbols."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        np.save(folder / "symbols.npy", symbols)
        for task, threads in (("encode", 1), ("decode", os.cpu_count() or 1)):
            limits = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
            command = [sys.executable, __file__, "--model", model, "--output", "-", "--worker", task, scratch]
            subprocess.run(command, env=os.environ | limits, check=True)
        decoded = np.load(folder / "decoded.npy")
    return int(np.any(decoded != symbols, axis=(1, 2, 3)).sum())


def _work(artifact: Artifact, task: str, folder: Path) -> None:
    """Codes the symbols in the folder, or decodes the payloads in it, and leaves there what came out."""
    codec, size = artifact.make_codec(), artifact.input_size
    if task == "encode":
        symbols = np.load(folder / "symbols.npy")
        payloads = [
            payload
            for start in range(0, len(symbols), CODED_AT_ONCE)
            for payload in codec.encode_batch(symbols[start : start + CODED_AT_ONCE])
        ]
        (folder / "stream.vjc").write_bytes(pack_stream(payloads, artifact.fingerprint, [size] * len(payloads)))
        return
    _, payloads, _ = unpack_stream((folder / "stream.vjc").read_bytes(), artifact.fingerprint)
    parts = [
        codec.decode_batch(payloads[start : start + DECODED_AT_ONCE], artifact.grid(*size))
        for start in range(0, len(payloads), DECODED_AT_ONCE)
    ]
    np.save(folder / "decoded.npy", np.concatenate(parts))


def _mismatched_logits(artifact: Artifact, symbols: np.ndarray) -> dict[str, int]:
    """Returns how many of the symbols' logits differ between NumPy and JAX."""
    tensors = artifact.read_context()
    params: Any = from_integers(tensors)
    layers = sum(name.startswith("kernel") for name in params)
    channels, slots = params["base"].shape
    model = ContextModel(channels, slots, params["kernel0"].shape[-1], (layers - 2) // 2)
    planes = symbols.transpose(0, 3, 1, 2)
    expected = np.moveaxis(SerialContext(tensors).logits(planes), 1, 3)
    if "levels" in tensors:
        values = tensors["levels"][symbols] / np.float32(16)
    else:
        values = np.clip(symbols, -15, 15).astype(np.float32)
    run = lambda values: model.apply({"params": params}, values, True)  # noqa: E731

    def differing(logits: Any) -> int:
        steps = np.asarray(logits) * 2**LOGIT_BITS
        return int(np.sum((steps != expected) & (expected > -(2**23))))

    with jax.disable_jit():
        eager = run(values)
    return {"jit": differing(jax.jit(run)(values)), "without_jit": differing(eager)}


def _speed(artifact: Artifact, symbols: np.ndarray, rounds: int) -> dict[str, Any]:
    codec, context = artifact.make_codec(), SerialContext(artifact.read_context())
    grid, total = symbols.shape[1:3], int(np.prod(symbols.shape[1:]))
    payloads, planes = codec.encode_batch(symbols), symbols.transpose(0, 3, 1, 2)

    def naive() -> None:
        for place in range(_NAIVE_SYMBOLS):
            logits = context.logits(planes).reshape(len(planes), total, -1)
            counts_of(logits[:, place * (total // _NAIVE_SYMBOLS)])

    ours, theirs = [], []
    for _ in range(rounds):
        ours.append(1e3 * seconds(lambda: codec.decode_batch(payloads, grid)) / len(symbols))
        theirs.append(1e3 * seconds(naive) / len(symbols) * total / _NAIVE_SYMBOLS)
    return {
        "decode_ms_per_image": mean_std(ours),
        "naive_ms_per_image": mean_std(theirs),
        "naive_symbols_timed": _NAIVE_SYMBOLS,
        "speedup": mean_std([b / a for a, b in zip(ours, theirs, strict=True)]),
        "encode_ms_per_image": 1e3 * seconds(lambda: codec.encode_batch(symbols)) / len(symbols),
    }


if __name__ == "__main__":
    main()
