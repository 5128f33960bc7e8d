"""The receiver: bytes in; what the camera saw, or the picture, out."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from vae_jcc.artifact import Artifact
from vae_jcc.coding import LatentCodec, peek, unpack_file, unpack_stream

_MAX_BATCH = 256
Data = bytes | Sequence[bytes]


class Receiver:
    """Decodes, classifies and reconstructs. `symbols` and `inspect` never load JAX; the networks load on first use.

    Every method takes the bytes of a file (one picture), of a stream (many), or a list of files.

    Example:
        receiver = Receiver.load("cifar10")
        probabilities = receiver.classify(data)
    """

    def __init__(self, artifact: Artifact):
        """Prepares the coder."""
        self.artifact = artifact
        self._codec = LatentCodec(artifact.tables)

    @classmethod
    def load(cls, name_or_dir: str | Path) -> "Receiver":
        """Loads a shipped model by name, or an artifact's folder.

        Raises:
            ArtifactError: there is none, or it is damaged.
        """
        return cls(Artifact.load(name_or_dir))

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the probabilities."""
        return self.artifact.class_names

    def symbols(self, data: Data) -> np.ndarray | list[np.ndarray]:
        """Returns the symbols int32 [h, w, c] of a file; a list of them for a stream or a list.

        Raises:
            BitstreamError: the data is not this model's, truncated or altered.
        """
        decoded = [symbols for symbols, _ in self._decode(data)]
        return decoded[0] if _is_single(data) else decoded

    def classify(self, data: Data) -> np.ndarray:
        """Returns class probabilities float32 [K] of a file, [B, K] of a stream or a list.

        Raises:
            BitstreamError: the data is not this model's, truncated or altered.
        """
        run, variables = self._classifier
        logits = np.stack(self._by_size(self._decode(data), lambda s, _: run(variables, self.artifact.offset, s)))
        exponents = np.exp(logits - logits.max(axis=-1, keepdims=True))
        probabilities = exponents / exponents.sum(axis=-1, keepdims=True)
        return probabilities[0] if _is_single(data) else probabilities

    def reconstruct(self, data: Data) -> np.ndarray | list[np.ndarray]:
        """Returns the picture uint8 [H, W, C] of a file; a list of them for a stream or a list.

        Raises:
            ArtifactError: the model was trained without a decoder.
            BitstreamError: the data is not this model's, truncated or altered.
        """
        run, variables = self._decoder
        pictures = self._by_size(self._decode(data), lambda s, size: run(variables, self.artifact.offset, s, size))
        return pictures[0] if _is_single(data) else pictures

    def inspect(self, data: bytes) -> dict[str, Any]:
        """Returns header fields, bytes by part and bits by channel; runs no network.

        Raises:
            BitstreamError: the data is not this model's, truncated or altered.
        """
        header, payloads, sizes = self._unpack(data)
        decoded = [symbols for symbols, _ in self._decode(data)]
        by_channel = sum(self.artifact.tables.expected_bits(s).sum(axis=(0, 1)) for s in decoded)
        total = sum(map(len, payloads))
        pixels = sum(h * w for h, w in sizes)
        return {
            "kind": header.kind,
            "images": len(payloads),
            "sizes": sorted({tuple(size) for size in sizes}),
            "latents": sorted({s.shape for s in decoded}),
            "bytes": len(data),
            "bytes_payload": total,
            "bytes_overhead": len(data) - total,
            "bpp_file": 8 * len(data) / pixels,
            "bits_by_channel": [round(float(b), 1) for b in np.atleast_1d(by_channel)],
            "model": str(self.artifact.folder),
            "fingerprint": self.artifact.fingerprint.hex(),
        }

    def _unpack(self, data: bytes) -> tuple[Any, list[bytes], list[tuple[int, int]]]:
        fingerprint = self.artifact.fingerprint
        if peek(data).kind == "stream":
            return unpack_stream(data, fingerprint)
        header, payload = unpack_file(data, fingerprint)
        assert header.height is not None and header.width is not None  # a file has one picture, so one size
        return header, [payload], [(header.height, header.width)]

    def _decode(self, data: Data) -> list[tuple[np.ndarray, tuple[int, int]]]:
        """Returns (symbols [h, w, c], (H, W)) of each picture."""
        decoded = []
        for item in [data] if isinstance(data, bytes) else data:
            _, payloads, sizes = self._unpack(item)
            for payload, (height, width) in zip(payloads, sizes, strict=True):
                cells = self.artifact.grid(height, width)
                decoded.append((self._codec.decode(payload, cells), (height, width)))
        return decoded

    def _by_size(
        self,
        decoded: list[tuple[np.ndarray, tuple[int, int]]],
        run: Callable[[np.ndarray, tuple[int, int]], Any],
    ) -> list[np.ndarray]:
        """Runs a network on pictures of one size together; results come in the order of the pictures."""
        # Shared with the edge: both want few compiled sizes.
        from vae_jcc.edge import pad_batch

        places: dict[tuple[int, int], list[int]] = defaultdict(list)
        for i, (_, size) in enumerate(decoded):
            places[size].append(i)
        results: list[np.ndarray] = [np.empty(0)] * len(decoded)
        for size, same_size in places.items():
            for start in range(0, len(same_size), _MAX_BATCH):
                part = same_size[start : start + _MAX_BATCH]
                out = np.asarray(run(pad_batch(np.stack([decoded[i][0] for i in part])), size))
                for i, row in zip(part, out[: len(part)], strict=True):
                    results[i] = row
        return results

    @cached_property
    def _classifier(self) -> tuple[Any, Any]:
        from vae_jcc.inference import make_classify_fn
        from vae_jcc.models.joint import build_classifier

        network = build_classifier(self.artifact.config, len(self.class_names))
        return make_classify_fn(network), self.artifact.variables("classifier")

    @cached_property
    def _decoder(self) -> tuple[Any, Any]:
        variables = self.artifact.variables("decoder")
        from vae_jcc.inference import make_reconstruct_fn
        from vae_jcc.models.joint import build_decoder

        return make_reconstruct_fn(build_decoder(self.artifact.config, self.artifact.channels)), variables


def _is_single(data: Data) -> bool:
    return isinstance(data, bytes) and peek(data).kind == "file"
