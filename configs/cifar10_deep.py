"""CIFAR-10, the residual encoder of cifar10.py with one more block: 94,156 parameters, 8x8x12 latent.

Command:   python -m vae_jcc.main --config=configs/cifar10_deep.py
           python -m vae_jcc.main --config=configs/cifar10_deep.py --workdir=runs/grown --config.init_from=cifar10
Hardware:  as cifar10.py

The second command goes on from the shipped cifar10 model: the further block starts as the identity. The shipped
`cifar10_deep` was made by going on so, under Muon, with teachers and CutMix (results/README.md).
"""

from ml_collections import ConfigDict

from configs import cifar10


def get_config() -> ConfigDict:
    """Returns the configuration."""
    c = cifar10.get_config()
    c.name = "cifar10_deep"
    c.model.encoder.stages = ((32, 3, 1), (48, 1, 2))
    c.augment.cutout = 8
    return c
