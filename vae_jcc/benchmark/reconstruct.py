"""Pictures rebuilt from the bytes that were sent to be classified, and JPEG's from as many bytes.

images --EdgeEncoder--> bytes --Receiver--+--> logits, with and without the decoder: the same to the bit
   |                                      +--> pictures --> PSNR, SSIM, MS-SSIM
   +-----JPEG at the nearest bytes------------> pictures --> the same
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from vae_jcc.artifact import Artifact
from vae_jcc.benchmark.codecs import CODECS
from vae_jcc.benchmark.quality import Tally, why_no_ms_ssim
from vae_jcc.coding import pack_stream, unpack_stream
from vae_jcc.data.pipeline import eval_batches
from vae_jcc.data.sources import Source
from vae_jcc.edge import EdgeEncoder
from vae_jcc.evaluate import check_fits, evaluation_view, ranks_of_truth
from vae_jcc.losses import bits_per_pixel
from vae_jcc.model_folder import ArtifactError
from vae_jcc.receiver import Receiver

# Pillow's documentation advises against more: the files grow and the pictures do not.
_JPEG = CODECS["jpeg"]
JPEG_QUALITIES = tuple(range(1, 96))
_BATCH = 256
_IMAGES_FOR_QUALITY = 200  # spread over the split, on which JPEG's quality is chosen


@dataclass(frozen=True)
class Shown:
    """The first images of the split, for the picture: uint8 [n, H, W, C] each.

    Attributes:
        original: as they came in.
        ours: rebuilt from our bytes.
        jpeg: at the quality whose payload is nearest to ours.
        our_bytes: payload of each.
        jpeg_bytes: payload of each.
    """

    original: np.ndarray
    ours: np.ndarray
    jpeg: np.ndarray
    our_bytes: list[int]
    jpeg_bytes: list[int]


def measure_reconstruction(
    artifact: Artifact, source: Source, *, shown: int = 8, progress: Callable[[int], None] = lambda done: None
) -> tuple[dict[str, Any], Shown]:
    """Codes every image to bytes, and rebuilds and classifies it from them; does the same with JPEG.

    Args:
        artifact: a model with a decoder.
        source: images and labels; where their sizes differ they are brought to the artifact's input size.
        shown: images to return for the picture, at most.
        progress: called with the number of images done, twice over the source.

    Returns:
        JSON values: "n_images", "size", "ours" (see `Tally.means`, with "bpp_payload", "bpp_file", and bytes of an
        image "payload_bytes", "file_bytes", the stream format's), "classification" ("top1", "identical_logits"), "jpeg"
        by "payload" and "file", the bytes whose nearest were looked for ("quality", the same means, rates and bytes,
        and "reached", whether any quality takes as few as ours), "why_no_ms_ssim". And what is to be shown.

    Raises:
        ArtifactError: the model has no decoder.
        ValueError: the source's channels or classes do not fit, it is empty, or scikit-image is missing.
    """
    if "decoder" not in artifact.parts:
        raise ArtifactError(
            f"{artifact.folder} has no decoder: train one with config.model.decoder.mode='joint' or 'frozen'."
        )
    check_fits(artifact, source)
    if not len(source):
        raise ValueError(f"{source.info.name} has no images in this split.")
    ours = _Ours(artifact, shown)
    every = max(1, len(source) // _IMAGES_FOR_QUALITY)
    sample: list[np.ndarray] = []
    for images, labels in _batches(artifact, source):
        sample += [image for i, image in enumerate(images) if (ours.count + i) % every == 0]
        ours.add(images, labels)
        progress(ours.count)
    size: tuple[int, int] = sample[0].shape[:2]
    rates = ours.rates(size)
    sizes = [_jpeg_bytes(sample, quality) for quality in JPEG_QUALITIES]
    chosen = {basis: _nearest(sizes, basis, rates[f"{basis}_bytes"]) for basis in ("payload", "file")}
    jpegs = {quality: _Jpeg(quality, shown) for quality in set(chosen.values())}
    done = 0
    for images, _ in _batches(artifact, source):
        for jpeg in jpegs.values():
            jpeg.add(images)
        done += len(images)
        progress(done)
    result = {
        "n_images": ours.count,
        "size": list(size),
        "ours": ours.tally.means() | rates,
        "classification": {"top1": ours.correct / ours.count, "identical_logits": ours.identical_logits},
        "jpeg": {
            basis: _jpeg_point(
                jpegs[quality],
                ours.count * size[0] * size[1],
                reached=min(s[basis] for s in sizes) <= rates[f"{basis}_bytes"],
            )
            for basis, quality in chosen.items()
        },
        "why_no_ms_ssim": why_no_ms_ssim(size),
    }
    near = jpegs[chosen["payload"]]
    return result, Shown(
        np.stack(ours.originals), np.stack(ours.pictures), np.stack(near.pictures), ours.bytes_shown, near.bytes_shown
    )


def _batches(artifact: Artifact, source: Source) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields images uint8 [b, H, W, C] and labels [b], without padding."""
    image_size, margin = evaluation_view(artifact, source.info)
    for batch in eval_batches(source, batch_size=_BATCH, image_size=image_size, margin=margin):
        keep = batch["mask"] > 0
        yield batch["image"][keep], batch["label"][keep]


class _Ours:
    """This project's side, added up over batches."""

    def __init__(self, artifact: Artifact, shown: int) -> None:
        self._fingerprint, self._shown = artifact.fingerprint, shown
        self._edge, self._receiver = EdgeEncoder(artifact), Receiver(artifact)
        digests = {part: value for part, value in artifact.digests.items() if part != "decoder"}
        self._bare = Receiver(replace(artifact, digests=digests))
        self.tally = Tally()
        self.count = self.correct = 0
        self.identical_logits = True
        self._payloads: list[bytes] = []
        self.originals: list[np.ndarray] = []
        self.pictures: list[np.ndarray] = []

    def add(self, images: np.ndarray, labels: np.ndarray) -> None:
        stream = self._edge.compress_stream(images)
        without = self._bare.logits(stream)
        pictures = self._receiver.reconstruct(stream)
        logits = self._receiver.logits(stream)
        self.identical_logits &= np.array_equal(without, logits)
        self.correct += int(np.sum(ranks_of_truth(logits, labels) == 0))
        self.tally.add(list(images), list(pictures))
        self._payloads += unpack_stream(stream, self._fingerprint)[1]
        self.count += len(images)
        room = max(0, self._shown - len(self.pictures))
        self.originals += list(images[:room])
        self.pictures += list(pictures[:room])

    @property
    def bytes_shown(self) -> list[int]:
        return [len(payload) for payload in self._payloads[: len(self.pictures)]]

    def rates(self, size: tuple[int, int]) -> dict[str, float]:
        payload = sum(map(len, self._payloads))
        file = len(pack_stream(self._payloads, self._fingerprint, [size] * self.count))
        pixels = self.count * size[0] * size[1]
        return {
            "bpp_payload": bits_per_pixel(8.0 * payload, pixels, 1),
            "bpp_file": bits_per_pixel(8.0 * file, pixels, 1),
            "payload_bytes": payload / self.count,
            "file_bytes": file / self.count,
        }


class _Jpeg:
    """JPEG's side at one quality, added up over batches."""

    def __init__(self, quality: int, shown: int) -> None:
        self.quality, self._shown = quality, shown
        self.tally = Tally()
        self.payload = self.file = self.count = 0
        self.pictures: list[np.ndarray] = []
        self.bytes_shown: list[int] = []

    def add(self, images: np.ndarray) -> None:
        coded = [_JPEG.compress(image, self.quality) for image in images]
        payloads = [c.payload_bytes for c in coded]
        pictures = [_JPEG.decode(c.data, images.shape[-1]) for c in coded]
        self.tally.add(list(images), pictures)
        self.count += len(images)
        self.payload += sum(payloads)
        self.file += sum(len(c.data) for c in coded)
        room = max(0, self._shown - len(self.pictures))
        self.pictures += pictures[:room]
        self.bytes_shown += payloads[:room]


def _jpeg_point(jpeg: _Jpeg, pixels: int, reached: bool) -> dict[str, Any]:
    """Returns what JPEG makes of pictures at one quality; see `measure_reconstruction`."""
    return jpeg.tally.means() | {
        "quality": jpeg.quality,
        "bpp_payload": bits_per_pixel(8.0 * jpeg.payload, pixels, 1),
        "bpp_file": bits_per_pixel(8.0 * jpeg.file, pixels, 1),
        "payload_bytes": jpeg.payload / jpeg.count,
        "file_bytes": jpeg.file / jpeg.count,
        "reached": reached,
    }


def _jpeg_bytes(images: list[np.ndarray], quality: int) -> dict[str, float]:
    """Returns the mean bytes of an image at this quality: "file", and "payload" without the constant headers."""
    coded = [_JPEG.compress(image, quality) for image in images]
    return {
        "file": float(np.mean([len(c.data) for c in coded])),
        "payload": float(np.mean([c.payload_bytes for c in coded])),
    }


def _nearest(sizes: list[dict[str, float]], basis: str, wanted: float) -> int:
    """Returns the quality whose bytes are nearest to `wanted` (ties: the higher quality)."""
    pairs = zip(JPEG_QUALITIES, sizes, strict=True)
    return min(pairs, key=lambda pair: (abs(pair[1][basis] - wanted), -pair[0]))[0]
