"""Gradient accumulation: a batch that does not fit into memory is gone through in equal parts, one after another."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

Batch = dict[str, jax.Array]


def mean_over_microbatches(function: Callable[[Batch], Any], batch: Batch, count: int) -> Any:
    """Returns the mean of what `function` returns for each of `count` equal parts of a batch.

    One part's activations are in memory at a time. Part j holds the examples j, j + count, j + 2 count ...: the leading
    axis is cut so that its leading part stays the leading axis, so a batch that is sharded over devices has a share of
    every part on each of them, and no example travels.

    Args:
        function: part to a tree of floating-point arrays, each a mean over the part's examples (or of its gradients).
        batch: arrays [B, ...].
        count: of the parts; 1 calls `function` on the whole.

    Raises:
        ValueError: B is not a multiple of `count`.
    """
    if count == 1:
        return function(batch)
    size = len(next(iter(batch.values())))
    if count < 1 or size % count:
        raise ValueError(
            f"config.train.accumulate={count} does not cut {size} images into equal parts: choose a divisor of "
            "config.train.batch_size, or of a device's share of it."
        )
    cut = {key: value.reshape(size // count, count, *value.shape[1:]) for key, value in batch.items()}

    def part(j: jax.Array | int) -> Batch:
        return {key: jax.lax.dynamic_index_in_dim(value, j, axis=1, keepdims=False) for key, value in cut.items()}

    def add(total: Any, j: jax.Array) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, total, function(part(j))), None

    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(lambda: function(part(0))))
    total, _ = jax.lax.scan(add, zeros, jnp.arange(count))
    return jax.tree.map(lambda x: x / count, total)
