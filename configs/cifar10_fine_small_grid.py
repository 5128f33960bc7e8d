"""CIFAR-10 at low rates: cifar10_small_grid.py with a first stage that sees every pixel, 97,812 parameters.

Command:   python -m vae_jcc.main --config=configs/cifar10_fine_small_grid.py
Hardware:  as cifar10.py
Expect:    86.50 % at 0.193 bpp after 22 epochs: no better than the other (results/README.md, "More of the 4x4 latent")

The stem of cifar10_small_grid.py halves the picture at once. Here a block of 16 channels works at full size first, in
place of one of the two of 32 channels at half size: more arithmetic with the parameters of about as many. What follows
starts as the shipped `cifar10_small_grid`'s, a stage further down, and goes on learning.
"""

from ml_collections import ConfigDict

from configs import cifar10_small_grid


def get_config() -> ConfigDict:
    """Returns the configuration."""
    c = cifar10_small_grid.get_config()
    c.name = "cifar10_fine_small_grid"
    c.init_from = "cifar10_small_grid"
    c.init_parts = (
        "encoder/stages/stage1_block1=encoder/stages/stage0_block1",
        "encoder/stages/stage2_block0=encoder/stages/stage1_block0",
        "encoder/stages/stage3_block0=encoder/stages/stage2_block0",
        "encoder/stages/norm",
        "encoder/latent",
        "classifier",
        "prior",
    )
    c.model.encoder.stem_features = 16
    c.model.encoder.stem_kernel = 3
    c.model.encoder.stem_stride = 1
    c.model.encoder.stages = ((16, 1, 1), (32, 2, 2), (48, 1, 2), (30, 1, 2))
    return c
