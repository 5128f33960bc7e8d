"""What measurements share: clocks, memory, statistics, and what a result says of its machine."""

import json
import os
import platform
import resource
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any


def seconds(function: Callable[[], Any]) -> float:
    """Returns how long one call takes."""
    begin = time.perf_counter()
    function()
    return time.perf_counter() - begin


def mean_std(values: Sequence[float]) -> dict[str, float]:
    """Returns mean and sample standard deviation."""
    return {"mean": statistics.mean(values), "std": statistics.stdev(values) if len(values) > 1 else 0.0}


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Returns the median, the least and the greatest of the rounds, and the rounds themselves."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values), "rounds": list(values)}


def working_mib(function: Callable[[], Any]) -> float | None:
    """Returns how far the resident memory rises above its start while `function` runs; None where it cannot be told."""
    status, reset = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    if not reset.exists():
        return None

    reset.write_text("5")  # forget the peak so far
    before = _resident_mib(status, "VmRSS")
    function()
    return max(0.0, _resident_mib(status, "VmHWM") - before)


def peak_mib() -> float:
    """Returns the peak resident memory of this process.

    Linux hands the peak of getrusage on from the process that started this one, so its own is read where there is one.
    """
    status = Path("/proc/self/status")
    if status.exists():
        return _resident_mib(status, "VmHWM")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if platform.system() == "Darwin" else 2**10)


def _resident_mib(status: Path, key: str) -> float:
    return next(int(x.split()[1]) for x in status.read_text().splitlines() if x.startswith(key)) / 1024


def machine(*packages: str) -> dict[str, Any]:
    """Returns processor, cores, load, and the versions of Python and of the named packages."""
    return {
        "machine": f"{platform.machine()}, {_processor()}, {os.cpu_count()} cores, {platform.system()}",
        "load_average": os.getloadavg()[0],
        "versions": {"python": platform.python_version()} | {name: version(name) for name in packages},
    }


def write_measurements(path: str, result: Mapping[str, Any], *packages: str) -> None:
    """Writes a result as JSON, with the machine and the versions of the named packages; to a path of "", nothing."""
    if path:
        Path(path).write_text(json.dumps(dict(result) | machine(*packages), indent=1) + "\n")


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    names = (
        [x.split(":", 1)[1].strip() for x in info.read_text().splitlines() if x.startswith("model name")]
        if (info.exists())
        else []
    )
    return names[0] if names else platform.processor()
