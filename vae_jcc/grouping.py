"""Groups what can be computed together, keeping each item's place."""

from collections.abc import Hashable, Iterable
from typing import TypeVar

Key = TypeVar("Key", bound=Hashable)


def by_key(keys: Iterable[Key]) -> dict[Key, list[int]]:
    """Returns the places of each distinct key, in order of first appearance."""
    places: dict[Key, list[int]] = {}
    for i, key in enumerate(keys):
        places.setdefault(key, []).append(i)
    return places
