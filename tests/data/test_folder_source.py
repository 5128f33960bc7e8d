"""Folders of pictures: layout, splits, and files that are no pictures."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from vae_jcc.data.errors import CorruptImageError, DataError
from vae_jcc.data.folder_source import FolderSource
from vae_jcc.data.pipeline import eval_batches, train_iterator
from vae_jcc.data.sources import open_source

MakePicture = Callable[..., Path]


@pytest.fixture
def zoo(tmp_path: Path, make_picture: MakePicture) -> Path:
    """Twenty pictures of two classes in three formats."""
    for i in range(10):
        for name in ("cat", "dog"):
            make_picture(tmp_path / name / f"{i}{('.png', '.webp', '.PNG')[i % 3]}", colour=(i, 0, len(name)))
    return tmp_path


def files(source: object) -> list[Path]:
    assert isinstance(source, FolderSource)
    return list(source.paths)


def test_facts_come_from_the_folder(zoo: Path) -> None:
    info = open_source(f"folder:{zoo}", "train").info
    assert (info.num_examples, info.num_classes, info.class_names) == (20, 2, ("cat", "dog"))
    assert (info.channels, info.image_size) == (3, (12, 10))


def test_pictures_and_labels_belong_together(zoo: Path) -> None:
    source = open_source(f"folder:{zoo}", "train")
    for index, path in enumerate(files(source)):
        example = source[index]
        assert source.info.class_names[example["label"]] == path.parent.name
        np.testing.assert_array_equal(example["image"], np.full((12, 10, 3), (int(path.stem), 0, 3)))


def test_slices_are_mixed_repeatable_and_disjoint(zoo: Path) -> None:
    first, again, rest = (
        files(open_source(f"folder:{zoo}", split)) for split in ("train[:60%]", "train[:60%]", "train[60%:]")
    )
    assert first == again
    assert len(first) == 12 and not set(first) & set(rest) and len(set(first + rest)) == 20
    assert {path.parent.name for path in first} == {path.parent.name for path in rest} == {"cat", "dog"}


def test_order_does_not_depend_on_where_the_folder_lies(zoo: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    moved = tmp_path_factory.mktemp("elsewhere") / "zoo"
    zoo.rename(moved)
    names = [path.relative_to(moved) for path in files(open_source(f"folder:{moved}", "train"))]
    moved.rename(zoo)
    assert names == [path.relative_to(zoo) for path in files(open_source(f"folder:{zoo}", "train"))]


def test_split_folders(tmp_path: Path, make_picture: MakePicture) -> None:
    for split, count in (("train", 3), ("val", 2), ("test", 1)):
        for i in range(count):
            make_picture(tmp_path / split / "cat" / "deep" / f"{i}.png")
    make_picture(tmp_path / "train" / "dog" / "0.png")
    make_picture(tmp_path / "train" / ".hidden" / "0.png")
    sizes = {s: len(open_source(f"folder:{tmp_path}", s)) for s in ("train", "validation", "test", "all")}
    assert sizes == {"train": 4, "validation": 2, "test": 1, "all": 7}
    # A class without a picture in this split is still a class.
    assert open_source(f"folder:{tmp_path}", "test").info.class_names == ("cat", "dog")


def test_a_class_may_be_called_train(tmp_path: Path, make_picture: MakePicture) -> None:
    for name in ("train", "bus"):
        make_picture(tmp_path / name / "0.png")
    assert open_source(f"folder:{tmp_path}", "train").info.class_names == ("bus", "train")


def test_grey_stays_grey_and_mixed_is_colour(tmp_path: Path, make_picture: MakePicture) -> None:
    make_picture(tmp_path / "a" / "0.png", mode="L", colour=77)
    grey = open_source(f"folder:{tmp_path}", "train")
    assert grey.info.channels == 1 and grey[0]["image"].shape == (12, 10, 1)
    make_picture(tmp_path / "a" / "1.png")
    assert open_source(f"folder:{tmp_path}", "train").info.channels == 3


def test_different_sizes_need_an_image_size(zoo: Path, make_picture: MakePicture) -> None:
    make_picture(zoo / "cat" / "large.png", size=(30, 40))
    source = open_source(f"folder:{zoo}", "train")
    assert source.info.image_size is None
    with pytest.raises(DataError, match=r"config\.dataset\.image_size"):
        train_iterator(source, batch_size=4, seed=0)
    with pytest.raises(DataError, match=r"config\.dataset\.image_size"):
        eval_batches(source, batch_size=4)
    with train_iterator(source, batch_size=4, seed=0, image_size=8, margin=2) as batches:
        assert next(batches)["image"].shape == (4, 12, 12, 3)
    assert {batch["image"].shape for batch in eval_batches(source, batch_size=4, image_size=8)} == {(4, 8, 8, 3)}


@pytest.mark.parametrize("content", [b"", b"not a picture at all"], ids=["empty", "foreign"])
def test_unreadable_file_stops_the_run_before_it_starts(zoo: Path, content: bytes) -> None:
    (zoo / "dog" / "bad.jpg").write_bytes(content)
    with pytest.raises(CorruptImageError, match=r"dog/bad\.jpg"):
        open_source(f"folder:{zoo}", "train")


def truncate(path: Path) -> None:
    """Leaves a header that reads and pixels that do not."""
    path.write_bytes(path.read_bytes()[:-30])


@pytest.mark.parametrize("memory_limit", [0, 2**30], ids=["streamed", "in memory"])
def test_truncated_picture_is_named_when_it_is_used(zoo: Path, make_picture: MakePicture, memory_limit: int) -> None:
    truncate(make_picture(zoo / "dog" / "short.png"))
    source = open_source(f"folder:{zoo}", "train")
    with pytest.raises(CorruptImageError, match=r"dog/short\.png cannot be decoded"):
        list(eval_batches(source, batch_size=4, memory_limit=memory_limit))


def test_skip_leaves_out_and_counts(zoo: Path, make_picture: MakePicture) -> None:
    before = files(open_source(f"folder:{zoo}", "train"))
    (zoo / "cat" / "empty.jpg").touch()
    (zoo / "dog" / "foreign.webp").write_bytes(b"RIFF but no more")
    truncate(make_picture(zoo / "dog" / "short.png"))
    source = open_source(f"folder:{zoo}", "train", on_corrupt="skip")
    assert files(source) == before
    assert source.info.num_examples == len(source) == 20
    assert sorted(Path(message.split()[0]).name for message in source.skipped) == [
        "empty.jpg", "foreign.webp", "short.png",
    ]  # fmt: skip
    assert sum(int(batch["mask"].sum()) for batch in eval_batches(source, batch_size=8)) == 20


def test_a_corrupt_file_moves_no_other_from_one_slice_to_another(zoo: Path) -> None:
    first, rest = (files(open_source(f"folder:{zoo}", split)) for split in ("train[:10]", "train[10:]"))
    first[0].write_bytes(b"")
    skipping = [files(open_source(f"folder:{zoo}", split, on_corrupt="skip")) for split in ("train[:10]", "train[10:]")]
    assert skipping == [first[1:], rest]


def test_nothing_left_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "0.png").touch()
    with pytest.raises(DataError, match="No picture"):
        open_source(f"folder:{tmp_path}", "train", on_corrupt="skip")


def test_missing_folder_and_split_say_what_is_wanted(zoo: Path) -> None:
    with pytest.raises(DataError, match=r"There is no folder .*nowhere.*<class>/<picture>"):
        open_source(f"folder:{zoo}/nowhere", "train")
    (zoo / "void").mkdir()
    with pytest.raises(DataError, match=r"no JPEG, PNG or WebP files.*<class>/<picture>"):
        open_source(f"folder:{zoo}/void", "train")
    with pytest.raises(DataError, match=r'no split "test"; there are train \(20\)'):
        open_source(f"folder:{zoo}", "test")
