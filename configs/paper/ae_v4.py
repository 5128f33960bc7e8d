"""AE-V4 of Chamain, Qi and Ding (2022): AE-V3 with 128 channels and a 3x3 convolution to the 20x20x32 latent.

Command:   python -m vae_jcc.main --config=configs/paper/ae_v4.py [--config.quantizer.centres=3]
Hardware:  several GPUs or a TPU slice
Data:      as ae_v3.py
Expect:    the paper plots top-5 accuracies of 79.1, 80.7 and 81.7 % at 0.41, 0.58 and 0.80 bpp for L = 2, 3 and 6;
           not yet measured here
"""

from ml_collections import ConfigDict

from configs.paper import ae_v3


def get_config() -> ConfigDict:
    """Returns the configuration."""
    c = ae_v3.get_config()
    c.name = "ae_v4"
    c.model.encoder.stem_features = 128
    c.model.encoder.stages = ((128, 2, 1), (128, 3, 2))
    c.model.encoder.latent_kernel = 3
    return c
