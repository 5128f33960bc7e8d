"""The edge: pictures in, bytes out."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vae_jcc.artifact import Artifact
from vae_jcc.coding import LatentCodec, pack_file, pack_stream

_MAX_BATCH = 256


class EdgeEncoder:
    """Compresses pictures with an artifact's encoder; loads neither classifier nor decoder.

    Example:
        edge = EdgeEncoder.load("cifar10")
        data = edge.compress(image)  # uint8 [H, W, C] -> bytes
    """

    def __init__(self, artifact: Artifact):
        """Compiles nothing yet; the first image of each size does."""
        # JAX loads here, so that this module's import stays light.
        from vae_jcc.inference import make_encode_fn
        from vae_jcc.models.joint import build_encoder

        self.artifact = artifact
        self._encode = make_encode_fn(build_encoder(artifact.config))
        self._variables = artifact.variables("encoder")
        self._codec = LatentCodec(artifact.tables)

    @classmethod
    def load(cls, name_or_dir: str | Path) -> "EdgeEncoder":
        """Loads a shipped model by name, or an artifact's folder.

        Raises:
            ArtifactError: there is none, or it is damaged.
        """
        return cls(Artifact.load(name_or_dir))

    def compress(self, images: np.ndarray | Sequence[np.ndarray]) -> bytes | list[bytes]:
        """Returns a file's bytes (docs/bitstream.md) for each picture.

        Args:
            images: uint8 [H, W, C], of any size, gives bytes; uint8 [B, H, W, C], or a sequence of [H, W, C] of any
                sizes, gives a list of bytes. C must be the model's.

        Raises:
            ValueError: not uint8, or not of the model's channels.
        """
        if isinstance(images, np.ndarray) and images.ndim == 3:
            return self._files([images])[0]
        return self._files(images)

    def compress_stream(self, images: np.ndarray | Sequence[np.ndarray]) -> bytes:
        """Returns one stream of all pictures (one header for all), from [B, H, W, C] or a sequence of [H, W, C].

        Raises:
            ValueError: as `compress`, or there is no picture.
        """
        payloads = self._payloads(images)
        return pack_stream(payloads, self.artifact.fingerprint, [image.shape[:2] for image in images])

    def _files(self, images: np.ndarray | Sequence[np.ndarray]) -> list[bytes]:
        fingerprint = self.artifact.fingerprint
        return [
            pack_file(payload, fingerprint, *image.shape[:2])
            for payload, image in zip(self._payloads(images), images, strict=True)
        ]

    def _payloads(self, images: np.ndarray | Sequence[np.ndarray]) -> list[bytes]:
        """Codes pictures of one size together, and returns the payloads in the order that the pictures came in."""
        places: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for i, image in enumerate(images):
            self._check(image)
            places[image.shape].append(i)
        payloads = [b""] * len(images)
        for same_size in places.values():
            for start in range(0, len(same_size), _MAX_BATCH):
                part = same_size[start : start + _MAX_BATCH]
                for i, payload in zip(part, self._code(np.stack([images[i] for i in part])), strict=True):
                    payloads[i] = payload
        return payloads

    def _code(self, batch: np.ndarray) -> list[bytes]:
        symbols = self._encode(self._variables, self.artifact.offset, pad_batch(batch))
        return self._codec.encode_batch(np.asarray(symbols)[: len(batch)])

    def _check(self, image: np.ndarray) -> None:
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != self.artifact.channels or not image.size:
            raise ValueError(
                f"The model codes uint8 pictures [H, W, {self.artifact.channels}]; got {image.dtype} "
                f"{list(image.shape)}: convert grey and RGB before."
            )


def pad_batch(batch: np.ndarray) -> np.ndarray:
    """Returns the batch filled up to the next power of two with its last row, so that few sizes are ever compiled."""
    missing = (1 << (len(batch) - 1).bit_length()) - len(batch)
    return np.concatenate([batch, np.repeat(batch[-1:], missing, axis=0)]) if missing else batch
