"""The serial context model at coding time: exact integer arithmetic in NumPy.

The network is that of entropy/context.py in its fixed-point form: int8 weights, activations 0..255, and sums that are
integers below 2**24, so that float32 matrix products are exact whatever the machine, the batch or the order.

    encoding   all symbols are known: one pass over the whole volume
    decoding   plane by plane; what a plane gets from the one before is computed for all its places at once, and each
               place then adds what the places before it in its own plane have to say. Nothing is computed twice.
"""

from collections.abc import Callable, Mapping

import numpy as np

from vae_jcc.coding import integer_layers as integer

_BEFORE = [(0, y, x) for y in range(3) for x in range(3)]  # (plane, row, column) of a kernel's taps
_ABOVE = [(1, 0, x) for x in range(3)]


class SerialContext:
    """Distributions of symbols given those coded before: plane by plane, each in raster order."""

    def __init__(self, tensors: Mapping[str, np.ndarray]) -> None:
        """Takes "kernel0".. int8 [2, 3, 3, in, out], "bias0".. int32 [out], "base" int32 [c, slots], in integer steps.

        "levels" int32 [L], where present, are the inputs that stand for symbols 0..L-1.

        Raises:
            ValueError: a layer is missing or its sums could leave the range in which float32 is exact.
        """
        names = [f"kernel{i}" for i in range(sum(name.startswith("kernel") for name in tensors))]
        if len(names) < 2 or len(names) % 2 or "base" not in tensors:
            raise ValueError("A context model has a first, a last, and two layers for each residual block, and a base.")
        self.base = tensors["base"].astype(np.int32)
        self._levels = tensors.get("levels")
        self._layers = []
        for i, name in enumerate(names):
            layer = _Layer(tensors[name], tensors[f"bias{i}"], first=i == 0, residual=i > 0 and i % 2 == 0)
            self._layers.append(layer)

    def logits(self, symbols: np.ndarray) -> np.ndarray:
        """Returns logits int32 [B, c, h, w, slots], steps of 1/32 bit, of symbols int32 [B, c, h, w] in one pass."""
        x = integer.inputs(symbols, self._levels)[..., None]
        last = len(self._layers) - 1
        skip = x
        for i, layer in enumerate(self._layers):
            total = layer.whole(x)
            if i == last:
                return integer.to_logits(total) + self.base[:, None, None]
            if layer.residual:
                total += skip * integer.SUMS_PER_STEP
            x = integer.activation(total)
            if not i % 2:
                skip = x
        raise AssertionError("unreachable")

    def order(self, shape: tuple[int, int]) -> np.ndarray:
        """Returns the coding order of the places of a grid (h, w): indices int64 [c * h * w] into [c, h, w]."""
        return np.arange(len(self.base) * shape[0] * shape[1])

    def decode(self, batch: int, shape: tuple[int, int], read: Callable[[np.ndarray], np.ndarray]) -> None:
        """Walks through all places in coding order.

        Args:
            batch: number of images.
            shape: (h, w).
            read: called with the logits int32 [n, B, slots] of the next n places (here 1); returns the symbols that
                stand there, int32 [n, B], 0 for escaped ones.
        """
        height, width = shape
        layers = self._layers
        # inputs[i]: what layer i reads in the current plane, [h + 1, w + 2, features, B]; a border of zeros.
        inputs = [np.zeros((height + 1, width + 2, layer.features, batch), np.float32) for layer in layers]
        for channel in range(len(self.base)):
            if channel:
                above = [layer.plane(x) for layer, x in zip(layers, inputs, strict=True)]
            else:
                above = [np.broadcast_to(layer.bias[:, None], (height, width, layer.out, batch)) for layer in layers]
            for x in inputs:
                x[...] = 0
            base = self.base[channel]
            for i in range(height):
                for j in range(width):
                    logits = self._place(inputs, above, i, j)
                    symbols = read((logits + base)[None])[0]
                    inputs[0][i + 1, j + 1, 0] = integer.inputs(symbols, self._levels)

    def _place(self, inputs: list[np.ndarray], above: list[np.ndarray], i: int, j: int) -> np.ndarray:
        """Fills in the activations at one place and returns its logits int32 [B, slots] without the base."""
        skip = inputs[0][0, 0]
        last = len(self._layers) - 1
        for k, layer in enumerate(self._layers):
            total = layer.row_above @ _rows(inputs[k][i, j : j + 3])
            total += layer.same_row @ _rows(inputs[k][i + 1, j : j + (1 if layer.first else 2)])
            total += above[k][i, j]
            if k == last:
                return integer.to_logits(total).T
            if layer.residual:
                total += skip * integer.SUMS_PER_STEP
            x = integer.activation(total)
            inputs[k + 1][i + 1, j + 1] = x
            if not k % 2:
                skip = x
        raise AssertionError("unreachable")


class _Layer:
    """One masked convolution, its taps sorted by what is known when."""

    def __init__(self, kernel: np.ndarray, bias: np.ndarray, *, first: bool, residual: bool) -> None:
        self.first, self.residual = first, residual
        self.features, self.out = kernel.shape[3:]
        self.bias = bias.astype(np.float32)
        same = [(1, 1, x) for x in range(1 if first else 2)]
        self._kernel, self._taps = kernel.astype(np.float32), [*_BEFORE, *_ABOVE, *same]
        # Rows as matrices [out, taps * in], for columns of a batch.
        self.row_above, self.same_row = self._matrix(_ABOVE).T.copy(), self._matrix(same).T.copy()
        self._whole = self._matrix(self._taps)
        integer.check_exact(self._whole, self.bias)

    def _matrix(self, taps: list[tuple[int, int, int]]) -> np.ndarray:
        return np.concatenate([self._kernel[tap] for tap in taps])

    def whole(self, volume: np.ndarray) -> np.ndarray:
        """Returns sums float32 [B, c, h, w, out] of activations [B, c, h, w, in]; zeros lie outside."""
        channels, height, width = volume.shape[1:4]
        padded = np.pad(volume, ((0, 0), (1, 0), (1, 1), (1, 1), (0, 0)))
        columns = np.concatenate(
            [padded[:, d : d + channels, y : y + height, x : x + width] for d, y, x in self._taps], axis=-1
        )
        return columns @ self._whole + self.bias

    def plane(self, padded: np.ndarray) -> np.ndarray:
        """Returns bias and what the plane before adds, float32 [h, w, out, B]; padded: [h + 1, w + 2, in, B]."""
        rows, columns, features, batch = padded.shape
        height, width = rows - 1, columns - 2
        below = np.concatenate([padded, np.zeros_like(padded[:1])])  # decoding needs no row below, this pass does
        total = np.zeros((height, width, self.out, batch), np.float32) + self.bias[:, None]
        for _, y, x in _BEFORE:
            total += self._kernel[0, y, x].T @ below[y : y + height, x : x + width]
        return total


def _rows(block: np.ndarray) -> np.ndarray:
    """Returns [taps, features, B] as a matrix [taps * features, B]."""
    return block.reshape(-1, block.shape[-1])
