"""From a source to the batches that a step takes.

    source ─► in memory? ── yes ─► gather rows of one uint8 array ──┐
                   └────── no ──► read, decode, resize, stack ──────┴─► Grain ─► batches
    with random-resized crops: read, decode what the crop needs, scale, stack ───┘

Grain's unit of work is a whole batch, not an example: its Python cost (some 0.2 ms an element)
is then paid once for 128 images, and worker processes hand over one block of shared memory.
Batch number n is a pure function of (seed, n) (order.py), so the order is the same with any
number of workers, threads or hosts, and the state to save is the number of the next batch.

Random crops and flips belong to the step, on the device (augment.py); the host only brings all
images to one size: with image_size > 0 the shorter side is scaled to image_size + 2 * margin
(bicubic) and the centre square of that side is kept, from which the device cuts image_size at
random. Evaluation cuts its own margin away around the centre. Random-resized crops (crop.py) are
the exception: their boxes differ in size, so the host cuts them, while it decodes.
"""

import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from vae_jcc.data.array_source import ArraySource, common_size, load_into_memory
from vae_jcc.data.batch_loader import Batch, BatchLoader
from vae_jcc.data.crop import RandomResizedCrop
from vae_jcc.data.errors import DataError
from vae_jcc.data.order import EvalOrder, Shard, TrainOrder
from vae_jcc.data.sources import Source
from vae_jcc.data.stream import batch_stream, close_stream

Progress = Callable[[int, int], None]

DEFAULT_MEMORY_LIMIT = 4 * 2**30  # bytes


class TrainIterator(Iterator[Batch]):
    """Endless shuffled batches whose place can be saved and taken up again exactly.

    `get_state` is a small dictionary of integers for any JSON checkpoint (Orbax: JsonSave). It is
    the same on every host, so it may be saved by one and restored on another number of hosts.
    Close the iterator when done: worker processes hold shared memory until then.
    """

    def __init__(self, loader: BatchLoader, order: TrainOrder, workers: int) -> None:
        self._loader = loader
        self._order = order
        self._workers = workers
        self._next = 0
        self._stream: Iterator[Batch] | None = None
        self._closed = False

    @property
    def load(self) -> Callable[[int], Batch]:
        """Makes the batch of a number here and now: what threads and workers run ahead of time."""
        return self._loader

    @property
    def batches_per_epoch(self) -> int:
        """Whole global batches in one pass over the source."""
        return self._order.batches_per_epoch

    def indices(self, number: int) -> np.ndarray:
        """Returns which examples of the source make up this host's part of batch `number`, int64 [b]."""
        return self._order.indices(number)

    def __next__(self) -> Batch:
        if self._closed:
            raise ValueError("The training iterator is closed.")
        if self._stream is None:
            numbers = range(self._next, sys.maxsize)
            self._stream = batch_stream(self._loader, numbers, self._workers, self._loader.only_copies)
        batch = next(self._stream)
        self._next += 1
        return batch

    def _identity(self) -> dict[str, int]:
        return {
            "seed": self._order.seed,
            "batch_size": self._order.shard.batch_size,
            "examples": self._order.examples,
        }

    def get_state(self) -> dict[str, int]:
        """The place in the stream: batches handed out so far, and what fixes their order."""
        return {"next_batch": self._next, **self._identity()}

    def set_state(self, state: dict[str, Any]) -> None:
        """Goes to a saved place; the next batch is the one that would have followed.

        Raises:
            DataError: the state is of a stream with another seed, batch size or data set.
        """
        for key, value in self._identity().items():
            if state.get(key) != value:
                raise DataError(
                    f"The checkpoint's data order has {key}={state.get(key)}, this run has "
                    f"{value}: resume with the same config and data, or start in a new workdir."
                )
        self._stop()
        self._next = int(state["next_batch"])

    def close(self) -> None:
        """Ends the worker processes; the iterator gives no batch afterwards."""
        self._stop()
        self._closed = True

    def _stop(self) -> None:
        if self._stream is not None:
            close_stream(self._stream)
            self._stream = None

    def __enter__(self) -> "TrainIterator":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class EvalBatches(Iterable[Batch]):
    """One pass over all examples each time it is iterated over; len() is the number of batches."""

    def __init__(self, loader: BatchLoader, order: EvalOrder, workers: int) -> None:
        self._loader = loader
        self._order = order
        self._workers = workers

    @property
    def num_examples(self) -> int:
        """Examples in one pass over all hosts, without padding."""
        return self._order.examples

    def __len__(self) -> int:
        return self._order.batches

    def __iter__(self) -> Iterator[Batch]:
        stream = batch_stream(self._loader, range(len(self)), self._workers, self._loader.only_copies)
        try:
            yield from stream
        finally:
            close_stream(stream)


def train_iterator(
    source: Source,
    *,
    batch_size: int,
    seed: int,
    image_size: int = 0,
    margin: int = 0,
    crop_scale: tuple[float, float] | tuple[()] = (),
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3),
    workers: int = 0,
    memory_limit: int = DEFAULT_MEMORY_LIMIT,
    shard_index: int = 0,
    shard_count: int = 1,
    on_progress: Progress | None = None,
) -> TrainIterator:
    """Shuffled training batches without end.

    Args:
        source: the training split.
        batch_size: examples in a global batch; this host gets batch_size / shard_count of them.
        seed: of the order; (seed, epoch) decides each epoch's permutation.
        image_size: side S of the square that the step works on; 0 leaves images as they are, which
            needs a source of one size.
        margin: extra pixels on each side for a random crop on the device, with image_size > 0.
        crop_scale: least and greatest share of an image's area in a random-resized crop, which the
            host scales to image_size; () brings images whole to their size.
        crop_ratio: least and greatest width / height of such a crop.
        workers: processes that decode; 0 decodes in threads of this process. A source held in
            memory uses none.
        memory_limit: sources whose decoded pixels need no more bytes stay in memory. With
            random-resized crops that holds for sources of one size, at that size; from others
            each crop is decoded.
        shard_index: this host's number, from 0.
        shard_count: number of hosts.
        on_progress: called with (done, all) while images are decoded into memory.

    Returns:
        An iterator of {"image": uint8 [b, H, W, C], "label": int32 [b]}, H = W = S + 2 * margin if S > 0.

    Raises:
        DataError: the settings do not fit the source.
    """
    if margin and not image_size:
        raise DataError("config.dataset.margin leaves room around config.dataset.image_size: set that too.")
    order = TrainOrder(len(source), seed, Shard(batch_size, shard_index, shard_count))
    if not crop_scale:
        ready, side = _prepare(source, image_size + 2 * margin, memory_limit, on_progress)
        return TrainIterator(BatchLoader(ready, order, side, None), order, _processes(ready, workers))
    if margin:
        raise DataError(
            "config.dataset.margin leaves room for crops on the device, crop_scale crops on the host: set one."
        )
    crop = RandomResizedCrop(image_size, crop_scale, crop_ratio)
    ready = source if source.info.image_size is None else _prepare(source, 0, memory_limit, on_progress)[0]
    loader = BatchLoader(ready, order, image_size, None, crop=crop)
    return TrainIterator(loader, order, _processes(ready, workers))


def eval_batches(
    source: Source,
    *,
    batch_size: int,
    image_size: int = 0,
    margin: int = 0,
    workers: int = 0,
    memory_limit: int = DEFAULT_MEMORY_LIMIT,
    shard_index: int = 0,
    shard_count: int = 1,
    on_progress: Progress | None = None,
) -> EvalBatches:
    """Every example once, in order, in batches of one shape.

    The last batch is filled up with black images of class 0 and mask 0. All hosts yield the same
    number of batches of the same shape; one with no example left yields padding alone.

    Args:
        source: the split to evaluate.
        batch_size: examples in a global batch; this host gets batch_size / shard_count of them.
        image_size: side of the square to which images are brought; 0 leaves them as they are.
        margin: pixels on each side of it that are scaled along and then cut away, with image_size > 0.
        workers: as in `train_iterator`.
        memory_limit: as in `train_iterator`.
        shard_index: as in `train_iterator`.
        shard_count: as in `train_iterator`.
        on_progress: as in `train_iterator`.

    Returns:
        An iterable of {"image": uint8 [b, H, W, C], "label": int32 [b], "mask": float32 [b]}.

    Raises:
        DataError: the settings do not fit the source.
    """
    if margin and not image_size:
        raise DataError("config.dataset.eval_margin leaves room around config.dataset.image_size: set that too.")
    shard = Shard(batch_size, shard_index, shard_count)
    order = EvalOrder(len(source), shard)
    ready, side = _prepare(source, image_size + 2 * margin, memory_limit, on_progress)
    return EvalBatches(BatchLoader(ready, order, side, shard.rows, margin), order, _processes(ready, workers))


def _prepare(source: Source, side: int, memory_limit: int, on_progress: Progress | None) -> tuple[Source, int]:
    """Decodes a source into memory where it fits; returns it and the size to which images are still to be brought."""
    height, width = common_size(source.info, side)
    if source.info.image_size == (height, width):
        side = 0
    if isinstance(source, ArraySource) and not side:
        return source, 0
    if len(source) * height * width * source.info.channels > memory_limit:
        return source, side
    return load_into_memory(source, side, on_progress=on_progress), 0


def _processes(source: Source, workers: int) -> int:
    """Arrays are not sent to processes: threads share them, and Pillow scales without Python's lock."""
    return 0 if isinstance(source, ArraySource) else workers
