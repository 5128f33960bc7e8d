"""Preparing TFDS data sets: two tiny ones are defined here, one of them from an archive that is given by hand."""

import fcntl
import hashlib
import importlib.util
import io
import shutil
import tarfile
from collections import namedtuple
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets as tfds

from vae_jcc.data import prepare as prepare_module
from vae_jcc.data.errors import DataError
from vae_jcc.data.prepare import main, prepare
from vae_jcc.data.sources import open_source

FEATURES = {
    "image": tfds.features.Tensor(shape=(4, 5, 3), dtype=np.uint8),  # features.Image needs TensorFlow to write
    "label": tfds.features.ClassLabel(num_classes=3),
}
ARCHIVE = "tiny_pictures.tar"


def example(i: int) -> dict[str, Any]:
    return {"image": np.full((4, 5, 3), i, np.uint8), "label": i % 3}


class TinyGenerated(tfds.core.GeneratorBasedBuilder):
    """Six training and two test pictures, from nowhere; `fails` makes it stop in the midst."""

    VERSION = tfds.core.Version("1.0.0")
    fails = False

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(FEATURES))

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        return {"train": self._generate_examples(6), "test": self._generate_examples(2)}

    def _generate_examples(self, count: int) -> Any:
        for i in range(count):
            if self.fails and i == 3:
                raise OSError("the line is dead")
            yield i, example(i)


class TinyByHand(tfds.core.GeneratorBasedBuilder):
    """As many pictures as the archive has members."""

    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = f"manual_dir should contain {ARCHIVE}, to be had from its owner."
    url_infos: Any = {}

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(FEATURES))

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        return {"train": self._generate_examples(Path(dl_manager.manual_dir) / ARCHIVE)}

    def _generate_examples(self, path: Path) -> Any:
        with tarfile.open(path) as archive:
            for i, _ in enumerate(archive.getmembers()):
                yield i, example(i)


@pytest.fixture(autouse=True)
def with_tensorflow(monkeypatch: pytest.MonkeyPatch) -> None:
    """What these data sets hold can be written without it."""
    monkeypatch.setattr(prepare_module, "_require_tensorflow", lambda name: None)


@pytest.fixture
def archives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the archive, whose size and checksum TFDS knows."""
    folder = tmp_path / "by hand"
    folder.mkdir()
    with tarfile.open(folder / ARCHIVE, "w") as archive:
        for i in range(4):
            archive.addfile(tarfile.TarInfo(f"{i}.txt"), io.BytesIO())
    data = (folder / ARCHIVE).read_bytes()
    info = namedtuple("info", "size checksum")(len(data), hashlib.sha256(data).hexdigest())
    monkeypatch.setattr(TinyByHand, "url_infos", {f"http://owner.example/{ARCHIVE}": info})
    return folder


def run(tmp_path: Path, name: str = "tiny_generated", **options: Any) -> tuple[dict[str, int], str]:
    lines: list[str] = []
    counts = prepare(name, data_dir=str(tmp_path / "tfds"), say=lines.append, **options)
    return counts, "\n".join(lines)


def test_a_data_set_becomes_ready_and_is_recognised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counts, said = run(tmp_path)
    assert counts == {"train": 6, "test": 2}
    assert "GiB are free" in said and "is ready" in said
    source = open_source("tiny_generated", "train", data_dir=str(tmp_path / "tfds"))
    assert sorted((s["image"].max(), s["label"]) for s in (source[i] for i in range(6))) == [
        (i, i % 3) for i in range(6)
    ]
    monkeypatch.setattr(TinyGenerated, "download_and_prepare", None)  # calling it would fail
    again, said = run(tmp_path)
    assert again == counts and said.startswith('"tiny_generated" is ready')


def test_what_failed_can_be_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TinyGenerated, "fails", True)
    with pytest.raises(DataError, match=r'"tiny_generated" could not be prepared: .*the line is dead.*goes on'):
        run(tmp_path)
    monkeypatch.setattr(TinyGenerated, "fails", False)
    assert run(tmp_path)[0] == {"train": 6, "test": 2}


def test_what_a_killed_run_left_is_removed(tmp_path: Path) -> None:
    parent = tmp_path / "tfds" / "tiny_generated"
    left = parent / "incomplete.A1B2C3_1.0.0"
    left.mkdir(parents=True)
    (left / "tiny_generated-train.array_record-00000-of-00001").write_bytes(b"half")
    other = parent / "incomplete.A1B2C3_2.0.0"
    other.mkdir()
    counts, said = run(tmp_path)
    assert counts == {"train": 6, "test": 2} and "left unfinished" in said
    assert not left.exists() and other.exists()


def test_two_do_not_prepare_at_a_time(tmp_path: Path) -> None:
    (tmp_path / "tfds").mkdir()
    with (tmp_path / "tfds" / ".prepare-tiny_generated-1.0.0.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(DataError, match="Another process is preparing"):
            run(tmp_path)
    assert run(tmp_path)[0] == {"train": 6, "test": 2}


@pytest.mark.parametrize("damage", ["gone", "cut", "fewer", "no description"])
def test_a_damaged_data_set_is_noticed(damage: str, tmp_path: Path) -> None:
    from array_record.python.array_record_module import ArrayRecordWriter

    run(tmp_path)
    folder = tmp_path / "tfds" / "tiny_generated" / "1.0.0"
    (file,) = folder.glob("*-train.array_record*")
    if damage == "gone":
        file.unlink()
    elif damage == "cut":
        file.write_bytes(file.read_bytes()[:100])
    elif damage == "fewer":
        writer = ArrayRecordWriter(str(file), "group_size:1")
        writer.write(b"one")
        writer.close()
    else:
        (folder / "dataset_info.json").unlink()
    with pytest.raises(DataError, match=r"remove the folder .*tiny_generated/1\.0\.0 and prepare"):
        run(tmp_path)
    shutil.rmtree(folder)
    assert run(tmp_path)[0] == {"train": 6, "test": 2}


def test_archives_given_by_hand(tmp_path: Path, archives: Path) -> None:
    counts, said = run(tmp_path, "tiny_by_hand", archives=str(archives))
    assert counts == {"train": 4}
    assert "Needed: " in said and "Verifying the SHA-256" in said


def test_bad_archives_are_named_before_anything_is_written(tmp_path: Path, archives: Path) -> None:
    with pytest.raises(DataError, match=r"--archives DIR\. TFDS says: .*from its owner"):
        run(tmp_path, "tiny_by_hand")
    with pytest.raises(DataError, match=r"no folder /nowhere"):
        run(tmp_path, "tiny_by_hand", archives="/nowhere")
    file = archives / ARCHIVE
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + b"!")
    with pytest.raises(DataError, match=rf"{ARCHIVE} is damaged"):
        run(tmp_path, "tiny_by_hand", archives=str(archives))
    file.write_bytes(whole[:-1])
    with pytest.raises(DataError, match=rf"{ARCHIVE} has {len(whole) - 1} bytes, not {len(whole)}"):
        run(tmp_path, "tiny_by_hand", archives=str(archives))
    file.unlink()
    with pytest.raises(DataError, match=rf"lacks {ARCHIVE}"):
        run(tmp_path, "tiny_by_hand", archives=str(archives))
    assert not list((tmp_path / "tfds").glob("*/*"))


def test_too_small_a_disk_is_refused_first(tmp_path: Path, archives: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(DataError, match=r"tfds lacks \d+\.\d GiB"):
        run(tmp_path, "tiny_by_hand", archives=str(archives))
    # Of a data set with several configurations TFDS only knows what all need together: stated, not enforced.
    builder = tfds.builder("imagenette/160px-v2", data_dir=str(tmp_path))
    lines: list[str] = []
    prepare_module._check_disk(builder, tmp_path, {}, lines.append)
    assert lines[0].startswith("Needed: at most ")
    with pytest.raises(DataError, match="lacks 0.5 GiB"):
        prepare_module._check_disk(tfds.builder("cifar10", data_dir=str(tmp_path)), tmp_path, {}, lines.append)


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["tiny_generated", "--data_dir", str(tmp_path)])
    assert "train 6, test 2." in capsys.readouterr().out
    with pytest.raises(SystemExit, match='DataError: TensorFlow Datasets has no data set "tiny_gone"'):
        main(["tiny_gone", "--data_dir", str(tmp_path)])


def test_without_tensorflow_the_cure_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"needs TensorFlow .*: pip install tensorflow$"):
        run(tmp_path)
    assert not (tmp_path / "tfds").exists()
