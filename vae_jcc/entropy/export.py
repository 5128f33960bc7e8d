"""From a trained context model to the integers that code with it, and back."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from vae_jcc.coding.distribution import IMPOSSIBLE
from vae_jcc.entropy.fixed_point import LOGIT_BITS, SUM_BITS, WEIGHT_BITS, WEIGHT_LIMIT


def to_integers(params: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Returns "kernel*" int8, "bias*" and "base" int32, in the steps of fixed_point.py, of a model's parameters.

    They are the numbers that the fixed-point forward pass rounds the parameters to. Parameters of submodules are left
    out.
    """
    tensors = {}
    for name, value in params.items():
        if isinstance(value, Mapping):
            continue
        exact = np.asarray(value, np.float32)
        if name.startswith("kernel"):
            steps = _steps(np.clip(exact, -WEIGHT_LIMIT / 2**WEIGHT_BITS, WEIGHT_LIMIT / 2**WEIGHT_BITS), WEIGHT_BITS)
            tensors[name] = steps.astype(np.int8)
        elif name.startswith("bias"):
            tensors[name] = _steps(exact, SUM_BITS).astype(np.int32)
        else:
            tensors[name] = np.maximum(_steps(exact, LOGIT_BITS), IMPOSSIBLE).astype(np.int32)
    return tensors


def from_integers(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the parameters, float32, that `to_integers` gives these tensors for (other tensors are left out)."""
    bits = {"kernel": WEIGHT_BITS, "bias": SUM_BITS, "base": LOGIT_BITS}
    kinds = {name: next((kind for kind in bits if name.startswith(kind)), "") for name in tensors}
    return {
        name: value.astype(np.float32) * np.float32(2.0 ** -bits[kinds[name]])
        for name, value in tensors.items()
        if kinds[name]
    }


def _steps(x: np.ndarray, fractional_bits: int) -> np.ndarray:
    return np.floor(x * np.float32(2.0**fractional_bits) + np.float32(0.5))
