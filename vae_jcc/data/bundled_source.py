"""Data sets that ship inside the package."""

import zipfile
from importlib.resources import files

import numpy as np

from vae_jcc.data.array_source import ArraySource
from vae_jcc.data.errors import DataError
from vae_jcc.data.sources import SourceInfo
from vae_jcc.data.splits import resolve_split

_CLASS_NAMES = {
    "fashion_mnist": (
        "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
        "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
    ),
}  # fmt: skip
_NOTES = {"fashion_mnist": "class-balanced slice: 10,000 training and 2,000 test images"}
_SPLITS = ("train", "test")


def open_bundled(name: str, split: str) -> ArraySource:
    """Opens a bundled data set; it is in memory at once.

    Args:
        name: "fashion_mnist".
        split: of "train" and "test" (splits.py).

    Raises:
        DataError: no such data set or split.
    """
    if name not in _CLASS_NAMES:
        known = ", ".join(f'"bundled:{known}"' for known in _CLASS_NAMES)
        raise DataError(f'There is no data set "bundled:{name}"; the package ships {known}.')
    all_labels = {base: _load(name, base, "labels") for base in _SPLITS}
    ranges = resolve_split(split, {base: len(labels) for base, labels in all_labels.items()})
    images = [_load(name, part.name, "images")[part.start : part.stop] for part in ranges]
    labels = [all_labels[part.name][part.start : part.stop] for part in ranges]
    # One part is kept as a view: no second copy of the pixels.
    pixels = images[0] if len(images) == 1 else np.concatenate(images)
    info = SourceInfo(
        name=f"bundled:{name}",
        split=split,
        num_examples=len(pixels),
        num_classes=len(_CLASS_NAMES[name]),
        class_names=_CLASS_NAMES[name],
        channels=pixels.shape[3],
        image_size=(pixels.shape[1], pixels.shape[2]),
        note=_NOTES[name],
        ranges=tuple(ranges),
    )
    return ArraySource(info, pixels, np.concatenate(labels).astype(np.int32))


def _load(name: str, split: str, array: str) -> np.ndarray:
    path = files("vae_jcc.data") / "bundled" / name / f"{split}.npz"
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return archive[array]
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise DataError(f"The bundled data set {path} cannot be read ({error}): reinstall the package.") from error
