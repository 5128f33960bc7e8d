"""The factorized prior and its tables against tensorflow-compression's (tools/make_tfc_golden.py), same parameters."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vae_jcc.coding import LatentCodec
from vae_jcc.entropy.factorized import bin_bits, quantization_offset
from vae_jcc.entropy.tabulate import as_float32, prior_layers, tabulate


@pytest.fixture(scope="module")
def golden():
    """What TFC says, as arrays."""
    content = json.loads((Path(__file__).parent / "tfc_golden.json").read_text())
    params = {name: np.array(value) for name, value in content.pop("parameters").items()}
    return {name: np.array(value) for name, value in content.items()} | {"parameters": params}


@pytest.fixture(scope="module")
def tables(golden):
    """Our tables, at TFC's offsets."""
    return tabulate(golden["parameters"], golden["offset"])


def test_bits_are_tfcs(golden):
    """Channels from wide to narrow, from far below to far above the median: 0.002 to 328 bits."""
    layers, y = prior_layers(golden["parameters"]), golden["y"]
    assert golden["bits"].min() < 0.01 and golden["bits"].max() > 100
    np.testing.assert_allclose(bin_bits(as_float32(layers), jnp.asarray(y, jnp.float32)), golden["bits"], rtol=1e-5)
    with jax.enable_x64(True):
        exact = [{name: jnp.asarray(value) for name, value in layer.items()} for layer in layers]
        np.testing.assert_allclose(bin_bits(exact, jnp.asarray(y)), golden["bits"], rtol=1e-12)


def test_offsets_are_tfcs(golden):
    """TFC searches the median by gradient steps, so only nearly, and takes its distance to the nearest integer."""
    median = np.asarray(quantization_offset(as_float32(prior_layers(golden["parameters"]))))
    np.testing.assert_allclose(median - np.round(median), golden["offset"], atol=1e-4)


def test_tables_are_tfcs(golden, tables):
    """Each probability to two steps of TFC's 16 bits; what only one of the two has in its support is as unlikely."""
    rows = np.split(golden["cdf"], np.flatnonzero(golden["cdf"] == -16)[1:])
    assert len(rows) == tables.channels
    for row, first, low, counts in zip(rows, golden["cdf_offset"], tables.minima, tables.counts, strict=True):
        theirs = dict(enumerate(np.diff(row[1:-1]) / 2**16, first))  # the last slot is the escape
        ours = dict(enumerate(counts[:-1] / 2**24, low))
        assert len(ours) > 2 and abs(len(theirs) - len(ours)) <= 2
        for symbol in theirs.keys() | ours.keys():
            assert abs(theirs.get(symbol, 0.0) - ours.get(symbol, 0.0)) <= 2 / 2**16


def test_payloads_are_as_long_as_tfcs(golden, tables):
    """The same symbols, coded by either with its own tables of the same prior."""
    payloads = LatentCodec(tables).encode_batch(golden["symbols"].astype(np.int32))
    assert sum(map(len, payloads)) == pytest.approx(golden["payload_bytes"].sum(), rel=0.005)
