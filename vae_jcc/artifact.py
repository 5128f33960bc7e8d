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
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vae_jcc.added_keys import complete
from vae_jcc.artifact_weights import Tensors, digest, read_part, unflatten
from vae_jcc.coding import (
    BitstreamError,
    CodingTables,
    ContextCodec,
    HyperpriorContext,
    LatentCodec,
    ParallelContext,
    SerialContext,
)
from vae_jcc.model_folder import MODEL_FILE, ArtifactError, resolve

if TYPE_CHECKING:
    from ml_collections import ConfigDict

    from vae_jcc.quantization import Quantizer

# 2: coded with a context model, which a reader of 1 does not know. Other models are still written as 1.
FORMAT_VERSIONS = (1, 2)
CONTEXTS: dict[str, type[SerialContext] | type[ParallelContext] | type[HyperpriorContext]] = {
    "serial": SerialContext,
    "parallel": ParallelContext,
    "hyperprior": HyperpriorContext,
}
CONFIG_FILE, TABLES_FILE, WEIGHTS_FILE = "config.json", "tables.vjct", "weights.safetensors"
# Rounding these would change the symbols, and with them what the bytes mean.
EXACT_PARTS = ("encoder", "centres", "prior")


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
        context: kind of the context model that it codes with, a name in CONTEXTS; "" for the tables alone.
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
            tables = CodingTables.load(folder / TABLES_FILE)
            artifact = _from_json(folder, model, _read_json(folder / CONFIG_FILE), tables)
            fingerprint = fingerprint_of(artifact)
        except BitstreamError as error:
            raise ArtifactError(str(error)) from error
        except OSError as error:
            raise ArtifactError(f"{folder} is incomplete: {TABLES_FILE} cannot be read ({error.strerror}).") from error
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ArtifactError(
                f"{folder}: {MODEL_FILE} or {CONFIG_FILE} is damaged ({error!r}): copy the model's folder again."
            ) from error
        check_geometry(artifact)
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
        tree = unflatten(self.tensors(part))
        return {"params": tree["params"], "batch_stats": tree.get("batch_stats", {})}

    def read_context(self) -> Tensors:
        """Returns the integers of the context model, as the class in CONTEXTS takes them.

        Raises:
            ArtifactError: the model codes with its tables alone, or the integers are damaged.
        """
        if not self.context:
            raise ArtifactError(f"{self.folder} codes with its tables alone: it has no context model.")
        return self.tensors("context")

    def make_codec(self, coder: str = "range") -> LatentCodec | ContextCodec:
        """Returns what turns symbols into payloads and back, with an entropy coder of `vae_jcc.coding.CODERS`.

        Raises:
            ArtifactError: the context model is damaged.
            BitstreamError: the coder's library is not installed, or the model codes with a context model and the coder
                is not the range coder.
            ValueError: there is no such coder.
        """
        if not self.context:
            return LatentCodec(self.tables, coder)
        if coder != "range":
            raise BitstreamError(
                f"{self.folder} codes with a context model, which only the range coder can do: choose coder 'range', "
                "or a model that codes with its tables alone."
            )
        try:
            return ContextCodec(self.tables, CONTEXTS[self.context](self.read_context()))
        except (KeyError, ValueError) as error:
            raise ArtifactError(f"{self.folder}: its context model cannot be used ({error!r}).") from error

    def tensors(self, part: str) -> Tensors:
        """Returns a part's named tensors as they are stored; errors as `variables`."""
        if part not in self.digests:
            raise ArtifactError(
                f"{self.folder} has no {part}: it has {', '.join(self.parts)}. "
                "A decoder is trained with config.model.decoder.mode='joint' or 'frozen'."
            )
        tensors = read_part(self.folder / WEIGHTS_FILE, part, ArtifactError)
        if digest(tensors) != self.digests[part]:
            raise ArtifactError(
                f"{self.folder / WEIGHTS_FILE}: the {part}'s weights are damaged or another model's; "
                "copy the model's folder again."
            )
        return tensors


def fingerprint_of(artifact: Artifact) -> bytes:
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


def check_geometry(artifact: Artifact) -> None:
    """Raises ArtifactError where tables, offset, channels or sizes make no model together."""
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
