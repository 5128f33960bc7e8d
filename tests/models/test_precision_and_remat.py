"""What bfloat16 may not touch, and rematerialization, which may change memory alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import cifar10, imagenette, quickstart
from configs.paper import ae_v2
from vae_jcc import optim
from vae_jcc.models.joint import build_classifier, build_encoder, build_model
from vae_jcc.state import create_state
from vae_jcc.steps import make_train_step

# Primitives of entropy models, losses, statistics and rounding.
DELICATE = {"round", "exp", "exp2", "log", "log1p", "expm1", "tanh", "logistic", "rsqrt", "sqrt", "argmax"}


def tiny_config():
    config = quickstart.get_config()
    config.model.latent_channels = 3
    config.model.encoder.stem_features = 4
    config.model.encoder.stages = ((6, 1, 2),)
    config.model.classifier.stages = ((8, 1, 1),)
    config.model.decoder.mode = "joint"
    return config


def equations(jaxpr):
    """All equations of a traced program, those inside others too."""
    for equation in jaxpr.eqns:
        yield equation
        for value in equation.params.values():
            for inner in value if isinstance(value, tuple) else (value,):
                inner = getattr(inner, "jaxpr", inner)
                if hasattr(inner, "eqns"):
                    yield from equations(inner)


def test_bfloat16_is_for_activations_alone():
    """Traced, not run: state and metrics are float32, as is all delicate arithmetic of the whole step."""
    config = tiny_config()
    config.compute_dtype = "bfloat16"
    model, optimizer = build_model(config, 10, 1), optim.make_optimizer(config, 10, 100)
    state = jax.eval_shape(lambda: create_state(model, optimizer, 0, (16, 16, 1)))
    step = make_train_step(config, model, optimizer, optim.lam_schedule(config, 10), quantizer="mixed")
    batch = {
        "image": jax.ShapeDtypeStruct((8, 16, 16, 1), np.uint8),
        "label": jax.ShapeDtypeStruct((8,), np.int32),
        "position": jax.ShapeDtypeStruct((8,), np.int32),
        "seed": jax.ShapeDtypeStruct((8,), np.int32),
    }
    jaxpr, (new_state, metrics) = jax.make_jaxpr(step, return_shape=True)(state, batch)
    dtypes = {leaf.dtype for leaf in jax.tree.leaves((new_state, metrics))}
    assert dtypes <= {np.dtype("float32"), np.dtype("int32")}
    seen = set()
    for equation in equations(jaxpr.jaxpr):
        if equation.primitive.name in DELICATE:
            seen.add(equation.primitive.name)
            assert equation.invars[0].aval.dtype != jnp.bfloat16, equation

    def forward(variables, images, keys):
        return model.apply(variables, images, keys, train=True, mutable=["batch_stats"])

    variables = {"params": state.params, "batch_stats": state.batch_stats}
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), 8))
    traced = jax.make_jaxpr(forward)(variables, jax.ShapeDtypeStruct((8, 16, 16, 1), np.float32), keys)
    kinds = [e.outvars[0].aval.dtype for e in equations(traced.jaxpr) if e.primitive.name == "conv_general_dilated"]
    assert kinds.count(jnp.float32) == 2  # the latent's and the pixels'
    assert kinds.count(jnp.bfloat16) == len(kinds) - 2 > 5
    assert {"round", "tanh", "log"} <= seen


@pytest.mark.parametrize("make", [quickstart, imagenette, ae_v2])
def test_latents_are_finer_than_bfloat16(make, rng):
    """With a last convolution, without one, and with the published norm behind it."""
    config = make.get_config()
    config.compute_dtype = "bfloat16"
    config.model.latent_channels = 4
    config.model.encoder.stem_features = 4
    config.model.encoder.stages = ((4, 1, 2),)
    encoder = build_encoder(config)
    images = jnp.asarray(rng.random((2, 16, 16, 3)), jnp.float32)
    y = jax.jit(lambda x: encoder.init_with_output(jax.random.key(0), x)[0])(images)
    assert y.dtype == jnp.float32
    assert np.mean(np.asarray(y) != np.asarray(y.astype(jnp.bfloat16).astype(jnp.float32))) > 0.9


def test_a_bfloat16_classifier_is_compiled_to_what_it_is(rng):
    """The compiled network against the same one operation by operation, and both against float32."""
    config = cifar10.get_config()
    y_hat = jnp.asarray(rng.normal(size=(8, 8, 8, config.model.latent_channels)), jnp.float32)
    variables = build_classifier(config, 10).init(jax.random.key(0), y_hat)
    exact = build_classifier(config, 10).apply(variables, y_hat)
    config.compute_dtype = "bfloat16"
    apply = build_classifier(config, 10).apply
    step_by_step, compiled = apply(variables, y_hat), jax.jit(apply)(variables, y_hat)
    scale = float(jnp.abs(exact).max())
    np.testing.assert_allclose(compiled, step_by_step, atol=0.03 * scale)
    np.testing.assert_allclose(compiled, exact, atol=0.05 * scale)


def test_rematerialization_changes_memory_alone(rng):
    """The same variables and gradients; fewer bytes wait for the backward pass.

    Counted as traced: XLA's CPU compiler merges the second run of a block with the first, so there nothing is saved.
    """
    images = jnp.asarray(rng.random((16, 32, 32, 1)), jnp.float32)
    results = {}
    for remat in ("", "blocks"):
        config = tiny_config()
        config.model.encoder.stages = ((8, 3, 1),)
        config.model.remat = remat
        encoder = build_encoder(config)
        variables = encoder.init(jax.random.key(0), images[:1])

        def loss(params, stats=variables["batch_stats"], encoder=encoder):
            variables = {"params": params, "batch_stats": stats}
            y, updates = encoder.apply(variables, images, train=True, mutable=["batch_stats"])
            return jnp.sum(y**2), updates

        backward = jax.eval_shape(lambda p, loss=loss: jax.vjp(loss, p, has_aux=True)[1], variables["params"])
        waiting = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(backward))
        results[remat] = jax.jit(jax.grad(loss, has_aux=True))(variables["params"]), waiting
    (kept, kept_bytes), (again, again_bytes) = results[""], results["blocks"]
    assert jax.tree.structure(kept) == jax.tree.structure(again)
    for a, b in zip(jax.tree.leaves(kept), jax.tree.leaves(again), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4 * np.abs(a).max())
    assert again_bytes < 0.4 * kept_bytes


def test_unknown_rematerialization_is_refused():
    config = tiny_config()
    config.model.remat = "layers"
    with pytest.raises(ValueError, match="'blocks', or '' for none"):
        build_encoder(config)
