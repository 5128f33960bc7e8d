"""`vae-jcc bench`: which benchmarks there are; each has its arguments and its work in a module of its own."""

from typing import Any

from vae_jcc.cli import bench_efficiency, bench_rate_accuracy, bench_reconstruct


def add_bench(commands: Any) -> None:
    """Adds `bench` and its benchmarks to the subcommands of `vae-jcc`."""
    text = "measure models against other ways to do the same"
    benchmarks = commands.add_parser("bench", help=text, description=text).add_subparsers(
        required=True, metavar="BENCHMARK"
    )
    bench_rate_accuracy.add_arguments(benchmarks)
    bench_efficiency.add_arguments(benchmarks)
    bench_reconstruct.add_arguments(benchmarks)
