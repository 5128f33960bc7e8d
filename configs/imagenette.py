"""Imagenette (ten ImageNet classes) at 128 of its 160 pixels: the ImageNet path on a small data set.

Command:   python -m vae_jcc.main --config=configs/imagenette.py
Hardware:  one GPU
Data:      python -m vae_jcc.data.prepare imagenette/160px-v2

Trained on random-resized crops, evaluated on the centre 128 of a shorter side of 160 pixels.
"""

from ml_collections import ConfigDict

from configs import imagenet


def get_config() -> ConfigDict:
    """Returns the configuration."""
    c = imagenet.get_config()
    c.name = "imagenette"
    c.dataset.name = "imagenette/160px-v2"
    c.dataset.train_split = "train[:90%]"
    c.dataset.validation_split = "train[90%:]"
    c.dataset.image_size = 128
    c.dataset.crop_scale = (0.35, 1.0)  # smaller ones would be enlarged from less than 95 pixels
    c.dataset.eval_margin = 16
    c.dataset.workers = 0
    c.model.classifier.stages = ((128, 2, 1), (256, 2, 2))
    c.train.batch_size = 64
    c.eval.batch_size = 128
    return c
