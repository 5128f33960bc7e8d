"""A source held decoded in memory, and how another source becomes one."""

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np

from vae_jcc.data.images import resize_and_crop
from vae_jcc.data.sources import Example, Source, SourceInfo

_CHUNK = 256  # examples decoded by one task: long enough to hide the pool, short enough to report


@dataclass(frozen=True)
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


def decode_into_memory(
    source: Source,
    *,
    resize: int | None = None,
    crop: int | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> ArraySource:
    """Decodes a whole source once, on all cores.

    Args:
        source: its images must have one size unless `resize` and `crop` give them one.
        resize: shorter side to scale to, with `crop`; see `resize_and_crop`.
        crop: side of the centre square to keep.
        on_progress: called with (images done, images in all) now and then.

    Returns:
        The same examples in the same order, N * H * W * C bytes of pixels.

    Raises:
        CorruptImageError: an image cannot be decoded.
    """
    total = len(source)
    height, width = (crop, crop) if crop is not None else _uniform_size(source.info)
    images = np.empty((total, height, width, source.info.channels), np.uint8)
    labels = np.empty(total, np.int32)
    done, lock = 0, threading.Lock()

    def decode(start: int) -> None:
        nonlocal done
        chunk = range(start, min(start + _CHUNK, total))
        for index, example in zip(chunk, source.__getitems__(chunk), strict=True):
            images[index] = fit(example["image"], resize, crop)
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
    info = replace(source.info, image_size=(height, width))
    return ArraySource(info, images, labels, source.skipped)


def fit(image: np.ndarray, resize: int | None, crop: int | None) -> np.ndarray:
    """Applies `resize_and_crop` where sizes are given, else returns the image as it is."""
    if resize is None or crop is None:
        return image
    return resize_and_crop(image, resize=resize, crop=crop)


def _uniform_size(info: SourceInfo) -> tuple[int, int]:
    if info.image_size is None:
        raise ValueError(f"The images of {info.name} differ in size: give resize and crop.")
    return info.image_size
