"""The parallel context model at coding time: groups of channels, each on the two colours of a checkerboard.

A pass codes the places of one group and one colour, all under distributions that depend only on the passes before:
colour 0 is where row + column is even. With G groups there are 2 G passes (He et al., "Checkerboard context model",
CVPR 2021; Minnen and Singh, "Channel-wise autoregressive entropy models", ICIP 2020). The first pass has the base
alone; every other has a small network of its own on all symbols so far, with zeros where none is known yet:

    [B, h, w, c] -> 5x5 convolution -> 1x1 convolution -> 1x1 convolution -> [B, h, w, channels of the group, slots]

in the integer arithmetic of integer_layers.py.
"""

from collections.abc import Callable, Mapping
from functools import lru_cache

import numpy as np

from vae_jcc.coding import integer_layers as integer


class ParallelContext:
    """Distributions of symbols given those of earlier passes."""

    def __init__(self, tensors: Mapping[str, np.ndarray]) -> None:
        """Takes integer tensors by name.

        "groups" int32 [c] is the group of each channel; "base" int32 [c, slots]; and for every pass p >= 1 "kernelP_0"
        int8 [5, 5, c, F], "kernelP_1" int8 [F, F], "kernelP_2" int8 [F, channels of the group * slots] with biases
        "biasP_0".. int32. "levels" int32 [L], where present, are the inputs that stand for symbols 0..L-1.

        Raises:
            ValueError: a tensor is missing or its sums could leave the range in which float32 is exact.
        """
        if "groups" not in tensors or "base" not in tensors:
            raise ValueError("A parallel context model has groups and a base.")
        self.base = tensors["base"].astype(np.int32)
        groups = tensors["groups"]
        self._levels = tensors.get("levels")
        self.passes = 2 * (int(groups.max()) + 1)
        self._members = [np.flatnonzero(groups == g) for g in range(self.passes // 2)]
        self._networks = [_Network(tensors, p) for p in range(1, self.passes)]

    def order(self, shape: tuple[int, int]) -> np.ndarray:
        """Returns the coding order of the places of a grid (h, w): indices int64 [c * h * w] into [c, h, w].

        Pass by pass; within a pass channel by channel, each in raster order.
        """
        height, width = shape
        index = np.arange(len(self.base) * height * width).reshape(-1, height * width)
        colours = _colours(shape)
        return np.concatenate([index[self._members[p // 2]][:, colours[p % 2]].ravel() for p in range(self.passes)])

    def logits(self, symbols: np.ndarray) -> np.ndarray:
        """Returns logits int32 [B, c, h, w, slots], steps of 1/32 bit, of symbols int32 [B, c, h, w]."""
        batch, channels, height, width = symbols.shape
        known = integer.inputs(symbols, self._levels).reshape(batch, channels, -1)
        seen = np.zeros_like(known)
        out = np.empty((batch, channels, height * width, self.base.shape[1]), np.int32)
        for p, places in enumerate(self._places((height, width))):
            if places[1].size:  # a grid of one cell has one colour
                out[:, *places] = self._pass(p, seen, (height, width))
                seen[:, *places] = known[:, *places]
        return out.reshape(batch, channels, height, width, -1)

    def decode(self, batch: int, shape: tuple[int, int], read: Callable[[np.ndarray], np.ndarray]) -> None:
        """Walks through all places in coding order.

        Args:
            batch: number of images.
            shape: (h, w).
            read: called with the logits int32 [n, B, slots] of the next n places; returns the symbols that stand
                there, int32 [n, B], 0 for escaped ones.
        """
        seen = np.zeros((batch, len(self.base), shape[0] * shape[1]), np.float32)
        for p, places in enumerate(self._places(shape)):
            if not places[1].size:  # a grid of one cell has one colour
                continue
            logits = self._pass(p, seen, shape)
            symbols = read(logits.reshape(batch, -1, logits.shape[-1]).transpose(1, 0, 2))
            seen[:, *places] = integer.inputs(symbols, self._levels).T.reshape(logits.shape[:-1])

    def _places(self, shape: tuple[int, int]) -> list[tuple[np.ndarray, np.ndarray]]:
        """Returns for each pass its channels [n, 1] and its places [1, m] in raster order."""
        colours = _colours(shape)
        return [(self._members[p // 2][:, None], colours[p % 2][None]) for p in range(self.passes)]

    def _pass(self, p: int, seen: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
        """Returns logits int32 [B, n, m, slots] of a pass, given inputs float32 [B, c, h * w] known so far."""
        members, places = self._members[p // 2], _colours(shape)[p % 2]
        base = self.base[members][:, None]
        if p == 0:
            return np.broadcast_to(base, (len(seen), len(members), len(places), self.base.shape[1]))
        out = self._networks[p - 1](seen, shape, p % 2)
        return out.reshape(len(seen), len(places), len(members), -1).transpose(0, 2, 1, 3) + base


class _Network:
    """The three layers of one pass, evaluated at the places of its colour only."""

    def __init__(self, tensors: Mapping[str, np.ndarray], p: int) -> None:
        names = [f"{kind}{p}_{layer}" for layer in range(3) for kind in ("kernel", "bias")]
        if any(name not in tensors for name in names):
            raise ValueError(f"Pass {p} of a parallel context model needs {', '.join(names)}.")
        kernels = [tensors[name].astype(np.float32) for name in names[::2]]
        self._reach = kernels[0].shape[0] // 2
        self._matrices = [kernel.reshape(-1, kernel.shape[-1]) for kernel in kernels]
        self._biases = [tensors[name].astype(np.float32) for name in names[1::2]]
        for matrix, bias in zip(self._matrices, self._biases, strict=True):
            integer.check_exact(matrix, bias)

    def __call__(self, seen: np.ndarray, shape: tuple[int, int], colour: int) -> np.ndarray:
        """Returns logits int32 [B, m, out] at the places of a colour, of inputs float32 [B, c, h * w] on (h, w)."""
        (batch, channels, _), (height, width), reach = seen.shape, shape, self._reach
        padded = np.zeros((batch, height + 2 * reach, width + 2 * reach, channels), np.float32)
        inside = seen.reshape(batch, channels, height, width).transpose(0, 2, 3, 1)
        padded[:, reach : reach + height, reach : reach + width] = inside
        windows = _windows(shape, colour, reach)
        x = padded.reshape(batch, -1, channels).take(windows, axis=1).reshape(batch * len(windows), -1)
        for matrix, bias in zip(self._matrices[:2], self._biases[:2], strict=True):
            x = integer.activation(x @ matrix + bias)
        return integer.to_logits(x @ self._matrices[2] + self._biases[2]).reshape(batch, len(windows), -1)


# Of a few sizes of pictures each: without a memory, one small picture spends a third of its time here.
@lru_cache(maxsize=64)
def _windows(shape: tuple[int, int], colour: int, reach: int) -> np.ndarray:
    """Returns int64 [m, side * side]: where the window around each place of a colour lies in the padded grid."""
    places, taps = _colours(shape)[colour], np.arange(2 * reach + 1)
    rows, columns = places // shape[1], places % shape[1]
    padded_width = shape[1] + 2 * reach
    windows = (rows[:, None, None] + taps[:, None]) * padded_width + columns[:, None, None] + taps
    return windows.reshape(len(places), -1)


@lru_cache(maxsize=64)
def _colours(shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Returns the places (row * w + column) of each colour of a grid (h, w), in raster order."""
    rows, columns = np.indices(shape).reshape(2, -1)
    return np.flatnonzero((rows + columns) % 2 == 0), np.flatnonzero((rows + columns) % 2 == 1)
