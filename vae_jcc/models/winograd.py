"""3x3 convolution, stride 1, with a quarter of the multiplications.

It is F(4x4, 3x3) of Lavin and Gray 2016, "Fast algorithms for convolutional neural networks", after Winograd.

The output is made in tiles of 4x4 pixels, each from the 6x6 pixels of the input under it. With d a tile of the input, g
the kernel, y a tile of the output, all for one channel, and the matrices A, B and G below,

    V = B d B^T     U = G g G^T     y = A (sum over input channels of U * V) A^T

The transforms are sums of a few terms; between them are 36 matrix products, [tiles, Ci] by [Ci, Co]. The gradient with
respect to the kernel is

    dg = G^T (sum over tiles of V * (A^T dy A)) G

The result is a plain convolution's but for rounding, which is coarser: 1e-5 of the largest output.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from vae_jcc.models import parts

_TILE = 4  # side in pixels of a tile of the output
_SIDE = 6  # and of the input under it
_A = np.array([[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]], np.float32)
_B = np.array(
    [
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ],
    np.float32,
)
_G = np.array([[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]], np.float32) / np.float32(24)

Pads = tuple[tuple[int, int], ...]


def convolve(x: jax.Array, kernel: jax.Array, pads: Pads) -> jax.Array:
    """Returns the convolution [B, H', W', Co] of x [B, H, W, Ci] and kernel [3, 3, Ci, Co], float32.

    Args:
        x: activations.
        kernel: its weights.
        pads: ((top, bottom), (left, right)), in pixels.
    """
    c_in, c_out = kernel.shape[2:]
    size = _output_size(x, pads)
    tiles = _tiles(size)
    u = lax.dot(np.kron(_G, _G), kernel.reshape(9, -1)).reshape(-1, c_in, c_out)

    def part(x: jax.Array) -> jax.Array:
        products = lax.dot_general(_transform(x, pads, tiles), u, (((2,), (1,)), ((0,), (0,))))
        y = lax.dot(np.kron(_A, _A), products.reshape(_SIDE**2, -1)).reshape(_TILE, _TILE, -1, *tiles, c_out)
        y = y.transpose(2, 3, 0, 4, 1, 5).reshape(-1, *(_TILE * n for n in tiles), c_out)
        return y[:, : size[0], : size[1]]

    image_bytes = u.itemsize * _SIDE**2 * tiles[0] * tiles[1] * (c_in + c_out)
    return parts.each(part, x, image_bytes, u.nbytes)


def kernel_gradient(x: jax.Array, dy: jax.Array, pads: Pads) -> jax.Array:
    """Returns dK [3, 3, Ci, Co] of x [B, H, W, Ci] and dy [B, H', W', Co], the gradient of `convolve`'s result."""
    size = dy.shape[1:3]
    tiles = _tiles(size)
    c_in, c_out = x.shape[3], dy.shape[3]
    fill = [(0, 0), *((0, _TILE * n - used) for n, used in zip(tiles, size, strict=True)), (0, 0)]

    def part(x: jax.Array, dy: jax.Array) -> jax.Array:
        dy = jnp.pad(dy, fill).reshape(-1, tiles[0], _TILE, tiles[1], _TILE, c_out)
        dy = lax.optimization_barrier(dy.transpose(2, 4, 0, 1, 3, 5)).reshape(_TILE**2, -1)
        dy = lax.dot(np.kron(_A, _A).T, dy).reshape(_SIDE**2, -1, c_out)
        return lax.dot_general(_transform(x, pads, tiles), dy, (((1,), (1,)), ((0,), (0,))))

    sum_bytes = x.dtype.itemsize * _SIDE**2 * c_in * c_out
    image_bytes = x.dtype.itemsize * _SIDE**2 * tiles[0] * tiles[1] * (c_in + c_out)
    # Larger parts than `convolve`'s: each adds to the whole sum.
    total = parts.total(part, (x, dy), image_bytes // 4, 4 * sum_bytes)
    return lax.dot(np.kron(_G, _G).T, total.reshape(_SIDE**2, -1)).reshape(3, 3, c_in, c_out)


def filled(x: jax.Array, pads: Pads) -> float:
    """Returns the share of the tiles' pixels that are pixels of the result: 1 where its sides are multiples of 4."""
    size = _output_size(x, pads)
    return math.prod(size) / math.prod(_TILE * n for n in _tiles(size))


def _output_size(x: jax.Array, pads: Pads) -> tuple[int, ...]:
    return tuple(n + sum(pad) - 2 for n, pad in zip(x.shape[1:3], pads, strict=True))


def _tiles(size: tuple[int, ...]) -> tuple[int, ...]:
    """Returns how many tiles (down, across) cover an output of this size."""
    return tuple(-(-n // _TILE) for n in size)


def _transform(x: jax.Array, pads: Pads, tiles: tuple[int, ...]) -> jax.Array:
    """Returns V [36, B * tiles, Ci] of x [B, H, W, Ci]."""
    *size, channels = x.shape[1:]
    needed = (_TILE * n + 2 for n in tiles)
    edges = [(low, m - n - low) for m, n, (low, _) in zip(needed, size, pads, strict=True)]
    x = jnp.pad(x, ((0, 0), *edges, (0, 0)))
    down = [_combine(row, _every_fourth(x, tiles[0], 1)) for row in _B]
    # The barriers: else rows would be made anew for all that read them, and the stack computed number by number.
    down = lax.optimization_barrier(down)
    v = [_combine(weights, _every_fourth(row, tiles[1], 2)) for row in down for weights in _B]
    return jnp.stack(lax.optimization_barrier(v)).reshape(_SIDE**2, -1, channels)


def _every_fourth(x: jax.Array, count: int, axis: int) -> list[jax.Array]:
    """Returns, for the pixels 0..5 of a tile's side, those pixels of all tiles along an axis."""
    return [lax.slice_in_dim(x, i, i + _TILE * (count - 1) + 1, _TILE, axis) for i in range(_SIDE)]


def _combine(weights: np.ndarray, arrays: list[jax.Array]) -> jax.Array:
    """Returns the weighted sum of the arrays, without those of weight 0."""
    terms = [float(w) * x if w != 1 else x for w, x in zip(weights, arrays, strict=True) if w]
    return sum(terms[1:], terms[0])
