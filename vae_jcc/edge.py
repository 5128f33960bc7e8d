"""The edge: pictures in, bytes out.

images u8 --sort by size--> [B, H, W, C] --encoder--> symbols --codec--> payloads --container--> bytes
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from vae_jcc.artifact import Artifact
from vae_jcc.coding import JoinedWriter, pack_file, pack_stream
from vae_jcc.grouping import by_key

Images = np.ndarray | Sequence[np.ndarray]


class EdgeEncoder:
    """Compresses pictures with an artifact's encoder; loads neither classifier nor decoder.

    Any height and width will do. The channels have to be the model's: whether a colour picture may become grey, or a
    grey one be tripled, is the caller's decision (the command line does both).

    A picture coded alone and in a batch need not give the same bytes: the network may round differently, and a latent
    that lies between two symbols then becomes the other one. Either file decodes exactly to what was coded.

    Example:
        edge = EdgeEncoder.load("cifar10")
        data = edge.compress(image)  # uint8 [H, W, C] -> bytes
    """

    def __init__(self, artifact: Artifact, coder: str = "range", dead_zone: float = 0.0) -> None:
        """Compiles nothing yet; the first image of each size does.

        Args:
            artifact: the model.
            coder: of the payloads, a name in `vae_jcc.coding.CODERS`; errors as `Artifact.make_codec`.
            dead_zone: 0 rounds as the model was trained to; a few hundredths more send fewer bytes for some accuracy,
                from the same model and to the same receivers (`Rounding.with_dead_zone`, which raises ValueError).
        """
        self._codec = artifact.make_codec(coder)
        # JAX loads here, so that importing this module stays light.
        from vae_jcc.inference import make_encode_fn
        from vae_jcc.models.joint import build_encoder

        self.artifact = artifact
        self._quantizer = artifact.quantizer.with_dead_zone(dead_zone)
        self._encode = make_encode_fn(build_encoder(artifact.config))
        self._variables = artifact.variables("encoder")

    @classmethod
    def load(cls, name_or_dir: str | Path, coder: str = "range", dead_zone: float = 0.0) -> "EdgeEncoder":
        """Loads a shipped model by name, or an artifact's folder.

        Raises:
            ArtifactError: there is none, or it is damaged.
            BitstreamError: the coder cannot be used; the message says why.
            ValueError: the dead zone cannot be.
        """
        return cls(Artifact.load(name_or_dir), coder, dead_zone)

    def compress(self, images: Images) -> bytes | list[bytes]:
        """Returns a file's bytes (docs/bitstream.md) for each picture.

        Args:
            images: uint8 [H, W, C] gives bytes; uint8 [B, H, W, C], or a sequence of [H, W, C] of any sizes, gives a
                list of bytes.

        Raises:
            ValueError: not uint8, empty, or not of the model's channels.
        """
        if isinstance(images, np.ndarray) and images.ndim == 3:
            return self.compress_all([images])[0]
        return self.compress_all(images)

    def compress_all(self, images: Images) -> list[bytes]:
        """Returns a file's bytes for each picture of uint8 [B, H, W, C], or of a sequence of [H, W, C] of any sizes.

        Raises:
            ValueError: as `compress`.
        """
        pictures = self._checked(images)
        fingerprint, coder_id = self.artifact.fingerprint, self._codec.coder_id
        return [
            pack_file(payload, fingerprint, image.shape[0], image.shape[1], coder_id)
            for payload, image in zip(self._payloads(pictures), pictures, strict=True)
        ]

    def compress_stream(self, images: Images, joined: bool = False) -> bytes:
        """Returns one stream, with one header for all, of uint8 [B, H, W, C] or a sequence of [H, W, C] of any sizes.

        Args:
            images: the pictures.
            joined: code many pictures in each payload; they have one size then. A small picture costs some 11 bits
                less, and cannot be taken out of the stream without its group.

        Raises:
            ValueError: as `compress`, there is no picture, or sizes differ where pictures are to be joined.
        """
        pictures = self._checked(images)
        sizes = [(image.shape[0], image.shape[1]) for image in pictures]
        if not joined:
            return pack_stream(self._payloads(pictures), self.artifact.fingerprint, sizes, self._codec.coder_id)
        writer = self.joined_writer()
        for symbols, size in zip(self.symbols(pictures), sizes, strict=True):
            writer.add(symbols, size)
        return writer.finish()

    def joined_writer(self) -> JoinedWriter:
        """Returns what makes a joined stream of the results of `symbols`, a few pictures at a time."""
        return JoinedWriter(self._codec, self.artifact.fingerprint)

    def symbols(self, images: Images) -> list[np.ndarray]:
        """Returns the symbols int32 [h, w, c] of each picture of `images`, which `compress_all` codes.

        Raises:
            ValueError: as `compress`.
        """
        pictures = self._checked(images)
        found = [np.empty(0, np.int32)] * len(pictures)
        for places, symbols in self._by_size(pictures):
            for i, one in zip(places, symbols, strict=True):
                found[i] = one
        return found

    def _payloads(self, pictures: list[np.ndarray]) -> list[bytes]:
        """Codes pictures of one size together; payloads come in the order of the pictures."""
        payloads = [b""] * len(pictures)
        for places, symbols in self._by_size(pictures):
            for i, payload in zip(places, self._codec.encode_batch(symbols), strict=True):
                payloads[i] = payload
        return payloads

    def _by_size(self, pictures: list[np.ndarray]) -> Iterator[tuple[list[int], np.ndarray]]:
        """Yields the places of the pictures of each size, and their symbols int32 [B, h, w, c]."""
        from vae_jcc.inference import in_batches

        for (height, width, _), places in by_key(image.shape for image in pictures).items():
            batch = np.stack([pictures[i] for i in places])
            yield (
                places,
                in_batches(lambda part: self._encode(self._variables, self._quantizer, part), batch, height * width),
            )

    def _checked(self, images: Images) -> list[np.ndarray]:
        pictures = [np.asarray(image) for image in images]
        for image in pictures:
            if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != self.artifact.channels or not image.size:
                raise ValueError(
                    f"This model codes uint8 pictures [H, W, {self.artifact.channels}]; got {image.dtype} "
                    f"{list(image.shape)}: convert type and channels first."
                )
        return pictures
