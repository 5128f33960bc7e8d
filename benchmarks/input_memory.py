"""Whether memory stays flat: this process and its workers, sampled over epochs of the input pipeline.

    pip install psutil
    python benchmarks/input_memory.py --dataset imagenette/160px-v2 --image-size 128 --crop-scale 0.35 1 \\
        --batch-size 64 --epochs 10 --json input_memory.json --plot input_memory.png
    ... the same with --workers 2

Memory is the proportional set size where the system tells it (Linux), so that pages which processes share count once,
and the resident set size elsewhere. "growth" compares the last epoch's mean with the second's: the first one fills
buffers. --plot draws what --json wrote.
"""

import argparse
import json
import statistics
import time
from typing import Any

from input_pipeline import make_iterator

from vae_jcc.benchmark.measuring import machine
from vae_jcc.data.sources import open_source


def memory_mib() -> float:
    """Returns the memory of this process and its children."""
    import psutil

    total = 0
    this = psutil.Process()
    for process in (this, *this.children(recursive=True)):
        try:
            memory = process.memory_full_info()
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
        total += getattr(memory, "pss", memory.rss)
    return total / 2**20


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Returns samples [epoch, MiB], the mean of each epoch, and the growth from the second to the last."""
    source = open_source(arguments.dataset, arguments.split)
    iterator = make_iterator(source, arguments)
    samples: list[tuple[float, float]] = []
    begin = time.perf_counter()
    with iterator:
        per_epoch = iterator.batches_per_epoch
        every = max(per_epoch // arguments.samples, 1)
        for number in range(arguments.epochs * per_epoch):
            next(iterator)
            if number % every == 0:
                samples.append((number / per_epoch, memory_mib()))
    took = time.perf_counter() - begin
    means = [statistics.mean(m for at, m in samples if int(at) == epoch) for epoch in range(arguments.epochs)]
    return {
        "images_per_s": arguments.epochs * per_epoch * arguments.batch_size / took,
        "epoch_mib": means,
        "growth": means[-1] / means[min(1, len(means) - 1)] - 1,
        "samples": samples,
    }


def plot(result: dict[str, Any], path: str) -> None:
    """Draws the samples over the epochs."""
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 3.5), layout="constrained")
    axes.plot(*zip(*result["samples"], strict=True), linewidth=1)
    axes.set(
        xlabel="epoch", ylabel="memory of all processes (MiB)", ylim=(0, None), title=result["settings"]["dataset"]
    )
    figure.savefig(path, dpi=150)


def main() -> None:
    """Measures, prints, and draws."""
    parser = argparse.ArgumentParser(description="Sample the input pipeline's memory over epochs.")
    parser.add_argument("--dataset", default="imagenette/160px-v2", help="as config.dataset.name")
    parser.add_argument("--split", default="train")
    parser.add_argument("--image-size", type=int, default=128)
    parser.add_argument("--crop-scale", type=float, nargs=2, default=(), help="as config.dataset.crop_scale")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--streamed", action="store_true", help="keep no decoded pictures in memory")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--samples", type=int, default=20, help="an epoch")
    parser.add_argument("--json", default="", help="write the result to this file")
    parser.add_argument("--plot", default="", help="draw it into this file")
    arguments = parser.parse_args()
    result = measure(arguments)
    settings = {k: v for k, v in vars(arguments).items() if k not in ("json", "plot")}
    result = {"settings": settings} | result | machine("numpy", "grain", "pillow")
    print("  ".join(f"{mib:.0f}" for mib in result["epoch_mib"]), f"MiB by epoch; growth {result['growth']:+.1%}")
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump(result, file, indent=1)
            file.write("\n")
    if arguments.plot:
        plot(result, arguments.plot)


if __name__ == "__main__":
    main()
