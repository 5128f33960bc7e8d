"""Which example comes when: a pure function of seed, epoch and batch number.

Nothing here depends on how many hosts, devices or workers there are. A host takes its rows of
every *global* batch, so the batches of 1, 2 or 8 hosts hold the same examples, and a run may be
resumed on another number of hosts. Knowing the number of the next batch is knowing everything:
that number is the whole state that a checkpoint needs.
"""

import functools
from dataclasses import dataclass

import numpy as np

from vae_jcc.data.errors import DataError


@functools.lru_cache(maxsize=4)
def epoch_order(seed: int, epoch: int, count: int) -> np.ndarray:
    """A permutation of `count` examples for one epoch.

    It ranks the raw 64-bit words of Philox with the key (seed, epoch). NumPy promises that these
    words never change, which it does not promise of Generator.permutation; so a checkpoint goes
    on in the same order under a later NumPy.

    Returns:
        int64 [count], read-only.
    """
    key = np.array([seed, epoch], np.uint64)
    order = np.argsort(np.random.Philox(key=key).random_raw(count), kind="stable")
    order.setflags(write=False)
    return order


@dataclass(frozen=True)
class Shard:
    """One host's share of every global batch: rows [index * b, (index + 1) * b)."""

    batch_size: int  # global
    index: int = 0
    count: int = 1

    def __post_init__(self) -> None:
        if self.batch_size < 1 or self.count < 1 or not 0 <= self.index < self.count:
            raise DataError(
                f"Shard {self.index} of {self.count} with a batch of {self.batch_size} makes no "
                "sense: the batch size and shard count are positive, the index counts from 0."
            )
        if self.batch_size % self.count:
            raise DataError(
                f"The global batch of {self.batch_size} does not divide among {self.count} hosts: choose a multiple."
            )

    @property
    def rows(self) -> int:
        """Examples of a batch on this host."""
        return self.batch_size // self.count


@dataclass(frozen=True)
class TrainOrder:
    """Shuffled batches without end; each epoch drops the examples that fill no whole batch.

    As every epoch is shuffled anew, other examples are left over each time.
    """

    examples: int
    seed: int
    shard: Shard

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise DataError(f"The seed of the data order is {self.seed}: choose one from 0 up.")
        if self.examples < self.shard.batch_size:
            raise DataError(
                f"The {self.examples} training examples do not fill one batch of "
                f"{self.shard.batch_size}: lower the batch size."
            )

    @property
    def batches_per_epoch(self) -> int:
        """Whole global batches in one pass."""
        return self.examples // self.shard.batch_size

    def indices(self, batch: int) -> np.ndarray:
        """This host's examples of global batch number `batch`, int64 [rows]."""
        epoch, within = divmod(batch, self.batches_per_epoch)
        start = within * self.shard.batch_size + self.shard.index * self.shard.rows
        return epoch_order(self.seed, epoch, self.examples)[start : start + self.shard.rows]


@dataclass(frozen=True)
class EvalOrder:
    """Every example once, in the source's order; the last batches of a host may be short or empty.

    All hosts have the same number of batches, whatever the number of examples.
    """

    examples: int
    shard: Shard

    @property
    def batches(self) -> int:
        """Global batches in one pass; the last one may be partly padding."""
        return -(-self.examples // self.shard.batch_size)

    def indices(self, batch: int) -> np.ndarray:
        """This host's examples of global batch number `batch`, int64 [at most rows]."""
        start = batch * self.shard.batch_size + self.shard.index * self.shard.rows
        return np.arange(min(start, self.examples), min(start + self.shard.rows, self.examples))
