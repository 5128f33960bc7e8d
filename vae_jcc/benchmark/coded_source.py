"""A data set as a classical codec leaves it, and what that costs."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from vae_jcc.benchmark.codecs import Codec
from vae_jcc.data.array_source import common_size, fit
from vae_jcc.data.crop import Crop
from vae_jcc.data.sources import Example, Source, SourceInfo, read_examples
from vae_jcc.losses import bits_per_pixel


class Sample:
    """`count` examples of a source, spread evenly over it: sources may be sorted by class."""

    def __init__(self, source: Source, count: int) -> None:
        """Takes all of the source where `count` is 0 or more than it has."""
        self._source = source
        self._count = min(count or len(source), len(source))
        self.info: SourceInfo = replace(source.info, num_examples=self._count)

    def __len__(self) -> int:
        """Returns the number of images."""
        return self._count

    def __getitem__(self, index: int) -> Example:
        """Returns an example of the source."""
        return self._source[index * len(self._source) // self._count]


class AsEvaluated:
    """A source whose images are what evaluation gives an encoder of `image_size` to see.

    Models and codecs then code the same pixels, and no classifier sees them at another scale.
    """

    def __init__(self, source: Source, image_size: int, margin: int) -> None:
        """Wraps a source.

        Args:
            source: of the images.
            image_size: side of the square that is coded; 0 leaves images as they are, which needs one size.
            margin: pixels on each side of it that are scaled along and then cut away (`config.dataset.eval_margin`);
                without effect where `image_size` is 0.

        Raises:
            DataError: the images differ in size and image_size is 0.
        """
        self.info: SourceInfo = replace(source.info, image_size=common_size(source.info, image_size))
        self._source, self._image_size, self._margin = source, image_size, margin if image_size else 0

    def __len__(self) -> int:
        """Returns the number of images."""
        return len(self._source)

    def __getitem__(self, index: int) -> Example:
        """Returns {"image": uint8 [H, W, C], "label": int}."""
        example = self._source[index]
        image = fit(example["image"], self._image_size + 2 * self._margin)
        if self._margin:
            image = image[self._margin : -self._margin, self._margin : -self._margin]
        return example | {"image": image}


class CodedSource:
    """A source whose images went through a codec; it notes the bytes of each image that is read.

    The notes are of this process: read it without worker processes.
    """

    def __init__(self, source: Source, codec: Codec, quality: int, image_size: int = 0) -> None:
        """Wraps a source.

        Args:
            source: of the images.
            codec: that they go through.
            quality: the codec's.
            image_size: side of the square to which images are brought before they are coded; 0 leaves them as they
                are, which needs one size.

        Raises:
            DataError: the images differ in size and image_size is 0.
        """
        self.info: SourceInfo = replace(source.info, image_size=common_size(source.info, image_size))
        self._source, self._codec, self._quality, self._image_size = source, codec, quality, image_size
        self._bytes = np.full((len(source), 2), -1, np.int64)  # of file and payload; -1: not read yet

    def __len__(self) -> int:
        """Returns the number of images."""
        return len(self._source)

    def __getitem__(self, index: int) -> Example:
        """Returns {"image": uint8 [H, W, C] after the codec, "label": int}."""
        example = self._source[index]
        coded = self._codec.compress(fit(example["image"], self._image_size), self._quality)
        self._bytes[index] = len(coded.data), coded.payload_bytes
        return example | {"image": self._codec.decode(coded.data, self.info.channels)}

    def rates(self) -> dict[str, float]:
        """Returns {"bpp_payload", "bpp_file"}, means over the images that were read.

        Raises:
            ValueError: none was read.
        """
        read = self._bytes[self._bytes[:, 0] >= 0]
        if not len(read) or self.info.image_size is None:
            raise ValueError(f"No image of {self.info.name} was coded yet, so there is no rate.")
        height, width = self.info.image_size
        file, payload = (bits_per_pixel(8.0 * int(total), height, width * len(read)) for total in read.sum(axis=0))
        return {"bpp_payload": payload, "bpp_file": file}


class CodedCrops:
    """A source whose crops went through a codec, for training: each is coded as the square that a network is shown.

    Sizes differ before they are cut, so `info.image_size` is None and nothing is decoded ahead.
    """

    def __init__(self, source: Source, codec: Codec, quality: int) -> None:
        """Takes whole images, and the codec with its quality that their crops go through."""
        self.info: SourceInfo = replace(source.info, image_size=None)
        self._source, self._codec, self._quality = source, codec, quality

    def __len__(self) -> int:
        """Returns the number of images."""
        return len(self._source)

    def __getitem__(self, index: int) -> Example:
        """Returns {"image": uint8 [H, W, C] whole, after the codec, "label": int}."""
        return self._coded(self._source[index])

    def read_crops(self, indices: Sequence[int], crops: Sequence[Crop]) -> list[Example]:
        """Returns examples with "image" uint8 [side, side, C]: cut, scaled, and then coded."""
        return [self._coded(example) for example in read_examples(self._source, indices, crops)]

    def _coded(self, example: Example) -> Example:
        data = self._codec.compress(example["image"], self._quality).data
        return example | {"image": self._codec.decode(data, self.info.channels)}
