"""Training speed: images/s and peak memory of this project's step and of the same network in PyTorch, in one run.

    python -m venv bench
    bench/bin/pip install torch==2.13.0 -e .
    bench/bin/python benchmarks/training.py --config cifar10 --threads 2 --json training.json

Both sides take uint8 batches and do what a training step does: random crop and flip, encoder, noise, factorized prior,
straight-through rounding, classifier, cross-entropy + lam * bpp, gradient clipping, SGD with Nesterov momentum and
weight decay (Adam on the prior), averaged parameters and batch statistics. PyTorch runs eagerly, channels last, with
its multi-tensor optimizers and, where --compile is given, once more through torch.compile. The number of parameters
must agree, or the benchmark stops.

Each side runs in a process of its own, the sides take turns for --rounds rounds, and the ratio is taken round by
round, so that a machine which slows down for a while hits both. Reported: median step of each round, mean and standard
deviation over rounds, peak resident memory.
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

CLASSES, STEPS_PER_EPOCH = 10, 371


def load_config(name: str) -> ConfigDict:
    """Returns get_config() of configs/<name>.py."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    config: ConfigDict = importlib.import_module(f"configs.{name}").get_config()
    return config


def make_batch(size: int, shape: tuple[int, int, int]) -> dict[str, np.ndarray]:
    """Returns a batch of random pixels uint8 [B, H, W, C] with labels and positions int32 [B]."""
    rng = np.random.default_rng(0)
    return {
        "image": rng.integers(0, 256, (size, *shape), np.uint8),
        "label": rng.integers(0, CLASSES, size).astype(np.int32),
        "position": np.arange(size, dtype=np.int32),
    }


def time_steps(step: Callable[[], Any], steps: int) -> list[float]:
    """Returns seconds of each of `steps` calls, after three that are not counted."""
    for _ in range(3):
        step()
    stamps = [time.perf_counter()]
    for _ in range(steps):
        step()
        stamps.append(time.perf_counter())
    return list(np.diff(stamps))


def run_jax(config: ConfigDict, shape: tuple[int, int, int], steps: int) -> tuple[int, list[float]]:
    """Returns (parameters, seconds of each step) of this project, as vae_jcc.train runs it."""
    from vae_jcc.memory import keep_freed_memory

    keep_freed_memory()
    import jax

    from vae_jcc import optim
    from vae_jcc.models.joint import build_model
    from vae_jcc.parallel import make_devices
    from vae_jcc.state import create_state
    from vae_jcc.steps import make_train_step

    devices = make_devices(config.parallel)
    model = build_model(config, CLASSES, shape[2], devices.axis_name)
    optimizer = optim.make_optimizer(config, STEPS_PER_EPOCH, 30 * STEPS_PER_EPOCH)
    state = devices.put_state(create_state(model, optimizer, 0, shape))
    parameters = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    rate = optim.lam_schedule(config, STEPS_PER_EPOCH)
    quantizer = config.quantizer.kind
    train_step = devices.compile_train(
        make_train_step(config, model, optimizer, rate, quantizer=quantizer, axis_name=devices.axis_name)
    )
    batch = make_batch(config.train.batch_size, shape)

    def step() -> None:
        nonlocal state
        state, metrics = train_step(state, devices.put_batch(batch))
        metrics["loss"].block_until_ready()

    return parameters, time_steps(step, steps)


def run_torch(config: ConfigDict, shape: tuple[int, int, int], steps: int, compiled: bool) -> tuple[int, list[float]]:
    """Returns (parameters, seconds of each step) of the same training in PyTorch."""
    import torch
    from torch import nn
    from torch.nn import functional as F  # noqa: N812

    class Block(nn.Module):
        def __init__(self, c_in: int, c_out: int, stride: int, bias: bool) -> None:
            super().__init__()
            self.norm1, self.norm2 = nn.BatchNorm2d(c_in), nn.BatchNorm2d(c_out)
            self.conv1 = nn.Conv2d(c_in, c_out, 3, stride, 1, bias=bias)
            self.conv2 = nn.Conv2d(c_out, c_out, 3, 1, 1, bias=bias)
            same = stride == 1 and c_in == c_out
            self.shortcut = None if same else nn.Conv2d(c_in, c_out, 1, stride, bias=False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            h = F.relu(self.norm1(x), inplace=True)
            shortcut = x if self.shortcut is None else self.shortcut(h)
            return self.conv2(F.relu(self.norm2(self.conv1(h)), inplace=True)) + shortcut

    def stages(c_in: int, spec: Any, bias: bool) -> list[nn.Module]:
        layers: list[nn.Module] = []
        for features, blocks, stride in spec:
            for j in range(blocks):
                layers.append(Block(c_in, features, stride if j == 0 else 1, bias))
                c_in = features
        return [*layers, nn.BatchNorm2d(c_in)]

    class Prior(nn.Module):
        def __init__(self, channels: int, filters: tuple[int, ...]) -> None:
            super().__init__()
            sizes = (1, *filters, 1)
            self.matrices = nn.ParameterList(
                torch.full((channels, b, a), 0.5) for a, b in zip(sizes[:-1], sizes[1:], strict=True)
            )
            self.biases = nn.ParameterList(torch.rand(channels, b) - 0.5 for b in sizes[1:])
            self.factors = nn.ParameterList(torch.zeros(channels, b) for b in filters)

        def logits(self, y: torch.Tensor) -> torch.Tensor:  # [channels, 1, n] to the same
            for k, (matrix, bias) in enumerate(zip(self.matrices, self.biases, strict=True)):
                y = torch.baddbmm(bias[:, :, None], F.softplus(matrix), y)
                if k < len(self.factors):
                    y = y + torch.tanh(self.factors[k])[:, :, None] * torch.tanh(y)
            return y

        def forward(self, y: torch.Tensor) -> torch.Tensor:  # [B, channels, h, w] to bits of the whole batch
            rows = y.permute(1, 0, 2, 3).reshape(y.shape[1], 1, -1)
            lower, upper = self.logits(rows - 0.5), self.logits(rows + 0.5)
            gap = (upper - lower).clamp_min(1e-6)
            log_prob = F.logsigmoid(upper) + F.logsigmoid(-lower) + torch.log(-torch.expm1(-gap))
            return -log_prob.sum() / np.log(2)

    class Joint(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            e, k, latent = config.model.encoder, config.model.classifier, config.model.latent_channels
            pad = (e.stem_kernel - e.stem_stride + 1) // 2
            stem = nn.Conv2d(shape[2], e.stem_features, e.stem_kernel, e.stem_stride, pad, bias=False)
            body = stages(e.stem_features, e.stages, e.conv_bias)
            last = nn.Conv2d(e.stages[-1][0], latent, e.latent_kernel, padding=e.latent_kernel // 2)
            self.encoder = nn.Sequential(stem, *body, nn.ReLU(), last)
            self.prior = Prior(latent, tuple(config.entropy.filters))
            first = nn.Conv2d(latent, k.stages[0][0], k.stem_kernel, padding=k.stem_kernel // 2, bias=False)
            self.classifier = nn.Sequential(first, *stages(k.stages[0][0], k.stages, False), nn.ReLU())
            self.logits = nn.Linear(k.stages[-1][0], CLASSES)

        def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            y = self.encoder((images - 0.5) * 4)
            bits = self.prior(y + torch.rand_like(y) - 0.5)
            y_hat = y + (torch.round(y) - y).detach()
            return self.logits(self.classifier(y_hat).mean((2, 3))), bits

    model = Joint().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    averaged = [t.detach().clone() for t in (*model.parameters(), *model.buffers())]
    prior = list(model.prior.parameters())
    network = [p for name, p in model.named_parameters() if not name.startswith("prior")]
    kernels, vectors = [p for p in network if p.ndim > 1], [p for p in network if p.ndim == 1]
    o = config.optim
    groups = [{"params": kernels, "weight_decay": o.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    sgd = torch.optim.SGD(groups, o.learning_rate, momentum=o.momentum, nesterov=True, foreach=True)
    adam = torch.optim.Adam(prior, o.prior_learning_rate, foreach=True)
    forward = torch.compile(model) if compiled else model
    data = make_batch(config.train.batch_size, shape)
    border, pixels = config.augment.crop_padding, shape[0] * shape[1]

    def augmented(images: torch.Tensor) -> torch.Tensor:  # uint8 [B, H, W, C] to float32 [B, C, H, W]
        size, rows, columns = images.shape[:3]
        x = F.pad(images.permute(0, 3, 1, 2).float(), (border,) * 4, mode="reflect")
        top, left = torch.randint(0, 2 * border + 1, (2, size, 1))
        i, j = top + torch.arange(rows), left + torch.arange(columns)
        j = torch.where(torch.rand(size, 1) < 0.5, j, j.flip(1))
        x = x[torch.arange(size)[:, None, None], :, i[:, :, None], j[:, None, :]]  # [B, H, W, C]
        return (x / 255).permute(0, 3, 1, 2)

    def step() -> None:
        images = augmented(torch.from_numpy(data["image"]))
        labels = torch.from_numpy(data["label"]).long()
        logits, bits = forward(images)
        loss = F.cross_entropy(logits, labels, label_smoothing=config.loss.label_smoothing)
        loss = loss + config.loss.lam * bits / (len(labels) * pixels)
        sgd.zero_grad()
        adam.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network, o.clip_norm, foreach=True)
        sgd.step()
        adam.step()
        with torch.no_grad():
            new = [*model.parameters(), *model.buffers()]
            floats = [(a, n) for a, n in zip(averaged, new, strict=True) if a.is_floating_point()]
            torch._foreach_lerp_([a for a, _ in floats], [n for _, n in floats], 1 - o.ema_decay)
        loss.item()

    return sum(p.numel() for p in model.parameters()), time_steps(step, steps)


def run_side(arguments: argparse.Namespace) -> None:
    """Measures one side in this process and prints it as JSON."""
    config = load_config(arguments.config)
    if arguments.batch_size:
        config.train.batch_size = arguments.batch_size
    shape = tuple(arguments.shape)
    if arguments.side == "vae_jcc":
        parameters, seconds = run_jax(config, shape, arguments.steps)
    else:
        import torch

        torch.set_num_threads(arguments.threads)
        parameters, seconds = run_torch(config, shape, arguments.steps, arguments.side == "torch.compile")
    median = 1e3 * statistics.median(seconds)
    print(json.dumps({"parameters": parameters, "step_ms": median, "peak_mib": peak_mib()}))


def spawn(side: str, arguments: argparse.Namespace) -> dict[str, float]:
    """Runs one side in a process of its own, bound to as many cores as it may use."""
    command = [sys.executable, os.path.abspath(__file__), "--side", side, "--config", arguments.config]
    command += ["--steps", str(arguments.steps), "--threads", str(arguments.threads)]
    command += ["--batch-size", str(arguments.batch_size), "--shape", *map(str, arguments.shape)]
    cores = sorted(os.sched_getaffinity(0))[: arguments.threads]
    done = subprocess.run(
        command, check=True, stdout=subprocess.PIPE, text=True, preexec_fn=lambda: os.sched_setaffinity(0, cores)
    )
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def parse_arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description="Measure training speed against PyTorch.")
    parser.add_argument("--config", default="cifar10", help="a file of configs/")
    parser.add_argument("--shape", type=int, nargs=3, default=(32, 32, 3), help="height, width, channels")
    parser.add_argument("--batch-size", type=int, default=0, help="0: the configuration's")
    parser.add_argument("--steps", type=int, default=30, help="timed steps a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="cores for each side")
    parser.add_argument("--compile", action="store_true", help="also measure torch.compile (needs a C++ compiler)")
    parser.add_argument("--json", default="", help="write the result to this file")
    parser.add_argument("--side", choices=("vae_jcc", "torch", "torch.compile"), help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Measures all sides in turns and prints the comparison."""
    arguments = parse_arguments()
    if arguments.side:
        return run_side(arguments)
    sides = ["vae_jcc", "torch"] + ["torch.compile"] * arguments.compile
    rounds: list[dict[str, dict[str, float]]] = []
    for k in range(arguments.rounds):
        rounds.append({side: spawn(side, arguments) for side in sides})
        print(f"round {k + 1}:", ", ".join(f"{s} {r['step_ms']:.1f} ms" for s, r in rounds[-1].items()), flush=True)
    if len({r["parameters"] for one in rounds for r in one.values()}) != 1:
        raise SystemExit(f"The networks differ: { ({s: r['parameters'] for s, r in rounds[0].items()}) } parameters.")
    batch = arguments.batch_size or load_config(arguments.config).train.batch_size
    result: dict[str, Any] = {"config": arguments.config, "batch_size": batch, "threads": arguments.threads}
    result |= {"rounds": arguments.rounds, "steps": arguments.steps, "parameters": rounds[0]["torch"]["parameters"]}
    for side in sides:
        result[side] = {
            "images_per_s": mean_std([1e3 * batch / one[side]["step_ms"] for one in rounds]),
            "peak_mib": mean_std([one[side]["peak_mib"] for one in rounds]),
        }
        if side != "vae_jcc":
            ratios = [one[side]["step_ms"] / one["vae_jcc"]["step_ms"] for one in rounds]
            result[side]["speed_of_vae_jcc_over_it"] = mean_std(ratios)
    result |= machine("jax", "jaxlib", "flax", "optax", "torch", "numpy")
    print(json.dumps(result, indent=1))
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump(result, file, indent=1)
            file.write("\n")


if __name__ == "__main__":
    main()
