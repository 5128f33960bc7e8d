"""CIFAR-10, lean residual encoder: 24,668 parameters and 3.4 million multiply-adds a picture, 8x8x12 latent.

Command:   python -m vae_jcc.main --config=configs/cifar10_lean.py
Hardware:  as cifar10.py

In front of the shipped model's receiver, which goes on learning, and with that model as the teacher:
    --config.init_from=cifar10 --config.init_parts="('classifier','prior')" --config.loss.lam_warmup_epochs=4.0
    --config.loss.teacher=cifar10 --config.loss.distill_weight=0.7
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
