"""A batch in parts that stay in a CPU's cache, one after the other."""

import os
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax


def each(of_part: Callable[[jax.Array], jax.Array], x: jax.Array, image_bytes: int, kept_bytes: int = 0) -> jax.Array:
    """Returns `of_part` of x [B, ...], made part by part: it maps [b, ...] to [b, ...] for any b.

    Args:
        of_part: what to do with a part.
        x: the whole batch.
        image_bytes: of an image's operands and results.
        kept_bytes: of what stays in the cache from part to part: it pays for itself from some number of images on.
    """
    (x,) = _split(image_bytes, kept_bytes, x)

    def place(i: jax.Array, out: jax.Array) -> jax.Array:
        return lax.dynamic_update_index_in_dim(out, of_part(_at(i, x)), i, axis=1)

    made = jax.eval_shape(of_part, x[:, 0])
    # Anything to write over. Zeros would be one array for all loops of a step, which each of them has to copy.
    anything = x[(slice(None), *[slice(1)] * (x.ndim - 1))].reshape(-1, *[1] * made.ndim)
    out = jnp.broadcast_to(anything, (*x.shape[:2], *made.shape[1:])).astype(made.dtype)
    return lax.fori_loop(0, x.shape[1], place, out).reshape(-1, *made.shape[1:])


def total(
    of_part: Callable[..., jax.Array], arrays: tuple[jax.Array, ...], image_bytes: int, kept_bytes: int = 0
) -> jax.Array:
    """Returns the sum over parts of `of_part(*parts of the arrays [B, ...])`; the other arguments are `each`'s."""
    split = _split(image_bytes, kept_bytes, *arrays)

    def add(i: jax.Array, so_far: jax.Array) -> jax.Array:
        return so_far + of_part(*(_at(i, a) for a in split))

    made = jax.eval_shape(of_part, *(a[:, 0] for a in split))
    return lax.fori_loop(0, split[0].shape[1], add, jnp.zeros(made.shape, made.dtype))


def _split(image_bytes: int, kept_bytes: int, *arrays: jax.Array) -> list[jax.Array]:
    """Returns arrays [B, ...] as [images, parts, ...], with so many images to a part that they fit the cache.

    The leading part of the batch stays the leading axis: sharded over devices, it remains so.
    """
    batch = arrays[0].shape[0]
    images = min(batch, max(1, (_part_bytes() + kept_bytes) // image_bytes))
    while batch % images:
        images -= 1
    # The barrier: else an array that is split in several ways would be computed, and kept, once for each.
    arrays = lax.optimization_barrier(arrays)
    return [a.reshape(images, batch // images, *a.shape[1:]) for a in arrays]


def _at(i: jax.Array, split: jax.Array) -> jax.Array:
    """Returns part i, [images, ...]."""
    return lax.dynamic_index_in_dim(split, i, axis=1, keepdims=False)


def _part_bytes() -> int:
    """Returns the bytes of operands and results to have at a time: measured best on CPUs with 2 MiB of L2 a core."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = cores // jax.local_device_count()
    return threads * 3 * 2**20 if threads > 1 else 5 * 2**18
