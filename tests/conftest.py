"""Settings of the whole test run, and the seeds that tests share."""

import os

# Before JAX starts: the tests mean the CPU wherever they run, in subprocesses too.
os.environ["JAX_PLATFORMS"] = "cpu"

import jax
import numpy as np
import pytest

# Four devices made of one CPU, so that 1, 2 and 4 devices are compared in one process.
jax.config.update("jax_num_cpu_devices", 4)


@pytest.fixture
def rng() -> np.random.Generator:
    """NumPy randomness with a fixed seed, new for each test."""
    return np.random.default_rng(20220607)


@pytest.fixture
def key() -> jax.Array:
    """A JAX key with a fixed seed."""
    return jax.random.key(20220607)
