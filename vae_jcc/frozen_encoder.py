"""Images for what is trained after the encoder, on its symbols: the context models and the decoder."""

from collections.abc import Generator
from itertools import count

import jax
import numpy as np
from ml_collections import ConfigDict

from vae_jcc.data.augment import random_crop
from vae_jcc.data.pipeline import train_iterator
from vae_jcc.data.sources import Source
from vae_jcc.evaluate import input_settings


def training_images(config: ConfigDict, source: Source) -> Generator[np.ndarray, None, None]:
    """Yields shuffled batches uint8 [B, H, W, C] without end, seen at the scale at which evaluation sees them.

    Nothing is augmented, since a camera's pictures are not. Where evaluation cuts the centre out of a larger square
    (`config.dataset.eval_margin`), a window of the same size is cut at a random place. Close the generator to stop the
    pipeline behind it.

    Args:
        config: the complete configuration.
        source: training images.
    """
    d = config.dataset
    key = jax.random.key(config.seed)
    crop = jax.jit(random_crop, static_argnums=(2, 3))
    with train_iterator(
        source, batch_size=config.train.batch_size, seed=config.seed, margin=d.eval_margin, **input_settings(config)
    ) as batches:
        for number in count():
            images = next(batches)["image"]
            if d.eval_margin:
                keys = jax.random.split(jax.random.fold_in(key, number), len(images))
                images = np.asarray(crop(keys, images, d.image_size, d.image_size))
            yield images
