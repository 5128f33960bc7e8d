"""Random crop, flip and cutout, on the device inside the training step.

Each example draws from its own key, so the result does not depend on how a batch is spread over devices.
"""

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict


def to_float(images: jax.Array) -> jax.Array:
    """Returns uint8 [B, H, W, C] as float32 in [0, 1]."""
    return images.astype(jnp.float32) / 255.0


def random_crop(keys: jax.Array, images: jax.Array, height: int, width: int) -> jax.Array:
    """Returns a random window [B, height, width, C] of each image [B, H >= height, W >= width, C]; keys [B]."""
    rows, columns, channels = images.shape[1:]

    def crop(key: jax.Array, image: jax.Array) -> jax.Array:
        top, left = jax.random.randint(key, (2,), 0, jnp.array([rows - height + 1, columns - width + 1]))
        return jax.lax.dynamic_slice(image, (top, left, 0), (height, width, channels))

    return jax.vmap(crop)(keys, images)


def random_flip(keys: jax.Array, images: jax.Array) -> jax.Array:
    """Mirrors each image [B, H, W, C] left-right with probability 1/2; keys [B]."""
    flip = jax.vmap(jax.random.bernoulli)(keys)
    return jnp.where(flip[:, None, None, None], images[:, :, ::-1], images)


def random_cutout(keys: jax.Array, images: jax.Array, size: int) -> jax.Array:
    """Sets a square of side `size`, centred anywhere, to mid-grey (DeVries and Taylor 2017); images in [0, 1]."""
    height, width = images.shape[1:3]
    centre = jax.vmap(lambda key: jax.random.uniform(key, (2,)))(keys) * jnp.array([height, width])
    in_rows = jnp.abs(jnp.arange(height) + 0.5 - centre[:, :1]) < size / 2
    in_columns = jnp.abs(jnp.arange(width) + 0.5 - centre[:, 1:]) < size / 2
    inside = in_rows[:, :, None] & in_columns[:, None, :]
    return jnp.where(inside[..., None], 0.5, images)


def augment(keys: jax.Array, images: jax.Array, config: ConfigDict, image_size: int = 0) -> jax.Array:
    """Returns the training view float32 [B, S, S, C] in [0, 1] of uint8 images [B, H, W, C].

    Args:
        keys: one PRNG key an example, [B].
        images: uint8 batch.
        config: `config.augment`.
        image_size: side S to crop to where the pipeline left a margin; 0 keeps the images' own size.
    """
    height, width = (image_size, image_size) if image_size else images.shape[1:3]
    crop_keys, flip_keys, cutout_keys = (jax.vmap(jax.random.fold_in, (0, None))(keys, i) for i in range(3))
    if config.crop_padding:
        # Cropping bytes and converting afterwards moves a quarter of the memory.
        pad = (config.crop_padding, config.crop_padding)
        images = jnp.pad(images, ((0, 0), pad, pad, (0, 0)), mode="reflect")
    if images.shape[1:3] != (height, width):
        images = random_crop(crop_keys, images, height, width)
    if config.flip:
        images = random_flip(flip_keys, images)
    images = to_float(images)
    if config.cutout:
        images = random_cutout(cutout_keys, images, config.cutout)
    return images
