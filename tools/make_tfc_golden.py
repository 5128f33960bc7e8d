"""Writes what tensorflow-compression says of one deep factorized prior: the oracle of tests/entropy/test_tfc_oracle.py.

    tfc/bin/python tools/make_tfc_golden.py        (the environment of docs/tfc.md)

The parameters are random but for a fixed seed, rounded to float32. With them the file has, in float64: bits of values
by TFC's NoisyDeepFactorized; and, by its ContinuousBatchedEntropyModel, the offsets, the integer tables, and the size
of each compressed latent of symbols that follow the prior.
"""

import argparse
import json
import os
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import tensorflow as tf
import tensorflow_compression as tfc

SEED = 20180130
TARGET = Path(__file__).parent.parent / "tests" / "entropy" / "tfc_golden.json"
CHANNELS, FILTERS, INIT_SCALE = 5, (3, 3, 3), 1.5
PRECISION, TAIL_MASS = 16, 2.0**-14
LATENTS, HEIGHT, WIDTH = 12, 12, 16


def random_prior(rng: np.random.Generator) -> Any:
    """Returns a NoisyDeepFactorized in float64: channels from wide to narrow, all parameters off their start."""
    prior = tfc.NoisyDeepFactorized(
        batch_shape=(CHANNELS,), num_filters=FILTERS, init_scale=INIT_SCALE, dtype=tf.float64
    )
    for variable in sorted(prior.base.trainable_variables, key=lambda v: v.name):
        start = np.zeros(variable.shape) if "bias" in variable.name else variable.numpy()
        steepness = np.linspace(0, 6, CHANNELS)[:, None, None] if "matrix_0" in variable.name else 0.0
        variable.assign(np.float32(start + steepness + 0.4 * rng.normal(size=variable.shape)))
    return prior


def parameters(prior: Any) -> dict[str, list]:
    """Returns the parameters under the names and in the shapes of vae_jcc.entropy.factorized."""
    values = {}
    for variable in sorted(prior.base.trainable_variables, key=lambda v: v.name):
        kind, layer = variable.name.split("/")[-1].split(":")[0].split("_")
        value = variable.numpy()
        values[kind + layer] = (value if kind == "matrix" else value[..., 0]).tolist()
    return values


def bits(prior: Any, y: np.ndarray) -> np.ndarray:
    """Returns TFC's bits at y, float64 [n, c]."""
    return -prior.log_prob(tf.constant(y, tf.float64)).numpy() / np.log(2.0)


def draw_symbols(prior: Any, offset: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns symbols int32 [n, h, w, c] that follow the prior at integers plus offset."""
    support = np.arange(-200, 201)
    pmf = np.exp2(-bits(prior, support[:, None] + offset))
    shape = (LATENTS, HEIGHT, WIDTH)
    return np.stack([rng.choice(support, shape, p=p / p.sum()) for p in pmf.T], axis=-1).astype(np.int32)


def main() -> None:
    """Runs TFC and writes the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", type=Path, default=TARGET)
    target = parser.parse_args().target
    rng = np.random.default_rng(SEED)
    prior = random_prior(rng)
    model = tfc.ContinuousBatchedEntropyModel(
        prior,
        coding_rank=3,
        compression=True,
        tail_mass=TAIL_MASS,
        range_coder_precision=PRECISION,
        bottleneck_dtype=tf.float64,
    )
    offset = model.quantization_offset.numpy()
    symbols = draw_symbols(prior, offset, rng)
    strings = model.compress(symbols + offset)
    assert np.array_equal(np.round(model.decompress(strings, (HEIGHT, WIDTH)).numpy() - offset), symbols)
    y = np.linspace(-12, 12, 49)[:, None] + rng.uniform(-0.5, 0.5, CHANNELS)
    golden = {
        "made_by": f"tools/make_tfc_golden.py, tensorflow-compression {version('tensorflow-compression')}",
        "parameters": parameters(prior),
        "y": y.tolist(),
        "bits": bits(prior, y).tolist(),
        "offset": offset.tolist(),
        "cdf": model.cdf.numpy().tolist(),
        "cdf_offset": model.cdf_offset.numpy().tolist(),
        "symbols": symbols.tolist(),
        "payload_bytes": [len(string) for string in strings.numpy()],
    }
    text = ",\n".join(f' "{key}": {json.dumps(value, separators=(",", ":"))}' for key, value in golden.items())
    target.write_text(f"{{\n{text}\n}}\n")
    print(f"{target}: {target.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
