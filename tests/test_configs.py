"""Every configuration is whole and builds; older ones are completed with what they meant."""

import functools
import importlib
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

import configs
from configs import default
from vae_jcc import optim
from vae_jcc.added_keys import ADDED_KEYS, complete
from vae_jcc.model_folder import ZOO
from vae_jcc.models.joint import build_model

FOLDER = Path(configs.__file__).parent
NAMES = [
    ".".join(("configs", *path.relative_to(FOLDER).with_suffix("").parts))
    for path in sorted(FOLDER.rglob("*.py"))
    if path.stem != "__init__"
]


def keys(config):
    """Dotted names of all keys."""
    nested = lambda value: keys(value) if hasattr(value, "items") else {""}  # noqa: E731
    return {f"{name}.{inner}".rstrip(".") for name, value in config.items() for inner in nested(value)}


@pytest.mark.parametrize("name", NAMES)
def test_a_config_is_complete_and_builds(name):
    """It has default.py's keys and no others, a model, an optimizer and a header that says how to run it."""
    module = importlib.import_module(name)
    config = module.get_config()
    assert keys(config) == keys(default.get_config())
    config.lock()
    model = build_model(config, 10, 3)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 64, 64, 3)))
    optimizer = optim.make_optimizer(config, 10, 100)
    jax.eval_shape(optimizer.init, shapes["params"])
    path = "/".join(name.split("."))
    assert name == "configs.default" or f"--config={path}.py" in module.__doc__


def test_added_keys_mean_what_default_says():
    """A completed old configuration has every key of today's, with today's default in the added ones."""
    today = default.get_config()
    saved = json.loads(today.to_json())
    for name, value in ADDED_KEYS.items():
        assert functools.reduce(dict.__getitem__, name.split("."), saved) == value
    old = json.loads((ZOO / "cifar10" / "config.json").read_text())
    before = json.dumps(old)
    assert keys(complete(old)) == keys(today)
    assert json.dumps(old) == before
    with pytest.raises(KeyError):
        complete({k: v for k, v in old.items() if k != "model"})


def test_contradictions_are_named():
    """The entropy model has to fit the quantizer."""
    config = default.get_config()
    config.entropy.kind = "context"
    with pytest.raises(ValueError, match="'categorical' and 'context' those of 'soft_to_hard'"):
        build_model(config, 10, 3)
    config.quantizer.kind = "soft_to_hard"
    with pytest.raises(ValueError, match="centres is 0: soft_to_hard needs at least 2"):
        build_model(config, 10, 3)
    config.optim.rate_optimizer = "sgd"
    with pytest.raises(ValueError, match="rate_optimizer is 'sgd'"):
        optim.make_optimizer(config, 10, 100)
    config.optim.schedule = "linear"
    with pytest.raises(ValueError, match="'cosine' or 'steps'"):
        optim.make_optimizer(config, 10, 100)
