"""The slice of Fashion-MNIST that ships with the package is what its README says."""

import hashlib
import re
from pathlib import Path

import numpy as np
import pytest

import vae_jcc.data
from vae_jcc.data.array_source import ArraySource
from vae_jcc.data.errors import DataError
from vae_jcc.data.sources import open_source

FOLDER = Path(vae_jcc.data.__file__).parent / "bundled" / "fashion_mnist"


def open_slice(split: str) -> ArraySource:
    source = open_source("bundled:fashion_mnist", split)
    assert isinstance(source, ArraySource)
    return source


@pytest.mark.parametrize(("split", "count"), [("train", 10_000), ("test", 2_000)])
def test_counts_shape_and_balance(split: str, count: int) -> None:
    source = open_slice(split)
    assert source.info.num_examples == len(source) == count
    assert source.images.shape == (count, 28, 28, 1) and source.images.dtype == np.uint8
    assert source.labels.dtype == np.int32
    assert np.bincount(source.labels).tolist() == [count // 10] * 10
    assert (source.info.channels, source.info.image_size, source.info.num_classes) == (1, (28, 28), 10)
    assert source.info.class_names[9] == "Ankle boot" and source.info.note


@pytest.mark.parametrize("split", ["train[:95%]", "train[95%:]", "test[:100]"])
def test_slices_are_balanced_too(split: str) -> None:
    assert len(set(np.bincount(open_slice(split).labels, minlength=10).tolist())) == 1


def test_no_picture_of_the_test_split_is_in_the_training_split() -> None:
    train, test = ({image.tobytes() for image in open_slice(split).images} for split in ("train", "test"))
    assert len(train) > 9_990 and not train & test


def test_content_is_what_the_readme_says() -> None:
    stated = re.findall(r"\| (train|test) (images|labels) \| ([0-9a-f]{64}) \|", (FOLDER / "README.md").read_text())
    assert len(stated) == 4
    for split, key, digest in stated:
        with np.load(FOLDER / f"{split}.npz", allow_pickle=False) as archive:
            assert hashlib.sha256(archive[key].tobytes()).hexdigest() == digest


def test_licence_and_size() -> None:
    licence = (FOLDER / "LICENSE").read_text()
    assert "MIT License" in licence and "Zalando" in licence
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) <= 8 * 2**20


def test_parts_are_joined_in_the_order_asked_for() -> None:
    joined = open_slice("test[:3]+train[5:7]")
    expected = np.concatenate([open_slice("test").images[:3], open_slice("train").images[5:7]])
    np.testing.assert_array_equal(joined.images, expected)


def test_unknown_names_and_splits() -> None:
    with pytest.raises(DataError, match="bundled:fashion_mnist"):
        open_source("bundled:mnist", "train")
    with pytest.raises(DataError, match="no split"):
        open_source("bundled:fashion_mnist", "validation")
