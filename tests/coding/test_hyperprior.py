"""The hyperprior as a codec sees it: its side latent covers any grid; tensors that do not fit are refused."""

import numpy as np
import pytest

from vae_jcc.coding.hyperprior import HyperpriorContext


def make_tensors(seed=0, channels=3, slots=5, features=4, side=2):
    rng = np.random.default_rng(seed)
    layers = {
        "analysis_0": (5, 5, channels, features),
        "analysis_1": (3, 3, features, side),
        "synthesis_0": (3, 3, side, 4 * features),
        "synthesis_1": (3, 3, features, 4 * features),
        "synthesis_2": (1, 1, features, 2 * channels),
    }
    tensors = {
        "base": rng.integers(-99, 0, (channels, slots)).astype(np.int32),
        "positions": np.tile(16 * np.arange(-2, slots - 2), (channels, 1)).astype(np.int32),
        "scales": -np.arange(32 * 9).reshape(9, 32).T.astype(np.int32),
        "side": rng.integers(-99, 0, (side, 15)).astype(np.int32),
    }
    for name, shape in layers.items():
        tensors[f"kernel_{name}"] = rng.integers(-30, 31, shape).astype(np.int8)
        tensors[f"bias_{name}"] = rng.integers(-900, 900, shape[-1]).astype(np.int32)
    return tensors


@pytest.mark.parametrize(("shape", "grid"), [((1, 1), 1), ((4, 4), 1), ((5, 4), 2), ((7, 2), 2), ((9, 5), 6)])
def test_z_has_a_place_for_every_four_by_four_symbols(shape, grid, rng):
    context = HyperpriorContext(make_tensors())
    planes = rng.integers(-40, 41, (3, 3, *shape)).astype(np.int32)
    slots, logits = context.side(planes)
    assert slots.shape == (3, 2 * grid) and logits.shape == (2 * grid, 15)
    assert slots.min() >= 0 and slots.max() <= 14
    assert context.logits(planes).shape == (3, 3, *shape, 5)


def test_the_table_speaks_of_symbols_only():
    tensors = make_tensors()
    tensors["scales"][...] = -1000
    logits = HyperpriorContext(tensors).logits(np.zeros((1, 3, 4, 4), np.int32))
    expected = tensors["base"] - 1000 * (np.arange(5) < 4)
    assert np.array_equal(logits, np.broadcast_to(expected[:, None, None], logits.shape))


@pytest.mark.parametrize(
    ("name", "change", "match"),
    [
        ("positions", lambda x: x[:, :-1], "do not fit"),
        ("scales", lambda x: x[:-1], "do not fit"),
        ("scales", lambda x: x[:, :0], "do not fit"),
        ("scales", lambda x: x * 2**16, "do not fit"),
        ("side", lambda x: x[:, :-1], "do not fit"),
        ("side", lambda x: x[:-1], "do not fit"),
        ("kernel_synthesis_1", lambda x: x[:, :, :-1], "do not fit"),
        ("kernel_synthesis_2", lambda x: x[0], "is none of a hyperprior"),
        ("kernel_analysis_0", lambda x: x[:4, :4], "is none of a hyperprior"),
        ("bias_analysis_1", lambda x: x[:-1], "bias of shape"),
        ("bias_synthesis_0", lambda x: x + 2**24, "exact"),
    ],
)
def test_damaged_tensors_are_refused(name, change, match):
    tensors = make_tensors()
    with pytest.raises(ValueError, match=match):
        HyperpriorContext(tensors | {name: change(tensors[name])})
    del tensors[name]
    with pytest.raises(ValueError, match=name):
        HyperpriorContext(tensors)
