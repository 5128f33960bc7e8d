"""A learned categorical distribution for each channel, over the alternatives of a finite alphabet (learned centres).

All logits are to base 2, so that differences of them are bits, as in the context model (context.py), whose `base` is
the same parameter.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

_LN2 = 0.6931471805599453


def log2_sum(logits: jax.Array) -> jax.Array:
    """Returns log2(sum(2**logits)) over the last axis: [..., L] to [...]."""
    return jax.nn.logsumexp(logits * _LN2, axis=-1) / _LN2


def target_bits(logits: jax.Array, target: jax.Array) -> jax.Array:
    """Returns the cross-entropy, in bits, of targets under the softmax of base-2 logits.

    The paper's target is one-hot and constant: its rate reaches the encoder only through the logits of a context model
    that sees the latent. With the target of `soft_to_hard` the value is the same, and the gradient also tells the
    latent which of the alternatives around it is cheaper, through the soft assignment; a categorical prior's logits do
    not depend on the latent, so it would teach the encoder nothing otherwise.

    Args:
        logits: [..., L], or [c, L] for all places alike.
        target: [..., c, L], sums to 1 over the last axis.

    Returns:
        [..., c], at least 0 where the target is one-hot.
    """
    return log2_sum(logits) - jnp.sum(target * logits, axis=-1)


def symbol_bits(logits: jax.Array, symbols: jax.Array) -> jax.Array:
    """Returns the bits [..., c] of symbols int32 [..., c], 0..L-1, under base-2 logits [c, L] of each channel."""
    bits = log2_sum(logits)[:, None] - logits
    return bits[jnp.arange(logits.shape[0]), symbols]


class CategoricalPrior(nn.Module):
    """The base-2 logits of each channel; at first all alternatives are alike."""

    channels: int
    slots: int

    @nn.compact
    def __call__(self) -> jax.Array:
        """Returns the logits float32 [channels, slots]."""
        return self.param("base", nn.initializers.zeros_init(), (self.channels, self.slots))
