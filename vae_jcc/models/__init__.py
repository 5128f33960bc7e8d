"""The networks, in Flax Linen."""
