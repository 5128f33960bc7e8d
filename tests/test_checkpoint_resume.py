"""Killed and resumed equals uninterrupted, bit for bit; interruption and divergence leave what was promised."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from configs import quickstart
from vae_jcc import train
from vae_jcc.checkpoint import _identity, load_variables
from vae_jcc.data.sources import open_source
from vae_jcc.finite import NonFiniteError

_ROOT = Path(__file__).parents[1]

# Prints each step's number before it runs; "--signal=NUMBER@STEP" sends itself a signal there.
_SCRIPT = """
import signal
import sys
from pathlib import Path
import numpy as np
from configs import quickstart
from vae_jcc import train
from vae_jcc.data.sources import open_source

config = quickstart.get_config()
config.dataset.train_split, config.dataset.validation_split = "train[:256]", "test[:64]"
config.model.encoder.stem_features, config.model.encoder.stages = 4, ((6, 1, 2),)
config.model.classifier.stages = ((8, 1, 1),)
config.train.batch_size, config.eval.batch_size = 32, 64
config.train.epochs, config.checkpoint.every_epochs, config.eval.every_epochs = 2.0, 0.375, 2.0
sent, at = 0, -1
for override in sys.argv[2:]:
    key, value = override.split("=")
    if key == "--signal":
        sent, at = (int(part) for part in value.split("@"))
        continue
    config.update_from_flattened_dict({key: value if key.endswith("mode") else float(value)})

steps_of = train._train_steps
def counted(*arguments):
    step_at = steps_of(*arguments)
    def step(number):
        print(number, flush=True)
        if number == at:
            signal.raise_signal(sent)
        return step_at(number)
    return step
train._train_steps = counted
source = [open_source(config.dataset.name, s) for s in (config.dataset.train_split, config.dataset.validation_split)]
train.fit(config, Path(sys.argv[1]), *source)
"""


def run(workdir: Path, *arguments: str) -> tuple[int, list[str], str]:
    """Trains a small model and returns the exit code, the numbers of the steps that it began, and standard error."""
    environment = os.environ | {"PYTHONPATH": str(_ROOT), "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", _SCRIPT, str(workdir), *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)
    return done.returncode, done.stdout.split(), done.stderr


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """The averaged variables after 16 steps in one go."""
    workdir = tmp_path_factory.mktemp("whole")
    code, out, err = run(workdir)
    assert code == 0, err
    assert out == [str(i) for i in range(16)]
    return load_variables(workdir / "best")


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGINT])
def test_killed_at_a_random_step_and_resumed_is_bit_identical(sent, uninterrupted, tmp_path, rng):
    """SIGKILL loses the steps since the last checkpoint, Ctrl-C none; neither changes a bit of the result."""
    victim = int(rng.integers(7, 15))  # the checkpoint of step 3 is complete once that of step 6 is begun
    code, out, err = run(tmp_path, f"--signal={int(sent)}@{victim}")
    assert code != 0 and out[-1] == str(victim)
    if sent == signal.SIGINT:
        assert f"step {victim + 1} is saved" in err and "the same command resumes" in err
    code, out, err = run(tmp_path)
    assert code == 0, err
    resumed = int(out[0])
    assert resumed == victim + 1 if sent == signal.SIGINT else 0 < resumed <= victim
    assert out[-1] == "15"
    got = load_variables(tmp_path / "best")
    for (path, a), (_, b) in zip(
        jax.tree_util.tree_leaves_with_path(uninterrupted), jax.tree_util.tree_leaves_with_path(got), strict=True
    ):
        np.testing.assert_array_equal(a, b, err_msg=jax.tree_util.keystr(path))


def test_non_finite_loss_stops_with_step_and_batch(tmp_path):
    """The message names where, and what to change; metrics before it stay on disk."""
    code, _, err = run(tmp_path, "optim.learning_rate=1e30", "optim.clip_norm=0")
    assert code != 0
    assert "not finite at step" in err and "batch" in err and "optim.learning_rate" in err


def test_a_training_without_a_finite_validation_says_so(tmp_path, monkeypatch):
    config = quickstart.get_config()
    config.model.encoder.stem_features, config.model.encoder.stages = 4, ((6, 1, 2),)
    config.model.classifier.stages = ((8, 1, 1),)
    config.train.batch_size, config.eval.batch_size, config.train.max_steps = 8, 8, 1
    source = open_source(config.dataset.name, "test[:8]")
    result = {"n_images": 8.0, "top1": 0.1, "top5": 0.5, "cross_entropy": np.nan, "bpp": 1.0, "objective": np.nan}
    monkeypatch.setattr(train, "_validate", lambda *_: result)
    with pytest.raises(NonFiniteError, match="No validation .* finite objective"):
        train.fit(config, tmp_path, source, source)


def test_no_checkpoint_holds_what_is_not_finite(tmp_path):
    """Saved after every step, the last checkpoint is the one that the failing step started from."""
    _, _, err = run(tmp_path, "optim.learning_rate=1e30", "optim.clip_norm=0", "checkpoint.every_epochs=0.125")
    failed = re.search(r"not finite at step (\d+) .*the last good checkpoint is \S+/(\d+)[.;]", err, re.DOTALL)
    assert failed, err
    assert int(failed[1]) == int(failed[2]) > 0


def test_another_config_is_refused(tmp_path):
    """A checkpoint is only continued by the run that made it."""
    assert run(tmp_path)[0] == 0
    code, _, err = run(tmp_path, "loss.lam=9.0")
    assert code != 0 and "was made with another config (loss.lam differ)" in err
    # A decoder that is trained afterwards leaves the state alone; one that is trained along does not.
    code, out, err = run(tmp_path, "model.decoder.mode=off")
    assert code == 0 and not out and "Resumed from step 16" in err
    code, _, err = run(tmp_path, "model.decoder.mode=joint")
    assert code != 0 and "was made with another config (model.decoder" in err
    records = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert {r["split"] for r in records} == {"train", "validation"}


def test_what_is_trained_afterwards_may_be_added_to_a_finished_run():
    """A frozen decoder and a context model leave the state alone, so they are no other configuration."""
    config = quickstart.get_config()
    config.model.decoder.mode = "off"
    before = _identity(json.loads(config.to_json()))
    config.model.decoder.mode, config.entropy.context.kind = "frozen", "parallel"
    assert _identity(json.loads(config.to_json())) == before
    config.entropy.init_scale = 9.0
    assert _identity(json.loads(config.to_json())) != before


@pytest.mark.parametrize(
    ("settings", "same"),
    [
        ({"dataset.workers": 2, "dataset.memory_limit": 1, "dataset.data_dir": "elsewhere"}, True),
        ({"dataset.note": "a copy", "dataset.test_split": "test[:5]"}, True),
        ({"dataset.train_split": "train[:9]"}, False),
        ({"compute_dtype": "bfloat16"}, False),
    ],
)
def test_what_decides_the_state_must_be_the_same(settings, same):
    config = quickstart.get_config()
    before = _identity(json.loads(config.to_json()))
    config.update_from_flattened_dict(settings)
    assert (_identity(json.loads(config.to_json())) == before) is same
