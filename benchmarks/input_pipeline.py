"""What feeding a training step costs: images/s of the input pipeline, and its share of the step's time.

    python benchmarks/input_pipeline.py --step-ms 300
    python benchmarks/input_pipeline.py --dataset cifar10 --split train --step-ms 300 --json input_pipeline.json
    python benchmarks/input_pipeline.py --dataset imagenette/160px-v2 --image-size 128 --crop-scale 0.35 1 \\
        --batch-size 64 --batches 100 --streamed --decode-alone 5 --json input_pipeline_decode.json
    ... the same with --workers 2

--decode-alone R takes R rounds, in which the pipeline and its own threads or workers alone, making the same batches and
dropping them, take turns. Their ratio says what handing the batches over costs; it should be 0.9 or more.

Without --dataset, pictures of random pixels of --shape are held in memory, which is how every data set that fits
memory_limit is fed. With it, the data set is read as a training run reads it; --streamed forbids keeping it in memory
and measures decoding. A batch is timed from asking for it to having it, with nothing else going on in between, so
decoding ahead during the step, which hides most of the cost, is not credited.
"""

import argparse
import multiprocessing
import os
import time
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from typing import Any

import cloudpickle
import numpy as np

from vae_jcc.benchmark.measuring import spread, write_measurements
from vae_jcc.data.array_source import ArraySource
from vae_jcc.data.pipeline import DEFAULT_MEMORY_LIMIT, TrainIterator, train_iterator
from vae_jcc.data.sources import Source, SourceInfo, open_source
from vae_jcc.data.stream import MAX_THREADS


def random_source(examples: int, shape: tuple[int, int, int]) -> Source:
    """A source of random pixels, uint8 [examples, *shape], with ten classes."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (examples, *shape), np.uint8)
    names = tuple(str(k) for k in range(10))
    info = SourceInfo("random", "train", examples, 10, names, shape[2], shape[:2], "random pixels")
    return ArraySource(info, images, rng.integers(0, 10, examples).astype(np.int32))


def make_iterator(source: Source, arguments: argparse.Namespace) -> TrainIterator:
    """Returns the training batches that the command line asks for."""
    return train_iterator(
        source,
        batch_size=arguments.batch_size,
        seed=0,
        image_size=arguments.image_size,
        crop_scale=tuple(arguments.crop_scale),
        workers=arguments.workers,
        memory_limit=0 if arguments.streamed else DEFAULT_MEMORY_LIMIT,
    )


def measure(source: Source, arguments: argparse.Namespace) -> dict[str, float]:
    """Times single batches after a warm-up.

    Returns:
        Seconds until the first batch, median and 95th percentile of a batch in milliseconds, images per second.
    """
    begin = time.perf_counter()
    with make_iterator(source, arguments) as batches:
        next(batches)
        first = time.perf_counter() - begin
        # What was decoded ahead during the start must not be counted.
        for _ in range(max(arguments.batches // 10, 2 * MAX_THREADS)):
            next(batches)
        stamps = [time.perf_counter()]
        for _ in range(arguments.batches):
            next(batches)
            stamps.append(time.perf_counter())
    took = 1e3 * np.diff(stamps)
    return {
        "first_batch_s": first,
        "batch_ms_median": float(np.median(took)),
        "batch_ms_p95": float(np.percentile(took, 95)),
        "images_per_s": arguments.batch_size * arguments.batches / (stamps[-1] - stamps[0]),
    }


_load: Callable[[int], Any]  # in a worker process


def _receive(load: bytes) -> None:
    global _load
    _load = cloudpickle.loads(load)
    _load(0)


def _make_and_drop(number: int) -> None:
    _load(number)


def decoding_alone(source: Source, arguments: argparse.Namespace) -> float:
    """Returns images/s of the pipeline's threads or workers that make batches and hand over nothing."""
    with make_iterator(source, arguments) as iterator:
        load = iterator.load
    executor: Executor
    if arguments.workers:
        context = multiprocessing.get_context("spawn")
        data = cloudpickle.dumps(load)
        executor, run = ProcessPoolExecutor(arguments.workers, context, _receive, (data,)), _make_and_drop
        count = arguments.workers
    else:
        count = min(MAX_THREADS, os.cpu_count() or 1)
        executor, run = ThreadPoolExecutor(count), lambda number: (load(number), None)[1]
    with executor:
        list(executor.map(run, range(2 * count)))
        begin = time.perf_counter()
        list(executor.map(run, range(arguments.batches)))
        return arguments.batch_size * arguments.batches / (time.perf_counter() - begin)


def compare(source: Source, arguments: argparse.Namespace) -> dict[str, Any]:
    """Returns the pipeline's images/s, its workers' alone, and their ratio round by round."""
    rounds = range(arguments.decode_alone)
    pairs = [(measure(source, arguments)["images_per_s"], decoding_alone(source, arguments)) for _ in rounds]
    return {
        "pipeline_images_per_s": spread([a for a, _ in pairs]),
        "decode_alone_images_per_s": spread([b for _, b in pairs]),
        "pipeline_over_decode_alone": spread([a / b for a, b in pairs]),
    }


def parse_arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description="Measure the input pipeline.")
    parser.add_argument("--dataset", default="", help="as config.dataset.name; default: random pixels")
    parser.add_argument("--split", default="train", help="of the data set")
    parser.add_argument(
        "--shape", type=int, nargs=3, default=(32, 32, 3), help="height, width, channels of random pixels"
    )
    parser.add_argument("--examples", type=int, default=50_000, help="number of random pictures")
    parser.add_argument("--image-size", type=int, default=0, help="as config.dataset.image_size")
    parser.add_argument("--crop-scale", type=float, nargs=2, default=(), help="as config.dataset.crop_scale")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--batches", type=int, default=1000, help="how many are timed")
    parser.add_argument("--workers", type=int, default=0, help="as config.dataset.workers")
    parser.add_argument("--streamed", action="store_true", help="decode each picture each time it is used")
    parser.add_argument("--decode-alone", type=int, default=0, help="rounds against the workers alone")
    parser.add_argument("--step-ms", type=float, default=0.0, help="time of a training step to compare with")
    parser.add_argument("--json", default="", help="write the result to this file")
    return parser.parse_args()


def main() -> None:
    """Measures and prints."""
    arguments = parse_arguments()
    if arguments.dataset:
        source: Source = open_source(arguments.dataset, arguments.split)
    else:
        source = random_source(arguments.examples, tuple(arguments.shape))
    result: dict[str, Any] = {"source": source.info.name, "examples": len(source), "batch_size": arguments.batch_size}
    result |= {"streamed": arguments.streamed, "workers": arguments.workers, **measure(source, arguments)}
    if arguments.step_ms:
        result |= {"step_ms": arguments.step_ms, "share_of_step": result["batch_ms_median"] / arguments.step_ms}
    if arguments.decode_alone:
        result |= compare(source, arguments)
    for key, value in result.items():
        print(f"{key:>16}  {value:.4g}" if isinstance(value, float) else f"{key:>16}  {value}")
    write_measurements(arguments.json, result, "numpy", "grain")


if __name__ == "__main__":
    main()
