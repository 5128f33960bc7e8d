"""JPEG followed by a classifier: what a user would build without this package.

The classifier is the same network (encoder and classifier without the bottleneck), trained on the decoded JPEG images
themselves, so that the baseline gets its best.
"""

import io
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict
from PIL import Image

from vae_jcc import steps
from vae_jcc.data.pipeline import eval_batches
from vae_jcc.data.sources import Source, SourceInfo
from vae_jcc.evaluate import evaluate_batches, input_settings
from vae_jcc.losses import bits_per_pixel
from vae_jcc.models.joint import build_model
from vae_jcc.parallel import make_devices

QUALITIES = (1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 75, 90)


def encode_jpeg(image: np.ndarray, quality: int) -> bytes:
    """Returns the JPEG file (4:2:0, optimized Huffman tables) of uint8 [H, W, C], C = 1 or 3."""
    buffer = io.BytesIO()
    picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    picture.save(buffer, "JPEG", quality=quality, subsampling=2 if image.shape[-1] == 3 else -1, optimize=True)
    return buffer.getvalue()


def decode_jpeg(data: bytes, channels: int) -> np.ndarray:
    """Returns uint8 [H, W, channels]."""
    pixels = np.asarray(Image.open(io.BytesIO(data)).convert("L" if channels == 1 else "RGB"))
    return pixels.reshape(*pixels.shape[:2], channels)


class JpegSource:
    """A source whose images went through JPEG; counts what they cost."""

    def __init__(self, source: Source, quality: int):
        """Wraps `source`; quality as in libjpeg, 1..95."""
        self.info: SourceInfo = source.info
        self._source, self._quality = source, quality

    def __len__(self) -> int:
        """Returns the number of images."""
        return len(self._source)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Returns {"image": uint8 [H, W, C] after JPEG, "label": int}."""
        example = self._source[index]
        return example | {"image": decode_jpeg(encode_jpeg(example["image"], self._quality), self.info.channels)}


def measure_rate(source: Source, quality: int, most: int = 2000) -> tuple[float, float]:
    """Returns (payload bpp, file bpp), means over up to `most` images spread evenly over the source.

    Payload is the file without the bytes that a flat grey image of the same size costs: at small sizes, headers and
    tables are several times the content, and published comparisons leave them out.
    """
    files, payloads, pixels = 0, 0, 0
    flat: dict[tuple[int, ...], int] = {}
    for i in range(0, len(source), max(1, len(source) // most)):
        image = source[i]["image"]
        if image.shape not in flat:
            flat[image.shape] = len(encode_jpeg(np.full_like(image, 128), quality))
        size = len(encode_jpeg(image, quality))
        files, payloads = files + size, payloads + max(size - flat[image.shape], 0)
        pixels += image.shape[0] * image.shape[1]
    return bits_per_pixel(8.0 * payloads, pixels, 1), bits_per_pixel(8.0 * files, pixels, 1)


def nearest_quality(source: Source, bpp: float) -> int:
    """Returns the quality among QUALITIES whose payload bpp is nearest to `bpp` (ties: the higher quality)."""
    return min(reversed(QUALITIES), key=lambda q: abs(measure_rate(source, q, most=200)[0] - bpp))


def evaluate_jpeg(
    config: ConfigDict, workdir: Path, train: Source, validation: Source, test: Source, bpp: float
) -> dict[str, Any]:
    """Trains the reference on JPEG images at the rate nearest to `bpp` and evaluates it on the test split.

    Returns:
        "quality", "n_images", "top1", "top5", "bpp_payload" and "bpp_file" on the test split.
    """
    from vae_jcc.train import fit  # training ends by calling this module

    quality = nearest_quality(validation, bpp)
    config = ConfigDict(config.to_dict())
    config.quantizer.kind, config.loss.lam, config.loss.hinge_beta = "none", 0.0, 0.0
    config.entropy.kind = "factorized"  # idle; the others need learned centres
    config.name = f"{config.name}_jpeg{quality}"
    variables = fit(config, workdir, JpegSource(train, quality), JpegSource(validation, quality))
    devices = make_devices(config.parallel)
    model = build_model(config, test.info.num_classes, test.info.channels, devices.axis_name)
    step = devices.compile_eval(steps.make_eval_step(model, "none", devices.axis_name))
    batches = eval_batches(
        JpegSource(test, quality),
        batch_size=config.eval.batch_size,
        margin=config.dataset.eval_margin,
        **input_settings(config),
    )
    result = evaluate_batches(step, devices.put_state(jax.device_get(variables)), batches, devices)
    payload, file = measure_rate(test, quality, most=len(test))
    return {"quality": quality, "bpp_payload": payload, "bpp_file": file} | {
        key: result[key] for key in ("n_images", "top1", "top5")
    }
