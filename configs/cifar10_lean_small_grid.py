"""CIFAR-10 at low rates, lean: an encoder of 24,532 parameters in front of the receiver of cifar10_small_grid.py.

Command:   python -m vae_jcc.main --config=configs/cifar10_lean_small_grid.py
Hardware:  as cifar10.py
Expect:    76.53 % after 13 epochs, which is far from done (results/README.md, "A lean encoder")

The receiver and the prior start as the shipped `cifar10_small_grid`'s and go on learning.
"""

from ml_collections import ConfigDict

from configs import cifar10_small_grid


def get_config() -> ConfigDict:
    """Returns the configuration."""
    c = cifar10_small_grid.get_config()
    c.name = "cifar10_lean_small_grid"
    c.init_from = "cifar10_small_grid"
    c.init_parts = ("classifier", "prior")
    c.model.encoder.stem_features = 16
    c.model.encoder.stem_kernel = 3
    c.model.encoder.stages = ((16, 1, 1), (24, 1, 2), (22, 1, 2))
    return c
