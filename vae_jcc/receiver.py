"""The receiver: bytes in; what the camera saw, or the picture, out.

bytes --container--> payloads --codec--> symbols --classifier--> probabilities
                                                   \\---decoder------> images u8
"""

from collections.abc import Callable, Sequence
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vae_jcc.artifact import Artifact
from vae_jcc.coding import (
    CODERS,
    MAX_PIXELS,
    ContextCodec,
    Header,
    JoinedWriter,
    LatentCodec,
    pack_file,
    pack_stream,
    peek,
    unpack_file,
    unpack_joined,
    unpack_stream,
)
from vae_jcc.grouping import by_key

Buffer = bytes | bytearray | memoryview
Data = Buffer | Sequence[Buffer]
Size = tuple[int, int]


class _Message(NamedTuple):
    """A payload and what is needed to decode it: of one image, or in a joined stream of several of one size."""

    payload: bytes
    images: int
    size: Size
    coder_id: int


class Receiver:
    """Decodes, classifies and reconstructs. `symbols` and `inspect` never load JAX; the networks load on first use.

    `data` is always the bytes of a file (one picture) or of a stream (many), or a list of such; a list gives the
    results of all its pictures in order. All methods raise BitstreamError, and nothing else, on bytes that are
    truncated, altered, of another model, by an entropy coder that is not installed, or no such bytes at all.

    Example:
        receiver = Receiver.load("cifar10")
        probabilities = receiver.classify(data)
    """

    def __init__(self, artifact: Artifact, max_pixels: int = MAX_PIXELS) -> None:
        """Prepares the coder; a picture of more than `max_pixels` pixels is refused before anything is allocated."""
        self.artifact = artifact
        self._codecs = {"range": artifact.make_codec()}
        self._max_pixels = max_pixels

    @classmethod
    def load(cls, name_or_dir: str | Path, max_pixels: int = MAX_PIXELS) -> "Receiver":
        """Loads a shipped model by name, or an artifact's folder.

        Raises:
            ArtifactError: there is none, or it is damaged.
        """
        return cls(Artifact.load(name_or_dir), max_pixels)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the probabilities."""
        return self.artifact.class_names

    def symbols(self, data: Data) -> np.ndarray | list[np.ndarray]:
        """Returns the symbols int32 [h, w, c] of a file; a list of them for a stream or a list."""
        decoded = self._decode(data)[0]
        return decoded[0] if self._is_single(data) else decoded

    def logits(self, data: Data) -> np.ndarray:
        """Returns the classifier's logits float32 [K] of a file, [B, K] of a stream or a list.

        Raises:
            BitstreamError: see above.
            ArtifactError: the model has no classifier.
        """
        run, variables = self._classifier
        decoded, sizes = self._decode(data)
        rows = self._by_size(decoded, sizes, lambda symbols, _: run(variables, self.artifact.quantizer, symbols))
        logits = np.stack(rows) if rows else np.zeros((0, len(self.class_names)), np.float32)
        return logits[0] if self._is_single(data) else logits

    def classify(self, data: Data) -> np.ndarray:
        """Returns class probabilities float32 [K] of a file, [B, K] of a stream or a list; errors as `logits`."""
        logits = self.logits(data)
        exponents = np.exp(logits - logits.max(axis=-1, keepdims=True))
        return exponents / exponents.sum(axis=-1, keepdims=True)

    def reconstruct(self, data: Data) -> np.ndarray | list[np.ndarray]:
        """Returns the picture uint8 [H, W, C] of a file; a list of them for a stream or a list.

        Raises:
            BitstreamError: see above.
            ArtifactError: the model was trained without a decoder.
        """
        run, variables = self._decoder
        decoded, sizes = self._decode(data)
        pictures = self._by_size(
            decoded, sizes, lambda symbols, size: run(variables, self.artifact.quantizer, symbols, size)
        )
        return pictures[0] if self._is_single(data) else pictures

    def recode(self, data: Buffer, coder: str) -> bytes:
        """Returns a file or stream with the same symbols coded by another entropy coder, a name in CODERS.

        Raises:
            BitstreamError: see above, or this coder cannot be used; the message says why.
            ValueError: there is no such coder.
        """
        codec, fingerprint = self._codec(coder), self.artifact.fingerprint
        header, messages = self._unpack(bytes(data))
        decoded, sizes = self._decode_messages(messages)
        if header.kind == "joined stream":
            writer = JoinedWriter(codec, fingerprint)
            for symbols, size in zip(decoded, sizes, strict=True):
                writer.add(symbols, size)
            return writer.finish()
        payloads = [b""] * header.count
        for places in by_key(symbols.shape for symbols in decoded).values():
            for i, payload in zip(places, codec.encode_batch(np.stack([decoded[i] for i in places])), strict=True):
                payloads[i] = payload
        if header.kind == "stream":
            return pack_stream(payloads, fingerprint, sizes, codec.coder_id)
        return pack_file(payloads[0], fingerprint, *sizes[0], codec.coder_id)

    def inspect(self, data: Buffer) -> dict[str, Any]:
        """Returns what a file or stream is made of, as JSON values; runs no network.

        Returns:
            "kind" ("file", "stream" or "joined stream"), "format" (its version), "coder" (a name in CODERS),
            "fingerprint" (the model's, hexadecimal), "images", "height" and "width" (None where sizes differ), "latent"
            ([h, w, c] or None), "bytes" ("payload"; "header", which is all that stands around the payloads, a stream's
            index and the checksum too; "total"), "bpp_payload", "bpp_file", and "channel_bits": what each latent
            channel costs by the codec's exact code length. Their sum is the payload but for the last few bits of each.
        """
        data = bytes(data)
        header, messages = self._unpack(data)
        decoded, sizes = self._decode_messages(messages)
        bits = self._codec(CODERS[header.coder_id]).bits
        payload, pixels = sum(len(m.payload) for m in messages), sum(height * width for height, width in sizes)
        shapes = {symbols.shape for symbols in decoded}
        channel_bits = np.sum([bits(symbols[None]).sum(axis=(0, 1, 2)) for symbols in decoded], axis=0)
        return {
            "kind": header.kind,
            "format": header.version,
            "coder": CODERS[header.coder_id],
            "fingerprint": self.artifact.fingerprint.hex(),
            "images": header.count,
            "height": header.height,
            "width": header.width,
            "latent": list(shapes.pop()) if len(shapes) == 1 else None,
            "bytes": {"header": len(data) - payload, "payload": payload, "total": len(data)},
            "bpp_payload": 8 * payload / pixels,
            "bpp_file": 8 * len(data) / pixels,
            "channel_bits": channel_bits.tolist(),
        }

    def _codec(self, coder: str) -> LatentCodec | ContextCodec:
        if coder not in self._codecs:
            self._codecs[coder] = self.artifact.make_codec(coder)
        return self._codecs[coder]

    def _is_single(self, data: Data) -> bool:
        return isinstance(data, Buffer) and peek(bytes(data)).kind == "file"

    def _unpack(self, data: bytes) -> tuple[Header, list[_Message]]:
        fingerprint, limit = self.artifact.fingerprint, self._max_pixels
        header = peek(data)
        if header.kind == "stream":
            header, payloads, sizes = unpack_stream(data, fingerprint, max_pixels=limit)
            return header, [_Message(p, 1, s, header.coder_id) for p, s in zip(payloads, sizes, strict=True)]
        if header.kind == "joined stream":
            header, groups = unpack_joined(data, fingerprint, max_pixels=limit)
        else:
            header, payload = unpack_file(data, fingerprint, max_pixels=limit)
            groups = [(1, payload)]
        assert header.height is not None and header.width is not None  # one size for all
        return header, [_Message(p, n, (header.height, header.width), header.coder_id) for n, p in groups]

    def _decode(self, data: Data) -> tuple[list[np.ndarray], list[Size]]:
        """Returns the symbols [h, w, c] and (H, W) of each picture."""
        items = [data] if isinstance(data, Buffer) else data
        return self._decode_messages([message for item in items for message in self._unpack(bytes(item))[1]])

    def _decode_messages(self, messages: list[_Message]) -> tuple[list[np.ndarray], list[Size]]:
        """Returns the symbols [h, w, c] and (H, W) of each picture, in the order of the messages."""
        decoded: list[list[np.ndarray]] = [[] for _ in messages]
        alike = by_key((m.coder_id, self.artifact.grid(*m.size), m.images) for m in messages)
        for (coder_id, grid, images), places in alike.items():
            codec = self._codec(CODERS[coder_id])
            if images == 1:
                batch = codec.decode_batch([messages[i].payload for i in places], grid)
                for i, symbols in zip(places, batch, strict=True):
                    decoded[i] = [symbols]
            else:
                for i in places:
                    decoded[i] = list(codec.decode_joined(messages[i].payload, images, grid))
        return list(chain.from_iterable(decoded)), [m.size for m in messages for _ in range(m.images)]

    def _by_size(
        self, decoded: list[np.ndarray], sizes: list[Size], run: Callable[[np.ndarray, Size], Any]
    ) -> list[np.ndarray]:
        """Runs a network on pictures of one size together; results come in the order of the pictures."""
        from vae_jcc.inference import in_batches

        results = [np.empty(0)] * len(decoded)
        for size, places in by_key(sizes).items():
            batch = np.stack([decoded[i] for i in places])
            outputs = in_batches(lambda part, size=size: run(part, size), batch, size[0] * size[1])  # type: ignore[misc]
            for i, output in zip(places, outputs, strict=True):
                results[i] = output
        return results

    @cached_property
    def _classifier(self) -> tuple[Any, Any]:
        variables = self.artifact.variables("classifier")
        from vae_jcc.inference import make_classify_fn
        from vae_jcc.models.joint import build_classifier

        return make_classify_fn(build_classifier(self.artifact.config, len(self.class_names))), variables

    @cached_property
    def _decoder(self) -> tuple[Any, Any]:
        variables = self.artifact.variables("decoder")
        from vae_jcc.inference import make_reconstruct_fn
        from vae_jcc.models.joint import build_decoder

        return make_reconstruct_fn(build_decoder(self.artifact.config, self.artifact.channels)), variables
