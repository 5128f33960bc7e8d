"""CIFAR-10, a network to learn from: it looks at every pixel, and next to nothing weighs on its rate.

Command:   python -m vae_jcc.main --config=configs/cifar10_teacher.py --workdir=runs/cifar10_teacher
           python -m vae_jcc.main --config=configs/cifar10.py --config.loss.teacher=runs/cifar10_teacher/artifact \
               --config.loss.distill_weight=0.7
Hardware:  one GPU, or a CPU core for two hours
"""

from ml_collections import ConfigDict

from configs import cifar10


def get_config() -> ConfigDict:
    """Returns the configuration."""
    c = cifar10.get_config()
    c.name = "cifar10_teacher"
    c.model.latent_channels = 64
    c.model.encoder.stem_kernel = 3
    c.model.encoder.stem_stride = 1
    c.model.encoder.stages = ((32, 1, 1), (64, 1, 2), (128, 2, 2))
    c.model.classifier.stages = ((256, 1, 2),)
    c.loss.lam = 0.001  # next to nothing, but the prior still learns what to code
    c.loss.label_smoothing = 0.0  # smoothed teachers hide which classes are alike (Mueller et al. 2019)
    c.augment.cutout = 8
    return c
