"""Pictures of random pixels: as many as asked for, all different, always the same."""

import cloudpickle
import numpy as np
import pytest

from vae_jcc.data.errors import DataError
from vae_jcc.data.pipeline import eval_batches, train_iterator
from vae_jcc.data.sources import open_source


def test_facts_come_from_the_name() -> None:
    info = open_source("synthetic:12x9x3:45", "train").info
    assert (info.num_examples, info.num_classes, info.channels, info.image_size) == (45, 10, 3, (12, 9))
    assert len(info.class_names) == 10 and info.note
    for split, count in (("validation", 5), ("test", 5), ("train[:20%]", 9), ("all", 55)):
        assert len(open_source("synthetic:12x9x3:45", split)) == count


def test_pictures_differ_and_are_the_same_again() -> None:
    source, again = (open_source("synthetic:6x5x1:300", "all") for _ in range(2))
    pictures = [source[i]["image"] for i in range(len(source))]
    assert len({picture.tobytes() for picture in pictures}) == 360
    assert {picture.shape for picture in pictures} == {(6, 5, 1)}
    assert np.bincount([source[i]["label"] for i in range(360)]).tolist() == [36] * 10
    for i in (0, 7, 359):
        np.testing.assert_array_equal(again[i]["image"], pictures[i])


def test_a_slice_is_the_same_pictures() -> None:
    whole, part = (open_source("synthetic:6x5x1:100", split) for split in ("train", "train[40:60]"))
    np.testing.assert_array_equal(part[3]["image"], whole[43]["image"])
    assert part[3]["label"] == whole[43]["label"]


def test_a_million_pictures_need_no_memory_of_their_own() -> None:
    source = open_source("synthetic:224x224x3:1281167", "train")
    assert len(cloudpickle.dumps(source.block)) < 2 * 2**20  # type: ignore[attr-defined]
    with train_iterator(source, batch_size=4, seed=0) as batches:
        assert next(batches)["image"].shape == (4, 224, 224, 3)


def test_evaluation_sees_every_picture_once() -> None:
    source = open_source("synthetic:8x8x3:10", "train")
    for memory_limit in (0, 2**30):
        batches = list(eval_batches(source, batch_size=4, memory_limit=memory_limit))
        labels = np.concatenate([b["label"][b["mask"] > 0] for b in batches])
        assert sorted(labels.tolist()) == list(range(10))


@pytest.mark.parametrize(
    "name", ["", "8x8:10", "8x8x3", "8x8x2:10", "0x8x3:10", "8x8x3:0", "8x8x3:ten", "8x8x3:10 ", "8x8x3:900000000"]
)
def test_bad_names_say_how_to_write_one(name: str) -> None:
    with pytest.raises(DataError, match=r"no made-up data set: write synthetic:HEIGHTxWIDTHxCHANNELS:EXAMPLES"):
        open_source(f"synthetic:{name}", "train")


def test_unknown_split() -> None:
    with pytest.raises(DataError, match="no split"):
        open_source("synthetic:8x8x3:10", "dev")
