"""Our encoders and the reference networks as systems to measure: the same framework, the same batches, the same clock.

Weights are placed on the device beforehand and batches are cut alike (`in_batches`), so neither side gains by that.
"""

import runpy
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from vae_jcc.artifact import Artifact
from vae_jcc.artifact_writing import save_artifact
from vae_jcc.benchmark.cost import count_macs, count_parameters
from vae_jcc.benchmark.reference_encoders import BLOCKS, ResNet
from vae_jcc.benchmark.systems import Spec, System
from vae_jcc.data.augment import to_float
from vae_jcc.edge import EdgeEncoder
from vae_jcc.entropy.factorized import FactorizedPrior, quantization_offset
from vae_jcc.entropy.tabulate import as_float32, prior_layers, tabulate
from vae_jcc.inference import in_batches
from vae_jcc.models.joint import build_encoder

_LIBRARIES = ("jax", "flax", "numpy")
_SMALL_SIDE = 64  # pixels below which ResNets have the stem for small images


def load_config(path: str) -> ConfigDict:
    """Returns get_config() of a configuration file; the files beside it can be imported as `configs`.

    Raises:
        ValueError: there is no such file, or it has no get_config.
    """
    file = Path(path)
    if not file.is_file():
        raise ValueError(f"There is no configuration {path}: name a file such as configs/cifar10.py.")
    root = str(file.resolve().parents[1])
    sys.path.insert(0, root)
    try:
        names = runpy.run_path(str(file))
    finally:
        sys.path.remove(root)
    if "get_config" not in names:
        raise ValueError(f"{path} is no configuration: it defines no get_config().")
    config: ConfigDict = names["get_config"]()
    return config


def open_edge(spec: Spec) -> System:
    """Returns a trained encoder, or one of a configuration with random weights; images in, files out.

    Raises:
        ValueError: there is no such model, or it codes images of other channels.
    """
    if spec.kind == "model":
        artifact = Artifact.load(spec.target)
        return _edge(spec, artifact, f"vae_jcc/{artifact.config.name}")
    artifact = Artifact.load(spec.folder)
    return _edge(spec, artifact, f"vae_jcc/{artifact.config.name} (random weights)")


def save_random(folder: Path, config: ConfigDict, size: tuple[int, int], channels: int) -> None:
    """Saves an artifact of the configuration's encoder and prior with their initial weights, without a receiver.

    The latent is rounded and coded with a factorized prior whatever the configuration's quantizer: with random weights
    its symbols mean nothing. Not in the process that measures it: drawing weights and building tables take more memory
    than encoding does.
    """
    images = jnp.zeros((1, *size, channels))
    encoder = build_encoder(config)
    shapes = jax.eval_shape(encoder.init, jax.random.key(0), images)
    variables = jax.tree_util.tree_map_with_path(_draw, shapes)
    prior = FactorizedPrior(config.model.latent_channels).init(jax.random.key(1), method="layers")["params"]
    offset = np.asarray(quantization_offset(as_float32(prior_layers(prior))))
    save_artifact(
        folder,
        config=config,
        variables={
            "encoder": {"params": variables["params"], "batch_stats": variables.get("batch_stats", {})},
            "prior": {"params": prior, "batch_stats": {}},
        },
        tables=tabulate(prior, offset),
        offset=offset,
        class_names=(),
        channels=channels,
        input_size=size,
    )


def _edge(spec: Spec, artifact: Artifact, name: str) -> System:
    if artifact.channels != spec.channels:
        raise ValueError(f"{spec.target} codes images of {artifact.channels} channels; these have {spec.channels}.")
    edge = EdgeEncoder(artifact)
    variables = artifact.variables("encoder")
    context = list(artifact.read_context().values()) if artifact.context else []  # the device holds and runs it too
    apply, images = build_encoder(artifact.config).apply, jnp.zeros((1, *spec.size, spec.channels))
    return System(
        name=f"{name}, {artifact.context} context" if context else name,
        output="bytes",
        weights="trained" if spec.kind == "model" else "random",
        parameters=count_parameters(variables["params"]) + sum(tensor.size for tensor in context),
        weight_bytes=_size(variables) + sum(tensor.nbytes for tensor in context),
        # Context models are integer arithmetic in NumPy, which is not traced.
        macs=None if context else count_macs(apply, variables, images),
        libraries=(*_LIBRARIES, "constriction"),
        run=edge.compress_all,
    )


def open_network(spec: Spec) -> System:
    """Returns a whole network of random weights that classifies by itself: images in, logits out.

    Raises:
        ValueError: there is no such network.
    """
    if spec.target not in BLOCKS:
        raise ValueError(f"There is no reference network {spec.target!r}: choose among {', '.join(BLOCKS)}.")
    network = ResNet(BLOCKS[spec.target], small_images=min(spec.size) < _SMALL_SIDE)
    example = jnp.zeros((1, *spec.size, spec.channels))
    shapes = jax.eval_shape(network.init, jax.random.key(0), example)
    variables = jax.device_put(jax.tree_util.tree_map_with_path(_draw, shapes))

    @jax.jit
    def classify(variables: Any, images: jax.Array) -> jax.Array:
        logits: Any = network.apply(variables, to_float(images))
        return logits

    stem = ", 3x3 stem" if network.small_images else ""
    return System(
        name=f"{spec.target.replace('resnet', 'ResNet-')} (Flax{stem})",
        output="classes",
        weights="random",
        parameters=count_parameters(variables["params"]),
        weight_bytes=_size(variables),
        macs=count_macs(network.apply, variables, example),
        libraries=_LIBRARIES,
        run=lambda images: in_batches(lambda part: classify(variables, part), images, spec.size[0] * spec.size[1]),
    )


def _draw(path: tuple[Any, ...], leaf: jax.ShapeDtypeStruct) -> np.ndarray:
    """Returns a leaf's initial values from NumPy: nothing is compiled that would count into the peak memory."""
    if path[-1].key in ("scale", "var"):
        return np.ones(leaf.shape, np.float32)
    if path[-1].key != "kernel":
        return np.zeros(leaf.shape, np.float32)
    deviation = (2.0 / np.prod(leaf.shape[:-1])) ** 0.5  # He et al. 2015
    return np.random.default_rng(0).normal(0.0, deviation, leaf.shape).astype(np.float32)


def _size(variables: Any) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(variables))
