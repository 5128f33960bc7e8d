"""Random-resized crops (Szegedy et al. 2015, as torchvision draws them): where an example is cut, as numbers alone.

The crop of an example is a pure function of (seed, batch number, place in the global batch): the same for any number
of hosts, workers and threads, and after a resume. It is drawn as fractions and becomes pixels when the picture's size
is known, that is, while it is decoded (images.py).
"""

import math
from dataclasses import dataclass

import numpy as np

from vae_jcc.data.errors import DataError
from vae_jcc.data.order import Shard

_ATTEMPTS = 10  # boxes that are tried before the largest central one is taken
_DRAWS = 2 * _ATTEMPTS + 2
_STREAM = 1  # highest word of Philox's counter: apart from the words that order the epochs

Box = tuple[int, int, int, int]  # left, top, right, bottom in pixels, the last two exclusive


@dataclass(frozen=True)
class RandomResizedCrop:
    """What to cut: a box of random area and shape, which is then scaled to a square.

    Attributes:
        side: of the square, in pixels.
        scale: least and greatest share of the picture's area.
        ratio: least and greatest width / height of the box; its logarithm is uniform.
    """

    side: int
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)

    def __post_init__(self) -> None:
        if self.side < 1:
            raise DataError("config.dataset.crop_scale needs config.dataset.image_size: the side to which to scale.")
        if len(self.scale) != 2 or not 0 < self.scale[0] <= self.scale[1] <= 1:
            raise DataError(
                f"config.dataset.crop_scale is {self.scale}: give the least and the greatest share of the area, such "
                "as (0.08, 1.0), or () for no such crops."
            )
        if len(self.ratio) != 2 or not 0 < self.ratio[0] <= self.ratio[1]:
            raise DataError(
                f"config.dataset.crop_ratio is {self.ratio}: give the least and the greatest width / height, such as "
                "(0.75, 1.333)."
            )

    def draw(self, seed: int, batch: int, shard: Shard) -> list["Crop"]:
        """Returns the crops of this host's examples of global batch number `batch`."""
        key = np.array([seed, batch], np.uint64)
        # Raw words, because NumPy promises that they never change (order.py); the upper 53 bits make a float64.
        words = np.random.Philox(key=key, counter=[0, 0, 0, _STREAM]).random_raw(shard.batch_size * _DRAWS)
        uniform = ((words >> np.uint64(11)) * 2.0**-53).reshape(shard.batch_size, _DRAWS)
        first = shard.index * shard.rows
        return [Crop(self, tuple(row)) for row in uniform[first : first + shard.rows].tolist()]


@dataclass(frozen=True)
class Crop:
    """One example's crop, for a picture of whatever size.

    Attributes:
        rule: what is cut.
        draws: numbers in [0, 1): area and shape of each attempt, then the place.
    """

    rule: RandomResizedCrop
    draws: tuple[float, ...]

    @property
    def side(self) -> int:
        """Side of the square that the box becomes, in pixels."""
        return self.rule.side

    def box(self, height: int, width: int) -> Box:
        """Returns the box to cut from a picture of height x width pixels; it has at least one pixel."""
        least, most = self.rule.scale
        low, high = (math.log(r) for r in self.rule.ratio)
        for area_draw, shape_draw in zip(self.draws[:-2:2], self.draws[1:-2:2], strict=True):
            area = height * width * (least + (most - least) * area_draw)
            shape = math.exp(low + (high - low) * shape_draw)
            w, h = round(math.sqrt(area * shape)), round(math.sqrt(area / shape))
            if 0 < w <= width and 0 < h <= height:
                top, left = int(self.draws[-2] * (height - h + 1)), int(self.draws[-1] * (width - w + 1))
                return left, top, left + w, top + h
        return _central_box(height, width, self.rule.ratio)


def _central_box(height: int, width: int, ratio: tuple[float, float]) -> Box:
    """The largest central box whose shape is allowed."""
    w, h = min(width, round(height * ratio[1])), min(height, round(width / ratio[0]))
    w, h = max(w, 1), max(h, 1)
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h
