"""Small sources that tests can look through: every picture tells which one it is."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vae_jcc.data.sources import Example, SourceInfo

MakePicture = Callable[..., Path]


class NumberedSource:
    """Example i is a picture of the value i % 256 with the label i; as plain as a source may be."""

    def __init__(self, count: int, size: tuple[int, int] | None = (6, 5)) -> None:
        self.info = SourceInfo("numbered", "train", count, count, tuple(map(str, range(count))), 1, size, "")
        self.reads = 0

    def __len__(self) -> int:
        return self.info.num_examples

    def __getitem__(self, index: int) -> Example:
        self.reads += 1
        height, width = self.info.image_size or (8 + index % 3, 9)
        return {"image": np.full((height, width, 1), index % 256, np.uint8), "label": index}


@pytest.fixture
def numbered() -> type[NumberedSource]:
    return NumberedSource


@pytest.fixture
def make_picture() -> MakePicture:
    """Writes a picture of one colour; the format follows from the suffix."""

    def make(path: Path, size: tuple[int, int] = (12, 10), colour: object = (200, 30, 60), mode: str = "RGB") -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        options = {"lossless": True} if path.suffix == ".webp" else {}
        Image.new(mode, (size[1], size[0]), colour).save(path, **options)  # type: ignore[arg-type]
        return path

    return make


@pytest.fixture(scope="session")
def tfds_folder() -> str:
    folder = os.environ.get("TFDS_DATA_DIR", "")
    if not (folder and Path(folder, "cifar10").is_dir()):
        pytest.skip("TFDS_DATA_DIR names no folder with prepared data sets (cifar10, imagenette/160px-v2)")
    return folder
