"""ImageNet-1k at 160 pixels with the shapes of the paper's AE-V3: 7x7 stem, pool, five blocks of 32 channels.

Command:   python -m vae_jcc.main --config=configs/imagenet.py
Hardware:  several GPUs or a TPU slice
Data:      TFDS imagenet2012 from the two archives of image-net.org, which must be downloaded by hand:
           python -m vae_jcc.data.prepare imagenet2012 --archives DIR

Trained on random-resized crops. Evaluated as in the paper: shorter side 256, its centre 160. For the centre 224 add
--config.dataset.image_size=224 --config.dataset.eval_margin=16 (224 + 2 * 16 = 256); training is then at 224 too.
"""

from ml_collections import ConfigDict

from configs import default


def get_config() -> ConfigDict:
    """Returns the configuration."""
    c = default.get_config()
    c.name = "imagenet"
    c.dataset.name = "imagenet2012"
    c.dataset.train_split = "train[:99%]"
    c.dataset.validation_split = "train[99%:]"
    c.dataset.test_split = "validation"
    c.dataset.image_size = 160
    c.dataset.crop_scale = (0.08, 1.0)
    c.dataset.eval_margin = 48
    c.dataset.workers = 8
    c.augment.crop_padding = 0
    c.model.latent_channels = 32
    c.model.encoder.stem_kernel = 7
    c.model.encoder.stem_pool = True
    c.model.encoder.stages = ((32, 4, 1), (32, 1, 2))
    c.model.encoder.latent_kernel = 0
    c.model.encoder.conv_bias = True
    c.model.classifier.stages = ((256, 2, 1), (512, 2, 2))
    c.train.batch_size = 256
    c.train.epochs = 90.0
    return c
