"""Gradient accumulation: what microbatches may not change, over devices, optimizers and the hinge."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import quickstart
from vae_jcc import optim, steps
from vae_jcc.microbatches import mean_over_microbatches
from vae_jcc.models import layers
from vae_jcc.models.joint import build_model
from vae_jcc.models.norm import BatchNorm
from vae_jcc.parallel import make_devices
from vae_jcc.state import create_state


def tiny_config():
    """A model small enough to compile many times."""
    config = quickstart.get_config()
    config.model.latent_channels = 3
    config.model.encoder.stem_features = 4
    config.model.encoder.stages = ((6, 1, 2),)
    config.model.classifier.stages = ((8, 1, 1),)
    config.loss.lam_warmup_epochs = 0.0
    return config


@pytest.fixture
def batch(rng):
    """Eight images: the even ones, which are the first of two microbatches, are flat and cost fewer bits."""
    images = rng.integers(0, 256, (8, 16, 16, 1), dtype=np.uint8)
    images[::2] = 128
    return {
        "image": images,
        "label": rng.integers(0, 10, 8).astype(np.int32),
        "position": np.arange(8, dtype=np.int32),
        "seed": np.zeros(8, np.int32),
    }


@pytest.fixture
def no_batch_statistics(monkeypatch):
    """Normalization by running statistics in training too, without which microbatches are other batches."""
    monkeypatch.setattr(layers, "BatchNorm", lambda train, *args, **kwargs: BatchNorm(False, *args, **kwargs))


def one_step(config, batch, mode="jit", count=1, teacher=None):
    """Returns (optimizer's state after one step from the same start, metrics, compiled text)."""
    devices = make_devices(mode, jax.devices()[:count])
    model = build_model(config, 10, 1, devices.axis_name)
    optimizer = optim.make_optimizer(config, 10, 100)
    state = devices.put_state(create_state(model, optimizer, 0, (16, 16, 1)))
    step = steps.make_train_step(
        config,
        model,
        optimizer,
        optim.lam_schedule(config, 10),
        quantizer="mixed",
        axis_name=devices.axis_name,
        teacher=teacher,
    )
    placed = devices.put_batch(batch)
    compiled = devices.compile_train(step).lower(state, placed).compile()
    state = jax.device_put(state, compiled.input_shardings[0][0])  # compiled ahead, pmap does not spread it itself
    state, metrics = compiled(state, placed)
    return jax.device_get(state.opt_state), {k: float(v) for k, v in metrics.items()}, compiled.as_text()


def assert_same(got, want):
    """The moments of the optimizers show a wrong factor, which the parameters after a step of Adam would hide."""
    leaves = list(zip(jax.tree.leaves(got[0]), jax.tree.leaves(want[0]), strict=True))
    assert any(np.abs(b).max() > 1e-3 for _, b in leaves if np.ndim(b) > 1)
    for a, b in leaves:
        np.testing.assert_allclose(a, b, rtol=2e-3, atol=1e-6)
    assert got[1] == pytest.approx(want[1], rel=1e-4)


def test_microbatches_are_one_batch(batch, no_batch_statistics):
    """Random crops, mixed pairs, noise, a teacher and lam * bpp: to rounding."""
    config = tiny_config()
    config.augment.cutmix = 0.7
    config.loss.distill_weight = 0.5
    teacher = lambda images: 5 * images[:, :10, 3, 0]  # noqa: E731
    want = one_step(config, batch, teacher=teacher)
    config.train.accumulate = 4
    assert_same(one_step(config, batch, teacher=teacher), want)


def test_the_hinge_and_two_optimizers_see_the_whole_batch(batch, no_batch_statistics):
    """One microbatch, or one device, lies below the target and one above it: still the step of one batch."""
    config = tiny_config()
    config.optim.rate_optimizer, config.optim.clip_norm = "adam", 0.0
    config.entropy.init_scale = 0.2  # flat images have 0.2 bpp, the others 1.2
    config.loss.hinge_beta, config.loss.hinge_target = 1.0, 0.6
    want = one_step(config, batch)
    assert want[1]["bpp"] > 0.6
    config.train.accumulate = 2
    accumulated = one_step(config, batch, "jit", 2)
    assert_same(accumulated, want)
    for collective in ("all-to-all", "all-gather", "collective-permute"):
        assert collective not in accumulated[2], "examples travel between devices"
    config.train.accumulate = 1
    # Each device's share under pmap is half the batch: here all flat images, there all others.
    order = np.argsort(np.arange(8) % 2, kind="stable")
    apart = {key: value[order] for key, value in batch.items()}
    assert_same(one_step(config, apart, "pmap", 2), want)


def test_running_statistics_are_means_over_microbatches(rng):
    """The running mean is that of the whole batch; the running variance lacks that between microbatches."""
    x = rng.normal(3.0, 2.0, (8, 4, 4, 2)).astype(np.float32)
    norm = BatchNorm(True)
    variables = norm.init(jax.random.key(0), x)

    def update(part):
        return norm.apply(variables, part["image"], mutable=["batch_stats"])[1]["batch_stats"]

    whole, parts = update({"image": x}), mean_over_microbatches(update, {"image": x}, 4)
    np.testing.assert_allclose(parts["mean"], whole["mean"], rtol=1e-5)
    between = np.var([x[j::4].mean(axis=(0, 1, 2)) for j in range(4)], axis=0)
    np.testing.assert_allclose(parts["var"], whole["var"] - 0.1 * between, rtol=1e-4)


def test_parts_that_do_not_divide_are_refused():
    with pytest.raises(ValueError, match="accumulate=3 does not cut 8 images"):
        mean_over_microbatches(lambda part: part, {"image": jnp.zeros((8, 1))}, 3)
    with pytest.raises(ValueError, match="accumulate=0"):
        mean_over_microbatches(lambda part: part, {"image": jnp.zeros((8, 1))}, 0)
    devices = make_devices("jit", jax.devices()[:2])
    devices.check_batch(8, "train.batch_size", 4)
    with pytest.raises(ValueError, match="batch_size=8 does not divide over 2 devices in 8 parts"):
        devices.check_batch(8, "train.batch_size", 8)
