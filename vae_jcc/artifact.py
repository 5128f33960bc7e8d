"""A trained model as a folder: everything an edge device and a receiver need, and nothing to execute.

    config.json           the complete configuration that made it
    model.json            geometry, classes, offset, digests, fingerprint, what is known of its accuracy
    tables.vjct           integer coding tables (docs/bitstream.md)
    weights.safetensors   "encoder/params/...", "classifier/...", "decoder/...", "prior/..."; of learned centres also
                          "centres/...", and of models that code with a context model its integers, "context/..."

The fingerprint covers what the bytes mean: tables, context model, latent geometry, offset or centres, and the encoder,
its weights and its shape. It leaves out the classifier and the decoder, so that a better receiver can be trained later
for bytes that exist already.
Loading metadata and tables needs neither JAX nor the weights; each part's weights are checked against their digest when
they are loaded.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vae_jcc.added_keys import complete
from vae_jcc.artifact_weights import Tensors, compact, digest, flatten, read_part, unflatten, write_parts
from vae_jcc.coding import BitstreamError, CodingTables, ContextCodec, LatentCodec, ParallelContext, SerialContext
from vae_jcc.files import replace_folder, write_file

if TYPE_CHECKING:
    from ml_collections import ConfigDict

    from vae_jcc.quantization import Quantizer

# 2: coded with a context model, which a reader of 1 does not know. Other models are still written as 1.
FORMAT_VERSIONS = (1, 2)
CONTEXTS: dict[str, type[SerialContext] | type[ParallelContext]] = {
    "serial": SerialContext,
    "parallel": ParallelContext,
}
ZOO = Path(__file__).parent / "zoo"

MODEL_FILE = "model.json"  # by which a folder is known to be a model
_CONFIG, _TABLES, _WEIGHTS = "config.json", "tables.vjct", "weights.safetensors"
# Rounding these would change the symbols, and with them what the bytes mean.
_EXACT_PARTS = ("encoder", "centres", "prior")


class ArtifactError(ValueError):
    """A model that cannot be found or used; the message names the cause and the cure."""


@dataclass(frozen=True, eq=False)
class Artifact:
    """A trained model, without its weights until they are asked for.

    Attributes:
        folder: where it lies.
        class_names: in the order of the logits.
        channels: of the images, 1 (grey) or 3 (RGB).
        input_size: (H, W) of the images that it was trained on, in pixels.
        latent_channels: c of the latent [h, w, c].
        stride: side of one latent cell in pixels: h = ceil(H / stride).
        offset: the value that symbol 0 stands for in each channel, float32 [c] (`quantizer` knows the others).
        tables: integer coding tables, one row a channel.
        fingerprint: SHA-256 of what the bytes mean, 32 bytes.
        digests: part to the SHA-256 of its weights, hexadecimal.
        dataset: name of the data set that it was trained on.
        dataset_note: to be said beside figures, such as "JPEG-75 copy".
        facts: about its training.
        evaluation: of the test split by `evaluate_artifact`; empty where none was recorded.
        settings: the complete configuration that made the model, as JSON values (`config` is its usual form).
        context: kind of the context model that it codes with, "serial" or "parallel"; "" for the tables alone.
    """

    folder: Path
    class_names: tuple[str, ...]
    channels: int
    input_size: tuple[int, int]
    latent_channels: int
    stride: int
    offset: np.ndarray
    tables: CodingTables
    fingerprint: bytes
    digests: Mapping[str, str]
    dataset: str
    dataset_note: str
    facts: Mapping[str, Any]
    evaluation: Mapping[str, Any]
    settings: Mapping[str, Any]
    context: str = ""

    @classmethod
    def load(cls, name: str | Path) -> "Artifact":
        """Loads configuration, metadata and tables and verifies the fingerprint over them.

        Args:
            name: an artifact's folder, or a name in the zoo (`zoo_names`). A zoo name wins over a folder of that
                name; write ./NAME for the folder.

        Raises:
            ArtifactError: there is no such model, or it is of a newer format, incomplete, damaged or altered.
        """
        folder = resolve(name)
        model = _read_json(folder / MODEL_FILE)
        if model.get("format") not in FORMAT_VERSIONS:
            raise ArtifactError(
                f"{folder} has model format {model.get('format')}; this version reads up to "
                f"{FORMAT_VERSIONS[-1]}: update vae_jcc."
            )
        try:
            tables = CodingTables.load(folder / _TABLES)
            artifact = _from_json(folder, model, _read_json(folder / _CONFIG), tables)
            fingerprint = _fingerprint(artifact)
        except BitstreamError as error:
            raise ArtifactError(str(error)) from error
        except OSError as error:
            raise ArtifactError(f"{folder} is incomplete: {_TABLES} cannot be read ({error.strerror}).") from error
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ArtifactError(
                f"{folder}: {MODEL_FILE} or {_CONFIG} is damaged ({error!r}): copy the model's folder again."
            ) from error
        _check_geometry(artifact)
        if fingerprint != artifact.fingerprint:
            raise ArtifactError(
                f"{folder}: tables, offset, geometry or encoder are not those that the fingerprint was taken of; "
                "copy the model's folder again."
            )
        return artifact

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of the parts that it has weights for."""
        return tuple(self.digests)

    @cached_property
    def config(self) -> "ConfigDict":
        """The complete configuration that made the model, locked; keys that it lacks have their old meaning."""
        from ml_collections import ConfigDict

        return ConfigDict(complete(self.settings)).lock()

    @cached_property
    def quantizer(self) -> "Quantizer":
        """What symbols stand for: learned centres where the model has them, else rounding around the offset."""
        from vae_jcc.quantization import Centres, Rounding

        if "centres" in self.parts:
            return Centres(self.variables("centres")["params"]["values"])
        return Rounding(self.offset)

    @property
    def size_bytes(self) -> int:
        """Bytes of all its files on disk."""
        return sum(path.stat().st_size for path in self.folder.iterdir() if path.is_file())

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Returns the latent grid (h, w) of an image of height x width pixels."""
        return -(-height // self.stride), -(-width // self.stride)

    def variables(self, part: str) -> dict[str, Any]:
        """Returns {"params", "batch_stats"} of a part, such as "encoder": float32 NumPy arrays.

        Raises:
            ArtifactError: the model has no such part, or its weights are damaged or not those of model.json.
        """
        tree = unflatten(self._tensors(part))
        return {"params": tree["params"], "batch_stats": tree.get("batch_stats", {})}

    def read_context(self) -> Tensors:
        """Returns the integers of the context model, as `SerialContext` or `ParallelContext` takes them.

        Raises:
            ArtifactError: the model codes with its tables alone, or the integers are damaged.
        """
        if not self.context:
            raise ArtifactError(f"{self.folder} codes with its tables alone: it has no context model.")
        return self._tensors("context")

    def make_codec(self) -> LatentCodec | ContextCodec:
        """Returns what turns symbols into payloads and back.

        Raises:
            ArtifactError: the context model is damaged.
        """
        if not self.context:
            return LatentCodec(self.tables)
        try:
            return ContextCodec(self.tables, CONTEXTS[self.context](self.read_context()))
        except (KeyError, ValueError) as error:
            raise ArtifactError(f"{self.folder}: its context model cannot be used ({error!r}).") from error

    def _tensors(self, part: str) -> Tensors:
        if part not in self.digests:
            raise ArtifactError(
                f"{self.folder} has no {part}: it has {', '.join(self.parts)}. "
                "A decoder is trained with config.model.decoder.mode='joint' or 'frozen'."
            )
        tensors = read_part(self.folder / _WEIGHTS, part, ArtifactError)
        if digest(tensors) != self.digests[part]:
            raise ArtifactError(
                f"{self.folder / _WEIGHTS}: the {part}'s weights are damaged or another model's; "
                "copy the model's folder again."
            )
        return tensors


def zoo_names() -> list[str]:
    """Returns the names of the models that ship with the package."""
    return sorted(path.parent.name for path in ZOO.glob(f"*/{MODEL_FILE}"))


def resolve(name: str | Path) -> Path:
    """Returns the folder of a zoo name or a path.

    Raises:
        ArtifactError: it is neither; the message lists what the zoo has.
    """
    if str(name) in zoo_names():
        return ZOO / str(name)
    folder = Path(name)
    if (folder / MODEL_FILE).is_file():
        return folder
    if (folder / "artifact" / MODEL_FILE).is_file():
        raise ArtifactError(f"{folder} is a run's workdir: its model is {folder / 'artifact'}.")
    if folder.is_dir():
        raise ArtifactError(f"{folder} is no model: it has no {MODEL_FILE}. Training writes one to WORKDIR/artifact.")
    known = ", ".join(zoo_names()) or "no models"
    raise ArtifactError(f"No model {str(name)!r}: there is no such folder, and the package ships {known}.")


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
        name: compact(flatten(tree), "float32" if name in _EXACT_PARTS else dtype, ArtifactError)
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
    _check_geometry(artifact)
    _write(artifact, parts)


def add_decoder(path: Path, variables: Mapping[str, Any]) -> None:
    """Adds a decoder to a model (or replaces its decoder); every other part, and the fingerprint, stay as they are.

    Args:
        path: the artifact's folder.
        variables: {"params", "batch_stats"} of the decoder; stored in the classifier's dtype.

    Raises:
        ArtifactError: there is no model, or it is damaged.
    """
    artifact = Artifact.load(path)
    parts = {name: artifact._tensors(name) for name in artifact.parts}
    halved = any(t.dtype == np.float16 for t in parts.get("classifier", {}).values())
    parts["decoder"] = compact(flatten(variables), "float16" if halved else "float32", ArtifactError)
    digests = {**artifact.digests, "decoder": digest(parts["decoder"])}
    _write(replace(artifact, digests=digests), parts)


def add_context(path: Path, kind: str, tensors: Tensors, facts: Mapping[str, Any]) -> None:
    """Makes a model code with a context model; its bytes, and so its fingerprint, become others.

    Args:
        path: the artifact's folder.
        kind: "serial" or "parallel".
        tensors: integers as `SerialContext` or `ParallelContext` takes them.
        facts: about its training, kept with the model's others under "context".

    Raises:
        ArtifactError: there is no model, or it is damaged, or the context model does not fit it.
    """
    artifact = Artifact.load(path)
    parts = {name: artifact._tensors(name) for name in artifact.parts} | {"context": dict(tensors)}
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
        (folder / _CONFIG).write_text(json.dumps(artifact.settings, indent=1) + "\n")
        (folder / MODEL_FILE).write_bytes(_to_json(artifact))
        artifact.tables.save(folder / _TABLES)
        write_parts(folder / _WEIGHTS, parts)


def _fingerprint(artifact: Artifact) -> bytes:
    """Returns the SHA-256 of what the bytes mean (docs/bitstream.md): geometry, offset, tables, encoder, centres.

    The same weights in another encoder (another stride of its stem, a pool, a lower precision) give other symbols, so
    the encoder's settings count too.
    """
    geometry = {name: getattr(artifact, name) for name in ("channels", "latent_channels", "stride")}
    if artifact.context:
        geometry["context"] = artifact.context
    encoder = {"compute_dtype": artifact.settings["compute_dtype"], **artifact.settings["model"]["encoder"]}
    return hashlib.sha256(
        b"vae_jcc model 1\n"
        + json.dumps({"geometry": geometry, "encoder": encoder}, sort_keys=True).encode()
        + artifact.offset.astype("<f4").tobytes()
        + artifact.tables.fingerprint()
        + bytes.fromhex(
            artifact.digests["encoder"] + "".join(artifact.digests.get(part, "") for part in ("centres", "context"))
        )
    ).digest()


def _check_geometry(artifact: Artifact) -> None:
    c, rows, offset = artifact.latent_channels, artifact.tables.channels, artifact.offset
    if not (rows == c and offset.shape == (c,) and np.all(np.isfinite(offset))):
        raise ArtifactError(
            f"{artifact.folder}: {c} latent channels need as many tables and finite offsets; got {rows} tables and "
            f"offsets of shape {offset.shape}. Tables and offset have to come from the same prior."
        )
    if artifact.channels not in (1, 3) or artifact.stride < 1 or min(artifact.input_size) < 1:
        raise ArtifactError(
            f"{artifact.folder}: {artifact.channels} channels, stride {artifact.stride} and input size "
            f"{artifact.input_size} make no model: images have 1 or 3 channels, and sizes are positive."
        )


def _to_json(artifact: Artifact) -> bytes:
    model = {
        "format": 2 if artifact.context else 1,
        "fingerprint": _fingerprint(artifact).hex(),
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


def _from_json(folder: Path, model: dict[str, Any], settings: dict[str, Any], tables: CodingTables) -> Artifact:
    height, width = model["input_size"]
    return Artifact(
        folder=folder,
        class_names=tuple(map(str, model["class_names"])),
        channels=int(model["channels"]),
        input_size=(int(height), int(width)),
        latent_channels=int(model["latent_channels"]),
        stride=int(model["stride"]),
        offset=np.asarray(model["offset"], np.float32),
        tables=tables,
        fingerprint=bytes.fromhex(model["fingerprint"]),
        digests=dict(model["weights"]),
        dataset=str(model["dataset"]),
        dataset_note=str(model["dataset_note"]),
        facts=dict(model["facts"]),
        evaluation=dict(model["evaluation"]),
        settings=settings,
        context=str(model.get("context", "")),
    )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except OSError as error:
        raise ArtifactError(f"{path.parent} is incomplete: {path.name} cannot be read ({error.strerror}).") from error
    except ValueError as error:
        raise ArtifactError(f"{path} is damaged ({error}): copy the model's folder again.") from error
    if not isinstance(value, dict):
        raise ArtifactError(f"{path} is damaged (not a JSON object): copy the model's folder again.")
    return value
