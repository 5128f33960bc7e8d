"""AE-V3 of Chamain, Qi and Ding (2022), ImageNet-1k at 160 pixels, 20x20x32 latent of L = 2 learned centres.

Command:   python -m vae_jcc.main --config=configs/paper/ae_v3.py [--config.quantizer.centres=3]
Hardware:  several GPUs or a TPU slice
Data:      TFDS imagenet2012, prepared as ArrayRecord (the archives must be downloaded by hand from image-net.org)
Expect:    the paper plots top-5 accuracies of 77.9, 80.5 and 81.5 % at 0.43, 0.60 and 0.80 bpp for L = 2, 3 and 6;
           not yet measured here

Layers, quantizer, losses, optimizers and schedule are those of the published code (github.com/chamain/VAE-classifier),
whose rate target is 0.4 bpp, whatever L. Known differences: the shorter side of a picture becomes 256 pixels and the
centre square is kept, where that code squeezes whole pictures into 256x256; every channel's pixels become
(x - 127.5) / 63.75, where it takes each channel's mean and 64.15; the rate's gradient reaches the encoder through the
soft assignment too (vae_jcc/entropy/categorical.py); the context model has one bias more for each channel and
alternative, other initial weights, and sees zeros outside the latent, not the first centre. The paper's figures are of
the validation split; here that is for the published figure only, and one percent of the training images makes choices.
"""

from ml_collections import ConfigDict

from configs import default


def get_config() -> ConfigDict:
    """Returns the configuration."""
    c = default.get_config()
    c.name = "ae_v3"
    c.dataset.name = "imagenet2012"
    c.dataset.train_split = "train[:99%]"
    c.dataset.validation_split = "train[99%:]"
    c.dataset.test_split = "validation"
    c.dataset.image_size = 160
    c.dataset.margin = 48  # 160-pixel crops of 256 pixels
    c.dataset.eval_margin = 48
    c.dataset.workers = 8
    c.augment.crop_padding = 0
    c.model.latent_channels = 32
    c.model.encoder.as_published = True
    c.model.encoder.stem_features = 32
    c.model.encoder.stem_kernel = 7
    c.model.encoder.stem_pool = True
    c.model.encoder.stages = ((32, 2, 1), (32, 3, 2))
    c.model.encoder.latent_kernel = 0
    c.model.classifier.as_published = True
    c.model.classifier.stages = ((256, 2, 1), (512, 2, 2))
    c.quantizer.kind = "soft_to_hard"
    c.quantizer.centres = 2
    c.entropy.kind = "context"
    c.entropy.context.kind = "serial"  # goes on from the trained one, in the integers that code
    c.loss.hinge_beta = 2.0
    c.loss.hinge_target = 0.4
    c.loss.lam_warmup_epochs = 0.0
    c.loss.label_smoothing = 0.0
    c.optim.learning_rate = 0.1
    c.optim.nesterov = False
    c.optim.weight_decay = 2e-4
    c.optim.decay_all = True
    c.optim.rate_optimizer = "adam"
    c.optim.schedule = "steps"
    c.optim.warmup_epochs = 0.0
    c.optim.clip_norm = 0.0
    c.optim.ema_decay = 0.0
    c.train.batch_size = 96
    c.train.epochs = 90.0
    c.eval.batch_size = 96
    return c
