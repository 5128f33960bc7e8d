"""A relative of AE-V4 for CIFAR-10: ae_v1.py with 64 channels and a 3x3 convolution to the 8x8x16 latent.

Command:   python -m vae_jcc.main --config=configs/paper/ae_v2.py [--config.quantizer.centres=3
               --config.loss.hinge_target=1.3]
Hardware:  one GPU
Expect:    the paper plots 87.4, 88.3 and 88.5 % at 0.83, 1.46 and 1.88 bpp for L = 2, 3 and 6; not yet measured here

The layers of the paper's AE-V2 are not public; AE-V4 is four times as wide as its latent, and so is this.
"""

from ml_collections import ConfigDict

from configs.paper import ae_v1


def get_config() -> ConfigDict:
    """Returns the configuration."""
    c = ae_v1.get_config()
    c.name = "ae_v2"
    c.model.encoder.stem_features = 64
    c.model.encoder.stages = ((64, 2, 1), (64, 3, 2))
    c.model.encoder.latent_kernel = 3
    return c
