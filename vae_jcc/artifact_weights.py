"""The weights of a model artifact: variable trees to flat named tensors, digests, and one safetensors file."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

Tensors = dict[str, np.ndarray]  # "params/stem/kernel" to float32 or float16


def flatten(tree: Mapping[str, Any], prefix: str = "") -> Tensors:
    """Returns the leaves of nested mappings by their path, joined with "/"; float32."""
    flat: Tensors = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{name}/")
        else:
            flat[f"{prefix}{name}"] = np.ascontiguousarray(value, np.float32)
    return flat


def unflatten(tensors: Tensors) -> dict[str, Any]:
    """Returns the nested dictionaries that `flatten` took apart, float32."""
    tree: dict[str, Any] = {}
    for path, value in tensors.items():
        *above, name = path.split("/")
        node = tree
        for key in above:
            node = node.setdefault(key, {})
        node[name] = value.astype(np.float32)
    return tree


def compact(tensors: Tensors, dtype: str, error: type[Exception]) -> Tensors:
    """Returns the tensors with kernels (two axes and more) in `dtype`; vectors are few and stay float32.

    Raises:
        error: `dtype` is neither "float32" nor "float16", or a value is not finite in it.
    """
    if dtype not in ("float32", "float16"):
        raise error(f"Weights are stored as 'float32' or 'float16', not {dtype!r}.")
    stored = {}
    for name, value in tensors.items():
        with np.errstate(over="ignore"):
            stored[name] = value.astype(dtype) if value.ndim >= 2 else value
        if not np.all(np.isfinite(stored[name])):
            raise error(f"{name} holds values that are not finite in {stored[name].dtype}: store it as float32.")
    return stored


def digest(tensors: Tensors) -> str:
    """Returns the SHA-256 over names, types, shapes and values (little-endian), hexadecimal."""
    sha = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name]
        sha.update(f"{name} {value.dtype.name} {list(value.shape)}\n".encode())
        sha.update(value.astype(value.dtype.newbyteorder("<")).tobytes())
    return sha.hexdigest()


def write_parts(path: Path, parts: Mapping[str, Tensors]) -> None:
    """Writes the tensors of all parts under "PART/..."."""
    from safetensors.numpy import save

    # The library writes an array's memory as it lies: a transposed one would come back in another order.
    named = {
        f"{part}/{name}": np.ascontiguousarray(value)
        for part, tensors in parts.items()
        for name, value in tensors.items()
    }
    path.write_bytes(save(named))  # the library's own files are readable by their owner alone


def read_part(path: Path, part: str, error: type[Exception]) -> Tensors:
    """Reads the tensors of one part, and only those.

    Raises:
        error: the file is missing or not in the safetensors format.
    """
    from safetensors import SafetensorError, safe_open

    prefix = f"{part}/"
    try:
        with safe_open(path, framework="numpy") as file:
            return {name.removeprefix(prefix): file.get_tensor(name) for name in file.keys() if name.startswith(prefix)}
    except (OSError, SafetensorError) as cause:
        raise error(f"{path} cannot be read ({cause}): copy the model's folder again.") from cause
