"""A source held decoded in memory, and how another source becomes one."""

import os
import threading
import weakref
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np

from vae_jcc.data.errors import DataError
from vae_jcc.data.images import resize_and_crop
from vae_jcc.data.sources import Example, Source, SourceInfo, read_examples

_CHUNK = 256  # examples decoded by one task: long enough to hide the pool, short enough to report


@dataclass(frozen=True, eq=False)
class ArraySource:
    """Decoded images and labels in two arrays.

    Attributes:
        info: as in every source; `image_size` is the arrays' own.
        images: uint8 [N, H, W, C].
        labels: int32 [N].
        skipped: names of images left out when the data set was opened.
    """

    info: SourceInfo
    images: np.ndarray
    labels: np.ndarray
    skipped: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Example:
        return {"image": self.images[index], "label": int(self.labels[index])}

    def __getitems__(self, indices: Sequence[int]) -> list[Example]:
        return [self[index] for index in indices]


# What has been decoded stays for as long as its source does: a validation split is evaluated many times.
_LOADED: weakref.WeakKeyDictionary[Source, dict[int, ArraySource]] = weakref.WeakKeyDictionary()


def load_into_memory(
    source: Source, image_size: int = 0, *, on_progress: Callable[[int, int], None] | None = None
) -> ArraySource:
    """Decodes a whole source once, on all cores; asked again for the same source, returns the same arrays.

    Args:
        source: what to decode.
        image_size: side of the square to which images are brought (`resize_and_crop`); 0 leaves them as they are,
            which needs a source of one size.
        on_progress: called with (images done, images in all) now and then.

    Returns:
        The same examples in the same order, N * H * W * C bytes of pixels; `source` itself where nothing is to do.

    Raises:
        DataError: the images differ in size and image_size is 0.
        CorruptImageError: an image cannot be decoded.
    """
    size = common_size(source.info, image_size)
    if isinstance(source, ArraySource) and source.info.image_size == size:
        return source
    loaded = _LOADED.setdefault(source, {}) if isinstance(source, Hashable) else {}
    if image_size not in loaded:
        images, labels = _decode_all(source, image_size, size, on_progress)
        info = replace(source.info, image_size=size)
        loaded[image_size] = ArraySource(info, images, labels, getattr(source, "skipped", ()))
    return loaded[image_size]


def _decode_all(
    source: Source, image_size: int, size: tuple[int, int], on_progress: Callable[[int, int], None] | None
) -> tuple[np.ndarray, np.ndarray]:
    total = len(source)
    images = np.empty((total, *size, source.info.channels), np.uint8)
    labels = np.empty(total, np.int32)
    done, lock = 0, threading.Lock()

    def decode(start: int) -> None:
        nonlocal done
        chunk = range(start, min(start + _CHUNK, total))
        for index, example in zip(chunk, read_examples(source, chunk), strict=True):
            images[index] = fit(example["image"], image_size)
            labels[index] = example["label"]
        with lock:
            done += len(chunk)
            if on_progress is not None:
                on_progress(done, total)

    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        tasks = [pool.submit(decode, start) for start in range(0, total, _CHUNK)]
        try:
            for task in tasks:
                task.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return images, labels


def fit(image: np.ndarray, image_size: int) -> np.ndarray:
    """Brings an image [H, W, C] to a square of side image_size; 0 leaves it as it is."""
    return resize_and_crop(image, image_size) if image_size else image


def common_size(info: SourceInfo, image_size: int) -> tuple[int, int]:
    """Height and width that all images have once they are brought to `image_size` (0: as they are).

    Raises:
        DataError: the images differ in size and image_size is 0.
    """
    if image_size:
        return image_size, image_size
    if info.image_size is None:
        raise DataError(
            f'The images of "{info.name}" differ in size: set config.dataset.image_size to the side in pixels to '
            "which they are to be brought."
        )
    return info.image_size
