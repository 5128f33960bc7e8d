"""CIFAR-10, a network to learn from: 3.2 million parameters, next to no weight on the rate.

Command:   python -m vae_jcc.main --config=configs/cifar10_teacher.py --workdir=runs/cifar10_teacher
           python -m vae_jcc.main --config=configs/cifar10.py --config.loss.teacher=runs/cifar10_teacher/artifact \
               --config.loss.distill_weight=0.7
Hardware:  one GPU, or a CPU core for an hour and a half
"""

from ml_collections import ConfigDict

from configs import cifar10


def get_config() -> ConfigDict:
    """Returns the configuration."""
    c = cifar10.get_config()
    c.name = "cifar10_teacher"
    c.model.latent_channels = 64
    c.model.encoder.stem_features = 64
    c.model.encoder.stages = ((64, 1, 1), (128, 2, 2))
    c.model.classifier.stages = ((256, 2, 2),)
    c.loss.lam = 0.001  # next to nothing, but its prior still learns what to code
    c.augment.cutout = 8
    return c
