"""Random crop, flip, cutout and CutMix, on the device inside the training step.

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
    sides = jnp.full((len(images), 2), size)
    return jnp.where(_random_boxes(keys, sides, images.shape[1:3])[..., None], 0.5, images)


def cutmix(keys: jax.Array, images: jax.Array, others: jax.Array, probability: float) -> tuple[jax.Array, jax.Array]:
    """Pastes a box of another image into some of the images (CutMix: Yun et al. 2019, section 3.1).

    Args:
        keys: one PRNG key an example, [B].
        images: [B, H, W, C].
        others: what is pasted, [B, H, W, C].
        probability: of an image to get a box. Its area, before the border cuts it, is uniform in 0..1 of the image's.

    Returns:
        The images, and the share of each one's area that is still its own, float32 [B].
    """
    height, width = images.shape[1:3]
    box_keys, area_keys, chosen_keys = (jax.vmap(jax.random.fold_in, (0, None))(keys, i) for i in range(3))
    area = jax.vmap(jax.random.uniform)(area_keys)
    chosen = jax.vmap(lambda key: jax.random.bernoulli(key, probability))(chosen_keys)
    sides = jnp.sqrt(area * chosen)[:, None] * jnp.array([height, width])
    inside = _random_boxes(box_keys, sides, (height, width))
    return jnp.where(inside[..., None], others, images), 1.0 - jnp.mean(inside, axis=(1, 2))


def _random_boxes(keys: jax.Array, sides: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Returns bool [B, H, W]: inside boxes of the given (rows, columns) [B, 2], centred anywhere in (H, W)."""
    height, width = shape
    centre = jax.vmap(lambda key: jax.random.uniform(key, (2,)))(keys) * jnp.array([height, width])
    in_rows = jnp.abs(jnp.arange(height) + 0.5 - centre[:, :1]) < sides[:, :1] / 2
    in_columns = jnp.abs(jnp.arange(width) + 0.5 - centre[:, 1:]) < sides[:, 1:] / 2
    return in_rows[:, :, None] & in_columns[:, None, :]


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
