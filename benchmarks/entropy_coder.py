"""Entropy coding of small latents: images/s and bytes of this project's coder and of CompressAI's rANS, in one run.

    pip install compressai
    python benchmarks/entropy_coder.py --json

Both code the same symbols (768 an image by default: 8 x 8 x 12, drawn from two-sided geometric laws) with tables made
from the same probabilities, one image a message, decoded and compared afterwards. CompressAI's compiled coder is called
directly, its tables and indexes converted to lists beforehand: its EntropyModel.compress converts them for each image,
so this is the faster way to use it. What remains in its time is the coder and the conversion of an image's symbols
between array and list. The repeats alternate between the two, so that a busy machine hits both. Only its two compiled
modules are loaded, so torch does not matter.
"""

import argparse
import functools
import importlib
import importlib.util
import json
import os
import platform
import resource
import sys
import time
import types
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import numpy as np

from vae_jcc.coding import CodingTables, LatentCodec

COMPRESSAI_PRECISION = 16  # fixed in its coder


def compressai_module(name: str) -> Any:
    """Imports a compiled module of CompressAI without its package's __init__, which needs torch and torchvision."""
    if "compressai" not in sys.modules:
        spec = importlib.util.find_spec("compressai")
        if spec is None:
            raise SystemExit("CompressAI is not installed: pip install compressai.")
        package = types.ModuleType("compressai")
        package.__path__ = list(spec.submodule_search_locations or [])
        sys.modules["compressai"] = package
    return importlib.import_module(f"compressai.{name}")


def make_rows(channels: int, rng: np.random.Generator) -> tuple[list[np.ndarray], list[int], list[float]]:
    """Returns probabilities, first symbols and tail masses of two-sided geometric laws of many widths."""
    pmfs, minima, tails = [], [], []
    for width in rng.uniform(0.3, 4.0, channels):
        reach = int(np.ceil(10 * width))
        pmf = np.exp(-np.abs(np.arange(-reach, reach + 1)) / width)
        pmfs.append(pmf / pmf.sum() * (1 - 1e-4))
        minima.append(-reach)
        tails.append(1e-4)
    return pmfs, minima, tails


class CompressAI:
    """Its rANS coder, with tables of the same probabilities at its precision."""

    def __init__(
        self, pmfs: list[np.ndarray], minima: list[int], tails: list[float], shape: tuple[int, int, int]
    ) -> None:
        ans, quantize = compressai_module("ans"), compressai_module("_CXX").pmf_to_quantized_cdf
        self._encoder, self._decoder = ans.RansEncoder(), ans.RansDecoder()
        rows = [np.append(pmf, tail).tolist() for pmf, tail in zip(pmfs, tails, strict=True)]
        self._cdfs = [list(quantize(row, COMPRESSAI_PRECISION)) for row in rows]
        self._lengths = [len(cdf) for cdf in self._cdfs]
        longest = max(self._lengths)
        self._cdfs = [cdf + [0] * (longest - len(cdf)) for cdf in self._cdfs]
        self._offsets = list(minima)
        self._shape = shape
        height, width, channels = shape
        self._indexes = np.repeat(np.arange(channels), height * width).tolist()

    def encode_batch(self, symbols: np.ndarray) -> list[bytes]:
        """Codes int32 [B, h, w, c], channel by channel."""
        planes = symbols.transpose(0, 3, 1, 2).reshape(len(symbols), -1)
        tables = self._indexes, self._cdfs, self._lengths, self._offsets
        return [self._encoder.encode_with_indexes(plane.tolist(), *tables) for plane in planes]

    def decode_batch(self, payloads: list[bytes], grid: tuple[int, int]) -> np.ndarray:
        """Returns int32 [B, h, w, c]."""
        tables = self._indexes, self._cdfs, self._lengths, self._offsets
        decode = self._decoder.decode_with_indexes
        planes = np.array([decode(payload, *tables) for payload in payloads], np.int32)
        return planes.reshape(len(payloads), -1, *grid).transpose(0, 2, 3, 1)


def seconds(function: Callable[[], Any]) -> float:
    """Returns how long one call takes."""
    begin = time.perf_counter()
    function()
    return time.perf_counter() - begin


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Runs both coders over the same symbols; checks that each decodes what it coded."""
    rng = np.random.default_rng(arguments.seed)
    height, width, channels = shape = tuple(arguments.shape)
    rows = make_rows(channels, rng)
    tables = CodingTables.build(*rows)
    inside = [c[:-1] / c[:-1].sum(dtype=np.int64) for c in tables.counts]
    drawn = [
        m + rng.choice(len(p), p=p, size=(arguments.images, height, width))
        for m, p in zip(tables.minima, inside, strict=True)
    ]
    symbols = np.stack(drawn, axis=-1).astype(np.int32)
    coders: dict[str, Any] = {"vae_jcc": LatentCodec(tables), "compressai": CompressAI(*rows, shape)}
    payloads = {name: coder.encode_batch(symbols) for name, coder in coders.items()}
    for name, coder in coders.items():
        if not np.array_equal(coder.decode_batch(payloads[name], (height, width)), symbols):
            raise SystemExit(f"{name} decoded other symbols than it coded.")
    times: dict[str, dict[str, list[float]]] = {name: {"encode": [], "decode": []} for name in coders}
    for _ in range(arguments.repeats):
        for name, coder in coders.items():
            coded = payloads[name]
            times[name]["encode"].append(seconds(functools.partial(coder.encode_batch, symbols)))
            times[name]["decode"].append(seconds(functools.partial(coder.decode_batch, coded, (height, width))))
    result: dict[str, Any] = {
        "images": arguments.images,
        "shape": list(shape),
        "repeats": arguments.repeats,
        "ideal_bits_per_image": float(tables.expected_bits(symbols).mean()),
        "systems": {
            name: {"bits_per_image": 8 * sum(map(len, payloads[name])) / arguments.images}
            | {way: _rates(arguments.images, taken) for way, taken in times[name].items()}
            for name in coders
        },
    }
    ours, theirs = result["systems"]["vae_jcc"], result["systems"]["compressai"]
    result["times_faster"] = {way: ours[way]["median"] / theirs[way]["median"] for way in ("encode", "decode")}
    result["peak_memory_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    result["load_average"] = os.getloadavg()[0]
    result["machine"] = f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}"
    result["versions"] = {name: version(name) for name in ("numpy", "constriction", "compressai")}
    return result


def _rates(images: int, taken: list[float]) -> dict[str, float]:
    """Images per second: median, slowest and fastest repeat."""
    return {
        "median": images / float(np.median(taken)),
        "slowest": images / max(taken),
        "fastest": images / min(taken),
    }


def main() -> None:
    """Parses the command line, measures, prints a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2000, help="images a repeat")
    parser.add_argument("--shape", type=int, nargs=3, default=(8, 8, 12), help="latent: height, width, channels")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    arguments = parser.parse_args()
    result = measure(arguments)
    if arguments.json:
        print(json.dumps(result, indent=1))
        return
    print(f"{result['images']} images of {result['shape']}, ideal {result['ideal_bits_per_image']:.1f} bits an image")
    for name, system in result["systems"].items():
        speeds = ", ".join(
            f"{way} {r['median']:,.0f} images/s ({r['slowest']:,.0f}..{r['fastest']:,.0f})"
            for way, r in system.items()
            if isinstance(r, dict)
        )
        print(f"{name:>12}: {system['bits_per_image']:.1f} bits, {speeds}")
    faster = result["times_faster"]
    print(f"faster by {faster['encode']:.1f}x (encode) and {faster['decode']:.1f}x (decode)")


if __name__ == "__main__":
    main()
