"""Split strings as TensorFlow Datasets writes them, for sources that it does not read.

    train                      all of it
    train[:90%]  train[90%:]   percent, rounded to the nearest example (ties to even)
    train[45000:]  test[-100:] counts, negative ones from the end
    train[:10%]+train[90%:]    parts one after another
    all                        every split, in the source's order

The rules are those of tfds.core.splits, so that one config key means the same for every source;
tests/data/test_splits.py holds the two against each other. Slices by shard are TFDS's alone.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from vae_jcc.data.errors import DataError

_PART = re.compile(r"^(?P<name>[\w-]+)(\[(?P<slice>[^\[\]]*)\])?$")
_BOUND = re.compile(r"^((?P<value>-?\d[\d_]*(\.\d+)?)(?P<percent>%)?)?$")


@dataclass(frozen=True)
class SplitRange:
    """Examples `start` to `stop` (exclusive) of the split `name`."""

    name: str
    start: int
    stop: int


def resolve_split(spec: str, counts: Mapping[str, int]) -> list[SplitRange]:
    """Turns a split string into ranges of examples.

    Args:
        spec: such as "train[:90%]" or "train[:10%]+train[90%:]".
        counts: number of examples of each split, in the source's order.

    Returns:
        One range per part of the sum, in order; no range is empty.

    Raises:
        DataError: the string does not parse, names an unknown split, reaches past its end, or
            selects nothing.
    """
    ranges: list[SplitRange] = []
    for part in re.split(r"\s*\+\s*", spec.strip()):
        ranges.extend(_resolve_part(part, spec, counts))
    ranges = [r for r in ranges if r.stop > r.start]
    if not ranges:
        raise DataError(f'The split "{spec}" selects no example of {_listing(counts)}.')
    return ranges


def count_common(ranges: Sequence[SplitRange], others: Sequence[SplitRange]) -> int:
    """Counts the examples of `ranges` that are among `others`; one that `ranges` has twice counts twice."""
    merged: list[SplitRange] = []
    for r in sorted(others, key=lambda r: (r.name, r.start)):
        if merged and merged[-1].name == r.name and r.start <= merged[-1].stop:
            merged[-1] = replace(merged[-1], stop=max(merged[-1].stop, r.stop))
        else:
            merged.append(r)
    overlaps = (min(a.stop, b.stop) - max(a.start, b.start) for a in ranges for b in merged if a.name == b.name)
    return sum(max(overlap, 0) for overlap in overlaps)


def _resolve_part(part: str, spec: str, counts: Mapping[str, int]) -> list[SplitRange]:
    match = _PART.match(part)
    if match is None:
        raise DataError(
            f'The split "{spec}" does not parse at "{part}": write a name and, if wanted, a slice '
            'in examples or percent, such as "train", "train[:90%]" or "train[45000:]".'
        )
    name, selector = match["name"], match["slice"]
    if name == "all" and selector is None and "all" not in counts:
        return [SplitRange(known, 0, count) for known, count in counts.items()]
    if name not in counts:
        raise DataError(f'There is no split "{name}"; there are {_listing(counts)}.')
    if selector is None:
        return [SplitRange(name, 0, counts[name])]
    start, stop = _bounds(selector, spec, counts[name])
    return [SplitRange(name, start, stop)]


def _bounds(selector: str, spec: str, count: int) -> tuple[int, int]:
    bounds = [_BOUND.match(text) for text in selector.split(":")]
    if len(bounds) != 2 or not all(bounds) or selector.strip() == ":":
        raise DataError(
            f'The split "{spec}" does not parse at "[{selector}]": a slice is "from:to", in '
            'examples or percent, with one side left out at most, such as "[:90%]".'
        )
    # As in TFDS, one percent sign makes both sides percent.
    percent = any(bound is not None and bound["percent"] for bound in bounds)
    start, stop = (_absolute(bound, percent, spec, count) for bound in bounds)
    return (0 if start is None else start), (count if stop is None else stop)


def _absolute(bound: re.Match[str] | None, percent: bool, spec: str, count: int) -> int | None:
    if bound is None or bound["value"] is None:
        return None
    if percent:
        position = int(round(float(bound["value"]) * count / 100.0))
    elif "." in bound["value"]:
        raise DataError(f'The split "{spec}" asks for a fraction of an example.')
    else:
        position = int(bound["value"])
    if abs(position) > count:
        raise DataError(f'The split "{spec}" reaches past the end: there are {count} examples.')
    return position + count if position < 0 else position


def _listing(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} ({count})" for name, count in counts.items())
