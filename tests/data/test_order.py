"""Which example comes when."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vae_jcc.data.errors import DataError
from vae_jcc.data.order import EvalOrder, Shard, TrainOrder, epoch_order


def test_epoch_order_is_a_fixed_permutation_by_seed_and_epoch() -> None:
    # Golden: a checkpoint of today must go on in the same order under a later NumPy.
    assert epoch_order(7, 3, 10).tolist() == [2, 5, 9, 7, 3, 0, 6, 8, 4, 1]
    assert sorted(epoch_order(7, 3, 10)) == list(range(10))
    assert epoch_order(7, 4, 10).tolist() != epoch_order(7, 3, 10).tolist()
    assert epoch_order(8, 3, 10).tolist() != epoch_order(7, 3, 10).tolist()


def test_epoch_order_mixes_evenly() -> None:
    first = np.array([epoch_order(0, epoch, 10)[0] for epoch in range(2000)])
    counts = np.bincount(first, minlength=10)
    assert np.sum((counts - 200) ** 2 / 200) < 28  # chi-squared with 9 degrees of freedom: p = 0.001


@settings(deadline=None, derandomize=True)
@given(
    examples=st.integers(1, 200),
    rows=st.integers(1, 8),
    shards=st.integers(1, 4),
    seed=st.integers(0, 2**63),
    epoch=st.integers(0, 3),
)
def test_an_epoch_over_all_shards_repeats_nothing(examples: int, rows: int, shards: int, seed: int, epoch: int) -> None:
    batch_size = rows * shards
    if examples < batch_size:
        return
    orders = [TrainOrder(examples, seed, Shard(batch_size, i, shards)) for i in range(shards)]
    per_epoch = examples // batch_size
    assert {order.batches_per_epoch for order in orders} == {per_epoch}
    numbers = range(epoch * per_epoch, (epoch + 1) * per_epoch)
    seen = np.concatenate([order.indices(n) for n in numbers for order in orders])
    assert len(seen) == per_epoch * batch_size
    assert len(set(seen.tolist())) == len(seen)


def test_global_batches_do_not_depend_on_the_number_of_shards() -> None:
    whole = TrainOrder(50, 1, Shard(8))
    parts = [TrainOrder(50, 1, Shard(8, i, 4)) for i in range(4)]
    for number in range(20):
        joined = np.concatenate([part.indices(number) for part in parts])
        np.testing.assert_array_equal(joined, whole.indices(number))


@settings(deadline=None, derandomize=True)
@given(examples=st.integers(1, 200), rows=st.integers(1, 8), shards=st.integers(1, 4))
def test_evaluation_sees_every_example_once(examples: int, rows: int, shards: int) -> None:
    orders = [EvalOrder(examples, Shard(rows * shards, i, shards)) for i in range(shards)]
    assert len({order.batches for order in orders}) == 1
    seen = np.concatenate([order.indices(n) for order in orders for n in range(order.batches)])
    assert sorted(seen.tolist()) == list(range(examples))


def test_refuses_what_cannot_be() -> None:
    with pytest.raises(DataError, match="does not divide among 3 hosts"):
        Shard(8, 0, 3)
    with pytest.raises(DataError, match="counts from 0"):
        Shard(8, 2, 2)
    with pytest.raises(DataError, match="do not fill one batch of 8"):
        TrainOrder(7, 0, Shard(8))
    with pytest.raises(DataError, match="seed"):
        TrainOrder(8, -1, Shard(8))
