"""Batches by number, with Grain behind them and without."""

import importlib.util
import sys
from itertools import islice
from typing import Any

import numpy as np
import pytest

from vae_jcc.data import stream
from vae_jcc.data.pipeline import train_iterator
from vae_jcc.data.sources import open_source


@pytest.mark.parametrize("in_memory", [True, False])
def test_every_number_once_and_in_order(in_memory: bool) -> None:
    batches = stream.batch_stream(lambda n: n * n, range(3, 40), 0, in_memory)
    assert list(batches) == [n * n for n in range(3, 40)]
    stream.close_stream(batches)


def test_what_goes_wrong_in_a_thread_arrives(numbered: Any) -> None:
    def load(number: int) -> int:
        if number == 4:
            raise ValueError("batch four")
        return number

    batches = stream.batch_stream(load, range(10), 0, False)
    with pytest.raises(ValueError, match="batch four"):
        list(batches)
    stream.close_stream(batches)


def test_data_in_memory_needs_no_grain(monkeypatch: pytest.MonkeyPatch) -> None:
    source = open_source("bundled:fashion_mnist", "test[:50]")

    def batches() -> list[dict[str, np.ndarray]]:
        with train_iterator(source, batch_size=8, seed=2) as iterator:
            return list(islice(iterator, 9))

    expected = batches()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setitem(sys.modules, "grain", None)  # importing it would fail
    for with_grain, without in zip(expected, batches(), strict=True):
        np.testing.assert_array_equal(with_grain["image"], without["image"])
        np.testing.assert_array_equal(with_grain["label"], without["label"])
