"""Settings of the whole test run, and what many tests share: seeds, and a tiny model with random weights."""

import os

# Before JAX starts: the tests mean the CPU wherever they run, in subprocesses too.
os.environ["JAX_PLATFORMS"] = "cpu"
# Most of the tests' time goes into compiling, which takes half of it without LLVM's optimization.
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_backend_optimization_level=0".strip()

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

# Four devices made of one CPU, so that 1, 2 and 4 devices are compared in one process.
jax.config.update("jax_num_cpu_devices", 4)


@pytest.fixture
def rng() -> np.random.Generator:
    """NumPy randomness with a fixed seed, new for each test."""
    return np.random.default_rng(20220607)


@pytest.fixture
def key() -> jax.Array:
    """A JAX key with a fixed seed."""
    return jax.random.key(20220607)


@pytest.fixture(scope="session")
def make_tiny() -> Callable[..., None]:
    """`make_tiny(folder, seed=0, channels=3, dtype="float32")` saves a tiny model with random weights."""
    return _save_tiny


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model artifact with random weights, three RGB classes and a decoder; to be read only."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    _save_tiny(folder)
    return folder


@pytest.fixture
def tiny_copy(tiny_folder: Path, tmp_path: Path) -> Path:
    """The same model in a folder of the test's own, to be damaged."""
    return Path(shutil.copytree(tiny_folder, tmp_path / "tiny_copy"))


@pytest.fixture
def pictures(rng: np.random.Generator) -> np.ndarray:
    """Smooth random pictures, uint8 [5, 16, 16, 3]."""
    coarse = rng.integers(0, 256, (5, 4, 4, 3), np.uint8)
    return coarse.repeat(4, axis=1).repeat(4, axis=2)


def _save_tiny(folder: Path, seed: int = 0, channels: int = 3, dtype: str = "float32") -> None:
    """Saves a model of a few hundred weights at random: stride 4, symbols within about +-8, a few escapes.

    Nothing is compiled: the shapes come from tracing, the numbers from NumPy.
    """
    from configs import default
    from vae_jcc.artifact_writing import save_artifact
    from vae_jcc.coding import CodingTables
    from vae_jcc.models.joint import PARTS, build_model

    config = default.get_config()
    config.model.latent_channels = 3
    config.model.encoder.update({"stem_features": 4, "stages": ((6, 1, 2),)})
    config.model.classifier.stages = ((6, 1, 1),)
    config.model.decoder.update({"mode": "joint", "features": 8, "blocks": 1})
    model = build_model(config, 3, channels)
    images = jax.ShapeDtypeStruct((1, 16, 16, channels), np.float32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), images)
    rng = np.random.default_rng(seed)

    def weights(path: tuple[Any, ...], leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        if path[-1].key in ("scale", "var"):
            return np.ones(leaf.shape, np.float32)
        fan_in = max(int(np.prod(leaf.shape[:-1])), 1)
        return rng.normal(0, (2 / fan_in) ** 0.5, leaf.shape).astype(np.float32)

    variables = jax.tree_util.tree_map_with_path(weights, shapes)
    params, stats = variables["params"], variables["batch_stats"]
    params["encoder"]["latent"]["kernel"] *= 4.0  # so that different pictures have different symbols
    bell = np.exp(-0.5 * (np.arange(-8, 9) / 3.0) ** 2)
    save_artifact(
        folder,
        config=config,
        variables={p: {"params": params[p], "batch_stats": stats.get(p, {})} for p in PARTS if p in params},
        tables=CodingTables.build([bell] * 3, [-8] * 3, [0.01] * 3),
        offset=np.array([0.25, -0.125, 0.1], np.float32),
        class_names=("ant", "bee", "cat"),
        channels=channels,
        input_size=(16, 16),
        dataset="made up",
        facts={"seed": seed},
        dtype=dtype,
    )
