"""Training steps on random pixels: this project's own compiled step, without a data set."""

from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from vae_jcc import optim
from vae_jcc.benchmark.cost import count_macs, count_parameters
from vae_jcc.models.joint import build_model
from vae_jcc.parallel import Devices, make_devices
from vae_jcc.state import create_state
from vae_jcc.steps import make_train_step
from vae_jcc.teacher import load_teacher

_STEPS_PER_EPOCH = 371  # of the schedules; they cost the same at any length


def random_batch(size: int, shape: tuple[int, int, int], num_classes: int) -> dict[str, np.ndarray]:
    """Returns a batch of random pixels uint8 [B, H, W, C] with labels and positions int32 [B]."""
    rng = np.random.default_rng(0)
    return {
        "image": rng.integers(0, 256, (size, *shape), np.uint8),
        "label": rng.integers(0, num_classes, size).astype(np.int32),
        "position": np.arange(size, dtype=np.int32),
        "seed": np.zeros(size, np.int32),
    }


def step_flops(config: ConfigDict, shape: tuple[int, int, int], num_classes: int) -> int:
    """Returns the model FLOPs of one training step: 6 for each multiply-accumulate of the forward pass.

    2 forward and 4 backward, as is the field's habit: elementwise work and recomputation (remat) are not counted.

    Args:
        config: the complete configuration.
        shape: (H, W, C) of the images that the networks see.
        num_classes: of the classifier.
    """
    model = build_model(config, num_classes, shape[2])
    size = config.train.batch_size
    images = jax.ShapeDtypeStruct((size, *shape), np.float32)
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), size))
    variables = jax.eval_shape(model.init, jax.random.key(0), images)

    def forward(variables: Any, images: Any, keys: Any) -> Any:
        return model.apply(
            variables, images, keys, train=True, quantizer=config.quantizer.kind, mutable=["batch_stats"]
        )

    return 6 * count_macs(forward, variables, images, keys)


@dataclass
class SyntheticTraining:
    """A compiled training step with a state and a batch to run it on."""

    devices: Devices
    compiled: Any
    state: Any
    batch: dict[str, np.ndarray]
    parameters: int
    flops: int  # of the model, a step (`step_flops`)

    def step(self) -> None:
        """Copies the batch to the devices, runs one step and waits for it."""
        self.state, metrics = self.compiled(self.state, self.devices.put_batch(self.batch))
        metrics["loss"].block_until_ready()


def prepare_training(config: ConfigDict, shape: tuple[int, int, int], num_classes: int) -> SyntheticTraining:
    """Compiles the step of a configuration for all devices of this process.

    Args:
        config: the complete configuration.
        shape: (H, W, C) of the images of a batch, margin included.
        num_classes: of the labels.

    Raises:
        ValueError: the configuration contradicts itself, or its batch does not divide over the devices.
    """
    devices = make_devices(config.parallel)
    devices.check_batch(config.train.batch_size, "train.batch_size", config.train.accumulate)
    model = build_model(config, num_classes, shape[2], devices.axis_name)
    optimizer = optim.make_optimizer(config, _STEPS_PER_EPOCH, 30 * _STEPS_PER_EPOCH)
    side = config.dataset.image_size
    seen = (side, side, shape[2]) if side else shape
    state = devices.put_state(create_state(model, optimizer, config.seed, seen))
    kind = config.quantizer.kind
    asked_before = bool(config.loss.teacher and config.loss.teacher_views)
    step = make_train_step(
        config,
        model,
        optimizer,
        optim.lam_schedule(config, _STEPS_PER_EPOCH),
        quantizer="noise" if kind == "noise_then_hard" else kind,
        axis_name=devices.axis_name,
        teacher=load_teacher(config.loss.teacher, num_classes) if config.loss.teacher and not asked_before else None,
    )
    batch = random_batch(config.train.batch_size, shape, num_classes)
    if asked_before:
        batch["teacher_logits"] = np.zeros((config.train.batch_size, num_classes), np.float32)
    compiled, state = devices.compile_ahead(step, state, batch)
    flops = step_flops(config, seen, num_classes)
    return SyntheticTraining(devices, compiled, state, batch, count_parameters(state.params), flops)
