"""A folder of JPEG, PNG and WebP files, sorted into sub-folders by class.

    DIR/<class>/**/<picture>                 one list; its split is called "train"
    DIR/train|validation|test/<class>/...    splits of their own ("val" is understood too)

Files come in an order drawn by hashing their relative paths: seeded, the same on every machine
and host, and hardly disturbed when files are added. So a slice such as train[:90%] is a fair
sample of all classes, and two slices that do not overlap never share a file.
"""

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vae_jcc.data.crop import Crop
from vae_jcc.data.errors import CorruptImageError, DataError
from vae_jcc.data.images import decode_image, read_header
from vae_jcc.data.sources import Example, OnCorrupt, SourceInfo
from vae_jcc.data.splits import resolve_split
from vae_jcc.data.verify import sort_out_corrupt

_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp"})
_SPLIT_FOLDERS = {"train": "train", "validation": "validation", "val": "validation", "test": "test"}
_ORDER_SEED = b"vae_jcc folder order 1"
_ONLY_SPLIT = "train"  # of a folder without split folders


@dataclass(frozen=True)
class _Picture:
    path: Path
    class_name: str


@dataclass(frozen=True, eq=False)
class FolderSource:
    """Pictures of a folder; decoded when asked for.

    Attributes:
        info: as in every source. A folder with both grey and coloured pictures is RGB.
        paths: files, in the source's order.
        labels: int32 [N], indices into info.class_names.
        skipped: messages for the files left out.
    """

    info: SourceInfo
    paths: tuple[Path, ...]
    labels: np.ndarray
    skipped: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Example:
        path = self.paths[index]
        image = _decode(path, self.info.channels)
        if self.info.image_size not in (None, image.shape[:2]):
            raise CorruptImageError(f"{path} has changed its size since the folder was opened.")
        return {"image": image, "label": int(self.labels[index])}

    def __getitems__(self, indices: Sequence[int]) -> list[Example]:
        return [self[index] for index in indices]

    def read_crops(self, indices: Sequence[int], crops: Sequence[Crop]) -> list[Example]:
        """Reads examples cut to `crops` while they are decoded."""
        return [
            {"image": _decode(self.paths[index], self.info.channels, crop), "label": int(self.labels[index])}
            for index, crop in zip(indices, crops, strict=True)
        ]


def open_folder(folder: str, split: str, *, on_corrupt: OnCorrupt = "raise") -> FolderSource:
    """Opens a split of an image folder.

    The headers of all pictures in the folder are read once (some 0.1 ms each), also those of
    other splits: all splits must agree on channels, and an empty or foreign file should stop a
    run before it starts. Slicing comes before skipping, so a corrupt file moves no other file
    from one slice to another.

    Args:
        folder: laid out as the head of this file says; "~" is understood.
        split: "train", "validation", "test" or slices of them (splits.py).
        on_corrupt: see `open_source`.

    Raises:
        DataError: no such folder or split, or no pictures in class folders.
        CorruptImageError: a picture is empty or unreadable, and on_corrupt is "raise".
    """
    root = Path(folder).expanduser()
    splits = _list_splits(root)
    class_names = tuple(sorted({p.class_name for pictures in splits.values() for p in pictures}))
    ranges = resolve_split(split, {name: len(pictures) for name, pictures in splits.items()})
    headers = _read_headers([p.path for pictures in splits.values() for p in pictures], on_corrupt)
    chosen = [p for part in ranges for p in splits[part.name][part.start : part.stop]]
    channels = 1 if all(grey for _, _, grey in headers.values()) else 3
    skipped: tuple[str, ...] = ()
    if on_corrupt == "skip":
        valid, skipped = sort_out_corrupt(len(chosen), lambda i: _decode(chosen[i].path, channels))
        chosen = [chosen[index] for index in valid]
    if not chosen:
        raise DataError(f'No picture of "folder:{folder}", split "{split}", can be decoded.')
    sizes = {headers[p.path][:2] for p in chosen}
    info = SourceInfo(
        name=f"folder:{folder}",
        split=split,
        num_examples=len(chosen),
        num_classes=len(class_names),
        class_names=class_names,
        channels=channels,
        image_size=sizes.pop() if len(sizes) == 1 else None,
        note="",
        ranges=tuple(ranges),
    )
    number = {name: index for index, name in enumerate(class_names)}
    labels = np.array([number[p.class_name] for p in chosen], np.int32)
    return FolderSource(info, tuple(p.path for p in chosen), labels, skipped)


def _decode(path: Path, channels: int, crop: Crop | None = None) -> np.ndarray:
    return decode_image(path, channels, str(path), exif_orientation=True, crop=crop)


def _list_splits(root: Path) -> dict[str, list[_Picture]]:
    if not root.is_dir():
        raise DataError(f"There is no folder {root}. {_layout(root)}")
    splits: dict[str, list[_Picture]] = {}
    for name, split in _SPLIT_FOLDERS.items():
        # A folder of that name that holds pictures itself is a class which happens to be called so.
        if (root / name).is_dir() and (pictures := _list_pictures(root / name)):
            splits.setdefault(split, []).extend(pictures)
    if not splits:
        splits = {_ONLY_SPLIT: _list_pictures(root)}
    if not any(splits.values()):
        raise DataError(f"There are no JPEG, PNG or WebP files in {root}. {_layout(root)}")
    return {
        split: sorted(pictures, key=lambda p: _rank(p.path.relative_to(root))) for split, pictures in splits.items()
    }


def _list_pictures(root: Path) -> list[_Picture]:
    """All pictures below root/<class>/, hidden files and folders aside."""
    pictures = []
    for parent, folders, names in os.walk(root, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        below = Path(parent).relative_to(root).parts
        if not below:
            continue
        pictures += [
            _Picture(Path(parent, name), below[0])
            for name in names
            if not name.startswith(".") and Path(name).suffix.lower() in _SUFFIXES
        ]
    return pictures


def _rank(relative: Path) -> bytes:
    return hashlib.blake2b(os.fsencode(relative.as_posix()), key=_ORDER_SEED).digest()


def _read_headers(paths: Sequence[Path], on_corrupt: OnCorrupt) -> dict[Path, tuple[int, int, bool]]:
    """Height, width and greyness of every file; unreadable ones are missing with "skip"."""

    def read(path: Path) -> tuple[int, int, bool] | None:
        try:
            return read_header(path)
        except CorruptImageError:
            if on_corrupt == "raise":
                raise
            return None

    with ThreadPoolExecutor(max_workers=min(32, 4 * (os.cpu_count() or 1))) as pool:
        headers = zip(paths, pool.map(read, paths), strict=True)
        return {path: header for path, header in headers if header is not None}


def _layout(root: Path) -> str:
    return (
        f"An image folder is laid out as {root}/<class>/<picture>.jpg (or .png, .webp), or as "
        f"{root}/train/<class>/..., {root}/validation/<class>/... and {root}/test/<class>/..."
    )
