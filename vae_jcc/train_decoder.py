"""Trains a decoder on a finished artifact: symbols in, pictures out, accuracy untouched by construction."""

from contextlib import closing
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
from ml_collections import ConfigDict

from vae_jcc import losses, optim
from vae_jcc.artifact import Artifact
from vae_jcc.artifact_writing import add_decoder
from vae_jcc.data.augment import to_float
from vae_jcc.data.sources import Source
from vae_jcc.frozen_encoder import training_images
from vae_jcc.inference import make_encode_fn
from vae_jcc.metrics import tell
from vae_jcc.microbatches import Batch, mean_over_microbatches
from vae_jcc.models.joint import build_decoder, build_encoder


def train_decoder(config: ConfigDict, folder: Path, source: Source) -> float:
    """Trains the decoder on the artifact's own symbols and adds it to the artifact.

    The encoder runs as it is shipped, in inference mode, so neither its bytes nor the classifier can change.

    Args:
        config: the complete configuration; `config.model.decoder` sets size, epochs and learning rate, and
            `config.train` batches and microbatches.
        folder: of the artifact.
        source: training images.

    Returns:
        The mean squared error of the last hundred steps, on [0, 1] pixels.
    """
    artifact, settings = Artifact.load(str(folder)), config.model.decoder
    encode, edge, quantizer = make_encode_fn(build_encoder(config)), artifact.variables("encoder"), artifact.quantizer
    decoder = build_decoder(config, artifact.channels)
    total = optim.steps_in(settings.epochs, source.info.num_examples, config.train.batch_size)
    optimizer = optax.adam(optax.cosine_decay_schedule(settings.learning_rate, total))

    @jax.jit
    def step(variables: Any, opt_state: Any, images: jax.Array, symbols: jax.Array) -> tuple[Any, Any, jax.Array]:
        def gradients(part: Batch) -> tuple[Any, jax.Array, Any]:
            def loss_fn(params: Any) -> tuple[jax.Array, Any]:
                out, updates = decoder.apply(
                    {"params": params, "batch_stats": variables["batch_stats"]},
                    quantizer.dequantize(part["symbols"]),
                    images.shape[1:3],
                    train=True,
                    mutable=["batch_stats"],
                )
                return losses.mean_squared_error(to_float(part["image"]), out).mean(), updates["batch_stats"]

            (loss, stats), grads = jax.value_and_grad(loss_fn, has_aux=True)(variables["params"])
            return grads, loss, stats

        batch = {"image": images, "symbols": symbols}
        grads, loss, stats = mean_over_microbatches(gradients, batch, config.train.accumulate)
        updates, opt_state = optimizer.update(grads, opt_state)
        return {"params": optax.apply_updates(variables["params"], updates), "batch_stats": stats}, opt_state, loss

    variables: Any = None
    opt_state: Any = None
    recent: list[float] = []
    with closing(training_images(config, source)) as batches:
        for i, images in zip(range(total), batches, strict=False):
            symbols = encode(edge, quantizer, images)
            if variables is None:
                init = decoder.init(jax.random.key(config.seed), quantizer.dequantize(symbols[:1]), images.shape[1:3])
                variables, opt_state = dict(init), optimizer.init(init["params"])
            variables, opt_state, loss = step(variables, opt_state, images, symbols)
            recent = [*recent[-99:], float(loss)]
            if (i + 1) % 500 == 0:
                tell(f"decoder: step {i + 1}/{total}  mean squared error {np.mean(recent):.5f}")
    add_decoder(folder, variables)
    return float(np.mean(recent))
