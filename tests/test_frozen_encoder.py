"""Images for what is trained on the symbols of a finished encoder."""

from contextlib import closing
from itertools import islice

import numpy as np
import pytest

from configs import default
from vae_jcc.data.array_source import ArraySource
from vae_jcc.data.sources import SourceInfo
from vae_jcc.frozen_encoder import training_images

RAMP = 10 * np.arange(24)[:, None, None] + np.arange(24)[None, :, None]  # a pixel tells where a window begins


@pytest.fixture
def source():
    """40 times the same picture, [24, 24, 1]."""
    info = SourceInfo("ramp", "train", 40, 40, ("a",), 1, (24, 24), "")
    return ArraySource(info, np.repeat(RAMP[None].astype(np.uint8), 40, 0), np.zeros(40, np.int32))


def batches(config, source, count=2):
    with closing(training_images(config, source)) as images:
        return list(islice(images, count))


def test_windows_are_as_large_as_evaluations_and_lie_anywhere(source):
    config = default.get_config()
    config.train.batch_size, config.dataset.image_size, config.dataset.eval_margin = 20, 16, 4
    images = np.stack(batches(config, source)).astype(int)
    assert images.shape == (2, 20, 16, 16, 1)
    begin = images[:, :, :1, :1]
    np.testing.assert_array_equal(images - begin, np.broadcast_to(RAMP[:16, :16], images.shape))
    assert begin.min() >= 0 and begin.max() <= RAMP[8, 8, 0]
    assert len(np.unique(begin[0])) > 5 and len(np.unique(begin[1])) > 5
    assert not np.array_equal(begin[0], begin[1])
    np.testing.assert_array_equal(images, np.stack(batches(config, source)))  # the seed decides alone


def test_without_a_margin_they_come_whole(source):
    config = default.get_config()
    config.train.batch_size = 20
    for images in batches(config, source):
        assert images.dtype == np.uint8
        np.testing.assert_array_equal(images, np.broadcast_to(RAMP, (20, 24, 24, 1)))
