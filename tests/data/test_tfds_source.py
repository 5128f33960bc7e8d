"""TensorFlow Datasets, read without TensorFlow."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vae_jcc.data.errors import CorruptImageError, DataError
from vae_jcc.data.pipeline import eval_batches
from vae_jcc.data.sources import open_source
from vae_jcc.data.tfds_source import TfdsSource, open_tfds


def test_cifar10(tfds_folder: str) -> None:
    source = open_source("cifar10", "train[95%:]", data_dir=tfds_folder)
    info = source.info
    assert (info.num_examples, info.num_classes, info.channels, info.image_size) == (2500, 10, 3, (32, 32))
    assert info.class_names[:2] == ("airplane", "automobile")
    assert len(open_source("cifar10", "test", data_dir=tfds_folder)) == 10_000
    example = source[7]
    assert example["image"].shape == (32, 32, 3) and example["image"].dtype == np.uint8
    again = source.__getitems__([6, 7])[1]  # type: ignore[attr-defined]
    np.testing.assert_array_equal(again["image"], example["image"])
    assert again["label"] == example["label"] in range(10)


def test_a_slice_is_the_same_pictures(tfds_folder: str) -> None:
    whole = open_source("cifar10", "test", data_dir=tfds_folder)
    part = open_source("cifar10", "test[100:110]", data_dir=tfds_folder)
    np.testing.assert_array_equal(part[3]["image"], whole[103]["image"])


def test_a_jpeg_copy_of_a_lossless_data_set_says_so(tfds_folder: str) -> None:
    assert open_source("cifar10", "test", data_dir=tfds_folder).info.note in ("", "JPEG-75 copy")
    # Imagenette is published as JPEG: nothing to say.
    assert open_source("imagenette/160px-v2", "train", data_dir=tfds_folder).info.note == ""


def test_imagenette_through_the_pipeline(tfds_folder: str) -> None:
    source = open_source("imagenette/160px-v2", "validation[:20]", data_dir=tfds_folder)
    assert (len(source), source.info.channels, source.info.image_size) == (20, 3, None)
    shapes = {source[i]["image"].shape for i in range(20)}
    assert all(min(shape[:2]) >= 160 and shape[2] == 3 for shape in shapes)
    (batch,) = eval_batches(source, batch_size=20, image_size=64)
    assert batch["image"].shape == (20, 64, 64, 3)
    assert batch["label"].tolist() == [source[i]["label"] for i in range(20)]


def test_the_environment_names_the_folder(tfds_folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TFDS_DATA_DIR", tfds_folder)
    assert len(open_source("cifar10", "test[:1%]")) == 100


def test_reading_loads_no_tensorflow(tfds_folder: str) -> None:
    code = f"""
import sys
from vae_jcc.data.sources import open_source
open_source("cifar10", "test[:4]", data_dir={tfds_folder!r})[0]
assert "tensorflow" not in sys.modules and "jax" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)


def test_missing_data_set_says_which_command_prepares_it(tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        open_source("cifar100", "train", data_dir=str(tmp_path))
    message = str(error.value)
    assert f'The data set "cifar100" is not prepared in {tmp_path}' in message
    command = message.splitlines()[-1].strip()
    assert command == f"python -m vae_jcc.data.prepare cifar100 --data_dir {tmp_path}"


def test_unknown_name_says_what_names_look_like(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r'no data set "cifar11".*"cifar10".*"folder:DIR"'):
        open_source("cifar11", "train", data_dir=str(tmp_path))


def test_unknown_split_lists_the_splits(tfds_folder: str) -> None:
    with pytest.raises(DataError, match=r'no split "validation"; there are train \(50000\), test \(10000\)'):
        open_source("cifar10", "validation", data_dir=tfds_folder)


class DamagedRecords:
    """Records 3 and 5 of another list cannot be used: one is cut, one is empty."""

    def __init__(self, records: Any) -> None:
        self.records = records

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> dict[str, Any]:
        record = dict(self.records[index])
        if index in (3, 5):
            record["image"] = record["image"][:200] if index == 3 else b""
        return record

    def __getitems__(self, indices: list[int]) -> list[dict[str, Any]]:
        return [self[index] for index in indices]


@pytest.fixture
def damaged(tfds_folder: str, monkeypatch: pytest.MonkeyPatch) -> str:
    from vae_jcc.data import tfds_source

    intact = tfds_source._open_records
    monkeypatch.setattr(tfds_source, "_open_records", lambda *arguments: DamagedRecords(intact(*arguments)))
    return tfds_folder


def test_corrupt_record_is_named(damaged: str) -> None:
    source = open_tfds("cifar10", "test[:10]", data_dir=damaged)
    with pytest.raises(CorruptImageError, match=r'Record 3 of "cifar10", split "test\[:10\]", cannot be decoded'):
        list(eval_batches(source, batch_size=10))
    with pytest.raises(CorruptImageError, match="Record 5 .* is empty"):
        source[5]


def test_corrupt_records_are_skipped_and_counted(damaged: str, tfds_folder: str) -> None:
    source = open_tfds("cifar10", "test[:10]", data_dir=damaged, on_corrupt="skip")
    assert len(source) == source.info.num_examples == 8
    assert len(source.skipped) == 2 and "Record 3 " in source.skipped[0] and "Record 5 " in source.skipped[1]
    (batch,) = eval_batches(source, batch_size=8)
    intact = replace(source, records=source.records.records)
    assert batch["label"].tolist() == [intact.__getitem__(i)["label"] for i in range(8)]
    np.testing.assert_array_equal(batch["image"][4], source[4]["image"])


def test_a_split_without_labels_is_refused(tfds_folder: str) -> None:
    source = open_tfds("cifar10", "test[:4]", data_dir=tfds_folder)
    assert isinstance(source, TfdsSource)

    class Unlabelled(DamagedRecords):
        def __getitem__(self, index: int) -> dict[str, Any]:
            return self.records[index] | {"label": -1}

    with pytest.raises(DataError, match="without labels"):
        replace(source, records=Unlabelled(source.records))[0]
