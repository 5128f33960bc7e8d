"""Pictures of random pixels, for benchmarks that must not wait for input.

    synthetic:160x160x3:10000      10,000 training pictures of 160 x 160 pixels in colour

The splits "validation" and "test" hold a tenth as many. All pictures are windows into one block of random bytes, so
reading one is a copy, and the source needs hardly more memory than one picture, whatever their number. There is
nothing to learn in them.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vae_jcc.data.errors import DataError
from vae_jcc.data.sources import Example, SourceInfo
from vae_jcc.data.splits import resolve_split

_NAME = re.compile(r"(\d{1,5})x(\d{1,5})x(\d):(\d{1,9})")
_CLASSES = 10
_MAX_EXAMPLES = 10**8
_SEED = 20220607
_STRIDE = 2_654_435_761  # a prime beyond any number of examples: neighbours in a split are no neighbours in the block


@dataclass(frozen=True, eq=False)
class SyntheticSource:
    """Some of the pictures.

    Attributes:
        info: as in every source.
        block: uint8 [H * W * C + pictures in all splits]; picture k begins at byte k * _STRIDE modulo their number.
        numbers: of the pictures of this split, int64 [N].
        skipped: none.
    """

    info: SourceInfo
    block: np.ndarray
    numbers: np.ndarray
    skipped: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int) -> Example:
        height, width = self.info.image_size or (0, 0)
        size = height * width * self.info.channels
        number = int(self.numbers[index])
        start = number * _STRIDE % (len(self.block) - size)
        image = self.block[start : start + size].reshape(height, width, self.info.channels)
        return {"image": image, "label": number % _CLASSES}

    def __getitems__(self, indices: Sequence[int]) -> list[Example]:
        return [self[index] for index in indices]


def open_synthetic(name: str, split: str) -> SyntheticSource:
    """Opens a split of made-up pictures; the same name and split always give the same ones.

    Args:
        name: what follows "synthetic:", such as "160x160x3:10000".
        split: of "train", "validation" and "test" (splits.py).

    Raises:
        DataError: the name does not parse, or there is no such split.
    """
    match = _NAME.fullmatch(name)
    height, width, channels, count = map(int, match.groups()) if match else (0, 0, 0, 0)
    if not (height and width and channels in (1, 3) and 0 < count <= _MAX_EXAMPLES):
        raise DataError(
            f'"synthetic:{name}" is no made-up data set: write synthetic:HEIGHTxWIDTHxCHANNELS:EXAMPLES with 1 or 3 '
            f'channels and at most {_MAX_EXAMPLES} examples, such as "synthetic:160x160x3:10000".'
        )
    counts = {"train": count, "validation": -(-count // 10), "test": -(-count // 10)}
    first = {"train": 0, "validation": count, "test": count + counts["validation"]}
    ranges = resolve_split(split, counts)
    parts = [first[part.name] + np.arange(part.start, part.stop) for part in ranges]
    numbers = np.concatenate(parts)
    info = SourceInfo(
        name=f"synthetic:{name}",
        split=split,
        num_examples=len(numbers),
        num_classes=_CLASSES,
        class_names=tuple(str(k) for k in range(_CLASSES)),
        channels=channels,
        image_size=(height, width),
        note="random pixels",
        ranges=tuple(ranges),
    )
    size = height * width * channels + sum(counts.values())
    return SyntheticSource(info, np.random.default_rng(_SEED).integers(0, 256, size, np.uint8), numbers)
