"""Batch number n of a source: which examples, read, cut or brought to one size, stacked, and padded for evaluation."""

from dataclasses import dataclass

import numpy as np

from vae_jcc.data.array_source import ArraySource, common_size, fit
from vae_jcc.data.crop import RandomResizedCrop
from vae_jcc.data.order import EvalOrder, TrainOrder
from vae_jcc.data.sources import Source, read_examples

# This host's part of a batch: "image" uint8 [b, H, W, C], "label" int32 [b]; in evaluation also "mask" float32 [b],
# 1 for examples and 0 for padding.
Batch = dict[str, np.ndarray]


@dataclass(frozen=True)
class BatchLoader:
    """Makes batch number n; sent to the worker processes, so it holds no open files or locks."""

    source: Source
    order: TrainOrder | EvalOrder
    image_size: int  # side of the square to which images are brought; 0: as they are
    pad_to: int | None  # rows of a padded evaluation batch; None: training
    margin: int = 0  # evaluation: pixels to cut away on each side
    crop: RandomResizedCrop | None = None  # training: cut this, to image_size

    def __call__(self, number: int) -> Batch:
        """Returns batch number `number`: in evaluation with its margin cut away, padded and masked."""
        batch = self._load(number)
        if self.pad_to is None:
            return batch
        if self.margin:
            inside = slice(self.margin, -self.margin)
            batch["image"] = batch["image"][:, inside, inside]
        return _padded(batch, self.pad_to)

    @property
    def only_copies(self) -> bool:
        """Whether making a batch is no more than gathering rows of arrays."""
        return isinstance(self.source, ArraySource) and not self.image_size

    def _load(self, number: int) -> Batch:
        indices = self.order.indices(number)
        if isinstance(self.source, ArraySource) and self.only_copies:
            return {"image": self.source.images[indices], "label": self.source.labels[indices]}
        crops = None
        if self.crop is not None and isinstance(self.order, TrainOrder):
            crops = self.crop.draw(self.order.seed, number, self.order.shard)
        examples = read_examples(self.source, indices.tolist(), crops)
        height, width = common_size(self.source.info, self.image_size)
        images = np.empty((len(examples), height, width, self.source.info.channels), np.uint8)
        for row, example in enumerate(examples):
            images[row] = fit(example["image"], self.image_size)
        labels = np.array([example["label"] for example in examples], np.int32)
        return {"image": images, "label": labels}


def _padded(batch: Batch, rows: int) -> Batch:
    """Fills a batch up to `rows` and marks what is real."""
    count = len(batch["label"])
    image, label = batch["image"], batch["label"]
    if count < rows:
        image = np.concatenate([image, np.zeros((rows - count, *image.shape[1:]), np.uint8)])
        label = np.concatenate([label, np.zeros(rows - count, np.int32)])
    return {"image": image, "label": label, "mask": (np.arange(rows) < count).astype(np.float32)}
