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
from vae_jcc.models.convolution import conv_general_dilated

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
        base = self.param("base", nn.initializers.zeros_init(), (len(groups), self.slots))
        base = fixed_point.to_grid(base, fixed_point.LOGIT_BITS) if fixed else base
        odd = (np.indices(values.shape[1:3]).sum(axis=0) % 2 == 1)[..., None, None]
        passes = [self._parameters(p) for p in range(1, 2 * int(groups.max()) + 2)]
        if fixed:
            passes = [[(fixed_point.weight(k), fixed_point.bias(b)) for k, b in layers] for layers in passes]
        kernels = [layers[0][0] * self._seen(p) for p, layers in enumerate(passes, start=1)]
        all_first = conv_general_dilated(values, jnp.concatenate(kernels, axis=-1), (1, 1), "SAME")
        logits = [jnp.zeros(())]  # of pass 0, which sees nothing
        activate = fixed_point.activation if fixed else nn.relu
        for x, ((_, bias), *others) in zip(jnp.split(all_first, len(passes), axis=-1), passes, strict=True):
            x = x + bias
            for kernel, bias in others:
                x = activate(x) @ kernel + bias
            x = fixed_point.logit(x) if fixed else x
            logits.append(x.reshape(*x.shape[:3], -1, self.slots))
        of_groups = [jnp.where(odd, logits[p + 1], logits[p]) for p in range(0, len(logits), 2)]
        out = jnp.concatenate(of_groups, axis=3)
        if np.any(np.diff(groups) < 0):
            out = out[:, :, :, np.argsort(np.argsort(groups, kind="stable"))]
        return base + out

    def _parameters(self, p: int) -> list[tuple[jax.Array, jax.Array]]:
        """Returns kernel and bias of each layer of pass p."""
        members = self.groups.count(p // 2)
        last = nn.initializers.normal(0.01)
        shapes = [
            ((KERNEL, KERNEL, len(self.groups), self.features), nn.initializers.he_normal()),
            ((self.features, self.features), nn.initializers.he_normal()),
            ((self.features, members * self.slots), last),
        ]
        return [
            (
                self.param(f"kernel{p}_{i}", init, shape),
                self.param(f"bias{p}_{i}", nn.initializers.zeros_init(), shape[-1:]),
            )
            for i, (shape, init) in enumerate(shapes)
        ]

    def _seen(self, p: int) -> np.ndarray:
        """Returns float32 [KERNEL, KERNEL, c, 1]: 1 where the kernel of pass p meets symbols of earlier passes.

        The colour of a place's neighbour follows from the place's own, which is that of the pass.
        """
        colours = (p + np.indices((KERNEL, KERNEL)).sum(axis=0)) % 2  # the offset of the kernel's first tap is even
        turns = 2 * np.array(self.groups) + colours[..., None]
        return (turns < p)[..., None].astype(np.float32)
