"""Training speed: images/s, memory and FLOP rate of this project's step and of the same network in PyTorch, in one run.

    python -m venv bench
    bench/bin/pip install torch==2.13.0 -e .
    bench/bin/python benchmarks/training.py --config cifar10 --threads 2 --json training.json

CIFAR and 160 pixels on a GPU, against eager and compiled PyTorch; jit and pmap over two forced devices of a CPU; and
one device of two threads against two devices of one thread each (as launch/cpu.sh trains):

    python benchmarks/training.py --config cifar10 --dtype bfloat16 --compile
    python benchmarks/training.py --config imagenet --dtype bfloat16 --compile [--batch-size 256]
    python benchmarks/training.py --parallel jit pmap --host-devices 2 --threads 2
    python benchmarks/training.py --host-devices 1 --threads 2
    python benchmarks/training.py --parallel pmap --host-devices 2 --threads 2 --single-threaded-devices

And in huge pages (vae_jcc/memory.py) against small ones:

    python benchmarks/training.py --small-pages --no-torch

Both sides take uint8 batches of random pixels and do what a training step does: random crop and flip, encoder, noise,
factorized prior, straight-through rounding, classifier, cross-entropy + lam * bpp, gradient clipping, SGD with Nesterov
momentum and weight decay (Adam on the prior), averaged parameters and batch statistics. PyTorch
(benchmarks/torch_training.py) runs eagerly, channels last, with its multi-tensor optimizers and, where --compile is
given, once more through torch.compile. The number of parameters must agree, or the benchmark stops.

Each side runs in a process of its own, the sides take turns for --rounds rounds, and the ratio is taken round by
round, so that a machine which slows down for a while hits both. Reported: median step of each round, mean and standard
deviation over rounds, peak memory (resident; of the device where it tells), and model FLOPs a second, also as a share
of the device's peak where that is known (vae_jcc/benchmark/peaks.py).
"""

import argparse
import importlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from vae_jcc.benchmark.measuring import machine, mean_std, peak_mib
from vae_jcc.memory import use_huge_pages

CLASSES = 10
TORCH = ("torch", "torch.compile")
SMALL_PAGES = "small_pages.vae_jcc.jit"  # this project's side as it would be without vae_jcc/memory.py
REFERENCES = (*TORCH, SMALL_PAGES)
# As launch/cpu.sh has them.
SINGLE_THREADED = ("--xla_cpu_multi_thread_eigen=false", "--xla_cpu_enable_concurrency_optimized_scheduler=false")


def load_config(arguments: argparse.Namespace) -> ConfigDict:
    """Returns get_config() of configs/<config>.py with the command line's batch size, remat and so on."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    config: ConfigDict = importlib.import_module(f"configs.{arguments.config}").get_config()
    config.compute_dtype = arguments.dtype or config.compute_dtype
    config.train.batch_size = arguments.batch_size or config.train.batch_size
    config.train.accumulate = arguments.accumulate
    config.model.remat = arguments.remat
    return config


def batch_shape(config: ConfigDict, arguments: argparse.Namespace) -> tuple[int, int, int]:
    """Returns (H, W, C) of a batch: the command line's, or the configuration's with its margin, or CIFAR's."""
    if arguments.shape:
        return tuple(arguments.shape)
    side = config.dataset.image_size + 2 * config.dataset.margin or 32
    return side, side, 3


def time_steps(step: Callable[[], Any], steps: int) -> list[float]:
    """Returns seconds of each of `steps` calls, after three that are not counted."""
    for _ in range(3):
        step()
    stamps = [time.perf_counter()]
    for _ in range(steps):
        step()
        stamps.append(time.perf_counter())
    return list(np.diff(stamps))


def run_jax(config: ConfigDict, shape: tuple[int, int, int], arguments: argparse.Namespace) -> dict[str, Any]:
    """Measures this project's step, as vae_jcc.train runs it, on all devices under one way of parallelism."""
    import jax

    if arguments.host_devices:
        jax.config.update("jax_num_cpu_devices", arguments.host_devices)
    from vae_jcc.benchmark.peaks import peak_flops
    from vae_jcc.benchmark.synthetic_training import prepare_training
    from vae_jcc.benchmark.training_profile import compiled_memory

    config.parallel = arguments.side.rpartition(".")[2]
    training = prepare_training(config, shape, CLASSES)
    times = time_steps(training.step, arguments.steps)
    device = jax.devices()[0]
    peak = peak_flops(device.device_kind, config.compute_dtype)
    return {
        "parameters": training.parameters,
        "step_ms": 1e3 * statistics.median(times),
        "peak_mib": (device.memory_stats() or {}).get("peak_bytes_in_use", 2**20 * peak_mib()) / 2**20,
        "temporary_mib": compiled_memory(training).get("temporary", 0) / 2**20,
        "device": f"{training.devices.count} x {device.device_kind}",
        "flops": training.flops,
        "peak_flops": peak and peak * training.devices.count,
    }


def run_torch(config: ConfigDict, shape: tuple[int, int, int], arguments: argparse.Namespace) -> dict[str, Any]:
    """Measures the same training in PyTorch."""
    import torch
    from torch_training import make_step

    from vae_jcc.benchmark.synthetic_training import random_batch

    torch.set_num_threads(arguments.threads)
    batch = random_batch(config.train.batch_size, shape, CLASSES)
    parameters, step = make_step(config, batch, CLASSES, arguments.side == "torch.compile")
    times = time_steps(step, arguments.steps)
    on_gpu = torch.cuda.is_available()
    return {
        "parameters": parameters,
        "step_ms": 1e3 * statistics.median(times),
        "peak_mib": torch.cuda.max_memory_allocated() / 2**20 if on_gpu else peak_mib(),
        "device": f"1 x {torch.cuda.get_device_name() if on_gpu else 'cpu'}",
    }


def run_side(arguments: argparse.Namespace) -> None:
    """Measures one side in this process and prints it as JSON."""
    if arguments.side not in TORCH:
        use_huge_pages()  # as in vae_jcc/main.py
    config = load_config(arguments)
    run = run_torch if arguments.side in TORCH else run_jax
    print(json.dumps(run(config, batch_shape(config, arguments), arguments)))


def spawn(side: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Runs one side in a process of its own, bound to as many cores as it may use."""
    command = [sys.executable, os.path.abspath(__file__), *sys.argv[1:], "--side", side]
    environment = dict(os.environ)
    if side == SMALL_PAGES:
        environment["GLIBC_TUNABLES"] = "glibc.malloc.hugetlb=0"
    if arguments.single_threaded_devices:
        flags = environment.get("XLA_FLAGS", "")
        environment["XLA_FLAGS"] = " ".join((flags, *SINGLE_THREADED)).strip()
    cores = sorted(os.sched_getaffinity(0))[: arguments.threads]
    done = subprocess.run(
        command,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        preexec_fn=lambda: os.sched_setaffinity(0, cores),
    )
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def parse_arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description="Measure training speed against PyTorch.")
    parser.add_argument("--config", default="cifar10", help="a file of configs/")
    shape = "height, width, channels of a batch; default: the configuration's, or 32 32 3"
    parser.add_argument("--shape", type=int, nargs=3, help=shape)
    parser.add_argument("--batch-size", type=int, default=0, help="0: the configuration's")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), help="of activations, on both sides")
    parser.add_argument("--parallel", nargs="+", choices=("jit", "pmap"), default=["jit"], help="ways to measure")
    parser.add_argument("--host-devices", type=int, default=0, help="devices that JAX makes of the CPU; 0: one")
    text = f"XLA_FLAGS='{' '.join(SINGLE_THREADED)}': a thread for each device of the CPU; with pmap"
    parser.add_argument("--single-threaded-devices", action="store_true", help=text)
    parser.add_argument("--accumulate", type=int, default=1, help="microbatches, of this project's side")
    parser.add_argument("--remat", choices=("", "blocks"), default="", help="of this project's side")
    parser.add_argument("--steps", type=int, default=30, help="timed steps a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="cores for each side")
    parser.add_argument("--compile", action="store_true", help="also measure torch.compile (needs a C++ compiler)")
    text = "also measure this project's side under jit in pages of the usual size"
    parser.add_argument("--small-pages", action="store_true", help=text)
    parser.add_argument("--no-torch", action="store_true", help="this project's side alone")
    parser.add_argument("--json", default="", help="write the result to this file")
    parser.add_argument("--side", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.single_threaded_devices and "jit" in arguments.parallel:
        # Its devices wait for each other in every collective, and one thread of work each is too few to get out.
        parser.error("--single-threaded-devices goes with --parallel pmap alone: under jit the devices hang.")
    return arguments


def summarize(rounds: list[dict[str, dict[str, Any]]], batch: int) -> dict[str, Any]:
    """Returns means and deviations of each side over the rounds, and the ratios of speed, taken round by round."""
    result: dict[str, Any] = {}
    ours = [side for side in rounds[0] if side not in REFERENCES]
    for side, first in rounds[0].items():
        steps = [one[side]["step_ms"] for one in rounds]
        result[side] = {
            "device": first["device"],
            "images_per_s": mean_std([1e3 * batch / ms for ms in steps]),
            "peak_mib": mean_std([one[side]["peak_mib"] for one in rounds]),
        }
        if side in REFERENCES:
            for our in ours:
                ratios = [one[side]["step_ms"] / one[our]["step_ms"] for one in rounds]
                result[side][f"speed_of_{our}_over_it"] = mean_std(ratios)
        # The model's FLOPs are the same on both sides, and so is the peak where both run on one device.
        flops, peak = rounds[0][ours[0]]["flops"], rounds[0][ours[0]]["peak_flops"]
        result[side]["gflops_per_s"] = mean_std([flops / ms / 1e6 for ms in steps])
        if peak:
            result[side]["flop_utilization"] = mean_std([1e3 * flops / ms / peak for ms in steps])
        if "temporary_mib" in first:
            result[side]["temporary_mib"] = first["temporary_mib"]
    return result


def main() -> None:
    """Measures all sides in turns and prints the comparison."""
    arguments = parse_arguments()
    if arguments.side:
        return run_side(arguments)
    config = load_config(arguments)
    sides = [f"vae_jcc.{mode}" for mode in arguments.parallel]
    sides += [SMALL_PAGES] * arguments.small_pages
    if not arguments.no_torch:
        sides += ["torch"] + ["torch.compile"] * arguments.compile
    rounds: list[dict[str, dict[str, Any]]] = []
    for k in range(arguments.rounds):
        rounds.append({side: spawn(side, arguments) for side in sides})
        print(f"round {k + 1}:", ", ".join(f"{s} {r['step_ms']:.1f} ms" for s, r in rounds[-1].items()), flush=True)
    parameters = {side: one["parameters"] for side, one in rounds[0].items()}
    if len(set(parameters.values())) != 1:
        raise SystemExit(f"The networks differ: {parameters} parameters.")
    settings = ("config", "dtype", "threads", "host_devices", "single_threaded_devices", "accumulate", "remat")
    result: dict[str, Any] = {name: getattr(arguments, name) for name in (*settings, "rounds", "steps")}
    result |= {"dtype": config.compute_dtype, "batch_size": config.train.batch_size}
    result |= {"shape": batch_shape(config, arguments), "parameters": parameters[sides[0]]}
    result |= summarize(rounds, config.train.batch_size)
    result |= machine("jax", "jaxlib", "flax", "optax", *["torch"] * (not arguments.no_torch), "numpy")
    print(json.dumps(result, indent=1))
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump(result, file, indent=1)
            file.write("\n")


if __name__ == "__main__":
    main()
