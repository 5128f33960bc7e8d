"""Whether input costs a training step time: real data against random pixels of the same shape, in one run.

    python benchmarks/input_step_time.py --config imagenette --steps 30 --rounds 5 --json input_step_time.json
    python benchmarks/input_step_time.py --config imagenette --set train.batch_size=16 dataset.workers=1 --steps 20

Both sides run the configuration's own training step, compiled once, on batches that the pipeline makes: of the
configuration's training split, and of "synthetic:", whose pictures have the batch's shape already and cost no more than
a copy. They take turns for --rounds rounds, and the ratio of their median steps is taken round by round; 1.05 or less
says that the input keeps up. On a CPU that decodes and trains at once, decoding takes cores from the step.
"""

import argparse
import ast
import importlib
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from vae_jcc.benchmark.measuring import spread, write_measurements
from vae_jcc.data.pipeline import TrainIterator, train_iterator
from vae_jcc.data.sources import Source, open_source
from vae_jcc.memory import use_huge_pages

TrainStep = Callable[[dict[str, np.ndarray]], None]


def load_config(name: str, overrides: list[str]) -> ConfigDict:
    """Returns get_config() of configs/<name>.py with KEY=VALUE overrides."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    config: ConfigDict = importlib.import_module(f"configs.{name}").get_config()
    pairs = (override.split("=", 1) for override in overrides)
    config.update_from_flattened_dict({key: ast.literal_eval(value) for key, value in pairs})
    return config


def make_step(config: ConfigDict, source: Source) -> TrainStep:
    """Returns a training step that waits for its end, as vae_jcc.train compiles it."""
    from vae_jcc import optim
    from vae_jcc.evaluate import input_shape
    from vae_jcc.models.joint import build_model
    from vae_jcc.parallel import make_devices
    from vae_jcc.state import create_state
    from vae_jcc.steps import make_train_step

    devices = make_devices(config.parallel)
    info, per_epoch = source.info, max(len(source) // config.train.batch_size, 1)
    model = build_model(config, info.num_classes, info.channels, devices.axis_name)
    optimizer = optim.make_optimizer(config, per_epoch, 100 * per_epoch)
    state = devices.put_state(create_state(model, optimizer, config.seed, input_shape(config, source)))
    rate, quantizer = optim.lam_schedule(config, per_epoch), config.quantizer.kind
    train_step = devices.compile_train(
        make_train_step(config, model, optimizer, rate, quantizer=quantizer, axis_name=devices.axis_name)
    )
    positions = np.arange(config.train.batch_size, dtype=np.int32)
    draws = {"position": positions, "seed": np.zeros_like(positions)}

    def step(batch: dict[str, np.ndarray]) -> None:
        nonlocal state
        state, metrics = train_step(state, devices.put_batch(batch | draws))
        metrics["loss"].block_until_ready()

    return step


def make_iterators(config: ConfigDict, source: Source) -> dict[str, TrainIterator]:
    """Returns training batches of the real data and of random pixels of the same shape."""
    d, batch_size = config.dataset, config.train.batch_size
    real = train_iterator(
        source,
        batch_size=batch_size,
        seed=config.seed,
        image_size=d.image_size,
        margin=d.margin,
        crop_scale=d.crop_scale,
        crop_ratio=d.crop_ratio,
        workers=d.workers,
        memory_limit=d.memory_limit,
    )
    height, width, channels = next(real)["image"].shape[1:]
    made_up = open_source(f"synthetic:{height}x{width}x{channels}:{4 * batch_size}", "train")
    return {"real": real, "synthetic": train_iterator(made_up, batch_size=batch_size, seed=config.seed)}


def measure(step: TrainStep, iterators: dict[str, TrainIterator], arguments: argparse.Namespace) -> dict[str, Any]:
    """Returns milliseconds of a step on either side, from asking for its batch to its end, and their ratio."""
    step(next(iterators["synthetic"]))  # compiles
    rounds: dict[str, list[float]] = {name: [] for name in iterators}
    for _ in range(arguments.rounds):
        for name, batches in iterators.items():
            took = []
            for number in range(arguments.steps + 2):
                begin = time.perf_counter()
                step(next(batches))
                if number >= 2:  # the other side's decoding ahead has ended by then
                    took.append(1e3 * (time.perf_counter() - begin))
            rounds[name].append(statistics.median(took))
    ratios = [a / b for a, b in zip(rounds["real"], rounds["synthetic"], strict=True)]
    return {f"{name}_step_ms": spread(values) for name, values in rounds.items()} | {"ratio": spread(ratios)}


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description="Compare step times on real and on made-up data.")
    parser.add_argument("--config", default="imagenette", help="a file in configs/, without .py")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="overrides of the configuration")
    parser.add_argument("--steps", type=int, default=30, help="a round, on either side")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", default="", help="write the result to this file")
    arguments = parser.parse_args()
    config = load_config(arguments.config, arguments.set)
    d = config.dataset
    source = open_source(d.name, d.train_split, data_dir=d.data_dir or None)
    iterators = make_iterators(config, source)
    try:
        result = measure(make_step(config, source), iterators, arguments)
    finally:
        for iterator in iterators.values():
            iterator.close()
    for name, values in result.items():
        print(f"{name:>18}  {values['median']:.4g} ({values['min']:.4g}-{values['max']:.4g})")
    settings = {k: v for k, v in vars(arguments).items() if k != "json"}
    write_measurements(arguments.json, {"settings": settings} | result, "jax", "numpy", "grain", "pillow")


if __name__ == "__main__":
    use_huge_pages()
    main()
