"""Evaluation: in the graph for validation, from real bytes for every published figure."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from ml_collections import ConfigDict

from vae_jcc.artifact import Artifact
from vae_jcc.data.array_source import common_size
from vae_jcc.data.pipeline import DEFAULT_MEMORY_LIMIT, eval_batches
from vae_jcc.data.sources import Source, SourceInfo, open_source
from vae_jcc.entropy.categorical import symbol_bits
from vae_jcc.entropy.factorized import bin_bits
from vae_jcc.entropy.tabulate import as_float32, prior_layers
from vae_jcc.inference import make_classify_fn, make_encode_fn
from vae_jcc.models.joint import build_classifier, build_encoder
from vae_jcc.parallel import Devices
from vae_jcc.quantization import Centres
from vae_jcc.real_rates import join, rates, through_bytes


def input_settings(config: ConfigDict, devices: Devices | None = None) -> dict[str, Any]:
    """Returns what `train_iterator` and `eval_batches` both take.

    Args:
        config: the complete configuration.
        devices: that share the batches; this process reads its share. None: this process reads all.
    """
    d = config.dataset
    return {
        "image_size": d.image_size,
        "workers": d.workers,
        "memory_limit": d.memory_limit,
        "shard_index": devices.rank if devices else 0,
        "shard_count": len(devices.processes) if devices else 1,
    }


def input_shape(config: ConfigDict, source: Source) -> tuple[int, int, int]:
    """Returns (H, W, C) of the images that the model is trained on.

    Raises:
        DataError: the source's sizes differ and `dataset.image_size` is 0.
    """
    return *common_size(source.info, config.dataset.image_size), source.info.channels


def evaluate_batches(
    eval_step: Callable[..., Any], variables: Any, batches: Iterable[dict[str, np.ndarray]], devices: Devices
) -> dict[str, float]:
    """Returns means over all examples: "top1", "top5", "cross_entropy" (nats), "bpp" (estimated), and "n_images"."""
    sums = None
    for batch in batches:
        new = eval_step(variables, devices.put_batch(batch))
        sums = new if sums is None else jax.tree.map(jnp.add, sums, new)
    if sums is None:
        raise ValueError("The evaluation split is empty: check config.dataset's splits.")
    count = float(sums["count"])
    return {
        "n_images": count,
        "top1": float(sums["correct"]) / count,
        "top5": float(sums["correct5"]) / count,
        "cross_entropy": float(sums["cross_entropy"]) / count,
        "bpp": float(sums["bpp"]) / count,
    }


def check_fits(artifact: Artifact, source: Source, who: str = "the model") -> None:
    """Checks that a source's images and labels are such as the model was trained on; warns where classes' names differ.

    Args:
        artifact: the model.
        source: of the images.
        who: what messages call the model.

    Raises:
        ValueError: its channels or its number of classes are others, or its classes stand in another order.
    """
    info, names = source.info, artifact.class_names
    if info.channels != artifact.channels or info.num_classes != len(names):
        raise ValueError(
            f"{info.name} has {info.channels} channels and {info.num_classes} classes; {who} wants {artifact.channels} "
            f"and {len(names)}: choose the data set that it was trained for."
        )
    if tuple(info.class_names) == tuple(names):
        return
    number = next(i for i, name in enumerate(names) if name != info.class_names[i])
    differ = f"class {number} of {info.name} is {info.class_names[number]!r}, {who} calls it {names[number]!r}"
    if sorted(info.class_names) == sorted(names):
        raise ValueError(f"Classes stand in another order: {differ}.")
    logging.warning("The figures mean nothing if these are not the same classes: %s.", differ)


def evaluation_view(artifact: Artifact, info: SourceInfo) -> tuple[int, int]:
    """Returns (image_size, margin), as `eval_batches` takes them: what the encoder sees of the images of a source.

    Where training brought its images to a size, evaluation does so too. Else images of one size stay as they are, and
    others are brought to the model's input size.
    """
    d = artifact.config.dataset
    if d.image_size:
        return int(d.image_size), int(d.eval_margin)
    return (0 if info.image_size else min(artifact.input_size)), 0


def evaluate_artifact(
    artifact: Artifact,
    source: Source,
    *,
    batch_size: int = 500,
    dead_zone: float = 0.0,
    workers: int = 0,
    memory_limit: int = DEFAULT_MEMORY_LIMIT,
    progress: Callable[[int], None] | None = None,
) -> dict[str, Any]:
    """Codes every image to bytes, decodes them, and classifies from the decoded symbols.

    Args:
        artifact: the trained model.
        source: images and labels, brought to the size that `evaluation_view` says.
        batch_size: images a step.
        dead_zone: of the encoder, see EdgeEncoder.
        workers: processes that decode images which do not fit into memory; 0: this one.
        memory_limit: bytes of decoded images that may stay in memory.
        progress: called with the number of images done so far.

    Returns:
        "n_images", "top1", "top5", and per pixel: "bpp_estimated" (bits by the prior, or by the context model that
        codes), "bpp_payload" (the entropy coder's bytes), "bpp_file" (stream format, one header for all),
        "bpp_joined" (the same in joined messages), "bpp_single_file" (a file for each image);
        "bytes_payload", "bytes_stream", "bytes_joined" in all; and "payload_overhead", payload bits over estimated
        bits. Of a model that codes with a context model also "context_params", the numbers that a device needs besides
        the encoder's.

    Raises:
        ValueError: the source's channels or classes do not fit, it is empty, or the dead zone cannot be.
        RuntimeError: bytes did not decode to the symbols that were coded, or logits are not finite.
    """
    check_fits(artifact, source)
    encode = make_encode_fn(build_encoder(artifact.config))
    classify = make_classify_fn(build_classifier(artifact.config, len(artifact.class_names)))
    edge, receiver = (artifact.variables(part) for part in ("encoder", "classifier"))
    quantizer, codec = artifact.quantizer.with_dead_zone(dead_zone), artifact.make_codec()
    estimate = (lambda s: codec.bits(s).sum(axis=(1, 2, 3))) if artifact.context else _make_estimate_fn(artifact)

    ranks, bits, payloads, sizes = [], [], [], []
    groups: list[tuple[int, bytes]] = []  # of the joined stream
    image_size, margin = evaluation_view(artifact, source.info)
    for batch in eval_batches(
        source,
        batch_size=batch_size,
        image_size=image_size,
        margin=margin,
        workers=workers,
        memory_limit=memory_limit,
    ):
        keep, images = batch["mask"] > 0, batch["image"]
        coded, decoded = through_bytes(codec, np.asarray(encode(edge, quantizer, images)), keep)
        ranks.append(ranks_of_truth(np.asarray(classify(receiver, quantizer, decoded))[keep], batch["label"][keep]))
        bits.append(np.asarray(estimate(decoded))[keep])
        payloads += coded
        groups += join(codec, decoded[keep], images.shape[1:3], check=not groups)
        sizes += [images.shape[1:3]] * len(coded)
        if progress is not None:
            progress(len(payloads))
    if not payloads:
        raise ValueError(f"{source.info.name} has no images in this split.")
    rank, estimated = np.concatenate(ranks), float(np.concatenate(bits).astype(np.float64).sum())
    result = {"n_images": len(payloads), "top1": float(np.mean(rank == 0)), "top5": float(np.mean(rank < 5))}
    result |= rates(artifact.fingerprint, payloads, groups, sizes, estimated)
    if artifact.context:
        result["context_params"] = sum(t.size for t in artifact.read_context().values())
    return result


def ranks_of_truth(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns how many classes come before the true one, [B]; of equal logits the first comes first, as in argmax.

    Args:
        logits: float32 [B, K].
        labels: [B].

    Raises:
        RuntimeError: a logit is not finite, and would come before or after any other.
    """
    if not np.isfinite(logits).all():
        raise RuntimeError("The classifier's logits are not finite: its weights overflow, and it names nothing.")
    labels = labels[:, None].astype(int)
    truth = np.take_along_axis(logits, labels, axis=1)
    ahead = (logits > truth) | ((logits == truth) & (np.arange(logits.shape[1]) < labels))
    return np.asarray(ahead.sum(axis=1))


def _make_estimate_fn(artifact: Artifact) -> Callable[[np.ndarray], jax.Array]:
    """Returns f(symbols int32 [B, h, w, c]) -> float32 [B]: the bits by the prior that the tables were made of."""
    prior, quantizer = artifact.variables("prior")["params"], artifact.quantizer
    if "base" in prior:
        base = jnp.asarray(prior["base"])
        return jax.jit(lambda symbols: symbol_bits(base, symbols).sum(axis=(1, 2, 3)))
    layers = as_float32(prior_layers(prior))
    return jax.jit(lambda symbols: bin_bits(layers, quantizer.dequantize(symbols)).sum(axis=(1, 2, 3)))


def count_symbols(config: ConfigDict, encoder: Any, centres: np.ndarray, source: Source) -> np.ndarray:
    """Returns how often each symbol occurs in each channel over a source, int64 [c, L].

    Args:
        config: the complete configuration.
        encoder: its variables {"params", "batch_stats"}.
        centres: float32 [L].
        source: images.
    """
    encode, quantizer = make_encode_fn(build_encoder(config)), Centres(centres)
    counts = np.zeros((config.model.latent_channels, len(centres)), np.int64)
    batches = eval_batches(
        source, batch_size=config.eval.batch_size, margin=config.dataset.eval_margin, **input_settings(config)
    )
    for batch in batches:
        symbols = np.asarray(encode(encoder, quantizer, batch["image"]))[batch["mask"] > 0]
        counts += np.stack([(symbols == s).sum(axis=(0, 1, 2)) for s in range(len(centres))], axis=1)
    return counts


def evaluate_workdir(config: ConfigDict, workdir: Path) -> dict[str, Any]:
    """Evaluates the workdir's artifact on the test split, prints the figures and writes evaluation.json.

    Raises:
        FileNotFoundError: there is no artifact yet.
    """
    folder = workdir / "artifact"
    if not folder.is_dir():
        raise FileNotFoundError(f"No artifact in {workdir}: train first, with --mode=train and the same --workdir.")
    d = config.dataset
    source = open_source(d.name, d.test_split, data_dir=d.data_dir or None, on_corrupt=d.on_corrupt)
    result = evaluate_artifact(
        Artifact.load(str(folder)),
        source,
        batch_size=config.eval.batch_size,
        workers=d.workers,
        memory_limit=d.memory_limit,
    )
    result |= {"dataset": d.name, "split": d.test_split, "data_note": d.note}
    (workdir / "evaluation.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))
    return result
