"""A batch in parts that stay in a CPU's cache, one after the other."""

import os

import jax
from jax import lax


def split(image_bytes: int, *arrays: jax.Array, kept_bytes: int = 0) -> list[jax.Array]:
    """Returns arrays [B, ...] as [images, parts, ...], with so many images to a part that they fit the cache.

    The leading part of the batch stays the leading axis: sharded over devices, it remains so.

    Args:
        image_bytes: of an image's operands and results.
        arrays: of one batch size.
        kept_bytes: of what stays in the cache from part to part: it pays for itself from some number of images on.
    """
    batch = arrays[0].shape[0]
    images = min(batch, max(1, (_part_bytes() + kept_bytes) // image_bytes))
    while batch % images:
        images -= 1
    return [a.reshape(images, batch // images, *a.shape[1:]) for a in arrays]


def at(i: jax.Array, parts: jax.Array) -> jax.Array:
    """Returns part i, [images, ...]."""
    return lax.dynamic_index_in_dim(parts, i, axis=1, keepdims=False)


def _part_bytes() -> int:
    """Returns the bytes of operands and results to have at a time: measured best on CPUs with 2 MiB of L2 a core."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = cores // jax.local_device_count()
    return threads * 3 * 2**20 if threads > 1 else 5 * 2**18
