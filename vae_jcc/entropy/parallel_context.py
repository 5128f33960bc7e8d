"""The parallel context model: groups of channels, each on the two colours of a checkerboard, in at most 8 passes.

The distributions of a pass depend on the symbols of earlier passes only, so a decoder runs the network once a pass and
not once a symbol. coding/parallel_context.py describes the passes and runs the trained integers; this file trains them:

    values [B, h, w, c], zero where a pass knows nothing -> 5x5 -> ReLU -> 1x1 -> ReLU -> 1x1 -> + base -> logits
"""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from vae_jcc.entropy import fixed_point

KERNEL = 5


def group_channels(costs: Sequence[float], groups: int) -> np.ndarray:
    """Returns the group of each channel, int32 [c]: about as many bits in each, the costliest channels first.

    Channels that carry most come first, so that most symbols have them for a context. Where many channels carry nothing
    (at the rates of interest half of them), groups of as many channels would have nearly all bits in one group, whose
    channels do not see each other. Where one channel carries more than a group's share, there are fewer groups.

    Args:
        costs: bits of each channel.
        groups: how many to make, at most.

    Raises:
        ValueError: there are fewer channels than groups, or more than 4 groups (8 passes).
    """
    if not 1 <= groups <= min(4, len(costs)):
        raise ValueError(f"{len(costs)} channels make 1..{min(4, len(costs))} groups, not {groups}.")
    bits = np.maximum(np.asarray(costs, np.float64), 1e-6)  # channels that carry nothing at all share alike
    order = np.argsort(-bits, kind="stable")
    middles = np.cumsum(bits[order]) - bits[order] / 2  # of the channels' stretches of all the bits
    out = np.empty(len(bits), np.int32)
    out[order] = np.unique((middles / bits.sum() * groups).astype(int), return_inverse=True)[1]
    return out


class ParallelContextModel(nn.Module):
    """Parameters and forward pass of all passes at once, every symbol being known.

    Attributes:
        groups: the group of each channel.
        slots: alternatives that a symbol has.
        features: of the hidden layers.
    """

    groups: tuple[int, ...]
    slots: int
    features: int = 48

    @nn.compact
    def __call__(self, values: jax.Array, fixed: bool = False) -> jax.Array:
        """Returns base-2 logits float32 [B, h, w, c, slots] of values float32 [B, h, w, c].

        Args:
            values: what stands for the symbols.
            fixed: integer arithmetic (values have to be multiples of 1/16, of magnitude up to 255/16).
        """
        groups = np.array(self.groups)
        colour = np.indices(values.shape[1:3]).sum(axis=0) % 2
        turn = 2 * groups + colour[..., None]  # [h, w, c]: the pass in which a place is coded
        base = self.param("base", nn.initializers.zeros_init(), (len(groups), self.slots))
        base = fixed_point.to_grid(base, fixed_point.LOGIT_BITS) if fixed else base
        logits = jnp.broadcast_to(base, (*values.shape, self.slots))
        for p in range(1, 2 * int(groups.max()) + 2):
            members = np.flatnonzero(groups == p // 2)
            out = self._network(p, values * (turn < p), len(members), fixed)
            here = jnp.asarray(colour == p % 2)[..., None, None]
            logits = logits.at[:, :, :, members].add(jnp.where(here, out, 0.0))
        return logits

    def _network(self, p: int, values: jax.Array, members: int, fixed: bool) -> jax.Array:
        """Returns logits [B, h, w, members, slots] of pass p."""
        activate = fixed_point.activation if fixed else nn.relu
        last = nn.initializers.normal(0.01)
        shapes = [
            ((KERNEL, KERNEL, values.shape[-1], self.features), nn.initializers.he_normal()),
            ((self.features, self.features), nn.initializers.he_normal()),
            ((self.features, members * self.slots), last),
        ]
        x = values
        for i, (shape, init) in enumerate(shapes):
            kernel = self.param(f"kernel{p}_{i}", init, shape)
            bias = self.param(f"bias{p}_{i}", nn.initializers.zeros_init(), shape[-1:])
            if fixed:
                kernel, bias = fixed_point.weight(kernel), fixed_point.bias(bias)
            if i == 0:
                x = jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
            else:
                x = activate(x) @ kernel
            x = x + bias
        if fixed:
            x = fixed_point.logit(x)
        return x.reshape(*x.shape[:3], members, self.slots)
