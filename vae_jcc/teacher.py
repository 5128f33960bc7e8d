"""A trained artifact as the teacher of another model (distillation; Hinton et al. 2015)."""

from collections.abc import Callable
from typing import cast

import jax

from vae_jcc.artifact import Artifact
from vae_jcc.models.joint import build_classifier, build_encoder


def load_teacher(path: str, num_classes: int) -> Callable[[jax.Array], jax.Array]:
    """Returns a function from images float32 [B, H, W, C] in [0, 1] to logits float32 [B, K].

    Args:
        path: an artifact's folder or a name in the zoo.
        num_classes: of the student.

    Raises:
        ValueError: the teacher names other classes.
    """
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
        y = cast(jax.Array, encoder.apply(encoder_variables, images))
        y_hat = quantizer.dequantize(quantizer.quantize(y))
        return cast(jax.Array, classifier.apply(classifier_variables, y_hat))

    return logits
