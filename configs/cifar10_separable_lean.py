"""CIFAR-10, a lean encoder of separable blocks: 18,764 parameters, 8x8x12 latent; otherwise as cifar10_separable.py.

Command:   python -m vae_jcc.main --config=configs/cifar10_separable_lean.py
Hardware:  as cifar10_separable.py
"""

from ml_collections import ConfigDict

from configs import cifar10_separable


def get_config() -> ConfigDict:
    """Returns the configuration."""
    c = cifar10_separable.get_config()
    c.name = "cifar10_separable_lean"
    c.model.encoder.stem_features = 16
    c.model.encoder.separable_kernel = 5
    c.model.encoder.stages = ((16, 2, 1), (32, 2, 2), (32, 1, 2))
    return c
