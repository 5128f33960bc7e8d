"""The 2022 paper's way of training: two optimizers, steps of the learning rate, learned centres from steps to bytes."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.paper import ae_v1
from vae_jcc import EdgeEncoder, Receiver, optim, steps
from vae_jcc import artifact as artifact_module
from vae_jcc.artifact import Artifact
from vae_jcc.checkpoint import load_start, load_variables
from vae_jcc.data.augment import augment
from vae_jcc.data.sources import open_source
from vae_jcc.entropy.categorical import symbol_bits
from vae_jcc.entropy.tabulate import count_logits, tabulate_categorical
from vae_jcc.models.joint import build_model
from vae_jcc.state import create_state
from vae_jcc.train import train_and_evaluate


def tiny_config():
    """AE-V1 with a few channels, for the bundled images."""
    config = ae_v1.get_config()
    config.dataset.name = "bundled:fashion_mnist"
    config.dataset.train_split, config.dataset.validation_split = "train[:256]", "test[:60]"
    config.dataset.test_split = "test[100:137]"
    config.model.latent_channels = 3
    config.model.encoder.stem_features, config.model.encoder.stages = 4, ((3, 1, 2),)
    config.model.classifier.stages = ((6, 1, 1),)
    config.quantizer.centres = 3
    config.entropy.context.epochs = 0.2
    config.loss.hinge_target = 0.05
    config.train.batch_size, config.eval.batch_size, config.train.max_steps = 16, 20, 4
    return config


def test_steps_divide_by_ten_at_half_and_three_quarters():
    config = ae_v1.get_config()
    schedule = optim.learning_rate_schedule(config, 10, 100, 0.1)
    values = [float(schedule(step)) for step in (0, 49, 50, 74, 75, 99)]
    np.testing.assert_allclose(values, [0.1, 0.1, 0.01, 0.01, 0.001, 0.001], rtol=1e-6)
    config.optim.warmup_epochs = 1.0
    schedule = optim.learning_rate_schedule(config, 10, 100, 0.1)
    np.testing.assert_allclose([float(schedule(s)) for s in (0, 4, 9, 10)], [0.01, 0.05, 0.1, 0.1], rtol=1e-6)


@pytest.fixture(scope="module")
def one_step():
    """(config, parameters before and after one step, gradients of the task and of the rate)."""
    config = tiny_config()
    config.optim.rate_fraction = 0.01
    rng = np.random.default_rng(3)
    batch = {
        "image": rng.integers(0, 256, (8, 16, 16, 1), dtype=np.uint8),
        "label": rng.integers(0, 10, 8).astype(np.int32),
        "position": np.arange(8, dtype=np.int32),
        "seed": np.zeros(8, np.int32),
    }
    model, optimizer = build_model(config, 10, 1), optim.make_optimizer(config, 10, 100)
    state = create_state(model, optimizer, 0, (16, 16, 1))
    step = steps.make_train_step(config, model, optimizer, optim.lam_schedule(config, 10), quantizer="soft_to_hard")
    after = jax.jit(step)(state, batch)[0]

    @jax.jit
    def gradients(params):
        keys = jax.vmap(jax.random.fold_in, (None, 0))(
            jax.random.fold_in(jax.random.key(config.seed), 0), batch["position"]
        )
        images = augment(keys, batch["image"], config.augment)

        def terms(params):
            variables = {"params": params, "batch_stats": state.batch_stats}
            outputs, _ = model.apply(variables, images, train=True, mutable=["batch_stats"])
            ce = -jax.nn.log_softmax(outputs.logits)[jnp.arange(8), batch["label"]].mean()
            return jnp.array([ce, 2.0 * jnp.maximum((outputs.bits / 256).mean() - 0.05, 0.0)])

        return jax.jacrev(terms)(params)

    both = gradients(state.params)
    task, rate = (jax.tree.map(lambda g, i=i: g[i], both) for i in range(2))
    return config, state.params, after.params, task, rate


def test_the_step_of_two_optimizers_is_two_separate_updates(one_step):
    """By hand: a first step of SGD with momentum is lr (g + decay p), a first step of Adam lr' sign(g)."""
    _, *trees = one_step
    before, after, task, rate = jax.device_get(trees)
    compared = 0
    for p, new, g, r in zip(*map(jax.tree.leaves, (before, after, task, rate)), strict=True):
        want = p - 0.1 * (g + 2e-4 * p) - 0.001 * r / (np.abs(r) + 1e-8)
        clear = (np.abs(r) > 1e-5) | (r == 0)  # Adam's first step blows the rounding of vanishing gradients up
        np.testing.assert_allclose(new[clear], want[clear], rtol=1e-3, atol=3e-5)
        compared += int(clear.sum())
    assert compared > 0.8 * sum(p.size for p in jax.tree.leaves(before))


def test_the_rate_teaches_encoder_centres_and_context_but_not_the_classifier(one_step):
    *_, task, rate = one_step
    largest = lambda tree: max(float(jnp.abs(g).max()) for g in jax.tree.leaves(tree))  # noqa: E731
    assert largest(rate["encoder"]["stem"]["kernel"]) > 1e-4
    assert largest(rate["centres"]) > 1e-4 and largest(rate["context"]) > 1e-4
    assert largest(rate["classifier"]) == 0.0
    assert largest(task["encoder"]["stem"]["kernel"]) > 1e-4 and largest(task["centres"]) > 1e-4
    assert largest(task["context"]) == 0.0


def test_tables_of_learned_centres_code_by_their_distribution(rng):
    counts = np.array([[900, 80, 19], [0, 1000, 0]])
    base = count_logits(counts)
    np.testing.assert_allclose(np.exp2(base).sum(axis=1), 1.0, rtol=1e-6)
    tables = tabulate_categorical(base)
    assert tables.minima == (0, 0) and tables.maxima == (2, 2)
    symbols = rng.integers(0, 3, (4, 5, 6, 2)).astype(np.int32)
    np.testing.assert_allclose(tables.bits(symbols), symbol_bits(jnp.asarray(base), symbols), rtol=1e-3, atol=1e-4)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """(config, workdir, evaluation) of four steps with a context model, and three more for it alone, in integers."""
    workdir = tmp_path_factory.mktemp("paper")
    config = tiny_config()
    return config, workdir, train_and_evaluate(config, workdir)


def test_bytes_of_learned_centres_give_the_logits_of_the_graph(trained):
    config, workdir, evaluation = trained
    variables = load_variables(workdir / "best")
    images = open_source("bundled:fashion_mnist", "test[:4]")
    pictures = np.stack([images[i]["image"] for i in range(4)])
    edge, receiver = EdgeEncoder.load(workdir / "artifact"), Receiver.load(workdir / "artifact")
    data = edge.compress(pictures)
    model = build_model(config, 10, 1)
    graph = jax.jit(lambda v, x: model.apply(v, x.astype(jnp.float32) / 255.0).logits)(variables, pictures)
    np.testing.assert_array_equal(receiver.logits(data), graph)
    symbols = np.stack(receiver.symbols(data))
    assert symbols.shape == (4, 7, 7, 3) and set(np.unique(symbols)) <= {0, 1, 2} and len(np.unique(symbols)) > 1
    assert receiver.inspect(data[0])["latent"] == [7, 7, 3]
    assert evaluation["n_images"] == 37 and 0 < evaluation["bpp_estimated"] < evaluation["bpp_file"]


def test_the_artifact_codes_with_the_context_model_and_its_fingerprint_covers_the_centres(trained):
    _, workdir, _ = trained
    artifact, params = Artifact.load(workdir / "artifact"), load_variables(workdir / "best")["params"]
    assert artifact.context == "serial" and set(artifact.parts) == {
        "encoder",
        "centres",
        "classifier",
        "prior",
        "context",
    }
    np.testing.assert_array_equal(artifact.quantizer.values, params["centres"]["values"])
    # Three steps of Adam at 2e-3 away from the model that was trained with the encoder.
    trained_apart = artifact.read_context()["kernel0"] / 64 - params["context"]["kernel0"]
    assert np.abs(trained_apart).max() < 3 * 2e-3 + 1 / 128 + 1e-6
    other = replace(artifact, digests={**artifact.digests, "centres": artifact.digests["encoder"]})
    assert artifact_module.fingerprint_of(artifact) == artifact.fingerprint != artifact_module.fingerprint_of(other)
    assert load_start(str(workdir / "artifact"))["params"].keys() == {"encoder", "centres", "classifier", "prior"}
