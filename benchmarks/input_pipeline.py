"""What feeding a training step costs: images/s of the input pipeline, and its share of the step's time.

    python benchmarks/input_pipeline.py --step-ms 300
    python benchmarks/input_pipeline.py --dataset cifar10 --split train --step-ms 300 --json input_pipeline.json

Without --dataset, pictures of random pixels of --shape are held in memory, which is how every data set that fits
memory_limit is fed. With it, the data set is read as a training run reads it; --streamed forbids keeping it in memory
and measures decoding. A batch is timed from asking for it to having it, with nothing else going on in between, so
decoding ahead during the step, which hides most of the cost, is not credited.
"""

import argparse
import json
import time

import numpy as np

from vae_jcc.benchmark.measuring import machine
from vae_jcc.data.array_source import ArraySource
from vae_jcc.data.pipeline import DEFAULT_MEMORY_LIMIT, train_iterator
from vae_jcc.data.sources import Source, SourceInfo, open_source


def random_source(examples: int, shape: tuple[int, int, int]) -> Source:
    """A source of random pixels, uint8 [examples, *shape], with ten classes."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (examples, *shape), np.uint8)
    names = tuple(str(k) for k in range(10))
    info = SourceInfo("random", "train", examples, 10, names, shape[2], shape[:2], "random pixels")
    return ArraySource(info, images, rng.integers(0, 10, examples).astype(np.int32))


def measure(source: Source, arguments: argparse.Namespace) -> dict[str, float]:
    """Times single batches after a warm-up.

    Returns:
        Seconds until the first batch, median and 95th percentile of a batch in milliseconds, images per second.
    """
    begin = time.perf_counter()
    batches = train_iterator(
        source,
        batch_size=arguments.batch_size,
        seed=0,
        image_size=arguments.image_size,
        workers=arguments.workers,
        memory_limit=0 if arguments.streamed else DEFAULT_MEMORY_LIMIT,
    )
    with batches:
        next(batches)
        first = time.perf_counter() - begin
        for _ in range(arguments.batches // 10):
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
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--batches", type=int, default=1000, help="how many are timed")
    parser.add_argument("--workers", type=int, default=0, help="as config.dataset.workers")
    parser.add_argument("--streamed", action="store_true", help="decode each picture each time it is used")
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
    result = {"source": source.info.name, "examples": len(source), "batch_size": arguments.batch_size}
    result |= {"streamed": arguments.streamed, "workers": arguments.workers, **measure(source, arguments)}
    if arguments.step_ms:
        result |= {"step_ms": arguments.step_ms, "share_of_step": result["batch_ms_median"] / arguments.step_ms}
    for key, value in result.items():
        print(f"{key:>16}  {value:.4g}" if isinstance(value, float) else f"{key:>16}  {value}")
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump(result | machine("numpy", "grain"), file, indent=1)
            file.write("\n")


if __name__ == "__main__":
    main()
