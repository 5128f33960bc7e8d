"""Which operations a recorded trace spent its time in (jax.profiler writes it, jax.profiler.ProfileData reads it)."""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from jax.profiler import ProfileData

# Of the compiler's own; what runs inside them is recorded too.
_CONTAINERS = re.compile(r"(while|call|conditional)(\.\d+)*$")
_INSTRUCTION = re.compile(r'^\s*(?:ROOT )?%?([\w.-]+) = .*metadata=\{[^}]*op_name="([^"]*)"', re.MULTILINE)


def newest_trace(folder: Path) -> ProfileData:
    """Returns the newest trace that jax.profiler.trace(folder) left.

    Raises:
        FileNotFoundError: there is none.
    """
    files = sorted(folder.glob("plugins/profile/*/*.xplane.pb"), key=lambda file: file.stat().st_mtime)
    if not files:
        raise FileNotFoundError(f"{folder} holds no trace.")
    return ProfileData.from_file(str(files[-1]))


def operation_times(trace: ProfileData, module: str) -> dict[str, float]:
    """Returns the seconds that each compiled operation ran, over all devices (or threads of a CPU).

    Time of an operation inside another one counts for the inner one alone.

    Args:
        trace: of one or more runs.
        module: what the compiled module's name contains, such as "train_step"; others are left out.
    """
    seconds: dict[str, float] = defaultdict(float)
    for events in _lines(trace, module):
        for name, nanoseconds in _own_times(events):
            if not _CONTAINERS.match(name):
                seconds[name] += 1e-9 * nanoseconds
    return dict(seconds)


def sources(compiled_text: str) -> dict[str, str]:
    """Returns, for each operation of a compiled module, where in the traced program it comes from.

    Such as "transpose(jvp(JointModel))/encoder/stem/conv_general_dilated": the backward pass of the encoder's stem.
    """
    return {name: source.split("/", 1)[-1] for name, source in _INSTRUCTION.findall(compiled_text)}


Event = tuple[float, float, str]  # begin and end in ns, name


def _lines(trace: ProfileData, module: str) -> Iterator[list[Event]]:
    """Yields the compiled operations of each line: a stream or core of an accelerator, or a thread of the host."""
    planes = list(trace.planes)
    accelerators = [plane for plane in planes if plane.name.startswith("/device:")]
    for plane in accelerators or planes:
        lines = list(plane.lines)
        # TPUs have one line of operations among others that tell the same time in other words.
        for line in [line for line in lines if line.name == "XLA Ops"] or lines:
            yield [event for event in map(_operation(line.name, module), line.events) if event is not None]


def _operation(line: str, module: str) -> Any:
    def read(event: Any) -> Event | None:
        stats = dict(event.stats)
        if module not in str(stats.get("hlo_module", module)):
            return None
        name = stats.get("hlo_op") or (event.name.split(" = ")[0].lstrip("%") if line == "XLA Ops" else None)
        return None if name is None else (event.start_ns, event.start_ns + event.duration_ns, str(name))

    return read


def _own_times(events: Iterable[Event]) -> Iterator[tuple[str, float]]:
    """Yields each operation with its duration less that of the operations inside it."""
    open_ones: list[tuple[float, str]] = []
    for begin, end, name in sorted(events, key=lambda event: (event[0], -event[1])):
        while open_ones and open_ones[-1][0] <= begin:
            open_ones.pop()
        if open_ones:
            yield open_ones[-1][1], -(min(end, open_ones[-1][0]) - begin)
        yield name, end - begin
        open_ones.append((end, name))
