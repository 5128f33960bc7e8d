"""Opening sources: what is loaded, and what a wrong name says."""

import subprocess
import sys

import pytest

from vae_jcc.data.errors import DataError
from vae_jcc.data.sources import open_source, read_examples


def test_importing_and_using_sources_loads_no_heavy_framework() -> None:
    code = """
import sys
from vae_jcc.data.sources import open_source
from vae_jcc.data.pipeline import train_iterator
assert not {"tensorflow", "jax", "grain", "tensorflow_datasets"} & set(sys.modules), "at import"
source = open_source("bundled:fashion_mnist", "test")
assert not {"tensorflow", "jax", "tensorflow_datasets"} & set(sys.modules), "on opening a bundled source"
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)


def test_on_corrupt_has_two_values() -> None:
    with pytest.raises(DataError, match='on_corrupt is "raise" or "skip", not "ignore"'):
        open_source("bundled:fashion_mnist", "test", on_corrupt="ignore")  # type: ignore[arg-type]


def test_read_examples_takes_the_quick_way_where_there_is_one() -> None:
    class Quick:
        def __getitem__(self, index: int) -> dict[str, int]:
            raise AssertionError("one by one")

        def __getitems__(self, indices: list[int]) -> list[dict[str, int]]:
            return [{"label": index} for index in indices]

    assert read_examples(Quick(), [3, 1]) == [{"label": 3}, {"label": 1}]  # type: ignore[arg-type]
