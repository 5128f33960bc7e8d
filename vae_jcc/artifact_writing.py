"""Writing a model's folder (artifact.py says what is in it), and adding to one that exists: whole or not at all."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vae_jcc.artifact import (
    CONFIG_FILE,
    CONTEXTS,
    EXACT_PARTS,
    MODEL_FILE,
    TABLES_FILE,
    WEIGHTS_FILE,
    Artifact,
    ArtifactError,
    check_geometry,
    fingerprint_of,
)
from vae_jcc.artifact_weights import Tensors, compact, digest, flatten, write_parts
from vae_jcc.coding import CodingTables, ContextCodec
from vae_jcc.files import replace_folder, write_file

if TYPE_CHECKING:
    from ml_collections import ConfigDict


def save_artifact(
    path: Path,
    *,
    config: "ConfigDict",
    variables: Mapping[str, Mapping[str, Any]],
    tables: CodingTables,
    offset: np.ndarray,
    class_names: Sequence[str],
    channels: int,
    input_size: tuple[int, int],
    dataset: str = "",
    dataset_note: str = "",
    facts: Mapping[str, Any] | None = None,
    dtype: str = "float32",
) -> None:
    """Writes a model's folder, whole or not at all; one that is there is replaced.

    Args:
        path: of the folder.
        config: the complete configuration.
        variables: part to {"params", "batch_stats"}; "encoder" is needed.
        tables: of the prior, one row a latent channel.
        offset: float32 [c].
        class_names: in the order of the logits.
        channels: of the images.
        input_size: (H, W) of the training images.
        dataset: name of the training data.
        dataset_note: see `Artifact`.
        facts: about the training; JSON values.
        dtype: of the receiver's kernels, "float32" or "float16". Encoder, centres and prior stay
            float32, so that the symbols do not depend on it; so do biases and statistics, which are small.

    Raises:
        ArtifactError: the pieces do not fit each other, or a weight does not fit into `dtype`.
    """
    from vae_jcc.models.joint import build_encoder  # brings JAX along, which reading a model does not need

    if "encoder" not in variables:
        raise ArtifactError("A model needs its encoder's variables: they define what the bytes mean.")
    offset = np.asarray(offset, np.float32)
    parts = {
        name: compact(flatten(tree), "float32" if name in EXACT_PARTS else dtype, ArtifactError)
        for name, tree in variables.items()
    }
    artifact = Artifact(
        folder=Path(path),
        class_names=tuple(class_names),
        channels=int(channels),
        input_size=(int(input_size[0]), int(input_size[1])),
        latent_channels=int(config.model.latent_channels),
        stride=build_encoder(config).stride,
        offset=offset,
        tables=tables,
        fingerprint=b"",
        digests={name: digest(tensors) for name, tensors in parts.items()},
        dataset=dataset,
        dataset_note=dataset_note,
        facts=dict(facts or {}),
        evaluation={},
        settings=json.loads(config.to_json()),
    )
    check_geometry(artifact)
    _write(artifact, parts)


def save_receiver(
    path: Path,
    base: Artifact,
    *,
    config: "ConfigDict",
    variables: Mapping[str, Mapping[str, Any]],
    class_names: Sequence[str],
    input_size: tuple[int, int],
    facts: Mapping[str, Any],
    dtype: str = "float32",
) -> None:
    """Writes a model that reads and writes another's bytes, with a receiver of its own; whole or not at all.

    Args:
        path: of the folder; one that is there is replaced.
        base: whose bytes they are. All that the fingerprint covers is taken from it, and so is its decoder where
            `config.model.decoder.mode` is "off".
        config: the complete configuration of the receiver's training.
        variables: part to {"params", "batch_stats"}; "classifier" and, where there is a new one, "decoder".
        class_names: of the new classifier, in the order of its logits.
        input_size: (H, W) of the training images.
        facts: about the training; JSON values.
        dtype: see `save_artifact`.

    Raises:
        ArtifactError: `base` is damaged, or a weight does not fit into `dtype`.
    """
    settings, kept = json.loads(config.to_json()), set(base.parts)
    settings["compute_dtype"] = base.settings["compute_dtype"]
    settings["model"]["encoder"] = base.settings["model"]["encoder"]
    if config.model.decoder.mode == "off":
        settings["model"]["decoder"] = base.settings["model"]["decoder"]  # its shape
    else:
        kept.discard("decoder")
    parts = {name: base.tensors(name) for name in base.parts if name in kept}
    parts |= {name: compact(flatten(tree), dtype, ArtifactError) for name, tree in variables.items()}
    receiver = replace(
        base,
        folder=Path(path),
        class_names=tuple(class_names),
        input_size=input_size,
        digests={name: digest(tensors) for name, tensors in parts.items()},
        dataset=config.dataset.name,
        dataset_note=config.dataset.note,
        facts=dict(facts),
        evaluation={},
        settings=settings,
    )
    _write(receiver, parts)


def add_decoder(path: Path, variables: Mapping[str, Any]) -> None:
    """Adds a decoder to a model (or replaces its decoder); every other part, and the fingerprint, stay as they are.

    Args:
        path: the artifact's folder.
        variables: {"params", "batch_stats"} of the decoder; stored in the classifier's dtype.

    Raises:
        ArtifactError: there is no model, or it is damaged.
    """
    artifact = Artifact.load(path)
    parts = {name: artifact.tensors(name) for name in artifact.parts}
    halved = any(t.dtype == np.float16 for t in parts.get("classifier", {}).values())
    parts["decoder"] = compact(flatten(variables), "float16" if halved else "float32", ArtifactError)
    digests = {**artifact.digests, "decoder": digest(parts["decoder"])}
    _write(replace(artifact, digests=digests), parts)


def add_context(path: Path, kind: str, tensors: Tensors, facts: Mapping[str, Any]) -> None:
    """Makes a model code with a context model; its bytes, and so its fingerprint, become others.

    Args:
        path: the artifact's folder.
        kind: a name in CONTEXTS.
        tensors: integers as the class of that name takes them.
        facts: about its training, kept with the model's others under "context".

    Raises:
        ArtifactError: there is no model, or it is damaged, or the context model does not fit it.
    """
    artifact = Artifact.load(path)
    parts = {name: artifact.tensors(name) for name in artifact.parts} | {"context": dict(tensors)}
    changed = replace(
        artifact,
        context=kind,
        digests={name: digest(part) for name, part in parts.items()},
        facts={**artifact.facts, "context": dict(facts)},
        evaluation={},
    )
    try:
        ContextCodec(changed.tables, CONTEXTS[kind](tensors))
    except (KeyError, ValueError) as error:
        raise ArtifactError(f"{path}: this context model does not fit the model ({error!r}).") from error
    _write(changed, parts)


def add_evaluation(path: Path, evaluation: Mapping[str, Any]) -> None:
    """Records figures with the model, for `vae-jcc models`: what `evaluate_artifact` returned, and on which data.

    Raises:
        ArtifactError: there is no model, or it is damaged.
    """
    artifact = replace(Artifact.load(path), evaluation=dict(evaluation))
    write_file(artifact.folder / MODEL_FILE, _to_json(artifact))


def _write(artifact: Artifact, parts: Mapping[str, Tensors]) -> None:
    with replace_folder(artifact.folder) as folder:
        (folder / CONFIG_FILE).write_text(json.dumps(artifact.settings, indent=1) + "\n")
        (folder / MODEL_FILE).write_bytes(_to_json(artifact))
        artifact.tables.save(folder / TABLES_FILE)
        write_parts(folder / WEIGHTS_FILE, parts)


def _to_json(artifact: Artifact) -> bytes:
    model = {
        "format": 2 if artifact.context else 1,
        "fingerprint": fingerprint_of(artifact).hex(),
        "channels": artifact.channels,
        "input_size": artifact.input_size,
        "latent_channels": artifact.latent_channels,
        "stride": artifact.stride,
        "offset": artifact.offset.tolist(),  # Python prints the shortest decimals that give the same float back
        "class_names": artifact.class_names,
        "dataset": artifact.dataset,
        "dataset_note": artifact.dataset_note,
        "facts": artifact.facts,
        "evaluation": artifact.evaluation,
        "weights": artifact.digests,
    }
    if artifact.context:
        model["context"] = artifact.context
    return (json.dumps(model, indent=1) + "\n").encode()
