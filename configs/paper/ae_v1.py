"""A relative of AE-V3 for CIFAR-10, 8x8x16 latent of L = 2 learned centres: what the paper's AE-V1 may have been.

Command:   python -m vae_jcc.main --config=configs/paper/ae_v1.py [--config.quantizer.centres=3
               --config.loss.hinge_target=1.3]
Hardware:  one GPU
Expect:    the paper plots 87.2, 87.6 and 88.1 % at 0.81, 1.34 and 2.10 bpp for L = 2, 3 and 6. Here, after 18 of the 90
           epochs, L = 2 has 80.84 % at 0.712 bpp of file bytes (CIFAR-10, JPEG-75 copy; results/README.md); 2 CPU cores
           take 6 minutes an epoch with launch/cpu.sh and --config.compute_dtype=bfloat16

The layers of AE-V1 and AE-V2 are not public, nor is how they were trained. These are the plainest relatives of the
published AE-V3 and AE-V4 that fit 32x32 pixels. The latent has one symbol a pixel: 0.81 bpp at L = 2
cannot do with fewer. As in AE-V3 all layers are as wide as the latent, here 16 channels; a 3x3 stem takes the place
of the 7x7 stem and the pool, which would leave a 4x4 grid; the residual blocks, the classifier, the optimizers and the
length of training are the same. The rate target is the rate that the paper shows for L = 2. Crops are CIFAR's usual
ones: 4 pixels of border.
"""

from ml_collections import ConfigDict

from configs.paper import ae_v3


def get_config() -> ConfigDict:
    """Returns the configuration."""
    c = ae_v3.get_config()
    c.name = "ae_v1"
    c.dataset.name = "cifar10"
    c.dataset.train_split = "train[:95%]"
    c.dataset.validation_split = "train[95%:]"
    c.dataset.test_split = "test"
    c.dataset.image_size = 0
    c.dataset.margin = 0
    c.dataset.eval_margin = 0
    c.dataset.workers = 0
    c.augment.crop_padding = 4
    c.model.latent_channels = 16
    c.model.encoder.stem_features = 16
    c.model.encoder.stem_kernel = 3
    c.model.encoder.stem_pool = False
    c.model.encoder.stages = ((16, 2, 1), (16, 3, 2))
    c.loss.hinge_target = 0.8
    return c
