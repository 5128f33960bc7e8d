"""The two halves of the network as compiled functions: one definition for the edge, the receiver and evaluation.

    images u8 [B, H, W, C] --encode--> symbols i32 [B, h, w, c] --classify--> logits f32 [B, K]
                                                               \\--reconstruct--> images u8 [B, H, W, C]

The quantizer says what symbols stand for (`Artifact.quantizer`).

Whoever classifies decoded symbols calls the function that evaluation calls, so the same symbols in the same batch give
the same logits.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vae_jcc.data.augment import to_float
from vae_jcc.models.classifier import Classifier
from vae_jcc.models.decoder import Decoder
from vae_jcc.models.encoder import Encoder
from vae_jcc.quantization import Quantizer

# Batches are filled up to one of these sizes: a function is compiled for a few shapes, not for every number of images.
BATCH_SIZES = (1, 4, 16, 64, 256)
# Pixels in one batch, so that large images come in small batches: the networks' activations are some hundred bytes a
# pixel.
MAX_BATCH_PIXELS = 2**22


def make_encode_fn(encoder: Encoder) -> Callable[[Any, Any, Any], jax.Array]:
    """Returns f(variables, quantizer, images uint8 [B, H, W, C]) -> symbols int32 [B, h, w, c], compiled."""

    @jax.jit
    def encode(variables: Any, quantizer: Quantizer, images: jax.Array) -> jax.Array:
        y: Any = encoder.apply(variables, to_float(images), train=False)
        return quantizer.quantize(y)

    return encode


def make_classify_fn(classifier: Classifier) -> Callable[[Any, Any, Any], jax.Array]:
    """Returns f(variables, quantizer, symbols int32 [B, h, w, c]) -> logits float32 [B, K], compiled."""

    @jax.jit
    def classify(variables: Any, quantizer: Quantizer, symbols: jax.Array) -> jax.Array:
        logits: Any = classifier.apply(variables, quantizer.dequantize(symbols), train=False)
        return logits

    return classify


def make_reconstruct_fn(decoder: Decoder) -> Callable[[Any, Any, Any, tuple[int, int]], jax.Array]:
    """Returns f(variables, quantizer, symbols int32 [B, h, w, c], (H, W)) -> uint8 [B, H, W, C], compiled."""

    @partial(jax.jit, static_argnums=3)
    def reconstruct(variables: Any, quantizer: Quantizer, symbols: jax.Array, size: tuple[int, int]) -> jax.Array:
        images: Any = decoder.apply(variables, quantizer.dequantize(symbols), size, train=False)
        return jnp.round(jnp.clip(images, 0.0, 1.0) * 255.0).astype(jnp.uint8)

    return reconstruct


def in_batches(run: Callable[[np.ndarray], jax.Array], inputs: np.ndarray, pixels: int) -> np.ndarray:
    """Runs a compiled function over any number of examples, in batches of a few sizes.

    Args:
        run: maps [b, ...] to [b, ...], for every b in BATCH_SIZES.
        inputs: [N, ...] with N >= 1; short batches are filled up by repeating the last example.
        pixels: of one image, which bounds the batch (MAX_BATCH_PIXELS).

    Returns:
        [N, ...], without what filled the batches up.
    """
    most = max(size for size in BATCH_SIZES if size == 1 or size * pixels <= MAX_BATCH_PIXELS)
    outputs = []
    for start in range(0, len(inputs), most):
        batch = inputs[start : start + most]
        size = next(size for size in BATCH_SIZES if size >= len(batch))
        filled = np.concatenate([batch, np.repeat(batch[-1:], size - len(batch), axis=0)])
        outputs.append(np.asarray(run(filled))[: len(batch)])
    return np.concatenate(outputs)
