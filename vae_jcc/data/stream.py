"""Batches by number, made ahead of time by Grain's threads or worker processes."""

import importlib.util
import os
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import numpy as np

T = TypeVar("T")

MAX_THREADS = 8  # of this process, where there are no workers
_BATCHES_PER_WORKER = 2


def batch_stream(load: Callable[[int], T], numbers: range, workers: int, only_copies: bool) -> Iterator[T]:
    """Yields load(n) for every n of `numbers`, in this order.

    At most two batches per thread or worker wait in memory (Grain's own default is 500).

    Args:
        load: makes a batch from its number; with workers it is sent to them.
        numbers: of the batches.
        workers: worker processes; 0 works in threads of this process.
        only_copies: making a batch is only a copy, so neither threads nor workers are started.
    """
    if only_copies and importlib.util.find_spec("grain") is None:
        # Machines prepared for training alone often lack Grain, and a copy needs no engine.
        return map(load, numbers)
    import grain

    threads = 0 if only_copies else 1 if workers else min(MAX_THREADS, os.cpu_count() or 1)
    reading = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=2 * threads)
    batches = grain.MapDataset.range(numbers.start, numbers.stop).map(load).to_iter_dataset(reading)
    if workers and not only_copies:
        _mark_flags_as_parsed()
        options = grain.MultiprocessingOptions(min(workers, len(numbers)), _BATCHES_PER_WORKER)
        batches = batches.mp_prefetch(options).map(_own)
    return iter(batches)


def close_stream(stream: Iterator[Any]) -> None:
    """Ends what works behind a stream; without it workers leak shared memory at exit."""
    close = getattr(stream, "close", None)
    if close is not None:
        close()


def _own(batch: Any) -> Any:
    """Copies arrays out of a worker's shared memory, which is then freed and never outlives the process."""
    if not isinstance(batch, dict):
        return batch
    return {key: np.array(value) for key, value in batch.items()}


def _mark_flags_as_parsed() -> None:
    """Grain reads absl flags when it starts workers, which fails outside absl.app.run."""
    from absl import flags

    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()
