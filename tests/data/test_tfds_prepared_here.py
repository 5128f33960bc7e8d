"""TensorFlow Datasets' layout, written into a temporary folder: what any machine can test of reading it."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import pytest
from PIL import Image

from vae_jcc.data.errors import CorruptImageError, DataError
from vae_jcc.data.pipeline import eval_batches
from vae_jcc.data.sources import open_source

_FEATURES = "tensorflow_datasets.core.features."
LABEL = {"pythonClassName": _FEATURES + "class_label_feature.ClassLabel", "classLabel": {"numClasses": "3"}}
Prepare = Callable[..., str]


def picture(channels: int = 3, encoding: str = "png") -> dict[str, Any]:
    size = {"dimensions": ["4", "5", str(channels)]}
    content = {"dtype": "uint8", "shape": size} | ({"encodingFormat": encoding} if encoding else {})
    return {"pythonClassName": _FEATURES + "image_feature.Image", "image": content}


def encode(value: int, image_format: str = "PNG", mode: str = "RGB", **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, (5, 4), (value,) * len(mode) if len(mode) > 1 else value).save(buffer, image_format, **options)
    return buffer.getvalue()


def record(image: bytes, label: int) -> bytes:
    from tensorflow_datasets.proto import tf_example_pb2

    example = tf_example_pb2.Example()
    example.features.feature["image"].bytes_list.value.append(image)
    for key in ("label", "other"):
        example.features.feature[key].int64_list.value.append(label)
    return bytes(example.SerializeToString())


RECORDS = [record(encode(10 * i), i % 3) for i in range(6)]


@pytest.fixture
def prepare(tmp_path: Path) -> Prepare:
    """Writes the data set tiny_set with the split train, and returns its TFDS folder."""
    from array_record.python.array_record_module import ArrayRecordWriter

    def write(
        records: list[bytes] = RECORDS,
        features: dict[str, Any] | None = None,
        file_format: str = "array_record",
        supervised: tuple[str, str] | None = None,
    ) -> str:
        folder = tmp_path / "tiny_set" / "1.0.0"
        folder.mkdir(parents=True)
        writer = ArrayRecordWriter(str(folder / f"tiny_set-train.{file_format}-00000-of-00001"), "group_size:1")
        for data in records:
            writer.write(data)
        writer.close()
        kinds = {"image": picture(), "label": LABEL} if features is None else features
        features_json = {
            "pythonClassName": _FEATURES + "features_dict.FeaturesDict",
            "featuresDict": {"features": kinds},
        }
        info = {
            "name": "tiny_set",
            "version": "1.0.0",
            "fileFormat": file_format,
            "moduleName": "tiny_set",
            "splits": [
                {
                    "name": "train",
                    "shardLengths": [str(len(records))],
                    "numBytes": "1",
                    "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
                }
            ],
        }
        if supervised is not None:
            info["supervisedKeys"] = {"tuple": {"items": [{"featureKey": key} for key in supervised]}}
        (folder / "features.json").write_text(json.dumps(features_json))
        (folder / "dataset_info.json").write_text(json.dumps(info))
        for key in kinds:
            (folder / f"{key}.labels.txt").write_text("ash\nbirch\ncedar\n")
        return str(tmp_path)

    return write


def test_facts_pictures_and_labels(prepare: Prepare) -> None:
    source = open_source("tiny_set", "train", data_dir=prepare())
    info = source.info
    assert (info.num_examples, info.num_classes, info.class_names) == (6, 3, ("ash", "birch", "cedar"))
    assert (info.channels, info.image_size, info.note) == (3, (4, 5), "")
    for i in range(6):
        example = source[i]
        assert example["label"] == i % 3
        np.testing.assert_array_equal(example["image"], np.full((4, 5, 3), 10 * i, np.uint8))
    with pytest.raises(IndexError):
        source[6]


def test_splits_slice_and_add_up(prepare: Prepare) -> None:
    folder = prepare()
    for split, expected in (("train[4:]+train[:1]", [40, 50, 0]), ("train[:50%]", [0, 10, 20])):
        source = open_source("tiny_set", split, data_dir=folder)
        assert [int(source[i]["image"][0, 0, 0]) for i in range(len(source))] == expected


def test_grey_has_one_channel(prepare: Prepare) -> None:
    records = [record(encode(200, mode="L"), 1)]
    source = open_source("tiny_set", "train", data_dir=prepare(records, {"image": picture(1), "label": LABEL}))
    assert source.info.channels == 1
    np.testing.assert_array_equal(source[0]["image"], np.full((4, 5, 1), 200, np.uint8))


def test_a_source_can_be_sent_to_another_process(prepare: Prepare) -> None:
    source = open_source("tiny_set", "train", data_dir=prepare())
    data = cloudpickle.dumps(source)
    assert len(data) < 50_000  # the way to the pictures travels, not the pictures
    arrived = cloudpickle.loads(data)
    assert arrived.info == source.info and arrived[4]["label"] == 1


@pytest.mark.parametrize(("encoding", "note"), [("", "JPEG-83 copy"), ("png", "JPEG-83 copy"), ("jpeg", "")])
def test_jpeg_is_noted_where_it_was_not_promised(prepare: Prepare, encoding: str, note: str) -> None:
    records = [record(encode(90, "JPEG", quality=83), 0)]
    features = {"image": picture(encoding=encoding), "label": LABEL}
    assert open_source("tiny_set", "train", data_dir=prepare(records, features)).info.note == note


BROKEN = {
    "empty": record(b"", 0),
    "cut": record(encode(9)[:-30], 0),
    "foreign": record(b"\xff\xd8 not a picture", 0),
    "other size": record(encode(9).replace(b"\0\0\0\x05\0\0\0\x04", b"\0\0\0\x04\0\0\0\x05"), 0),
    "not an example": b"\xff\xff\xff\xff",
}


@pytest.mark.parametrize("where", [0, 3])
@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_record_is_named_or_skipped(prepare: Prepare, broken: bytes, where: int) -> None:
    folder = prepare(RECORDS[:where] + [broken] + RECORDS[where:])
    source = open_source("tiny_set", "train", data_dir=folder)
    for read in (lambda: source[where], lambda: list(eval_batches(source, batch_size=7))):
        with pytest.raises(CorruptImageError, match=f'Record {where} of "tiny_set", split "train",'):
            read()
    skipping = open_source("tiny_set", "train", data_dir=folder, on_corrupt="skip")
    assert len(skipping) == skipping.info.num_examples == 6
    assert len(skipping.skipped) == 1 and f"Record {where} " in skipping.skipped[0]
    (batch,) = eval_batches(skipping, batch_size=6)
    assert batch["image"][:, 0, 0, 0].tolist() == [0, 10, 20, 30, 40, 50]
    assert batch["label"].tolist() == [0, 1, 2, 0, 1, 2]


def test_nothing_left_is_an_error(prepare: Prepare) -> None:
    folder = prepare([BROKEN["empty"]])
    with pytest.raises(DataError, match='No image of "tiny_set"'):
        open_source("tiny_set", "train", data_dir=folder, on_corrupt="skip")


def test_the_class_is_the_feature_called_label_or_the_supervised_one(prepare: Prepare) -> None:
    features = {"image": picture(), "label": LABEL, "other": LABEL}
    assert open_source("tiny_set", "train", data_dir=prepare(features=features))[2]["label"] == 2


def test_supervised_keys_come_first(prepare: Prepare) -> None:
    records = [record(encode(1), 2)]
    features = {"image": picture(), "label": LABEL, "other": LABEL}
    folder = prepare(records, features, supervised=("image", "other"))
    source = open_source("tiny_set", "train", data_dir=folder)
    assert source.label_key == "other" and source[0]["label"] == 2  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ({"image": picture()}, "classes: none"),
        ({"label": LABEL}, "pictures: none"),
        ({"image": picture(), "kind": LABEL, "other": LABEL}, "classes: kind, other"),
    ],
)
def test_not_a_data_set_of_labelled_images(prepare: Prepare, features: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=f"not a data set of labelled images.*{message}"):
        open_source("tiny_set", "train", data_dir=prepare(features=features))


def test_a_format_without_random_access_says_how_to_prepare_another(prepare: Prepare) -> None:
    with pytest.raises(
        DataError, match=r"as tfrecord, which has no random access(.|\n)*data\.prepare tiny_set --data_dir"
    ):
        open_source("tiny_set", "train", data_dir=prepare(file_format="tfrecord"))
