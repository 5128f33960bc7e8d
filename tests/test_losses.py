"""The objective's terms against their definitions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import quickstart
from vae_jcc import losses
from vae_jcc.models.joint import Outputs
from vae_jcc.steps import Mixture, objective, rate


def test_bits_per_pixel():
    """One byte on a 4x2 image is one bit a pixel."""
    assert losses.bits_per_pixel(8, 4, 2) == 1.0


def test_cross_entropy_of_even_odds_is_log_k():
    """Whatever the smoothing."""
    for smoothing in (0.0, 0.1):
        got = losses.cross_entropy(jnp.zeros((3, 7)), jnp.array([0, 3, 6]), smoothing)
        np.testing.assert_allclose(got, np.log(7), rtol=1e-6)


def test_label_smoothing_is_the_mixed_target(rng):
    """(1 - e) CE(label) + e mean over classes."""
    logits, labels = jnp.asarray(rng.normal(size=(5, 4)), jnp.float32), jnp.array([0, 1, 2, 3, 0])
    logp = jax.nn.log_softmax(logits)
    want = -0.9 * logp[jnp.arange(5), labels] - 0.1 * logp.mean(-1)
    np.testing.assert_allclose(losses.cross_entropy(logits, labels, 0.1), want, rtol=1e-5)


def test_distillation_vanishes_at_the_teacher_and_only_there(rng):
    """KL divergence; the gradient at T = 1 is softmax difference."""
    teacher, student = (jnp.asarray(rng.normal(size=(6, 5)), jnp.float32) for _ in range(2))
    np.testing.assert_allclose(losses.distillation(teacher, teacher, 3.0), 0.0, atol=1e-5)
    assert np.all(losses.distillation(student, teacher, 3.0) > 0)
    grad = jax.grad(lambda s: losses.distillation(s, teacher, 1.0).sum())(student)
    np.testing.assert_allclose(grad, jax.nn.softmax(student) - jax.nn.softmax(teacher), atol=1e-5)


def test_hinge_is_flat_below_its_target():
    """No reward for fewer bits than asked."""
    assert losses.rate_hinge(0.3, 2.0, 0.4) == 0.0
    assert losses.rate_hinge(0.9, 2.0, 0.4) == pytest.approx(1.0)
    assert jax.grad(losses.rate_hinge)(0.3, 2.0, 0.4) == 0.0


def test_objective_adds_rate_in_bits_per_pixel(rng):
    """cross_entropy + lam * bpp, and beta * hinge in its place."""
    config = quickstart.get_config()
    images, labels = jnp.zeros((2, 28, 28, 1)), jnp.array([0, 1])
    outputs = Outputs(jnp.zeros((2, 10)), jnp.array([784.0, 3 * 784.0]), None)
    (task, bpp), metrics = objective(config, images, labels, outputs)
    assert metrics["bpp"] == bpp == 2.0 and metrics["task"] == task == pytest.approx(np.log(10), rel=1e-6)
    assert rate(config, 0.5, bpp) == 0.5 * 2.0
    config.loss.hinge_beta, config.loss.hinge_target = 1.0, 1.5
    assert rate(config, 3.0, bpp) == 3.0 * 0.5


def test_mixed_images_have_both_labels_by_their_shares(rng):
    """Cross-entropy and accuracy; what is wholly an image's own counts as if nothing were mixed."""
    config = quickstart.get_config()
    images, labels, others = jnp.zeros((4, 8, 8, 1)), jnp.array([0, 1, 2, 3]), jnp.array([1, 1, 0, 5])
    outputs = Outputs(jnp.asarray(rng.normal(size=(4, 10)), jnp.float32), jnp.zeros(4), None)
    share = np.array([0.25, 1.0, 0.5, 0.0])
    metrics = objective(config, images, labels, outputs, mixture=Mixture(others, jnp.asarray(share, jnp.float32)))[1]
    both = [np.asarray(losses.cross_entropy(outputs.logits, x, config.loss.label_smoothing)) for x in (labels, others)]
    assert metrics["cross_entropy"] == pytest.approx(np.mean(share * both[0] + (1 - share) * both[1]), rel=1e-6)
    right = [np.asarray(outputs.logits.argmax(-1) == x) for x in (labels, others)]
    assert metrics["accuracy"] == pytest.approx(np.mean(share * right[0] + (1 - share) * right[1]))
    answers = [jnp.asarray(rng.normal(size=(4, 10)), jnp.float32) for _ in range(2)]  # about the single images
    mixture = Mixture(others, jnp.asarray(share, jnp.float32), answers[1])
    metrics = objective(config, images, labels, outputs, answers[0], mixture)[1]
    both = [np.asarray(losses.distillation(outputs.logits, x, config.loss.distill_temperature)) for x in answers]
    assert metrics["distillation"] == pytest.approx(np.mean(share * both[0] + (1 - share) * both[1]), rel=1e-5)
    seen = objective(config, images, labels, outputs, answers[0], mixture._replace(teacher_logits=None))[1]
    assert seen["distillation"] == pytest.approx(np.mean(both[0]), rel=1e-5)  # about the mixed ones
    whole = objective(config, images, labels, outputs, mixture=Mixture(others, jnp.ones(4)))[1]
    for key, want in objective(config, images, labels, outputs)[1].items():
        assert whole[key] == pytest.approx(float(want), rel=1e-6)
