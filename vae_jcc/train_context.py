"""Trains a context model on a finished artifact: the same symbols in fewer bits, accuracy untouched by construction.

It starts from the tables of the model's prior, learns in float, and then goes on in the integer arithmetic in which it
will code (quantization-aware), so that what codes is what was trained.
"""

from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from vae_jcc import optim
from vae_jcc.artifact import Artifact
from vae_jcc.artifact_writing import add_context
from vae_jcc.benchmark.cost import count_parameters
from vae_jcc.coding.integer_layers import SYMBOL_LIMIT
from vae_jcc.coding.slots import SlotMap
from vae_jcc.coding.tables import CodingTables
from vae_jcc.data.array_source import ArraySource
from vae_jcc.data.pipeline import eval_batches, train_iterator
from vae_jcc.data.sources import Source
from vae_jcc.entropy.context import LOG2_IMPOSSIBLE, ContextModel, slot_bits
from vae_jcc.entropy.export import to_integers
from vae_jcc.entropy.fixed_point import ACTIVATION_BITS, ACTIVATION_LIMIT
from vae_jcc.entropy.hyperprior import HyperpriorModel, export_hyperprior
from vae_jcc.entropy.parallel_context import ParallelContextModel, group_channels
from vae_jcc.evaluate import input_settings
from vae_jcc.frozen_encoder import training_images
from vae_jcc.inference import make_encode_fn
from vae_jcc.metrics import tell
from vae_jcc.microbatches import Batch, mean_over_microbatches
from vae_jcc.models.joint import build_encoder

Tensors = dict[str, np.ndarray]
Prepared = tuple[np.ndarray, np.ndarray]  # values float32 and slots int32, both [B, h, w, c]


def train_context(
    config: ConfigDict,
    folder: Path,
    source: Source,
    validation: Source,
    start: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Trains the context model that `config.entropy.context` describes and makes the artifact code with it.

    The encoder runs as it is shipped.

    Args:
        config: the complete configuration; `config.entropy.context` sets kind, epochs and learning rate, and
            `config.train` batches and microbatches.
        folder: of the artifact.
        source: training images.
        validation: images to measure on.
        start: parameters of a serial context model that was trained with the encoder, to go on from; or None.

    Returns:
        "kind", "parameters", and bits per validation image: "bits_tables" (the tables alone), "bits_float" (the context
        model at the end of its training in float) and "bits" (in integers, as it codes).

    Raises:
        ValueError: the kind is unknown, or the number of groups does not fit.
    """
    artifact, settings = Artifact.load(str(folder)), config.entropy.context
    model, extra = _build(settings, artifact, start)
    prepare = _Prepare(artifact, config)

    def mean_bits(params: Any, fixed: bool) -> float:
        return _mean(
            config, validation, lambda images: measure(params, *prepare.inputs(prepare.symbols(images)), fixed)
        )

    measure = jax.jit(partial(_bits, model), static_argnums=3)
    total = optim.steps_in(settings.epochs, source.info.num_examples, config.train.batch_size)
    fixed_from = round(total * (1 - settings.fixed_fraction))
    optimizer = optax.adam(optax.cosine_decay_schedule(settings.learning_rate, total))
    step = _make_step(model, optimizer, config)
    params, opt_state, bits_float = None, None, float("nan")
    with closing(_training_symbols(config, source, prepare)) as batches:
        for i, symbols in zip(range(total), batches, strict=False):
            values, slots = prepare.inputs(symbols)
            if params is None:
                params = _initial(model, config.seed, values[:1], artifact, start)
                opt_state = optimizer.init(params)
            if i == fixed_from:
                bits_float = mean_bits(params, False)
            params, opt_state, loss = step(params, opt_state, i, values, slots, i >= fixed_from)
            if (i + 1) % 200 == 0:
                tell(f"context model: step {i + 1}/{total}  {float(loss):.1f} bits an image")
    if params is None:
        raise ValueError("There are no training images for the context model: check dataset.train_split.")
    if fixed_from >= total:
        bits_float = mean_bits(params, False)
    tables = artifact.tables
    facts = {
        "kind": settings.kind,
        "parameters": count_parameters(params),
        "bits_tables": _mean(config, validation, lambda images: tables.expected_bits(prepare.symbols(images))),
        "bits_float": bits_float,
        "bits": mean_bits(params, True),
    }
    if isinstance(model, HyperpriorModel):
        extra = extra | export_hyperprior(params, model)
    add_context(folder, settings.kind, to_integers(params) | extra, facts)
    return facts


def _bits(
    model: Any, params: Any, values: jax.Array, slots: jax.Array, fixed: bool, key: jax.Array | None = None
) -> jax.Array:
    """Returns the bits of each latent, [B], side information included; a key where training draws noise for it."""
    rngs = None if key is None else {"noise": key}
    logits, side = model.apply({"params": params}, values, fixed, rngs=rngs, mutable="side")
    return slot_bits(logits, slots).sum(axis=(1, 2, 3)) + sum(jax.tree.leaves(side))


def _make_step(
    model: Any, optimizer: optax.GradientTransformation, config: ConfigDict
) -> Callable[..., tuple[Any, Any, Any]]:
    """Returns the compiled step(params, opt_state, number, values, slots, fixed) -> (params, opt_state, mean bits)."""

    def step(
        params: Any, opt_state: Any, number: jax.Array, values: jax.Array, slots: jax.Array, fixed: bool
    ) -> tuple[Any, Any, Any]:
        key = jax.random.fold_in(jax.random.key(config.seed), number)

        def gradients(part: Batch) -> tuple[jax.Array, Any]:
            noise = jax.random.fold_in(key, part["index"][0])
            return jax.value_and_grad(lambda p: _bits(model, p, part["values"], part["slots"], fixed, noise).mean())(
                params
            )

        batch = {"values": values, "slots": slots, "index": jnp.arange(len(values))}
        loss, grads = mean_over_microbatches(gradients, batch, config.train.accumulate)
        updates, opt_state = optimizer.update(grads, opt_state)
        return optax.apply_updates(params, updates), opt_state, loss

    return jax.jit(step, static_argnums=5)


def _training_symbols(config: ConfigDict, source: Source, prepare: "_Prepare") -> Generator[np.ndarray, None, None]:
    """Yields shuffled batches of symbols int32 [B, h, w, c] without end; close it to stop the pipeline behind it.

    Where further epochs see the same pixels, these are encoded once, if `dataset.memory_limit` lets the symbols stay.
    """
    if config.entropy.context.epochs > 1 and not config.dataset.eval_margin:
        stored = _encode_all(config, source, prepare)
        if stored is not None:
            with train_iterator(stored, batch_size=config.train.batch_size, seed=config.seed) as batches:
                for batch in batches:
                    yield batch["image"]
    with closing(training_images(config, source)) as images:
        yield from map(prepare.symbols, images)


def _encode_all(config: ConfigDict, source: Source, prepare: "_Prepare") -> ArraySource | None:
    """Returns the symbols of a source in the place of its pixels; None where they would not fit into memory."""
    symbols, done = None, 0
    for batch in eval_batches(source, batch_size=config.eval.batch_size, **input_settings(config)):
        part = prepare.symbols(batch["image"])[batch["mask"] > 0]
        if symbols is None:
            if len(source) * part[0].nbytes > config.dataset.memory_limit:
                return None
            symbols = np.empty((len(source), *part.shape[1:]), part.dtype)
        symbols[done : done + len(part)] = part
        done += len(part)
    if symbols is None:
        return None
    info = replace(source.info, channels=symbols.shape[3], image_size=(symbols.shape[1], symbols.shape[2]))
    return ArraySource(info, symbols, np.zeros(len(symbols), np.int32))


class _Prepare:
    """Turns images uint8 [B, H, W, C] into symbols, and those into what a context model reads and has to predict."""

    def __init__(self, artifact: Artifact, config: ConfigDict) -> None:
        self._encode, self._edge = make_encode_fn(build_encoder(config)), artifact.variables("encoder")
        self._quantizer, self._map = artifact.quantizer, SlotMap(artifact.tables)
        self._levels = levels(artifact)

    def symbols(self, images: np.ndarray) -> np.ndarray:
        """Returns symbols int32 [B, h, w, c]."""
        return np.asarray(self._encode(self._edge, self._quantizer, images))

    def inputs(self, symbols: np.ndarray) -> Prepared:
        """Returns what the context model reads and what it has to predict, of symbols int32 [B, h, w, c]."""
        planes, slots, escaped = self._map.to_slots(symbols)
        known = np.where(escaped, 0, planes)
        if self._levels is None:
            values: np.ndarray = np.clip(known, -SYMBOL_LIMIT, SYMBOL_LIMIT).astype(np.float32)
        else:
            values = self._levels[known] / np.float32(2**ACTIVATION_BITS)
        return values.transpose(0, 2, 3, 1), slots.transpose(0, 2, 3, 1)


def levels(artifact: Artifact) -> np.ndarray | None:
    """Returns what a context model reads for symbols 0..L-1 of learned centres, int32 [L] in steps; else None."""
    if "centres" not in artifact.parts:
        return None
    centres = artifact.variables("centres")["params"]["values"]
    steps = np.floor(centres * 2.0**ACTIVATION_BITS + 0.5)
    return np.clip(steps, -ACTIVATION_LIMIT, ACTIVATION_LIMIT).astype(np.int32)


def _build(settings: ConfigDict, artifact: Artifact, start: Mapping[str, Any] | None) -> tuple[Any, Tensors]:
    """Returns the model and the tensors that it codes with besides its parameters."""
    slots = max(len(row) for row in artifact.tables.counts)
    costs = [float(-(p * np.log2(p)).sum()) for p in (row / row.sum() for row in artifact.tables.counts)]
    known = levels(artifact)
    extra = {} if known is None else {"levels": known}
    if settings.kind == "serial":
        features, blocks = settings.features, settings.blocks
        if start is not None:
            features, blocks = start["kernel0"].shape[-1], (len([n for n in start if n.startswith("kernel")]) - 2) // 2
        return ContextModel(artifact.latent_channels, slots, features, blocks), extra
    if settings.kind == "parallel":
        groups = group_channels(costs, settings.groups)
        return ParallelContextModel(tuple(groups.tolist()), slots, settings.features), extra | {"groups": groups}
    if settings.kind == "hyperprior":
        return HyperpriorModel(*_positions(artifact.tables, known), settings.features), extra
    raise ValueError(
        f"config.entropy.context.kind is {settings.kind!r}: choose 'serial', 'parallel', 'hyperprior' or ''."
    )


def _positions(tables: CodingTables, levels: np.ndarray | None) -> tuple[tuple[tuple[int, ...], ...], tuple[int, ...]]:
    """Returns where the symbol of each slot lies, in steps of 1/16, [c][slots], and each channel's number of slots."""
    slots = [len(row) for row in tables.counts]
    positions = np.zeros((len(slots), max(slots)), int)  # a slot that stands for no symbol has none: 0 is never read
    for line, minimum, count in zip(positions, tables.minima, slots, strict=True):
        symbols = minimum + np.arange(count - 1)
        line[: count - 1] = symbols * 2**ACTIVATION_BITS if levels is None else levels[symbols]
    return tuple(map(tuple, positions.tolist())), tuple(slots)


def _initial(
    model: Any, seed: int, values: np.ndarray, artifact: Artifact, start: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Returns fresh parameters on the base of the tables, or those of `start` with an escape slot added."""
    params = dict(jax.jit(model.init)(jax.random.key(seed), values)["params"])
    base: np.ndarray = np.full(params["base"].shape, LOG2_IMPOSSIBLE, np.float32)
    for k, row in enumerate(artifact.tables.counts):
        base[k, : len(row)] = np.log2(row.astype(np.float64) / row.sum())
    if start is None:
        return params | {"base": jnp.asarray(base)}
    last = f"{len([n for n in start if n.startswith('kernel')]) - 1}"
    fitted = {name: jnp.asarray(value, jnp.float32) for name, value in start.items()}
    for name in (f"kernel{last}", f"bias{last}"):
        fitted[name] = jnp.pad(fitted[name], [(0, 0)] * (fitted[name].ndim - 1) + [(0, 1)])
    base[:, :-1] = np.asarray(start["base"])
    return fitted | {"base": jnp.asarray(base)}


def _mean(config: ConfigDict, source: Source, per_image: Callable[[np.ndarray], Any]) -> float:
    """Returns the mean over a source's images of what `per_image` makes of a batch, [B]."""
    sums = np.zeros(2)
    batches = eval_batches(
        source, batch_size=config.eval.batch_size, margin=config.dataset.eval_margin, **input_settings(config)
    )
    for batch in batches:
        mask = batch["mask"]
        sums += (float((np.asarray(per_image(batch["image"])) * mask).sum()), float(mask.sum()))
    return float(sums[0] / sums[1])
