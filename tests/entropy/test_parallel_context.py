"""The parallel context model: its groups of channels, and what each of its passes sees."""

import jax
import numpy as np
import pytest
from jax import lax

from vae_jcc.entropy.parallel_context import ParallelContextModel, group_channels


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


@pytest.mark.parametrize(
    ("height", "width", "groups"),
    [(4, 4, (0, 1, 2, 3, 1, 0)), (5, 7, (0, 0, 1, 1, 2)), (6, 3, (0, 0)), (1, 1, (1, 0, 1, 2))],
)
def test_a_place_is_predicted_by_its_pass_from_the_passes_before(height, width, groups):
    """All passes at once are what they are one by one: the network of each over what stands for earlier symbols."""
    model = ParallelContextModel(groups, slots=3, features=8)
    values = jax.random.normal(jax.random.key(0), (2, height, width, len(groups)))
    variables = model.init(jax.random.key(1), values)
    variables = jax.tree.map(lambda x: x + 0.1 * jax.random.normal(jax.random.key(x.size), x.shape), variables)
    params = jax.tree.map(np.asarray, variables["params"])
    row, column = np.indices((height, width))
    expected = np.zeros((*values.shape, 3)) + np.asarray(params["base"])
    for channel, group in enumerate(groups):
        turn = 2 * np.array(groups) + ((row + column) % 2)[..., None]
        for p in (2 * group, 2 * group + 1):
            if p == 0:
                continue
            x = lax.conv_general_dilated(
                values * (turn < p), params[f"kernel{p}_0"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
            x = np.maximum(x + params[f"bias{p}_0"], 0)
            x = np.maximum(x @ params[f"kernel{p}_1"] + params[f"bias{p}_1"], 0)
            x = (x @ params[f"kernel{p}_2"] + params[f"bias{p}_2"]).reshape(2, height, width, -1, 3)
            here = (row + column) % 2 == p % 2
            expected[:, here, channel] += x[:, here, groups[:channel].count(group)]
    np.testing.assert_allclose(model.apply(variables, values), expected, rtol=1e-4, atol=1e-5)
