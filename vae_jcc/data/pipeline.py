"""From a source to the batches that a step takes.

    source ─► in memory? ── yes ─► gather rows of one uint8 array ──┐
                   └────── no ──► read, decode, resize, stack ──────┴─► Grain ─► batches

Grain's unit of work is a whole batch, not an example: its Python cost (some 0.2 ms an element)
is then paid once for 128 images, and worker processes hand over one block of shared memory.
Batch number n is a pure function of (seed, n) (order.py), so the order is the same with any
number of workers, threads or hosts, and the state to save is the number of the next batch.

Random crops and flips belong to the step, on the device (augment.py); the host only brings all
images to one size. For a random crop of S pixels from larger pictures ask for `margin` pixels
more and let the device cut.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NotRequired, TypedDict

import numpy as np

from vae_jcc.data.array_source import ArraySource, decode_into_memory, fit
from vae_jcc.data.errors import DataError
from vae_jcc.data.order import EvalOrder, Shard, TrainOrder
from vae_jcc.data.sources import Source
from vae_jcc.data.stream import batch_stream, close_stream

Progress = Callable[[int, int], None]


class Batch(TypedDict):
    """What a step takes, this host's part of it."""

    image: np.ndarray  # uint8 [b, H, W, C]
    label: np.ndarray  # int32 [b]
    mask: NotRequired[np.ndarray]  # float32 [b], evaluation only: 1 for examples, 0 for padding


@dataclass(frozen=True)
class _BatchLoader:
    """Makes batch number n; sent to the worker processes, so it holds no open files or locks."""

    source: Source
    order: TrainOrder | EvalOrder
    resize: int | None
    crop: int | None
    pad_to: int | None  # rows of a padded evaluation batch; None: training

    def __call__(self, number: int) -> Batch:
        if self.pad_to is None:
            return self._load(self.order.indices(number))
        # Evaluation comes round again: a second pass may reuse running workers.
        assert isinstance(self.order, EvalOrder)
        return _padded(self._load(self.order.indices(number % self.order.batches)), self.pad_to)

    def _load(self, indices: np.ndarray) -> Batch:
        if isinstance(self.source, ArraySource):
            return {"image": self.source.images[indices], "label": self.source.labels[indices]}
        examples = self.source.__getitems__(indices.tolist())
        height, width = (self.crop, self.crop) if self.crop else self._image_size()
        images = np.empty((len(examples), height, width, self.source.info.channels), np.uint8)
        for row, example in enumerate(examples):
            images[row] = fit(example["image"], self.resize, self.crop)
        labels = np.array([example["label"] for example in examples], np.int32)
        return {"image": images, "label": labels}

    def _image_size(self) -> tuple[int, int]:
        assert self.source.info.image_size is not None
        return self.source.info.image_size


class TrainIterator(Iterator[Batch]):
    """Endless shuffled batches whose place can be saved and taken up again exactly.

    `get_state` is a small dictionary of integers for any JSON checkpoint (Orbax: JsonSave). It is
    the same on every host, so it may be saved by one and restored on another number of hosts.
    Close the iterator when done: worker processes hold shared memory until then.
    """

    def __init__(self, loader: _BatchLoader, order: TrainOrder, workers: int) -> None:
        self._loader = loader
        self._order = order
        self._workers = workers
        self._next = 0
        self._stream: Iterator[Batch] | None = None
        self._closed = False

    @property
    def batches_per_epoch(self) -> int:
        """Whole global batches in one pass over the source."""
        return self._order.batches_per_epoch

    def __next__(self) -> Batch:
        if self._closed:
            raise ValueError("The training iterator is closed.")
        if self._stream is None:
            self._stream = batch_stream(self._loader, self._next, self._workers, self._in_memory)
        batch = next(self._stream)
        self._next += 1
        return batch

    @property
    def _in_memory(self) -> bool:
        return isinstance(self._loader.source, ArraySource)

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


class EvalBatches:
    """One pass over all examples each time it is iterated over; len() is the number of batches.

    Worker processes stay up between passes; close it when done.
    """

    def __init__(self, loader: _BatchLoader, order: EvalOrder, workers: int) -> None:
        self._loader = loader
        self._order = order
        self._workers = workers
        self._stream: Iterator[Batch] | None = None

    @property
    def num_examples(self) -> int:
        """Examples in one pass over all hosts, without padding."""
        return self._order.examples

    def __len__(self) -> int:
        return self._order.batches

    def __iter__(self) -> Iterator[Batch]:
        # The stream is kept only from a pass that went to its end; an abandoned one starts anew.
        stream, self._stream = self._stream, None
        in_memory = isinstance(self._loader.source, ArraySource)
        if stream is None:
            stream = batch_stream(self._loader, 0, self._workers, in_memory)
        finished = False
        try:
            for _ in range(len(self)):
                yield next(stream)
            finished = self._stream is None
        finally:
            if finished:
                self._stream = stream
            else:
                close_stream(stream)

    def close(self) -> None:
        """Ends the worker processes."""
        if self._stream is not None:
            close_stream(self._stream)
            self._stream = None

    def __enter__(self) -> "EvalBatches":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def train_iterator(
    source: Source,
    *,
    batch_size: int,
    seed: int,
    image_size: int | None = None,
    margin: int = 0,
    workers: int = 0,
    memory_limit_bytes: int = 2**30,
    shard_index: int = 0,
    shard_count: int = 1,
    on_progress: Progress | None = None,
) -> TrainIterator:
    """Shuffled training batches without end.

    Args:
        source: the training split.
        batch_size: examples in a global batch; this host gets batch_size / shard_count of them.
        seed: of the order; (seed, epoch) decides each epoch's permutation.
        image_size: side of the square that the step works on, or None to leave images as they
            are, which a source of one size allows.
        margin: extra pixels for a random crop on the device: images come as squares of
            image_size + margin, the shorter side scaled to that and the centre kept.
        workers: processes that decode; 0 decodes in threads of this process. A source held in
            memory uses none.
        memory_limit_bytes: sources whose decoded pixels need no more stay in memory.
        shard_index: this host's number, from 0.
        shard_count: number of hosts.
        on_progress: called with (done, all) while images are decoded into memory.

    Returns:
        An iterator of {"image": uint8 [b, S, S, C], "label": int32 [b]}.

    Raises:
        DataError: the settings do not fit the source.
    """
    side = None if image_size is None else image_size + margin
    shard = Shard(batch_size, shard_index, shard_count)
    order = TrainOrder(len(source), seed, shard)
    ready, resize, crop = _prepare(source, side, side, memory_limit_bytes, on_progress)
    return TrainIterator(_BatchLoader(ready, order, resize, crop, None), order, workers)


def eval_batches(
    source: Source,
    *,
    batch_size: int,
    image_size: int | None = None,
    resize: int | None = None,
    workers: int = 0,
    memory_limit_bytes: int = 2**30,
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
        image_size: side of the centre crop, or None to leave images as they are.
        resize: shorter side before the crop ("resize 256, crop 160"); by default `image_size`.
        workers: as in `train_iterator`.
        memory_limit_bytes: as in `train_iterator`.
        shard_index: as in `train_iterator`.
        shard_count: as in `train_iterator`.
        on_progress: as in `train_iterator`.

    Returns:
        An iterable of {"image": uint8 [b, S, S, C], "label": int32 [b], "mask": float32 [b]}.
    """
    if resize is not None and image_size is None:
        raise DataError("A resize needs an image_size to crop to.")
    shard = Shard(batch_size, shard_index, shard_count)
    order = EvalOrder(len(source), shard)
    before = image_size if resize is None else resize
    ready, before, crop = _prepare(source, before, image_size, memory_limit_bytes, on_progress)
    return EvalBatches(_BatchLoader(ready, order, before, crop, shard.rows), order, workers)


def _prepare(
    source: Source,
    resize: int | None,
    crop: int | None,
    memory_limit_bytes: int,
    on_progress: Progress | None,
) -> tuple[Source, int | None, int | None]:
    """Decodes a source into memory where it fits, and drops sizes that would change nothing."""
    info = source.info
    if resize is not None and info.image_size == (resize, resize) and crop == resize:
        resize = crop = None
    if crop is None and info.image_size is None:
        raise DataError(
            f'The images of "{info.name}" differ in size: set an image size to bring them to one.'
        )
    if resize is not None and crop is not None and crop > resize:
        raise DataError(f"A crop of {crop} pixels does not fit into a shorter side of {resize}.")
    height, width = info.image_size if crop is None else (crop, crop)  # type: ignore[misc]
    if isinstance(source, ArraySource) and crop is None:
        return source, None, None
    if len(source) * height * width * info.channels > memory_limit_bytes:
        return source, resize, crop
    ready = decode_into_memory(source, resize=resize, crop=crop, on_progress=on_progress)
    return ready, None, None


def _padded(batch: Batch, rows: int) -> Batch:
    """Fills a batch up to `rows` and marks what is real."""
    count = len(batch["label"])
    image, label = batch["image"], batch["label"]
    if count < rows:
        image = np.concatenate([image, np.zeros((rows - count, *image.shape[1:]), np.uint8)])
        label = np.concatenate([label, np.zeros(rows - count, np.int32)])
    return {"image": image, "label": label, "mask": (np.arange(rows) < count).astype(np.float32)}
