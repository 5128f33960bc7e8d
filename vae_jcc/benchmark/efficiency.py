"""What encoders cost a device: size, arithmetic, memory, time and energy, measured side by side.

Every system lives in a process of its own (worker.py), all those of one image size at the same time, and they take
turns: warm-up, then rounds of one short measurement each, so that a machine which slows down for a while hits all of
them. Time is from uint8 pixels to what the system makes of them: bytes with the entropy coding, or logits.
"""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from vae_jcc.benchmark.energy import Meter
from vae_jcc.benchmark.flax_systems import load_config, save_random
from vae_jcc.benchmark.measuring import spread
from vae_jcc.benchmark.systems import Spec
from vae_jcc.benchmark.worker import Worker, WorkerError

# Images at a time for systems that would take too long over protocol.batch.
SMALLER_BATCHES = (64, 16, 4, 1)
_IMAGES_FOR_SIZE = 16  # over which a file's bytes are averaged


@dataclass(frozen=True)
class Protocol:
    """How long and how often is measured.

    Attributes:
        rounds: that the systems take turns for.
        round_seconds: what a measurement lasts at least.
        longest_batch: seconds that a batch may take; slower systems get smaller batches, which their row states.
        batch: images at a time where the throughput is measured.
        threads: cores of each process.
    """

    rounds: int = 7
    round_seconds: float = 0.3
    longest_batch: float = 8.0
    batch: int = 256
    threads: int = 1


def measure(
    specs: Sequence[Spec],
    pictures: Mapping[tuple[int, int, int], np.ndarray],
    meter: Meter,
    protocol: Protocol,
    say: Callable[[str], None] = lambda text: None,
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Measures all systems, those of one image size against each other.

    Args:
        specs: what to measure.
        pictures: uint8 [N, H, W, C] for each (H, W, C) among them, N at least protocol.batch.
        meter: of energy.
        protocol: how long and how often.
        say: is told what goes on.

    Returns:
        A row for each system that could be measured (`_row`), and for each other one "name at HxW" to the reason.
    """
    rows: list[dict[str, Any]] = []
    left_out: dict[str, str] = {}
    for shape, images in pictures.items():
        group = [spec for spec in specs if (*spec.size, spec.channels) == shape]
        with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
            path = str(Path(folder) / "images.npy")
            np.save(path, images)
            measured: list[_Measured] = []
            for spec in group:
                say(f"{shape[0]}x{shape[1]}: opening {spec.target}")
                if spec.kind == "config":
                    place = Path(folder) / str(len(measured))
                    save_random(place, load_config(spec.target), spec.size, spec.channels)
                    spec = replace(spec, folder=str(place))
                try:
                    worker = stack.enter_context(Worker(spec, path, protocol.threads))
                except WorkerError as error:
                    left_out[f"{spec.target} at {shape[0]}x{shape[1]}"] = str(error)
                    continue
                measured.append(_Measured(spec, worker))
            failed = _take_turns(measured, meter, protocol, say)
            left_out |= {f"{one.spec.target} at {shape[0]}x{shape[1]}": why for one, why in failed.items()}
            rows += [one.row(meter.source) for one in measured if one not in failed]
    return rows, left_out


class _Measured:
    """A system in its process, and what was measured of it so far."""

    def __init__(self, spec: Spec, worker: Worker) -> None:
        self.spec, self.worker = spec, worker
        self.batch = 1
        self._once: float = 0.0
        self.peak_single = self.peak_batch = 0.0
        self.bytes_per_image: float | None = None
        self.latency: list[float] = []
        self.joules: list[float] = []
        self.throughput: list[float] = []

    def prepare_single(self) -> None:
        self._once = self.worker.warm_up(1)
        self.bytes_per_image = self.worker.bytes_per_image(_IMAGES_FOR_SIZE)

    def prepare_batch(self, protocol: Protocol) -> None:
        sizes = (protocol.batch, *(size for size in SMALLER_BATCHES if size < protocol.batch))
        self.batch = next((size for size in sizes if size * self._once <= protocol.longest_batch), 1)
        self._once = self.worker.warm_up(self.batch)

    def calls(self, seconds: float) -> int:
        """Returns how many calls last about so long."""
        return max(1, round(seconds / max(self._once, 1e-6)))

    def row(self, energy: str) -> dict[str, Any]:
        """Returns everything as JSON values: times in ms, energies in joules, rates in images/s, memory in MiB."""
        height, width = self.spec.size
        facts = self.worker.facts
        return {
            "system": facts["name"],
            "ours": self.spec.ours,
            "kind": self.spec.kind,
            "target": self.spec.target,
            "size": [height, width],
            "channels": self.spec.channels,
            "output": facts["output"],
            "weights": facts["weights"],
            "parameters": facts["parameters"],
            "weight_bytes": facts["weight_bytes"],
            "macs_per_pixel": None if facts["macs"] is None else facts["macs"] / (height * width),
            "bytes_per_image": self.bytes_per_image,
            "peak_mib": {"batch_1": self.peak_single, "batch_n": self.peak_batch},
            "latency_ms": spread(self.latency),
            "batch": self.batch,
            "images_per_s": spread(self.throughput),
            "joules_per_image": spread(self.joules),
            "energy": energy,
            "libraries": list(facts["libraries"]),
        }


def _take_turns(
    measured: list[_Measured], meter: Meter, protocol: Protocol, say: Callable[[str], None]
) -> dict[_Measured, str]:
    """Measures the systems round by round; returns those that failed on the way, and why: the others go on."""
    failed: dict[_Measured, str] = {}

    def each(work: Callable[[_Measured], None]) -> None:
        for one in measured:
            if one not in failed:
                try:
                    work(one)
                except WorkerError as error:
                    failed[one] = str(error)

    def warm_up(one: _Measured) -> None:
        say(f"warming up {one.worker.facts['name']}")
        one.prepare_single()

    def single(one: _Measured) -> None:
        calls = one.calls(protocol.round_seconds)
        wall: list[float] = []

        def work() -> float:
            seconds, cpu_seconds = one.worker.run(1, calls)
            wall.append(seconds)
            return cpu_seconds

        one.joules.append(meter.joules(work) / calls)
        one.latency.append(1e3 * wall[0] / calls)

    def warm_up_batches(one: _Measured) -> None:
        one.peak_single = one.worker.peak_mib()
        say(f"warming up {one.worker.facts['name']} in batches")
        one.prepare_batch(protocol)

    def batches(one: _Measured) -> None:
        calls = one.calls(protocol.round_seconds)
        seconds, _ = one.worker.run(one.batch, calls)
        one.throughput.append(one.batch * calls / seconds)

    def finish(one: _Measured) -> None:
        one.peak_batch = one.worker.peak_mib()

    each(warm_up)
    for i in range(protocol.rounds):
        say(f"batch 1, round {i + 1} of {protocol.rounds}")
        each(single)
    each(warm_up_batches)
    for i in range(protocol.rounds):
        say(f"batches, round {i + 1} of {protocol.rounds}")
        each(batches)
    each(finish)
    return failed
