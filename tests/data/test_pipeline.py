"""Batches: which examples, in which order, where they go on, and how they are padded."""

import json
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vae_jcc.data.array_source import ArraySource, load_into_memory
from vae_jcc.data.errors import CorruptImageError, DataError
from vae_jcc.data.pipeline import TrainIterator, eval_batches, train_iterator
from vae_jcc.data.sources import SourceInfo, open_source

STREAMED, IN_MEMORY = 0, 2**30
EITHER = pytest.mark.parametrize("memory_limit", [STREAMED, IN_MEMORY], ids=["streamed", "in memory"])


def labels(batches: Any, count: int) -> list[list[int]]:
    return [batch["label"].tolist() for batch in islice(batches, count)]


@EITHER
def test_what_a_training_batch_is(numbered: Any, memory_limit: int) -> None:
    with train_iterator(numbered(20), batch_size=8, seed=0, memory_limit=memory_limit) as batches:
        assert batches.batches_per_epoch == 2
        batch = next(batches)
    assert set(batch) == {"image", "label"}
    assert batch["image"].shape == (8, 6, 5, 1) and batch["image"].dtype == np.uint8
    assert batch["label"].shape == (8,) and batch["label"].dtype == np.int32
    np.testing.assert_array_equal(batch["image"][:, 0, 0, 0], batch["label"])


@EITHER
def test_epochs_repeat_nothing_and_differ(numbered: Any, memory_limit: int) -> None:
    with train_iterator(numbered(21), batch_size=4, seed=3, memory_limit=memory_limit) as batches:
        epochs = [sum(labels(batches, 5), []) for _ in range(4)]
    assert all(len(set(epoch)) == 20 for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4
    assert set(sum(epochs, [])) == set(range(21))  # the one left over is another each time


def test_the_seed_decides_alone(numbered: Any) -> None:
    def stream(seed: int, memory_limit: int) -> list[list[int]]:
        with train_iterator(numbered(30), batch_size=4, seed=seed, memory_limit=memory_limit) as batches:
            return labels(batches, 12)

    assert stream(1, STREAMED) == stream(1, IN_MEMORY)
    assert stream(1, IN_MEMORY) != stream(2, IN_MEMORY)


@EITHER
@pytest.mark.parametrize("stop", [0, 1, 5, 7, 13])
def test_resumed_equals_uninterrupted(numbered: Any, memory_limit: int, stop: int) -> None:
    def fresh() -> TrainIterator:
        return train_iterator(numbered(23), batch_size=4, seed=9, memory_limit=memory_limit)

    with fresh() as whole:
        expected = labels(whole, 20)
    with fresh() as first:
        assert labels(first, stop) == expected[:stop]
        state = json.loads(json.dumps(first.get_state()))
    with fresh() as second:
        next(second)  # a place of its own is given up
        second.set_state(state)
        assert labels(second, 20 - stop) == expected[stop:]
        assert second.get_state() == state | {"next_batch": 20}


def test_worker_processes_change_nothing(tmp_path: Path, make_picture: Any) -> None:
    for i in range(11):
        make_picture(tmp_path / f"class{i}" / "0.png", colour=(i, i, i))
    source = open_source(f"folder:{tmp_path}", "train")
    settings: dict[str, Any] = {"image_size": 8, "memory_limit": STREAMED}
    with train_iterator(source, batch_size=4, seed=5, **settings) as alone:
        expected = [(batch["label"].tolist(), batch["image"].copy()) for batch in islice(alone, 6)]
    with train_iterator(source, batch_size=4, seed=5, workers=2, **settings) as first:
        assert labels(first, 3) == [label for label, _ in expected[:3]]
        state = first.get_state()
    with train_iterator(source, batch_size=4, seed=5, workers=2, **settings) as second:
        second.set_state(state)
        for label, image in expected[3:]:
            batch = next(second)
            assert batch["label"].tolist() == label
            np.testing.assert_array_equal(batch["image"], image)
    # Fewer batches than workers.
    (batch,) = eval_batches(source, batch_size=11, workers=2, **settings)
    np.testing.assert_array_equal(batch["label"], load_into_memory(source).labels)
    # What goes wrong in a worker is named here.
    (tmp_path / "class3" / "0.png").write_bytes(b"")
    with pytest.raises(CorruptImageError, match=r"class3/0\.png is empty"):
        list(eval_batches(source, batch_size=4, workers=2, **settings))


@EITHER
def test_shards_part_the_global_batch(numbered: Any, memory_limit: int) -> None:
    def stream(**shard: int) -> list[list[int]]:
        with train_iterator(numbered(30), batch_size=6, seed=1, memory_limit=memory_limit, **shard) as batches:
            return labels(batches, 10)

    shards = [stream(shard_index=i, shard_count=3) for i in range(3)]
    assert all(len(batch) == 2 for shard in shards for batch in shard)
    assert [sum(parts, []) for parts in zip(*shards, strict=True)] == stream()


def test_a_state_may_be_resumed_on_other_shards(numbered: Any) -> None:
    with train_iterator(numbered(30), batch_size=6, seed=1) as one:
        labels(one, 7)
        state, expected = one.get_state(), next(one)["label"].tolist()
    got = []
    for i in range(2):
        with train_iterator(numbered(30), batch_size=6, seed=1, shard_index=i, shard_count=2) as half:
            half.set_state(state)
            got += next(half)["label"].tolist()
    assert got == expected


@EITHER
@pytest.mark.parametrize(("count", "shards"), [(10, 1), (8, 1), (3, 1), (10, 2), (5, 2), (1, 2), (17, 4)])
def test_evaluation_sees_every_example_once(numbered: Any, memory_limit: int, count: int, shards: int) -> None:
    seen, lengths = [], set()
    for i in range(shards):
        batches = eval_batches(
            numbered(count), batch_size=4, memory_limit=memory_limit, shard_index=i, shard_count=shards
        )
        passes = [list(batches), list(batches)]
        for batch in passes[1]:
            assert batch["image"].shape == (4 // shards, 6, 5, 1)
            assert batch["mask"].dtype == np.float32 and batch["label"].dtype == np.int32
            real = batch["mask"] == 1
            assert set(batch["mask"].tolist()) <= {0.0, 1.0}
            assert not batch["image"][~real].any() and not batch["label"][~real].any()
            seen += batch["label"][real].tolist()
            np.testing.assert_array_equal(batch["image"][real, 0, 0, 0], batch["label"][real])
        lengths |= {len(batches), len(passes[0]), len(passes[1])}
        assert batches.num_examples == count
    assert sorted(seen) == list(range(count))
    assert lengths == {-(-count // 4)}


def test_an_abandoned_evaluation_starts_anew(numbered: Any) -> None:
    batches = eval_batches(numbered(10), batch_size=4, memory_limit=STREAMED)
    assert labels(batches, 1) == [[0, 1, 2, 3]]
    assert labels(batches, 9)[0] == [0, 1, 2, 3]


def test_what_fits_is_decoded_once(numbered: Any) -> None:
    source = numbered(10)
    for _ in range(3):
        list(eval_batches(source, batch_size=4, memory_limit=10 * 6 * 5))
    assert source.reads == 10
    list(eval_batches(source, batch_size=4, memory_limit=10 * 6 * 5 - 1))
    assert source.reads == 20


def test_memory_holds_what_the_source_does(numbered: Any) -> None:
    source = numbered(600)
    steps: list[tuple[int, int]] = []
    loaded = load_into_memory(source, on_progress=lambda done, total: steps.append((done, total)))
    assert isinstance(loaded, ArraySource)
    np.testing.assert_array_equal(loaded.labels, np.arange(600))
    np.testing.assert_array_equal(loaded.images[:, 2, 3, 0], np.arange(600) % 256)
    assert loaded.info == source.info and loaded[5]["label"] == 5
    assert steps[-1] == (600, 600) and [done for done, _ in steps] == sorted(done for done, _ in steps)
    assert load_into_memory(source) is loaded and load_into_memory(loaded) is loaded


def test_image_size_and_margin(numbered: Any) -> None:
    with train_iterator(numbered(6, None), batch_size=3, seed=0, image_size=8, margin=2) as batches:
        assert next(batches)["image"].shape == (3, 12, 12, 1)
    (batch,) = eval_batches(numbered(6, None), batch_size=6, image_size=8)
    assert batch["image"].shape == (6, 8, 8, 1)
    np.testing.assert_array_equal(batch["image"][:, 4, 4, 0], np.arange(6))


@pytest.mark.parametrize("memory_limit", [0, 2**20])
def test_evaluation_cuts_its_margin_away(memory_limit: int) -> None:
    """With a margin of 2 around 4 pixels, pictures of 8 are not scaled: their centre is what remains."""
    pixels = np.random.default_rng(5).integers(0, 256, (5, 8, 8, 1), np.uint8)
    info = SourceInfo("grain", "test", 5, 5, tuple("abcde"), 1, (8, 8), "")
    source = ArraySource(info, pixels, np.arange(5, dtype=np.int32))
    batches = eval_batches(source, batch_size=3, image_size=4, margin=2, memory_limit=memory_limit)
    images = np.concatenate([b["image"][b["mask"] > 0] for b in batches])
    np.testing.assert_array_equal(images, pixels[:, 2:6, 2:6])
    with pytest.raises(DataError, match=r"config\.dataset\.eval_margin"):
        eval_batches(source, batch_size=3, margin=2)


def test_refuses_what_cannot_be(numbered: Any) -> None:
    with pytest.raises(DataError, match=r"config\.dataset\.image_size"):
        train_iterator(numbered(6, None), batch_size=3, seed=0)
    with pytest.raises(DataError, match=r"config\.dataset\.margin"):
        train_iterator(numbered(6), batch_size=3, seed=0, margin=2)
    with pytest.raises(DataError, match="do not fill one batch of 8"):
        train_iterator(numbered(6), batch_size=8, seed=0)
    with pytest.raises(DataError, match="does not divide among 2 hosts"):
        eval_batches(numbered(6), batch_size=3, shard_count=2)


@pytest.mark.parametrize("other", [{"seed": 2}, {"batch_size": 5}, {"count": 29}])
def test_a_state_of_another_run_is_refused(numbered: Any, other: dict[str, int]) -> None:
    def fresh(count: int = 30, batch_size: int = 6, seed: int = 1) -> TrainIterator:
        return train_iterator(numbered(count), batch_size=batch_size, seed=seed)

    with fresh() as first, fresh(**other) as second:
        with pytest.raises(DataError, match="resume with the same config and data"):
            second.set_state(first.get_state())


def test_closed_is_closed(numbered: Any) -> None:
    batches = train_iterator(numbered(6), batch_size=3, seed=0, memory_limit=STREAMED)
    next(batches)
    batches.close()
    batches.close()
    with pytest.raises(ValueError, match="closed"):
        next(batches)
