"""CIFAR-100 with the CIFAR-10 model and a wider receiver.

Command:   python -m vae_jcc.main --config=configs/cifar100.py
Hardware:  one GPU
"""

from ml_collections import ConfigDict

from configs import cifar10


def get_config() -> ConfigDict:
    """Returns the configuration; the number of classes comes from the data set."""
    c = cifar10.get_config()
    c.name = "cifar100"
    c.dataset.name = "cifar100"
    c.model.classifier.stages = ((128, 2, 1), (256, 2, 2))
    return c
