"""Muon: steps against its definition, which variables it takes, and a training step that uses it."""

import jax
import numpy as np
import optax.contrib
import pytest

from configs import quickstart
from tests.test_steps_and_parallel import make_batch, run, tiny_config
from vae_jcc import newton_schulz, optim, train
from vae_jcc.data.array_source import ArraySource
from vae_jcc.data.sources import SourceInfo

RATE, DECAY = 0.04, 0.02


@pytest.fixture
def config():
    """The quickstart's, with Muon from its first step on."""
    c = quickstart.get_config()
    c.optim.kind, c.optim.learning_rate, c.optim.weight_decay = "muon", RATE, DECAY
    c.optim.vector_learning_rate, c.optim.momentum = 0.5, 0.9
    c.optim.warmup_epochs, c.optim.clip_norm = 0.0, 0.0
    return c


def first_update(config, params, grads):
    """The update of the first of 1,000 steps, where momentum is the gradient itself."""
    optimizer = optim.make_optimizer(config, 100, 1000)
    return jax.device_get(optimizer.update(grads, optimizer.init(params), params)[0])


def leaves(rng, shape):
    """(parameters, gradients) of one kernel, a bias beside it and a prior."""
    values = [rng.normal(size=s).astype(np.float32) for s in (shape, shape, shape[-1:], shape[-1:], (3,), (3,))]
    return tuple(
        {"encoder": {"conv": {"kernel": values[i], "bias": values[2 + i]}}, "prior": {"scale": values[4 + i]}}
        for i in (0, 1)
    )


@pytest.mark.parametrize("shape", [(3, 3, 4, 8), (3, 3, 2, 32), (20, 7)])
def test_a_kernel_steps_by_the_orthogonal_matrix_nearest_its_gradient(config, shape):
    params, grads = leaves(np.random.default_rng(1), shape)
    kernel = first_update(config, params, grads)["encoder"]["conv"]["kernel"].reshape(-1, shape[-1])
    step = -kernel / RATE - DECAY * params["encoder"]["conv"]["kernel"].reshape(-1, shape[-1])
    u, _, vt = np.linalg.svd(grads["encoder"]["conv"]["kernel"].reshape(-1, shape[-1]), full_matrices=False)
    # Five Newton-Schulz iterations bring singular values near 1, not to it, and leave the singular vectors.
    turned = u.T @ step @ vt.T
    assert np.all((np.diag(turned) > 0.6) & (np.diag(turned) < 1.3))
    np.testing.assert_allclose(turned - np.diag(np.diag(turned)), 0, atol=1e-3)


@pytest.mark.parametrize("shape", [(3, 3, 4, 8), (3, 3, 2, 32), (20, 7), (12, 12)])
@pytest.mark.parametrize("decades", [0, 3, 8])
def test_steps_are_those_of_optax_however_singular_the_gradient(config, shape, decades):
    """Steps on Gram matrices, which square singular values, lose little by it in numbers of 32 bits."""
    config.optim.weight_decay = 0.0
    rng = np.random.default_rng(5)
    params, grads = leaves(rng, shape)
    gradient = grads["encoder"]["conv"]["kernel"].reshape(-1, shape[-1])
    u, _, vt = np.linalg.svd(gradient, full_matrices=False)
    grads["encoder"]["conv"]["kernel"] = ((u * np.logspace(0, -decades, len(vt))) @ vt).reshape(shape)
    step = first_update(config, params, grads)["encoder"]["conv"]["kernel"].reshape(gradient.shape)
    reference = optax.contrib.scale_by_muon(beta=config.optim.momentum, nesterov=config.optim.nesterov)
    matrix = grads["encoder"]["conv"]["kernel"].reshape(gradient.shape)
    np.testing.assert_allclose(-step / RATE, reference.update(matrix, reference.init(matrix))[0], atol=5e-3)


def test_products_ask_for_all_bits_of_float32():
    """What TPUs and GPUs multiply by default would not do."""
    lowered = jax.jit(newton_schulz.orthogonalize).lower(jax.ShapeDtypeStruct((20, 7), np.float32)).as_text()
    products = [line for line in lowered.splitlines() if "dot_general" in line]
    assert products and all(line.count("HIGHEST") == 2 for line in products)


def test_no_gradient_is_no_step(config):
    config.optim.weight_decay = 0.0
    params, grads = leaves(np.random.default_rng(6), (3, 3, 4, 8))
    update = first_update(config, params, jax.tree.map(np.zeros_like, grads))
    np.testing.assert_array_equal(update["encoder"]["conv"]["kernel"], 0)


def test_small_and_large_gradients_step_alike(config):
    params, grads = leaves(np.random.default_rng(2), (3, 3, 4, 8))
    step = first_update(config, params, grads)["encoder"]["conv"]["kernel"]
    small = first_update(config, params, jax.tree.map(lambda g: 1e-3 * g, grads))["encoder"]["conv"]["kernel"]
    np.testing.assert_allclose(small, step, rtol=1e-3, atol=1e-5)


def test_biases_and_depthwise_kernels_are_sgds_and_the_prior_is_adams(config):
    params, grads = leaves(np.random.default_rng(3), (3, 3, 1, 8))
    update = first_update(config, params, grads)
    for leaf in ("kernel", "bias"):  # Nesterov's first step: gradient + momentum * gradient
        np.testing.assert_allclose(
            update["encoder"]["conv"][leaf], -0.5 * 1.9 * grads["encoder"]["conv"][leaf], rtol=1e-5
        )
    rate = config.optim.prior_learning_rate
    np.testing.assert_allclose(update["prior"]["scale"], -rate * np.sign(grads["prior"]["scale"]), rtol=1e-4)


@pytest.mark.parametrize("mode", ["jit", "pmap"])
def test_device_count_does_not_change_the_maths(mode):
    config = tiny_config()
    config.optim.kind, config.optim.learning_rate, config.optim.weight_decay = "muon", RATE, DECAY
    batch = make_batch(np.random.default_rng(7))
    one, _ = run(config, "jit", 1, batch)
    two, _ = run(config, mode, 2, batch)
    for a, b in zip(jax.tree.leaves(one.params), jax.tree.leaves(two.params), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)


def test_broken_off_and_resumed_is_bit_identical(config, tmp_path, monkeypatch):
    """The momentum of kernels and of all else comes back from the checkpoint."""
    config.model.encoder.update({"stem_features": 4, "stages": ((6, 1, 2),)})
    config.model.classifier.stages = ((8, 1, 1),)
    config.train.update({"batch_size": 8, "epochs": 2.0})
    config.checkpoint.every_epochs, config.eval.batch_size = 0.5, 8
    info = SourceInfo("made up", "train", 32, 3, ("ant", "bee", "cat"), 3, (16, 16), "")
    pixels = np.random.default_rng(4).integers(0, 256, (32, 16, 16, 3), np.uint8)
    source = ArraySource(info, pixels, np.arange(32, dtype=np.int32) % 3)
    whole = train.fit(config, tmp_path / "whole", source, source)
    steps_of, began = train._train_steps, []

    def breaking(*arguments):
        step_at = steps_of(*arguments)

        def step(number):
            began.append(number)
            if began == [0, 1, 2, 3, 4]:
                raise RuntimeError("power cut")
            return step_at(number)

        return step

    monkeypatch.setattr(train, "_train_steps", breaking)
    with pytest.raises(RuntimeError, match="power cut"):
        train.fit(config, tmp_path / "broken", source, source)
    resumed = train.fit(config, tmp_path / "broken", source, source)
    assert began[5:] == [4, 5, 6, 7]
    jax.tree.map(np.testing.assert_array_equal, resumed, whole)


def test_an_unknown_kind_names_the_choices(config):
    config.optim.kind = "lion"
    with pytest.raises(ValueError, match="'sgd', 'adamw' or 'muon'"):
        optim.make_optimizer(config, 10, 100)
