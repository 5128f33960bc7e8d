"""An optimizer step of Muon: on Gram matrices (vae_jcc/newton_schulz.py), and Optax's own.

Command:   python benchmarks/muon.py --json results/speed/muon.json

Both make the momentum of a configuration's kernels orthogonal, from the same random gradients, one thread, compiled.
They take turns for --rounds rounds, and the ratio is taken round by round; "difference" is that of the steps, relative
to their norm.
"""

import argparse
import importlib
import os
import shlex
import sys
from pathlib import Path
from typing import Any

os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_cpu_multi_thread_eigen=false"

import jax
import jax.numpy as jnp
import numpy as np
import optax.contrib

from vae_jcc.benchmark.measuring import seconds, spread, write_measurements
from vae_jcc.models.joint import build_model
from vae_jcc.newton_schulz import as_matrix, is_matrix, scale_by_muon
from vae_jcc.publish import describe_run


def kernels(name: str) -> dict[str, jax.Array]:
    """Returns random gradients of all kernels that Muon takes in configs/NAME.py's model of 10 classes of 32x32 RGB."""
    model = build_model(importlib.import_module(f"configs.{name}").get_config(), 10, 3)
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((1, 32, 32, 3))))["params"]
    rng = np.random.default_rng(0)
    return {
        jax.tree_util.keystr(path): jnp.asarray(rng.normal(size=leaf.shape), jnp.float32)
        for path, leaf in jax.tree_util.tree_leaves_with_path(shapes)
        if is_matrix(path, leaf)
    }


def measure(name: str, rounds: int) -> dict[str, Any]:
    """Returns milliseconds of both ways, ours over Optax's, and how far the steps differ."""
    gradients = kernels(name)
    ways = {
        "ours": scale_by_muon(0.9, nesterov=True),
        "optax": optax.contrib.scale_by_muon(
            beta=0.9, nesterov=True, weight_dimension_numbers=lambda updates: jax.tree.map(as_matrix, updates)
        ),
    }
    state = ways["optax"].init(gradients)
    steps = {way: jax.jit(lambda g, s, m=muon: m.update(g, s)[0]) for way, muon in ways.items()}
    done = {way: jax.block_until_ready(step(gradients, state)) for way, step in steps.items()}
    difference = optax.tree.norm(jax.tree.map(jnp.subtract, done["ours"], done["optax"]))
    times = [
        {way: 1000 * seconds(lambda s=step: jax.block_until_ready(s(gradients, state))) for way, step in steps.items()}
        for _ in range(rounds)
    ]
    return {
        "config": name,
        "numbers": sum(g.size for g in gradients.values()),
        "ours_ms": spread([t["ours"] for t in times]),
        "optax_ms": spread([t["optax"] for t in times]),
        "ratio": spread([t["ours"] / t["optax"] for t in times]),
        "difference": float(difference / optax.tree.norm(done["optax"])),
    }


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description="Compare Muon's step on Gram matrices with Optax's.")
    parser.add_argument("--configs", nargs="+", default=["cifar10", "cifar10_deep", "cifar10_small_grid"])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--json", default="", help="write the result to this file")
    options = parser.parse_args()
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # configs/ is no part of the package
    rows = []
    for name in options.configs:
        rows.append(measure(name, options.rounds))
        row, ratio = rows[-1], rows[-1]["ratio"]
        line = f"{name}: {row['ours_ms']['median']:.0f} ms, Optax {row['optax_ms']['median']:.0f} ms, "
        line += (
            f"{ratio['median']:.2f}x ({ratio['min']:.2f}-{ratio['max']:.2f}), steps differ by {row['difference']:.1e}"
        )
        print(line, flush=True)
    command = shlex.join(["python", "benchmarks/muon.py", *sys.argv[1:]])
    write_measurements(options.json, {"configs": rows} | describe_run(command), "jax", "optax")


if __name__ == "__main__":
    main()
