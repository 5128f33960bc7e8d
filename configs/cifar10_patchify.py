"""CIFAR-10, patchify encoder: the image is cut into 4x4 cells, nearly all arithmetic happens on the 8x8 grid.

Command:   python -m vae_jcc.main --config=configs/cifar10_patchify.py
Hardware:  as cifar10.py
"""

from ml_collections import ConfigDict

from configs import cifar10


def get_config() -> ConfigDict:
    """Returns the configuration."""
    c = cifar10.get_config()
    c.name = "cifar10_patchify"
    c.model.encoder.kind = "patchify"
    c.model.encoder.stem_features = 48
    c.model.encoder.stem_kernel = 4
    c.model.encoder.stem_stride = 4
    c.model.encoder.stages = ((48, 2, 1),)
    return c
