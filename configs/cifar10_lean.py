"""CIFAR-10, lean residual encoder: 24,668 parameters and 3.4 million multiply-adds a picture, 8x8x12 latent.

Command:   python -m vae_jcc.main --config=configs/cifar10_lean.py
Hardware:  as cifar10.py
"""

from ml_collections import ConfigDict

from configs import cifar10


def get_config() -> ConfigDict:
    """Returns the configuration."""
    c = cifar10.get_config()
    c.name = "cifar10_lean"
    c.model.encoder.stem_features = 16
    c.model.encoder.stem_kernel = 3
    c.model.encoder.stages = ((16, 2, 1), (32, 1, 2))
    return c
