"""TensorFlow Datasets, read as ArrayRecord without TensorFlow.

TFDS finds the records and parses them; the pictures are decoded here (images.py), so that a bad
one can be named and pixels do not depend on which decoders are installed.
"""

import io
import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vae_jcc.data.crop import Crop
from vae_jcc.data.errors import CorruptImageError, DataError
from vae_jcc.data.images import decode_image, resized_crop
from vae_jcc.data.sources import Example, OnCorrupt, SourceInfo
from vae_jcc.data.splits import SplitRange, resolve_split
from vae_jcc.data.verify import sort_out_corrupt


@dataclass(frozen=True, eq=False)
class TfdsSource:
    """One split of a prepared TFDS data set.

    Attributes:
        info: as in every source.
        records: TFDS's data source of the split, whose images are still encoded.
        image_key: the feature that holds the picture.
        label_key: the feature that holds the class.
        kept: indices of the records in use, int64 [N]; None where all are.
        skipped: messages for the records left out.
    """

    info: SourceInfo
    records: Any
    image_key: str
    label_key: str
    kept: np.ndarray | None = None
    skipped: tuple[str, ...] = ()

    def __len__(self) -> int:
        return self.info.num_examples

    def __getitem__(self, index: int) -> Example:
        if not 0 <= index < len(self):
            raise IndexError(f"Example {index} of {len(self)}.")
        record = self._record_number(index)
        return self._decode(record, self._read(record))

    def __getitems__(self, indices: Sequence[int]) -> list[Example]:
        return self._read_and_decode(indices, [None] * len(indices))

    def read_crops(self, indices: Sequence[int], crops: Sequence[Crop]) -> list[Example]:
        """Reads examples cut to `crops` while they are decoded."""
        return self._read_and_decode(indices, crops)

    def _read_and_decode(self, indices: Sequence[int], crops: Sequence[Crop | None]) -> list[Example]:
        numbers = [self._record_number(index) for index in indices]
        try:
            batch = self.records.__getitems__(numbers)
        except Exception:
            # One bad record spoils the reading of all; one by one tells which it is.
            batch = map(self._read, numbers)
        return [self._decode(n, features, crop) for n, features, crop in zip(numbers, batch, crops, strict=True)]

    def _read(self, record: int) -> dict[str, Any]:
        try:
            return self.records[record]
        except Exception as error:
            raise CorruptImageError(f"{self._name(record)} cannot be read: {error}.") from error

    def _record_number(self, index: int) -> int:
        return index if self.kept is None else int(self.kept[index])

    def _name(self, record: int) -> str:
        return f'Record {record} of "{self.info.name}", split "{self.info.split}",'

    def _decode(self, record: int, features: dict[str, Any], crop: Crop | None = None) -> Example:
        image = features[self.image_key]
        if isinstance(image, bytes):
            image = decode_image(image, self.info.channels, self._name(record), crop=crop)
        elif crop is not None:
            image = resized_crop(image, crop)
        size = (crop.side, crop.side) if crop is not None else self.info.image_size or image.shape[:2]
        expected = (*size, self.info.channels)
        if image.shape != expected:
            raise CorruptImageError(f"{self._name(record)} is {image.shape}, the data set promises {expected}.")
        label = int(features[self.label_key])
        if not 0 <= label < self.info.num_classes:
            raise DataError(
                f"{self._name(record)} has the label {label}, which is no class: "
                "the split may have been published without labels."
            )
        return {"image": image, "label": label}


def open_tfds(name: str, split: str, *, data_dir: str | None = None, on_corrupt: OnCorrupt = "raise") -> TfdsSource:
    """Opens a split of a data set that TFDS has prepared as ArrayRecord.

    Args:
        name: as TFDS writes it, with config and version if wanted: "imagenette/160px-v2".
        split: as TFDS writes it.
        data_dir: TFDS's folder; by default TFDS_DATA_DIR, else ~/tensorflow_datasets.
        on_corrupt: see `open_source`.

    Raises:
        DataError: TFDS, the data set or the split is missing, or it holds no labelled images.
    """
    builder = _prepared_builder(name, tfds_folder(data_dir))
    features: Any = builder.info.features
    image_key, label_key = _find_keys(name, features, builder.info.supervised_keys)
    ranges = _find_ranges(builder, split)
    records = _open_records(builder, name, split, image_key)
    height, width, channels = features[image_key].shape
    channels = channels or 3
    if channels not in (1, 3):
        raise DataError(f'The images of "{name}" have {channels} channels; 1 and 3 are supported.')
    source = TfdsSource(
        SourceInfo(
            name=name,
            split=split,
            num_examples=len(records),
            num_classes=features[label_key].num_classes,
            class_names=tuple(features[label_key].names),
            channels=channels,
            image_size=(height, width) if height and width else None,
            note=_jpeg_note(features[image_key], _first_image(records, image_key)),
            ranges=ranges,
        ),
        records,
        image_key,
        label_key,
    )
    if on_corrupt == "raise":
        return source
    valid, skipped = sort_out_corrupt(len(source), source.__getitem__)
    if not valid:
        raise DataError(f'No image of "{name}", split "{split}", can be decoded.')
    info = replace(source.info, num_examples=len(valid))
    return replace(source, info=info, kept=np.array(valid, np.int64), skipped=skipped)


def tfds_folder(data_dir: str | None) -> Path:
    """Returns TFDS's folder: `data_dir`, else TFDS_DATA_DIR, else ~/tensorflow_datasets."""
    return Path(data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()


def find_builder(name: str, folder: Path) -> Any:
    """Returns TFDS's builder of a data set, prepared or not.

    Raises:
        DataError: TFDS is not installed or does not know the name.
    """
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise DataError(
            f'Reading "{name}" needs TensorFlow Datasets ({error}): '
            "pip install tensorflow-datasets importlib_resources."
        ) from error
    try:
        return tfds.builder(name, data_dir=str(folder))
    except Exception as error:  # TFDS raises unrelated types, with lists of every known name.
        reason = " ".join(str(error).split("\n", 1)[0].split())
        raise DataError(
            f'TensorFlow Datasets has no data set "{name}" ({reason}); names look like '
            '"cifar10" or "imagenette/160px-v2", other sources like "folder:DIR" or '
            '"bundled:fashion_mnist".'
        ) from error


def is_prepared(builder: Any, name: str, folder: Path) -> bool:
    """Tells whether a data set is there as ArrayRecord.

    Raises:
        DataError: it is there in another format.
    """
    if not builder.info.splits:
        return False
    formats = {file_format.value for file_format in builder.info.available_file_formats()}
    if "array_record" not in formats:
        other = folder.with_name(f"{folder.name}_array_record")
        raise DataError(
            f'The data set "{name}" is prepared in {folder} as {", ".join(sorted(formats))}, which '
            "has no random access. Prepare it as ArrayRecord in another folder, which needs "
            f"TensorFlow:\n{_prepare_command(name, other)}"
        )
    return True


def _prepared_builder(name: str, folder: Path) -> Any:
    builder = find_builder(name, folder)
    if not is_prepared(builder, name, folder):
        raise DataError(
            f'The data set "{name}" is not prepared in {folder}. Either point TFDS_DATA_DIR to '
            f"the folder that has it, or prepare it once, which needs TensorFlow:\n"
            f"{_prepare_command(name, folder)}"
        )
    return builder


def _prepare_command(name: str, folder: Path) -> str:
    return (
        "  pip install tensorflow\n"
        f"  python -m vae_jcc.data.prepare {shlex.quote(name)} --data_dir {shlex.quote(str(folder))}"
    )


def _find_keys(name: str, features: Any, supervised: Any) -> tuple[str, str]:
    """Tells which features are the picture and its class."""
    import tensorflow_datasets as tfds

    # Sorted, because the order in which TFDS lists features differs from run to run.
    kinds = dict(sorted(features.items())) if hasattr(features, "items") else {}
    images = [key for key, kind in kinds.items() if _is_image(kind, tfds)]
    labels = [key for key, kind in kinds.items() if isinstance(kind, tfds.features.ClassLabel)]
    pair = supervised if isinstance(supervised, tuple) and len(supervised) == 2 else (None, None)
    image_key = _choose(images, (pair[0], "image"))
    label_key = _choose(labels, (pair[1], "label"))
    if image_key is None or label_key is None:
        raise DataError(
            f'"{name}" is not a data set of labelled images: of its features '
            f"{', '.join(kinds)} these are pictures: {', '.join(images) or 'none'}; "
            f"and these are classes: {', '.join(labels) or 'none'}."
        )
    return image_key, label_key


def _is_image(kind: Any, tfds: Any) -> bool:
    if kind.np_dtype != np.uint8:
        return False
    return isinstance(kind, tfds.features.Image) or (type(kind) is tfds.features.Tensor and len(kind.shape) == 3)


def _choose(candidates: list[str], preferred: tuple[Any, ...]) -> str | None:
    for key in preferred:
        if key in candidates:
            return str(key)
    return candidates[0] if len(candidates) == 1 else None


def _find_ranges(builder: Any, split: str) -> tuple[SplitRange, ...]:
    if "shard" in split:  # slices by shard are TFDS's own business
        return ()
    return tuple(resolve_split(split, {key: info.num_examples for key, info in builder.info.splits.items()}))


def _open_records(builder: Any, name: str, split: str, image_key: str) -> Any:
    import tensorflow_datasets as tfds

    decoders = {}
    if isinstance(builder.info.features[image_key], tfds.features.Image):
        decoders[image_key] = tfds.decode.SkipDecoding()
    try:
        return builder.as_data_source(split, decoders=decoders)
    except Exception as error:
        raise DataError(f'The split "{split}" of "{name}" cannot be read: {error}.') from error


def _first_image(records: Any, image_key: str) -> Any:
    """The first picture as it is stored, or nothing where it cannot be read: its use will say so, by its number."""
    try:
        return records[0][image_key]
    except Exception:
        return None


def _jpeg_note(feature: Any, encoded: Any) -> str:
    """Says so where a data set that is published losslessly holds JPEG images."""
    declared = getattr(feature, "_encoding_format", None)
    if declared == "jpeg" or not isinstance(encoded, bytes) or encoded[:2] != b"\xff\xd8":
        return ""
    quality = _jpeg_quality(encoded)
    return "JPEG copy" if quality is None else f"JPEG-{quality} copy"


def _jpeg_quality(encoded: bytes) -> int | None:
    """The libjpeg quality whose quantization tables the image carries, or None if none does."""
    tables = _quantization(encoded)
    for quality in range(100, 0, -1):
        sample = io.BytesIO()
        Image.new("RGB", (8, 8)).save(sample, "JPEG", quality=quality)
        if tables and _quantization(sample.getvalue())[0] == tables[0]:
            return quality
    return None


def _quantization(encoded: bytes) -> dict[int, list[int]]:
    try:
        with Image.open(io.BytesIO(encoded)) as image:
            return getattr(image, "quantization", {})
    except OSError:  # the note is a courtesy; a corrupt image is reported when it is used
        return {}
