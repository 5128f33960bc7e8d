"""The training step: what device count and mode may not change, freezing, determinism."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import quickstart
from vae_jcc import optim, steps
from vae_jcc.models.joint import build_model
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
    config.optim.warmup_epochs = 0.0
    # Without the smallest gradients' noise being blown up: plain SGD shows a wrong factor, Adam would hide it.
    config.optim.clip_norm = 0.0
    return config


def make_batch(rng, size=8):
    """One global batch."""
    return {
        "image": rng.integers(0, 256, (size, 16, 16, 1), dtype=np.uint8),
        "label": rng.integers(0, 10, size).astype(np.int32),
        "position": np.arange(size, dtype=np.int32),
        "seed": np.zeros(size, np.int32),
    }


def run(config, mode, count, batch, quantizer="mixed", number=2):
    """Returns the state and metrics after `number` steps on `count` devices."""
    devices = make_devices(mode, jax.devices()[:count])
    model = build_model(config, 10, 1, devices.axis_name)
    optimizer = optim.make_optimizer(config, 10, 100)
    state = devices.put_state(create_state(model, optimizer, 0, (16, 16, 1)))
    rate = optim.lam_schedule(config, 10)
    step = devices.compile_train(
        steps.make_train_step(config, model, optimizer, rate, quantizer=quantizer, axis_name=devices.axis_name)
    )
    for _ in range(number):
        state, metrics = step(state, devices.put_batch(batch))
    return jax.device_get(state), {k: float(v) for k, v in metrics.items()}


@pytest.fixture(scope="module")
def batch():
    """One global batch for all tests."""
    return make_batch(np.random.default_rng(7))


@pytest.fixture(scope="module")
def reference(batch):
    """State and metrics of two steps on one device under jit."""
    return run(tiny_config(), "jit", 1, batch)


@pytest.mark.parametrize(("mode", "count"), [("jit", 2), ("jit", 4), ("pmap", 2), ("pmap", 4)])
def test_device_count_and_mode_do_not_change_the_maths(mode, count, batch, reference):
    """Parameters after two steps equal those of one device under jit, to rounding; so do the metrics."""
    want, want_metrics = reference
    got, metrics = run(tiny_config(), mode, count, batch)
    for a, b in zip(jax.tree.leaves(want.params), jax.tree.leaves(got.params), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-5)
    for a, b in zip(jax.tree.leaves(want.batch_stats), jax.tree.leaves(got.batch_stats), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-5)
    assert metrics == pytest.approx(want_metrics, rel=1e-3)


def test_cutmix_is_the_same_on_every_number_of_devices(batch, reference):
    """Who is pasted into whom does not depend on where the batch is cut; and it is not what happens without it."""
    config = tiny_config()
    config.augment.cutmix = 0.7
    want, want_metrics = run(config, "jit", 1, batch)
    assert want_metrics["cross_entropy"] != pytest.approx(reference[1]["cross_entropy"], rel=1e-3)
    for mode, count in (("jit", 4), ("pmap", 2)):
        got, metrics = run(config, mode, count, batch)
        for a, b in zip(jax.tree.leaves(want.params), jax.tree.leaves(got.params), strict=True):
            np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-5)
        assert metrics == pytest.approx(want_metrics, rel=1e-3)
    with pytest.raises(ValueError, match="cutmix mixes pairs of images, and 1 is odd"):
        run(config, "pmap", 4, {key: value[:4] for key, value in batch.items()})


def test_same_seed_same_bits_other_seed_other_bits(batch, reference):
    """Exactly repeatable; the seed matters, and comes with the data: the step is compiled for all of them."""
    config = tiny_config()
    a, b = reference[0], run(config, "jit", 1, batch)[0]
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(x, y)
    config.seed = 1
    same = run(config, "jit", 1, batch)[0]
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(same), strict=True):
        np.testing.assert_array_equal(x, y)
    c = run(config, "jit", 1, batch | {"seed": np.ones(8, np.int32)})[0]
    assert any(np.any(x != y) for x, y in zip(jax.tree.leaves(a.params), jax.tree.leaves(c.params), strict=True))


def test_hard_phase_freezes_the_encoder_and_nothing_else(batch):
    """Neither gradient, weight decay, momentum nor averaging may move what the edge runs."""
    config = tiny_config()
    start = jax.device_get(
        create_state(build_model(config, 10, 1), optim.make_optimizer(config, 10, 100), 0, (16, 16, 1))
    )
    after = run(config, "jit", 1, batch, quantizer="hard")[0]
    for tree in ("params", "ema_params", "ema_batch_stats"):
        for a, b in zip(
            jax.tree.leaves(getattr(start, tree)["encoder"]),
            jax.tree.leaves(getattr(after, tree)["encoder"]),
            strict=True,
        ):
            np.testing.assert_array_equal(a, b)
    assert np.any(start.params["classifier"]["stem"]["kernel"] != after.params["classifier"]["stem"]["kernel"])
    assert np.any(start.params["prior"]["matrix0"] != after.params["prior"]["matrix0"])


def test_a_larger_lam_lowers_the_rate(batch):
    """After some steps on one batch."""
    config = tiny_config()
    config.loss.lam = 0.0
    free = run(config, "jit", 1, batch, number=30)[1]["bpp"]
    config.loss.lam = 5.0
    assert run(config, "jit", 1, batch, number=30)[1]["bpp"] < 0.8 * free


def test_batch_that_does_not_divide_is_refused():
    """The error names the key."""
    with pytest.raises(ValueError, match="config.train.batch_size=6 does not divide over 4 devices"):
        make_devices("jit", jax.devices()[:4]).check_batch(6, "train.batch_size")
    with pytest.raises(ValueError, match="'jit' or 'pmap'"):
        make_devices("pjit")


def test_eval_step_counts_each_example_once(batch):
    """Masked examples leave no trace in any sum."""
    config = tiny_config()
    model = build_model(config, 10, 1)
    variables = model.init(jax.random.key(0), jnp.zeros((1, 16, 16, 1)))
    step = jax.jit(steps.make_eval_step(model))
    whole = step(variables, batch | {"mask": np.ones(8, np.float32)})
    parts = [step(variables, batch | {"mask": np.float32(np.arange(8) % 2 == i)}) for i in range(2)]
    assert float(whole["count"]) == 8
    for key in whole:
        np.testing.assert_allclose(parts[0][key] + parts[1][key], whole[key], rtol=1e-5)
