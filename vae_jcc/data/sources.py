"""Where labelled images come from, behind one small interface.

    name                                 what it opens
    "cifar10", "imagenette/160px-v2"     TensorFlow Datasets (tfds_source.py)
    "folder:DIR"                         pictures in class sub-folders (folder_source.py)
    "bundled:fashion_mnist"              what ships with the package (bundled_source.py)
    "synthetic:64x64x3:1000"             1,000 pictures of random pixels (synthetic_source.py)

Counts, class names, channels and sizes are the source's own; nothing downstream may write them
as literals. Importing this module loads neither TensorFlow nor JAX, and each kind of source is
imported when it is first asked for.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from vae_jcc.data.crop import Crop
from vae_jcc.data.errors import DataError
from vae_jcc.data.images import resized_crop
from vae_jcc.data.splits import SplitRange, count_common

OnCorrupt = Literal["raise", "skip"]


# One labelled image: {"image": uint8 [H, W, C], "label": int from 0 to num_classes - 1}.
Example = dict[str, Any]


@dataclass(frozen=True)
class SourceInfo:
    """What a source knows about itself.

    Attributes:
        name: as given to `open_source`.
        split: as given to `open_source`.
        num_examples: usable examples (skipped ones are not among them).
        num_classes: number of classes, also of those without an example in this split.
        class_names: one name for each class.
        channels: 1 (grey) or 3 (RGB), the same for every image.
        image_size: (H, W) of every image, or None where sizes differ.
        note: what must be said beside figures taken on it, such as "JPEG-75 copy"; often empty.
        ranges: the examples that `split` stands for, before any is skipped; () where that is not known.
    """

    name: str
    split: str
    num_examples: int
    num_classes: int
    class_names: tuple[str, ...]
    channels: int
    image_size: tuple[int, int] | None
    note: str
    ranges: tuple[SplitRange, ...] = ()


class Source(Protocol):
    """A list of labelled images with random access; it can be sent to worker processes."""

    @property
    def info(self) -> SourceInfo:
        """What the source knows about itself."""

    def __len__(self) -> int:
        """Number of examples."""

    def __getitem__(self, index: int) -> Example:
        """Decodes one example."""


class OpenedSource(Source, Protocol):
    """What `open_source` returns."""

    @property
    def skipped(self) -> tuple[str, ...]:
        """One message for each image that on_corrupt="skip" left out."""


def read_examples(source: Source, indices: Sequence[int], crops: Sequence[Crop] | None = None) -> list[Example]:
    """Reads several examples, at once where the source can (`__getitems__`), which some formats do much faster.

    Args:
        source: where they are.
        indices: which they are.
        crops: what to cut from each, if anything. A source of encoded pictures cuts while it decodes
            (`read_crops(indices, crops)`); from any other the crops are cut afterwards.
    """
    if crops is not None and (read_crops := getattr(source, "read_crops", None)) is not None:
        return read_crops(indices, crops)
    read = getattr(source, "__getitems__", None)
    examples = read(indices) if read is not None else [source[index] for index in indices]
    if crops is None:
        return examples
    return [e | {"image": resized_crop(e["image"], crop)} for e, crop in zip(examples, crops, strict=True)]


def open_source(name: str, split: str, *, data_dir: str | None = None, on_corrupt: OnCorrupt = "raise") -> OpenedSource:
    """Opens the split of a data set.

    With on_corrupt="skip" every image is decoded once while opening, and those that fail are
    left out and listed in `skipped`. That costs one pass over the data, and buys exact counts
    that are the same on every host and in every run, because they depend on the data alone;
    nothing downstream ever meets a hole. With "raise" an image is first decoded when it is used.

    Args:
        name: the data set, see the head of this file.
        split: such as "train", "train[:90%]", "train[:10%]+train[90%:]" (splits.py).
        data_dir: where TensorFlow Datasets keeps its data; by default the environment variable
            TFDS_DATA_DIR, else ~/tensorflow_datasets. Other sources do not use it.
        on_corrupt: "raise" stops at an image that cannot be decoded and names it, "skip" leaves
            it out and counts it.

    Raises:
        DataError: the data set or split is not there; the message says how to get it.
        CorruptImageError: an image cannot be decoded and on_corrupt is "raise".
    """
    if on_corrupt not in ("raise", "skip"):
        raise DataError(f'on_corrupt is "raise" or "skip", not "{on_corrupt}".')
    kind, separator, rest = name.partition(":")
    if separator and kind == "folder":
        from vae_jcc.data.folder_source import open_folder

        return open_folder(rest, split, on_corrupt=on_corrupt)
    if separator and kind == "bundled":
        from vae_jcc.data.bundled_source import open_bundled

        return open_bundled(rest, split)
    if separator and kind == "synthetic":
        from vae_jcc.data.synthetic_source import open_synthetic

        return open_synthetic(rest, split)
    from vae_jcc.data.tfds_source import open_tfds

    return open_tfds(name, split, data_dir=data_dir, on_corrupt=on_corrupt)


def check_held_out(test: SourceInfo, train: SourceInfo) -> None:
    """Checks that no image is both trained on and tested on, where both sources know what their splits stand for.

    Raises:
        DataError: some are.
    """
    if count := count_common(test.ranges, train.ranges):
        raise DataError(
            f"{count:,} images of the test split {test.split!r} are in the training split {train.split!r}, too, and no "
            "figure taken on them would be true: let the two share none, such as 'train[90%:]' and 'train[:90%]'."
        )
