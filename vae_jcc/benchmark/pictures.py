"""Pictures to measure speed on: a data set's own, or smooth noise that needs none."""

import numpy as np
from PIL import Image

from vae_jcc.data.images import resize_and_crop
from vae_jcc.data.sources import Source, read_examples


def smooth_noise(count: int, size: tuple[int, int], channels: int) -> np.ndarray:
    """Returns uint8 [count, H, W, channels]: a random colour at each point of a 4x4 grid, and gradients between."""
    height, width = size
    coarse = np.random.default_rng(0).integers(0, 256, (count, 4, 4, channels), np.uint8)
    grids = coarse.transpose(0, 3, 1, 2).reshape(-1, 4, 4)
    planes = [np.asarray(Image.fromarray(grid).resize((width, height))) for grid in grids]
    return np.stack(planes).reshape(count, channels, height, width).transpose(0, 2, 3, 1)


def first_pictures(source: Source, count: int, size: tuple[int, int]) -> np.ndarray:
    """Returns the first pictures of a source, uint8 [count, H, W, C], brought to `size` where theirs is another.

    They are scaled by the longer of the two sides asked for, and cut to the centre.

    Raises:
        ValueError: the source has fewer.
    """
    if len(source) < count:
        raise ValueError(f"{source.info.name} has {len(source)} images in this split; {count} are wanted.")
    height, width = size
    side = max(size)
    top, left = (side - height) // 2, (side - width) // 2
    pictures = []
    for example in read_examples(source, range(count)):
        image = example["image"]
        if image.shape[:2] != size:
            image = resize_and_crop(image, side)[top : top + height, left : left + width]
        pictures.append(image)
    return np.stack(pictures)
