"""Convolutions of images smaller than their kernel on a CPU: the project's against XLA's own, in milliseconds.

    XLA_FLAGS=--xla_cpu_multi_thread_eigen=false taskset -c 0 python benchmarks/small_images.py --json small_images.json

The shapes are those of the last stage of `cifar10_small_grid`'s receiver, the same with fewer channels or a single
place, and one of the stage before, where the image is no smaller than the kernel. Both ways take turns for --rounds
rounds; the ratio is taken round by round.
"""

import argparse
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from vae_jcc.benchmark.measuring import seconds, spread, write_measurements
from vae_jcc.models.convolution import conv_general_dilated

# (rows and columns, channels in, channels out, stride) of 3x3 kernels
SHAPES = [(4, 192, 384, 2), (2, 384, 384, 1), (2, 192, 192, 1), (2, 96, 96, 1), (1, 384, 384, 1), (4, 192, 192, 1)]


def xla(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """XLA's own convolution, as `nn.Conv` calls it."""
    return lax.conv_general_dilated(x, kernel, (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def ours(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """The project's."""
    return conv_general_dilated(x, kernel, (stride, stride), "SAME")


def calls(convolution: Callable[..., jax.Array], shape: tuple[int, int, int, int], batch: int) -> dict[str, Any]:
    """Returns what is timed, compiled: the "forward" pass, and the "gradients" alone, which do not need its result."""
    side, c_in, c_out, stride = shape
    keys = jax.random.split(jax.random.key(0))
    x, kernel = jax.random.normal(keys[0], (batch, side, side, c_in)), jax.random.normal(keys[1], (3, 3, c_in, c_out))

    def forward(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return convolution(x, kernel, stride)

    def both_gradients(x: jax.Array, kernel: jax.Array) -> Any:
        y, gradients = jax.vjp(forward, x, kernel)
        return gradients(jnp.ones_like(y))

    compiled = {"forward": jax.jit(forward), "gradients": jax.jit(both_gradients)}
    return {name: lambda f=f: jax.block_until_ready(f(x, kernel)) for name, f in compiled.items()}


def measure(shape: tuple[int, int, int, int], batch: int, rounds: int) -> dict[str, Any]:
    """Returns milliseconds of both ways and XLA's over ours, for each of `calls`."""
    both = {"xla": calls(xla, shape, batch), "ours": calls(ours, shape, batch)}
    result = {}
    for name in both["xla"]:
        for way in both.values():
            way[name]()
        times = [{who: 1000 * seconds(way[name]) for who, way in both.items()} for _ in range(rounds)]
        result[name] = {f"{who}_ms": spread([t[who] for t in times]) for who in both}
        result[name]["ratio"] = spread([t["xla"] / t["ours"] for t in times])
    return result


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description="Compare convolutions of images smaller than their kernel.")
    parser.add_argument("--batch", type=int, default=128, help="images")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", default="", help="write the result to this file")
    arguments = parser.parse_args()
    rows = []
    for shape in SHAPES:
        side, c_in, c_out, stride = shape
        found = measure(shape, arguments.batch, arguments.rounds)
        rows.append({"image": [side, side, c_in], "kernel": [3, 3, c_in, c_out], "stride": stride} | found)
        for name, row in found.items():
            xla_ms, our_ms, ratio = (row[key] for key in ("xla_ms", "ours_ms", "ratio"))
            print(
                f"{side}x{side}x{c_in} to {c_out}, stride {stride}, {name:9} XLA {xla_ms['median']:7.1f} ms, "
                f"ours {our_ms['median']:6.1f} ms, {ratio['median']:.1f}x ({ratio['min']:.1f}-{ratio['max']:.1f})"
            )
    settings = {k: v for k, v in vars(arguments).items() if k != "json"}
    write_measurements(arguments.json, {"settings": settings, "shapes": rows}, "jax", "jaxlib")


if __name__ == "__main__":
    main()
