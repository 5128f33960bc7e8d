"""Trained artifacts as the teachers of another model (distillation; Hinton et al. 2015)."""

from collections.abc import Callable
from typing import Any, cast

import jax
import jax.numpy as jnp

from vae_jcc.artifact import Artifact
from vae_jcc.models.joint import build_classifier, build_encoder


def load_teacher(paths: str, num_classes: int) -> Callable[[jax.Array], jax.Array]:
    """Returns a function from images float32 [B, H, W, C] in [0, 1] to logits float32 [B, K].

    Several teachers speak as one: the logits are those of the mean of their probabilities.

    Args:
        paths: artifacts' folders or names in the zoo, separated by commas.
        num_classes: of the student.

    Raises:
        FileNotFoundError: there is no such artifact.
        ValueError: a teacher knows another number of classes.
    """
    teachers = [_load_one(path.strip(), num_classes) for path in paths.split(",")]
    if len(teachers) == 1:
        return teachers[0]

    def logits(images: jax.Array) -> jax.Array:
        each = jnp.stack([jax.nn.log_softmax(teacher(images)) for teacher in teachers])
        return jax.nn.logsumexp(each, axis=0) - jnp.log(len(teachers))

    return logits


def _load_one(path: str, num_classes: int) -> Callable[[jax.Array], jax.Array]:
    artifact = Artifact.load(path)
    if len(artifact.class_names) != num_classes:
        raise ValueError(
            f"The teacher {path} knows {len(artifact.class_names)} classes, the data set has {num_classes}."
        )
    encoder = build_encoder(artifact.config)
    classifier = build_classifier(artifact.config, num_classes)
    encoder_variables, classifier_variables = artifact.variables("encoder"), artifact.variables("classifier")
    quantizer = artifact.quantizer

    def logits(images: jax.Array) -> jax.Array:
        y = _as_in_training(lambda x: encoder.apply(encoder_variables, x), images)
        y_hat = quantizer.dequantize(quantizer.quantize(y))
        return _as_in_training(lambda y: classifier.apply(classifier_variables, y), y_hat)

    return logits


def _as_in_training(network: Callable[[jax.Array], Any], x: jax.Array) -> jax.Array:
    """Returns network(x) by the forward pass that gradients start from: on CPUs its convolutions are faster for many
    images at once (models/convolution.py). No gradient is computed.
    """
    return cast(jax.Array, jax.vjp(network, x)[0])
