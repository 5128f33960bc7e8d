"""Random tables and symbols that follow them."""

from collections.abc import Callable

import numpy as np
import pytest

from vae_jcc.coding import CodingTables


@pytest.fixture
def rng() -> np.random.Generator:
    """NumPy randomness with a fixed seed, here too: these tests also run where JAX is not (test_tfc_coder.py)."""
    return np.random.default_rng(20220607)


@pytest.fixture
def make_tables(rng: np.random.Generator) -> Callable[..., CodingTables]:
    """Tables of `channels` rows: two-sided geometric laws of random widths, cut at random places."""

    def make(channels: int, widths: tuple[float, float] = (0.3, 6.0)) -> CodingTables:
        pmfs, minima, tails = [], [], []
        for width in rng.uniform(*widths, channels):
            low, high = -int(rng.integers(1, 6 * width + 2)), int(rng.integers(1, 6 * width + 2))
            pmf = np.exp(-np.abs(np.arange(low, high + 1)) / width)
            pmfs.append(pmf)
            minima.append(low)
            tails.append(rng.uniform(0, 0.01) * pmf.sum())
        return CodingTables.build(pmfs, minima, tails)

    return make


@pytest.fixture
def draw(rng: np.random.Generator) -> Callable[..., np.ndarray]:
    """Symbols int32 [batch, h, w, c] that follow the tables; an escape slot becomes a symbol near or far outside."""

    def draw_symbols(tables: CodingTables, batch: int, height: int, width: int, far: int = 100) -> np.ndarray:
        planes = []
        for low, high, counts in zip(tables.minima, tables.maxima, tables.counts, strict=True):
            slots = rng.choice(len(counts), p=counts / 2**24, size=(batch, height, width))
            outside = np.where(rng.random(slots.shape) < 0.5, high + 1, low - 1)
            outside += np.sign(outside) * rng.integers(0, far, slots.shape)
            planes.append(np.where(slots == len(counts) - 1, outside, low + slots))
        return np.stack(planes, axis=-1).astype(np.int32)

    return draw_symbols
