"""A second context decoder, in plain Python, written from docs/bitstream.md (section 7) alone."""

import importlib.util
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from vae_jcc.coding import CodingTables, ContextCodec, HyperpriorContext, ParallelContext, SerialContext


def _reference():
    """The decoder of sections 3 to 6."""
    path = Path(__file__).with_name("test_reference_decoder.py")
    spec = importlib.util.spec_from_file_location("reference_decoder", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


MANTISSAS = [round(2 ** (20 - r / 32)) for r in range(32)]


def activation(t):
    return max(0, min(255, (t + 32) // 64))


def counts_of(sums, base, slots):
    return counts_of_logits([max(-32768, min(32768, t // 32)) + b for t, b in zip(sums, base, strict=True)][:slots])


def counts_of_logits(z):
    d, slots = [max(z) - v for v in z], len(z)
    w = [MANTISSAS[v % 32] >> (v // 32) if v < 672 else 0 for v in d]
    counts = [1 + v * (2**24 - slots) // sum(w) for v in w]
    counts[d.index(0)] += 2**24 - sum(counts)
    return counts


class Reader:
    """Reads one symbol after another, and the excesses at the end."""

    def __init__(self, payload, rows, height, width):
        self.reference, self.rows = _reference(), rows
        self.message = self.reference.Message(payload)
        self.slots = [[[None] * width for _ in range(height)] for _ in rows]

    def read(self, k, i, j, sums, base):
        minimum, old = self.rows[k]
        slot = self.message.slot(counts_of(sums, base, len(old)))
        self.slots[k][i][j] = slot
        symbol = 0 if slot == len(old) - 1 else minimum + slot
        return 16 * max(-15, min(15, symbol))


def dot(vector, matrix):
    return [sum(v * row[o] for v, row in zip(vector, matrix, strict=True)) for o in range(len(matrix[0]))]


def read_serial(reader, tensors, height, width):
    layers = [(tensors[f"kernel{n}"].tolist(), tensors[f"bias{n}"].tolist()) for n in range(len(tensors) // 2)]
    planes = {}  # (layer, channel, row, column) to the activations that the layer reads

    def layer(n, k, i, j):
        kernel, total = layers[n][0], list(layers[n][1])
        taps = [(0, y, x) for y in range(3) for x in range(3)] + [(1, 0, 0), (1, 0, 1), (1, 0, 2), (1, 1, 0)]
        for plane, y, x in [*taps, *([(1, 1, 1)] if n else [])]:
            seen = planes.get((n, k - 1 + plane, i + y - 1, j + x - 1))
            if seen is not None:
                total = [a + b for a, b in zip(total, dot(seen, kernel[plane][y][x]), strict=True)]
        return total

    for k in range(len(reader.rows)):
        for i in range(height):
            for j in range(width):
                x = [activation(t) for t in layer(0, k, i, j)]
                planes[1, k, i, j] = x
                for r in range(1, len(layers) - 2, 2):
                    planes[r + 1, k, i, j] = [activation(t) for t in layer(r, k, i, j)]
                    x = [activation(t + 64 * v) for t, v in zip(layer(r + 1, k, i, j), x, strict=True)]
                    planes[r + 2, k, i, j] = x
                sums = layer(len(layers) - 1, k, i, j)
                planes[0, k, i, j] = [reader.read(k, i, j, sums, tensors["base"][k].tolist())]
    return reader.slots


def read_parallel(reader, tensors, height, width):
    groups, channels = tensors["groups"].tolist(), len(reader.rows)
    known = [[[0] * channels for _ in range(width)] for _ in range(height)]
    for p in range(2 * (max(groups) + 1)):
        members = [k for k in range(channels) if groups[k] == p // 2]
        before = [[list(cell) for cell in row] for row in known]
        slots = tensors["base"].shape[1]
        for n, k in enumerate(members):
            for i in range(height):
                for j in range(width):
                    if (i + j) % 2 != p % 2:
                        continue
                    sums = [0] * slots
                    if p:
                        kernels = [tensors[f"kernel{p}_{m}"].tolist() for m in range(3)]
                        biases = [tensors[f"bias{p}_{m}"].tolist() for m in range(3)]
                        a = biases[0]
                        for y in range(5):
                            for x in range(5):
                                if 0 <= i + y - 2 < height and 0 <= j + x - 2 < width:
                                    cell = before[i + y - 2][j + x - 2]
                                    a = [u + v for u, v in zip(a, dot(cell, kernels[0][y][x]), strict=True)]
                        b = dot([activation(t) for t in a], kernels[1])
                        b = [activation(u + v) for u, v in zip(b, biases[1], strict=True)]
                        t = [u + v for u, v in zip(dot(b, kernels[2]), biases[2], strict=True)]
                        sums = t[n * slots : (n + 1) * slots]
                    known[i][j][k] = reader.read(k, i, j, sums, tensors["base"][k].tolist())
    return reader.slots


def convolution(grid, tensors, name):
    kernel, bias = tensors[f"kernel_{name}"].tolist(), tensors[f"bias_{name}"].tolist()
    height, width, reach = len(grid), len(grid[0]), len(kernel) // 2
    out = [[list(bias) for _ in range(width)] for _ in range(height)]
    for i in range(height):
        for j in range(width):
            for y, row in enumerate(kernel):
                for x, matrix in enumerate(row):
                    u, v = i + y - reach, j + x - reach
                    if 0 <= u < height and 0 <= v < width:
                        out[i][j] = [a + b for a, b in zip(out[i][j], dot(grid[u][v], matrix), strict=True)]
    return out


def spread(grid, height, width):
    def block(i, j):
        cell = [activation(t) for t in grid[i // 2][j // 2]]
        size, n = len(cell) // 4, 2 * (i % 2) + j % 2
        return cell[n * size : (n + 1) * size]

    return [[block(i, j) for j in range(width)] for i in range(height)]


def read_hyperprior(reader, tensors, height, width):
    rows, columns = -(-height // 4), -(-width // 4)
    z = [[[] for _ in range(columns)] for _ in range(rows)]
    for logits in tensors["side"].tolist():
        for i in range(rows):
            for j in range(columns):
                z[i][j].append(16 * (reader.message.slot(counts_of_logits(logits)) - 7))
    a = spread(convolution(z, tensors, "synthesis_0"), -(-height // 2), -(-width // 2))
    t = convolution(spread(convolution(a, tensors, "synthesis_1"), height, width), tensors, "synthesis_2")
    base, positions, scales = (tensors[name].tolist() for name in ("base", "positions", "scales"))
    for k, (_, counts) in enumerate(reader.rows):
        for i in range(height):
            for j in range(width):
                mean = (t[i][j][k] + 32) // 64
                row = scales[max(0, min(31, (t[i][j][len(reader.rows) + k] + 128) // 256))]
                logits = base[k][: len(counts)]
                for slot in range(len(counts) - 1):
                    logits[slot] += row[min(len(row) - 1, abs(positions[k][slot] - mean))]
                reader.slots[k][i][j] = reader.message.slot(counts_of_logits(logits))
    return reader.slots


def random_tensors(rng, kind, rows):
    slots, features = max(rows), 5
    present = np.arange(slots) < np.array(rows)[:, None]
    tensors = {"base": np.where(present, rng.integers(-99, 0, present.shape), -(2**24)).astype(np.int32)}
    if kind == "serial":
        widths = [1, features, features, features, slots]
        shapes = {str(n): (2, 3, 3, *widths[n : n + 2]) for n in range(4)}
    elif kind == "hyperprior":
        tensors["positions"] = rng.integers(-50, 50, present.shape)
        tensors["scales"] = -np.sort(rng.integers(0, 500, (32, 70)))
        tensors["side"] = rng.integers(-99, 0, (2, 15))
        hidden = {"_synthesis_0": (3, 3, 2, 4 * features), "_synthesis_1": (3, 3, features, 4 * features)}
        edges = {"_analysis_0": (5, 5, 3, features), "_analysis_1": (3, 3, features, 2)}
        shapes = hidden | edges | {"_synthesis_2": (1, 1, features, 6)}
    else:
        tensors["groups"] = np.array([1, 0, 0], np.int32)
        shapes = {}
        for p in (1, 2, 3):
            out = (2 if p == 1 else 1) * slots
            steps = [(5, 5, 3, features), (features, features), (features, out)]
            shapes |= {f"{p}_{n}": shape for n, shape in enumerate(steps)}
    for name, shape in shapes.items():
        tensors[f"kernel{name}"] = rng.integers(-20, 20, shape).astype(np.int8)
        tensors[f"bias{name}"] = rng.integers(-900, 900, shape[-1]).astype(np.int32)
    return tensors


class Turns:
    """Section 9: at each place every image takes a slot of the message, one after the other."""

    def __init__(self, message, images):
        self.message, self.images, self.changed, self.now = message, images, threading.Condition(), 0

    def slot(self, image, row):
        with self.changed:
            self.changed.wait_for(lambda: self.now == image)
            slot = self.message.slot(row)
            self.now = (self.now + 1) % self.images
            self.changed.notify_all()
        return slot


KINDS = pytest.mark.parametrize(
    ("kind", "make", "read"),
    [
        ("serial", SerialContext, read_serial),
        ("parallel", ParallelContext, read_parallel),
        ("hyperprior", HyperpriorContext, read_hyperprior),
    ],
)


@KINDS
def test_reads_joined_context_messages(kind, make, read, rng):
    rows, (height, width), images = (4, 3, 6), (3, 4), 3
    tables = CodingTables.build([np.full(n - 1, 1.0) for n in rows], [-1, 0, -3], [0.5] * 3)
    tensors = random_tensors(rng, kind, rows)
    symbols = rng.integers(-3, 4, (images, height, width, 3)).astype(np.int32)
    payload = ContextCodec(tables, make(tensors)).encode_joined(symbols)
    model = list(zip(tables.minima, tables.counts, strict=True))
    turns = Turns(_reference().Message(payload), images)

    def read_one(image):
        reader = Reader(b"", model, height, width)
        reader.message = SimpleNamespace(slot=partial(turns.slot, image))
        return read(reader, tensors, height, width)

    with ThreadPoolExecutor(images) as pool:
        each = list(pool.map(read_one, range(images)))
    cells = [(i, j, b) for i in range(height) for j in range(width) for b in range(images)]
    slots = [[each[b][k][i][j] for i, j, b in cells] for k in range(len(rows))]
    found = _reference().read_excesses(turns.message, slots, model)
    assert _reference().apart(found, images, height, width) == symbols.tolist()


@KINDS
def test_reads_the_librarys_context_messages(kind, make, read, rng):
    rows, (height, width) = (4, 3, 6), (3, 5)
    tables = CodingTables.build([np.full(n - 1, 1.0) for n in rows], [-1, 0, -3], [0.5] * 3)
    tensors = random_tensors(rng, kind, rows)
    symbols = rng.integers(-3, 4, (2, height, width, 3)).astype(np.int32)
    for image, payload in zip(symbols, ContextCodec(tables, make(tensors)).encode_batch(symbols), strict=True):
        reader = Reader(payload, list(zip(tables.minima, tables.counts, strict=True)), height, width)
        slots = [[slot for row in plane for slot in row] for plane in read(reader, tensors, height, width)]
        planes = _reference().read_excesses(reader.message, slots, reader.rows)
        assert planes == image.transpose(2, 0, 1).reshape(3, -1).tolist()
