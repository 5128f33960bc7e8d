"""Finds the images of a source that cannot be decoded, before anything uses them."""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

from vae_jcc.data.errors import CorruptImageError


def sort_out_corrupt(count: int, decode: Callable[[int], object]) -> tuple[list[int], tuple[str, ...]]:
    """Decodes every example once, on all cores, and keeps nothing but which ones are valid.

    Args:
        count: number of examples.
        decode: decodes one example or raises CorruptImageError.

    Returns:
        The indices that decode, in order, and the messages for the others.
    """

    def complaint(index: int) -> str | None:
        try:
            decode(index)
        except CorruptImageError as error:
            return str(error)
        return None

    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        complaints: Iterable[str | None] = pool.map(complaint, range(count))
        outcome = list(enumerate(complaints))
    valid = [index for index, message in outcome if message is None]
    return valid, tuple(message for _, message in outcome if message is not None)
