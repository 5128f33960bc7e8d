"""The groups of the parallel context model: all channels once, the costliest first, about as many bits in each."""

import numpy as np
import pytest

from vae_jcc.entropy.parallel_context import group_channels


def test_equal_channels_make_groups_of_equal_size():
    assert group_channels([2.0] * 12, 4).tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert group_channels([0.0] * 4, 2).tolist() == [0, 0, 1, 1]


def test_channels_that_carry_nothing_do_not_fill_groups():
    """Of six channels with bits and ten without, no two groups hold all that there is."""
    costs = [0.0, 2.0, 0.0, 1.5, 0.0, 1.8, 0.0, 1.6, 0.0, 1.9, 0.0, 1.7, 0.0, 0.0, 0.0, 0.0]
    groups = group_channels(costs, 4)
    bits = np.bincount(groups, costs)
    assert len(bits) == 4 and bits.min() >= 1.5 and bits.max() <= 3.7
    assert groups[0] == 3 and groups[1] == 0


@pytest.mark.parametrize("seed", range(20))
def test_costlier_channels_never_come_later_and_no_group_is_empty(seed):
    rng = np.random.default_rng(seed)
    costs = rng.exponential(size=rng.integers(4, 30)) ** rng.integers(1, 6)
    groups = group_channels(costs, 4)
    assert np.all(np.diff(groups[np.argsort(-costs)]) >= 0)
    assert set(groups.tolist()) == set(range(groups.max() + 1)) and groups.max() < 4
    # A channel's middle lies in its group's quarter of the bits, so a group is over that by less than its ends.
    assert np.bincount(groups, costs).max() <= costs.sum() / 4 + costs.max()


def test_one_channel_with_nearly_all_bits_makes_fewer_groups():
    assert group_channels([0.1, 100.0, 0.1, 0.1], 4).tolist() == [1, 0, 1, 1]


@pytest.mark.parametrize(("channels", "groups"), [(3, 4), (12, 5), (12, 0)])
def test_impossible_numbers_of_groups_are_refused(channels, groups):
    with pytest.raises(ValueError, match=f"not {groups}"):
        group_channels([1.0] * channels, groups)
