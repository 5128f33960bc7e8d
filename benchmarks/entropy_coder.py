"""Entropy coding of small latents: images/s and bytes of this project's coder and of CompressAI's, in one run.

    python -m venv bench
    bench/bin/pip install torch==2.13.0 torchvision==0.28.0 compressai==1.2.8 constriction==0.5.0
    PYTHONPATH=. bench/bin/python benchmarks/entropy_coder.py --json entropy_coder.json

All code the same symbols with tables made from the same probabilities, one image a message, decoded and compared
afterwards. By default these are 768 symbols an image (8 x 8 x 12) drawn from two-sided geometric laws; with --model
they are what a trained model sends of its test images, coded with its own tables (`pip install -e .` for that). The
former have wide tables, whose search takes most of a decoder's time. CompressAI is measured twice:

    compressai        EntropyBottleneck.compress and .decompress of a batch, as its models and users call them; left out
                      where torch cannot be imported
    compressai_rans   its compiled coder called directly, with tables and indexes converted to lists beforehand (the
                      model converts them for each image): the most that can be had by going around its interface. What
                      remains in its time is the coder and the conversion of an image's symbols between array and list

The repeats alternate between all, so that a busy machine hits them alike.
"""

import argparse
import functools
import importlib
import importlib.util
import json
import sys
import types
from typing import Any

import numpy as np

from vae_jcc.benchmark.measuring import machine, peak_mib, seconds, working_mib
from vae_jcc.benchmark.torch_systems import import_compressai
from vae_jcc.coding import CodingTables, LatentCodec

COMPRESSAI_PRECISION = 16  # fixed in its coder


def compressai_module(name: str) -> Any:
    """Imports a compiled module of CompressAI without its package's __init__, which needs torch and torchvision."""
    if "compressai" not in sys.modules:
        spec = importlib.util.find_spec("compressai")
        if spec is None:
            raise SystemExit("CompressAI is not installed: the head of this file says how to.")
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


def import_whole_compressai() -> Any:
    """Returns the package compressai.entropy_models, or None where torch or torchvision cannot be imported with it."""
    try:
        return import_compressai("entropy_models")
    except ImportError:
        for name in [n for n in sys.modules if n.split(".")[0] == "compressai"]:
            del sys.modules[name]
        return None


class CompressAI:
    """Its rANS coder, with tables of the same probabilities at its precision."""

    def __init__(
        self, pmfs: list[np.ndarray], minima: list[int], tails: list[float], shape: tuple[int, int, int]
    ) -> None:
        ans, quantize = compressai_module("ans"), compressai_module("_CXX").pmf_to_quantized_cdf
        self._encoder, self._decoder = ans.RansEncoder(), ans.RansDecoder()
        rows = [np.append(pmf, tail).tolist() for pmf, tail in zip(pmfs, tails, strict=True)]
        self.cdfs = [list(quantize(row, COMPRESSAI_PRECISION)) for row in rows]
        self.lengths = [len(cdf) for cdf in self.cdfs]
        longest = max(self.lengths)
        self.cdfs = [cdf + [0] * (longest - len(cdf)) for cdf in self.cdfs]
        self.offsets = list(minima)
        self._shape = shape
        height, width, channels = shape
        self._indexes = np.repeat(np.arange(channels), height * width).tolist()

    def encode_batch(self, symbols: np.ndarray) -> list[bytes]:
        """Codes int32 [B, h, w, c], channel by channel."""
        planes = symbols.transpose(0, 3, 1, 2).reshape(len(symbols), -1)
        tables = self._indexes, self.cdfs, self.lengths, self.offsets
        return [self._encoder.encode_with_indexes(plane.tolist(), *tables) for plane in planes]

    def decode_batch(self, payloads: list[bytes], grid: tuple[int, int]) -> np.ndarray:
        """Returns int32 [B, h, w, c]."""
        tables = self._indexes, self.cdfs, self.lengths, self.offsets
        decode = self._decoder.decode_with_indexes
        planes = np.array([decode(payload, *tables) for payload in payloads], np.int32)
        return planes.reshape(len(payloads), -1, *grid).transpose(0, 2, 3, 1)


class CompressAIModel:
    """Its factorized entropy model, with the tables of `CompressAI` put in."""

    def __init__(self, entropy_models: Any, coder: CompressAI) -> None:
        self._torch = importlib.import_module("torch")
        self._model = entropy_models.EntropyBottleneck(len(coder.offsets))
        for name, value in (("quantized_cdf", coder.cdfs), ("cdf_length", coder.lengths), ("offset", coder.offsets)):
            setattr(self._model, f"_{name}", self._torch.tensor(value, dtype=self._torch.int32))

    def encode_batch(self, symbols: np.ndarray) -> list[bytes]:
        """Codes int32 [B, h, w, c], channel by channel."""
        planes = self._torch.from_numpy(symbols.transpose(0, 3, 1, 2).astype(np.float32))
        with self._torch.no_grad():
            return self._model.compress(planes)

    def decode_batch(self, payloads: list[bytes], grid: tuple[int, int]) -> np.ndarray:
        """Returns int32 [B, h, w, c]."""
        with self._torch.no_grad():
            planes = self._model.decompress(payloads, grid)
        return planes.numpy().astype(np.int32).transpose(0, 2, 3, 1)


def drawn(arguments: argparse.Namespace) -> tuple[CodingTables, np.ndarray]:
    """Returns tables of two-sided geometric laws and symbols int32 [images, h, w, c] drawn from them."""
    rng = np.random.default_rng(arguments.seed)
    height, width, channels = arguments.shape
    tables = CodingTables.build(*make_rows(channels, rng))
    inside = [c[:-1] / c[:-1].sum(dtype=np.int64) for c in tables.counts]
    symbols = [
        m + rng.choice(len(p), p=p, size=(arguments.images, height, width))
        for m, p in zip(tables.minima, inside, strict=True)
    ]
    return tables, np.stack(symbols, axis=-1).astype(np.int32)


def encoded(arguments: argparse.Namespace) -> tuple[CodingTables, np.ndarray]:
    """Returns a trained model's tables and the symbols int32 [images, h, w, c] of the first pictures of its data."""
    from vae_jcc import EdgeEncoder, Receiver
    from vae_jcc.data.sources import open_source

    edge = EdgeEncoder.load(arguments.model)
    source = open_source(edge.artifact.dataset, edge.artifact.config.dataset.test_split)
    pictures = [source[i]["image"] for i in range(arguments.images)]
    symbols = Receiver.load(arguments.model).symbols(edge.compress(pictures))
    return edge.artifact.tables, np.stack(symbols)


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Runs all coders over the same symbols; checks that each decodes what it coded."""
    tables, symbols = encoded(arguments) if arguments.model else drawn(arguments)
    height, width, channels = shape = symbols.shape[1:]
    rows = [c / c.sum(dtype=np.int64) for c in tables.counts]
    rows = [row[:-1] for row in rows], list(tables.minima), [float(row[-1]) for row in rows]
    entropy_models = import_whole_compressai()
    rans = CompressAI(*rows, shape)
    coders: dict[str, Any] = {"vae_jcc": LatentCodec(tables), "compressai_rans": rans}
    if entropy_models is not None:
        coders["compressai"] = CompressAIModel(entropy_models, rans)
    payloads, memory = {}, {}
    for name, coder in coders.items():
        memory[name] = {"encode": working_mib(functools.partial(coder.encode_batch, symbols))}
        payloads[name] = coder.encode_batch(symbols)
        memory[name]["decode"] = working_mib(functools.partial(coder.decode_batch, payloads[name], (height, width)))
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
        "symbols": arguments.model or "two-sided geometric",
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
    systems = result["systems"]
    result["times_faster_than"] = {
        name: {way: systems["vae_jcc"][way]["median"] / systems[name][way]["median"] for way in ("encode", "decode")}
        for name in systems
        if name != "vae_jcc"
    }
    for name in systems:
        systems[name]["working_memory_mib"] = memory[name]
    return result | {"peak_mib": peak_mib()} | machine("numpy", "constriction", "compressai")


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
    parser.add_argument("--model", default="", help="code what this zoo model (or artifact's folder) sends of its data")
    parser.add_argument("--images", type=int, default=2000, help="images a repeat")
    parser.add_argument("--shape", type=int, nargs=3, default=(8, 8, 12), help="of drawn latents: h, w, c")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", default="", help="write the result to this file")
    arguments = parser.parse_args()
    result = measure(arguments)
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump(result, file, indent=1)
            file.write("\n")
    print(f"{result['images']} images of {result['shape']}, ideal {result['ideal_bits_per_image']:.1f} bits an image")
    for name, system in result["systems"].items():
        speeds = ", ".join(
            f"{way} {r['median']:,.0f} images/s ({r['slowest']:,.0f}..{r['fastest']:,.0f})"
            for way, r in system.items()
            if way in ("encode", "decode")
        )
        print(f"{name:>15}: {system['bits_per_image']:.1f} bits, {speeds}")
    for name, faster in result["times_faster_than"].items():
        print(f"faster than {name}: {faster['encode']:.1f}x (encode), {faster['decode']:.1f}x (decode)")


if __name__ == "__main__":
    main()
