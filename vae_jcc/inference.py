"""The compiled halves: images to symbols, symbols to logits, symbols to pictures.

Edge, receiver and evaluation all run these functions, so what is decoded from bytes is classified by the very
computation that evaluation measured.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from vae_jcc.data.augment import to_float
from vae_jcc.models.classifier import Classifier
from vae_jcc.models.decoder import Decoder
from vae_jcc.models.encoder import Encoder
from vae_jcc.quantization import dequantize, quantize


def make_encode_fn(encoder: Encoder) -> Callable[[Any, Any, Any], jax.Array]:
    """Returns f(variables, offset [c], images uint8 [B, H, W, C]) -> symbols int32 [B, h, w, c]."""

    def encode(variables: Any, offset: jax.Array, images: jax.Array) -> jax.Array:
        return quantize(encoder.apply(variables, to_float(images), train=False), offset)

    return jax.jit(encode)


def make_classify_fn(classifier: Classifier) -> Callable[[Any, Any, Any], jax.Array]:
    """Returns f(variables, offset [c], symbols int32 [B, h, w, c]) -> logits float32 [B, K]."""

    def classify(variables: Any, offset: jax.Array, symbols: jax.Array) -> jax.Array:
        return classifier.apply(variables, dequantize(symbols, offset), train=False)

    return jax.jit(classify)


def make_reconstruct_fn(decoder: Decoder) -> Callable[[Any, Any, Any, tuple[int, int]], jax.Array]:
    """Returns f(variables, offset [c], symbols int32 [B, h, w, c], (H, W)) -> images uint8 [B, H, W, C]."""

    def reconstruct(variables: Any, offset: jax.Array, symbols: jax.Array, size: tuple[int, int]) -> jax.Array:
        images = decoder.apply(variables, dequantize(symbols, offset), size, train=False)
        return jnp.round(jnp.clip(images, 0.0, 1.0) * 255.0).astype(jnp.uint8)

    return jax.jit(reconstruct, static_argnums=3)
