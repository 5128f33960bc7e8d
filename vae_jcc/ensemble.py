"""Joining receivers that read the same bytes into one that lets them vote; cameras and files stay as they are.

A, B, C --classifiers--> Vote --+
A ------everything else---------+--> model
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from vae_jcc.artifact import Artifact, ArtifactError
from vae_jcc.artifact_weights import Tensors, digest
from vae_jcc.artifact_writing import write_artifact

# Of symbols' steps of 1. An offset is the root of a prior: another machine's may differ in the last bits.
OFFSET_TOLERANCE = 1e-4


def save_ensemble(path: Path, models: Sequence[Artifact], bytes_of: Artifact | None = None) -> None:
    """Writes a model whose classifier is the vote of several models' (models/classifier.py), whole or not at all.

    A model that is a vote itself brings all its members. One model with another's bytes makes a new receiver for these.

    Args:
        path: of the folder; one that is there is replaced.
        models: whose classifiers vote; at least one.
        bytes_of: whose bytes the model writes and reads: its encoder, coding tables, context model and decoder are
            taken; the first of `models` where None.

    Raises:
        ArtifactError: a model has no classifier or is damaged, or the models' symbols or classes do not mean the same,
            or their classifiers are of different shapes.
    """
    base = models[0] if bytes_of is None else bytes_of
    members: list[Tensors] = []
    for model in models:
        _check_alike(base, models[0], model)
        members += _members(model)
    classifier = members[0]
    if len(members) > 1:
        classifier = {_path(name, i): value for i, one in enumerate(members) for name, value in one.items()}
    settings = json.loads(json.dumps(base.settings))
    settings["model"]["classifier"] = {**_shape(models[0]), "members": len(members)}
    parts = {name: base.tensors(name) for name in base.parts} | {"classifier": classifier}
    facts = {**base.facts, "classifiers": [digest(one) for one in members]}
    digests = {**base.digests, "classifier": digest(classifier)}
    write_artifact(
        replace(base, folder=Path(path), settings=settings, digests=digests, facts=facts, evaluation={}), parts
    )


def _members(model: Artifact) -> list[Tensors]:
    """Returns the tensors of each classifier of a model."""
    tensors, count = model.tensors("classifier"), model.config.model.classifier.members
    if count == 1:
        return [tensors]
    members: list[Tensors] = [{} for _ in range(count)]
    for name, value in tensors.items():
        kind, member, rest = name.split("/", 2)
        members[int(member.removeprefix("members_"))][f"{kind}/{rest}"] = value
    return members


def _path(name: str, member: int) -> str:
    """Returns the path of a member's variable in `Vote`: "params/stem/kernel" is "params/members_0/stem/kernel"."""
    kind, rest = name.split("/", 1)
    return f"{kind}/members_{member}/{rest}"


def _check_alike(base: Artifact, first: Artifact, model: Artifact) -> None:
    """Raises ArtifactError where a model's classifier does not fit the bytes of `base`, or the first of the others."""
    if _encoding(model) != _encoding(base) or np.any(np.abs(model.offset - base.offset) > OFFSET_TOLERANCE):
        raise ArtifactError(
            f"{model.folder} reads other symbols than {base.folder} writes: only classifiers behind one and the same "
            "encoder and offset vote. Train further ones with --config.init_from=MODEL --config.quantizer.kind=hard."
        )
    if model.class_names != base.class_names:
        raise ArtifactError(f"{model.folder} and {base.folder} name different classes.")
    if _shape(model) != _shape(first):
        raise ArtifactError(
            f"The classifiers of {model.folder} and {first.folder} differ in shape ({_shape(model)} and "
            f"{_shape(first)}): only alike ones vote."
        )


def _encoding(model: Artifact) -> tuple[Any, ...]:
    """Returns what fixes the values that a classifier sees, beside the offset: how symbols are coded does not."""
    encoder = {"compute_dtype": model.config.compute_dtype, **model.config.model.encoder.to_dict()}
    return encoder, model.digests["encoder"], model.digests.get("centres")


def _shape(model: Artifact) -> dict[str, Any]:
    shape: dict[str, Any] = json.loads(model.config.model.classifier.to_json())
    del shape["members"]
    return shape
