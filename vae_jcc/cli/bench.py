"""`vae-jcc bench`: the benchmarks, a module each."""

from typing import Any

from vae_jcc.cli import bench_rate_accuracy


def add_bench(commands: Any) -> None:
    """Adds `bench` with its benchmarks to the subcommands of `vae-jcc`."""
    text = "benchmarks against other ways to do the same"
    benchmarks = commands.add_parser("bench", help=text, description=text).add_subparsers(
        required=True, metavar="BENCHMARK"
    )
    bench_rate_accuracy.add(benchmarks)
