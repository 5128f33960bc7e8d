"""The classifier behind a classical codec: the network of a model, without its bottleneck.

Encoder and classifier of the model, joined with nothing between them, so that a baseline differs from the model in how
the image travels and in nothing else. It is trained on clean images, or on images that went through the codec.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from vae_jcc import steps
from vae_jcc.benchmark.codecs import Codec
from vae_jcc.benchmark.coded_source import CodedCrops, CodedSource
from vae_jcc.data.pipeline import eval_batches
from vae_jcc.data.sources import Source
from vae_jcc.evaluate import evaluate_batches, input_settings
from vae_jcc.models.joint import build_model
from vae_jcc.parallel import make_devices

# Of a recipe's peak learning rate, where training goes on from trained variables: the full rate would undo them.
CONTINUED_RATE = 0.1


def without_bottleneck(config: ConfigDict) -> ConfigDict:
    """Returns a model's configuration as a reference's: no quantizer, no rate, no decoder, no teacher.

    A reference is evaluated on images as they come, which are `AsEvaluated`: another scaling after a codec would blur.
    """
    config = ConfigDict(config.to_dict())
    config.quantizer.kind, config.loss.lam, config.loss.hinge_beta = "none", 0.0, 0.0
    config.entropy.kind = "factorized"  # idle; the others need learned centres
    config.init_parts = ("encoder", "classifier")  # of its start: a prior of another kind would not fit
    config.model.decoder.mode = "off"
    config.dataset.eval_margin = 0
    config.loss.teacher, config.loss.distill_weight = "", 0.0
    return config


def reference_config(
    config: ConfigDict, *, name: str, epochs: float, seed: int, image_size: int, start: str = ""
) -> ConfigDict:
    """Returns the configuration of a reference's training, by the model's own recipe.

    Args:
        config: of the model.
        name: of the run.
        epochs: passes over the training split.
        seed: of initial weights, data order and augmentation.
        image_size: side in pixels to which images are brought; 0 leaves them as they are.
        start: trained variables to go on from, as `init_from` names them; "" starts fresh. Training then takes
            `CONTINUED_RATE` of the recipe's learning rate.
    """
    config = without_bottleneck(config)
    config.name, config.seed, config.init_from = name, seed, start
    config.dataset.image_size, config.dataset.workers = image_size, 0
    config.dataset.margin = config.dataset.margin if image_size else 0
    config.train.epochs, config.train.max_steps = float(epochs), 0
    # Recipes are written for tens of epochs: their warm-up may not take up a short training.
    config.optim.warmup_epochs = min(config.optim.warmup_epochs, 0.1 * epochs)
    if start:
        config.optim.learning_rate *= CONTINUED_RATE
    return config


def coded_training(source: Source, codec: Codec, quality: int, config: ConfigDict) -> Source:
    """Returns training images after a codec: what is coded is what the network will see, at that scale.

    Random-resized crops are cut before they are coded; for crops on the device, their margin is coded too.

    Args:
        source: training images, not coded.
        codec: that they go through.
        quality: the codec's.
        config: of the reference.
    """
    d = config.dataset
    if d.crop_scale:
        return CodedCrops(source, codec, quality)
    return CodedSource(source, codec, quality, int(d.image_size + 2 * d.margin))


def train_reference(config: ConfigDict, folder: Path, train: Source, validation: Source) -> Any:
    """Returns the variables with the best validation loss; a training that was broken off goes on.

    Args:
        config: from `reference_config`.
        folder: for checkpoints; the variables are in FOLDER/best.
        train: training images.
        validation: images for the choice among epochs, as evaluated, gone through the same codec.
    """
    from vae_jcc.train import fit  # training ends by calling this package

    return fit(config, folder, train, validation)


def make_evaluator(config: ConfigDict, num_classes: int, channels: int) -> Callable[[Any, Source], dict[str, float]]:
    """Returns `evaluate(variables, source)`, compiled once: "n_images", "top1" and "top5" of a reference on a source.

    Args:
        config: of the reference.
        num_classes: of the data.
        channels: of the images.
    """
    devices = make_devices(config.parallel)
    model = build_model(config, num_classes, channels, devices.axis_name)
    step = devices.compile_eval(steps.make_eval_step(model, "none", devices.axis_name))

    def evaluate(variables: Any, source: Source) -> dict[str, float]:
        batches = eval_batches(source, batch_size=config.eval.batch_size, **input_settings(config))
        result = evaluate_batches(step, devices.put_state(jax.device_get(variables)), batches, devices)
        return {key: result[key] for key in ("n_images", "top1", "top5")}

    return evaluate
