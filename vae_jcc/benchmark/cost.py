"""Parameters and multiply-accumulates of a network, counted rather than written down."""

from collections.abc import Callable
from math import prod
from typing import Any

import jax

# Of (activations, kernel [..., C_out]), written as other operations: models/convolution.py, models/depthwise.py.
_COUNTED_BY_NAME = ("convolve", "depthwise_conv")


def count_parameters(params: Any) -> int:
    """Returns the number of trained values in a tree of parameters (batch statistics are not among them)."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def count_macs(function: Callable[..., Any], *arguments: Any) -> int:
    """Returns the multiply-accumulates of convolutions and matrix products in one call of `function`.

    The function is traced, not run. Elementwise work is left out, as is the field's habit.
    """
    return _macs(jax.make_jaxpr(function)(*arguments).jaxpr)


def _macs(jaxpr: Any) -> int:
    total = 0
    for equation in jaxpr.eqns:
        out = prod(equation.outvars[0].aval.shape)
        if equation.params.get("name") in _COUNTED_BY_NAME:
            total += out * prod(equation.invars[1].aval.shape[:-1])
            continue
        if equation.primitive.name == "conv_general_dilated":
            kernel = equation.invars[1].aval.shape
            layout = equation.params["dimension_numbers"].rhs_spec
            # kernel: all of it but the output channels is summed for each output value
            total += out * prod(kernel) // kernel[layout[0]]
        elif equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            total += out * prod(equation.invars[0].aval.shape[d] for d in contracted)
        for value in equation.params.values():
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                total += _macs(inner)
    return total
