"""The mean-scale hyperprior at coding time: a small latent z is coded first, and all symbols given z.

    symbols [B, c, h, w] -> 5x5, stride 2 -> 3x3, stride 2 -> round -> z [B, h/4, w/4, channels of z], coded first
    z -> 3x3 -> depth to space -> 3x3 -> depth to space -> 1x1 -> [B, h, w, 2, c]: a mean and a scale of every symbol

(Minnen, Balle and Toderici, "Joint autoregressive and hierarchical priors", NeurIPS 2018, without the autoregression.)
A slot's logit is that of its channel, as in the tables, plus what a stored table says of its distance from the mean at
that scale. Everything is the integer arithmetic of integer_layers.py, the network that makes z included, so that every
encoder finds the same z; a decoder runs one network once.
"""

from collections.abc import Callable, Mapping

import numpy as np

from vae_jcc.coding import integer_layers as integer

SIDE_LIMIT = 7  # z lies within +-7
SCALES = 32
_MEAN_STEP = np.float32(64)  # of sums: 1/16 of a symbol
_SCALE_STEP = np.float32(256)  # of sums: 1/4 octave
_SIDE_STEP = np.float32(1024)  # of sums: 1 of z
_STEPS = 16  # of an input, to 1 of z
_FILTERS = ("analysis_0", "analysis_1", "synthesis_0", "synthesis_1", "synthesis_2")


class HyperpriorContext:
    """Distributions of symbols given a side latent z that is coded before them."""

    def __init__(self, tensors: Mapping[str, np.ndarray]) -> None:
        """Takes integer tensors by name.

        "base" int32 [c, slots]; "positions" int32 [c, slots], where a slot's symbol lies, in steps of 1/16; "scales"
        int16 [32, D], the logit at distance 0..D-1 steps from the mean (farther ones count as D-1); "side" int32
        [channels of z, 15], the logits of z = -7..7; "kernel_NAME" int8 [side, side, in, out] and "bias_NAME" int32
        [out] of the layers analysis_0, analysis_1, synthesis_0, synthesis_1, synthesis_2. "levels" int32 [L], where
        present, are the inputs that stand for symbols 0..L-1.

        Raises:
            ValueError: a tensor is missing, does not fit the others, or its sums could leave the range in which float32
                is exact.
        """
        missing = {"base", "positions", "scales", "side", *(f"{k}_{n}" for n in _FILTERS for k in ("kernel", "bias"))}
        missing -= set(tensors)
        if missing:
            raise ValueError(f"A hyperprior needs {', '.join(sorted(missing))}.")
        self.base, self._positions, self._scales, self._side = (
            tensors[name].astype(np.int32) for name in ("base", "positions", "scales", "side")
        )
        self._levels = tensors.get("levels")
        self._layers = [_Convolution(tensors[f"kernel_{n}"], tensors[f"bias_{n}"]) for n in _FILTERS]
        self._check()
        # The table speaks of symbols: not of the escape slot, and not of slots that a channel lacks.
        self._symbols = np.arange(self.base.shape[1]) < integer.count_slots(self.base)[:, None] - 1

    def order(self, shape: tuple[int, int]) -> np.ndarray:
        """Returns the coding order of the places of a grid (h, w): indices int64 [c * h * w] into [c, h, w]."""
        return np.arange(len(self.base) * shape[0] * shape[1])

    def logits(self, symbols: np.ndarray) -> np.ndarray:
        """Returns logits int32 [B, c, h, w, slots], steps of 1/32 bit, of symbols int32 [B, c, h, w]."""
        means, scales = self._synthesis(self._analysis(symbols), symbols.shape[2:])
        planes = [self._plane(k, means[..., k], scales[..., k]) for k in range(len(self.base))]
        return np.stack(planes, axis=1)

    def side(self, symbols: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the slots of z, int32 [B, n], of symbols int32 [B, c, h, w], and their logits, int32 [n, 15].

        Channel by channel of z, each in raster order; slot i is z = i - 7.
        """
        z = self._analysis(symbols).transpose(0, 3, 1, 2)
        return (z + SIDE_LIMIT).astype(np.int32).reshape(len(z), -1), self._side_logits(z.shape[2] * z.shape[3])

    def decode(self, batch: int, shape: tuple[int, int], read: Callable[..., np.ndarray]) -> None:
        """Reads z, then all symbols, in coding order.

        Args:
            batch: number of images.
            shape: (h, w).
            read: called with the logits int32 [n, B, slots] of the next n places (a channel's); what it returns is not
                needed. With `side=True` it returns the slots themselves, int32 [n, B].
        """
        height, width = (_half(_half(size)) for size in shape)
        logits = self._side_logits(height * width)[:, None]
        slots = read(np.broadcast_to(logits, (len(logits), batch, logits.shape[-1])), side=True)
        z = (slots - SIDE_LIMIT).T.reshape(batch, -1, height, width).transpose(0, 2, 3, 1)
        means, scales = self._synthesis(z.astype(np.float32), shape)
        for k in range(len(self.base)):
            plane = self._plane(k, means[..., k], scales[..., k])
            read(plane.reshape(batch, -1, plane.shape[-1]).transpose(1, 0, 2))

    def _side_logits(self, places: int) -> np.ndarray:
        """Returns the logits of z, int32 [channels of z * places, 15]."""
        return np.repeat(self._side, places, axis=0)

    def _analysis(self, symbols: np.ndarray) -> np.ndarray:
        """Returns z, integers in float32 [B, ceil(h / 4), ceil(w / 4), channels of z], of symbols [B, c, h, w]."""
        x = integer.inputs(symbols, self._levels).transpose(0, 2, 3, 1)
        x = self._layers[1](integer.activation(self._layers[0](x, stride=2)), stride=2)
        return np.clip(np.floor((x + _SIDE_STEP / 2) / _SIDE_STEP), -SIDE_LIMIT, SIDE_LIMIT)

    def _synthesis(self, z: np.ndarray, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        """Returns means, int32 [B, h, w, c] in steps of 1/16, and the rows of their scales, int32 [B, h, w, c]."""
        half = _half(shape[0]), _half(shape[1])
        x = _depth_to_space(integer.activation(self._layers[2](z * _STEPS)), half)
        x = _depth_to_space(integer.activation(self._layers[3](x)), shape)
        means, scales = np.split(self._layers[4](x), 2, axis=-1)
        means = np.floor((means + _MEAN_STEP / 2) / _MEAN_STEP)
        scales = np.clip(np.floor((scales + _SCALE_STEP / 2) / _SCALE_STEP), 0, SCALES - 1)
        return means.astype(np.int32), scales.astype(np.int32)

    def _plane(self, k: int, means: np.ndarray, scales: np.ndarray) -> np.ndarray:
        """Returns logits int32 [B, h, w, slots] of channel k, of its means and rows int32 [B, h, w]."""
        present = self._symbols[k]
        distances = np.abs(self._positions[k, present] - means[..., None])
        logits = np.empty((*means.shape, len(present)), np.int32)
        logits[...] = self.base[k]
        logits[..., present] += self._scales[scales[..., None], np.minimum(distances, self._scales.shape[1] - 1)]
        return logits

    def _check(self) -> None:
        channels, side = len(self.base), len(self._side)
        hidden = [layer.out for layer in self._layers[:4]]
        fits = (
            self._positions.shape == self.base.shape
            and self._scales.shape[:1] == (SCALES,)
            and self._scales.ndim == 2
            and self._scales.size
            and -(2**15) <= self._scales.min() <= self._scales.max() < 2**15
            and self._side.shape == (side, 2 * SIDE_LIMIT + 1)
            and [layer.features for layer in self._layers]
            == [channels, hidden[0], side, hidden[2] // 4, hidden[3] // 4]
            and hidden[1] == side
            and hidden[2] % 4 == hidden[3] % 4 == 0
            and self._layers[4].out == 2 * channels
        )
        if not fits:
            raise ValueError("The tensors of this hyperprior do not fit each other.")


class _Convolution:
    """A convolution whose output (i, j) is centred on input (stride * i, stride * j); zeros lie outside."""

    def __init__(self, kernel: np.ndarray, bias: np.ndarray) -> None:
        if kernel.ndim != 4 or kernel.shape[0] != kernel.shape[1] or kernel.shape[0] % 2 == 0 or kernel.size == 0:
            raise ValueError(f"A kernel of shape {kernel.shape} is none of a hyperprior: [side, side, in, out], odd.")
        self._side, _, self.features, self.out = kernel.shape
        self._matrix, self._bias = kernel.reshape(-1, self.out).astype(np.float32), bias.astype(np.float32)
        if bias.shape != (self.out,):
            raise ValueError(f"A bias of shape {bias.shape} does not fit a kernel of shape {kernel.shape}.")
        integer.check_exact(self._matrix, self._bias)

    def __call__(self, x: np.ndarray, stride: int = 1) -> np.ndarray:
        """Returns sums float32 [B, ceil(h / stride), ceil(w / stride), out] of activations [B, h, w, in]."""
        height, width = x.shape[1:3]
        reach = self._side // 2
        padded = np.pad(x, ((0, 0), (reach, reach), (reach, reach), (0, 0)))
        taps = range(self._side)
        columns = [padded[:, i : i + height : stride, j : j + width : stride] for i in taps for j in taps]
        total: np.ndarray = np.concatenate(columns, axis=-1) @ self._matrix + self._bias
        return total


def _half(size: int) -> int:
    return -(-size // 2)


def _depth_to_space(x: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Returns [B, h, w, F] of x [B, ceil(h / 2), ceil(w / 2), 4 F]: place (2 i + a, 2 j + b) has block 2 a + b."""
    batch, height, width, features = x.shape
    x = x.reshape(batch, height, width, 2, 2, features // 4).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(batch, 2 * height, 2 * width, -1)[:, : shape[0], : shape[1]]
