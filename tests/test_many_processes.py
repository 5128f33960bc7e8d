"""Several real processes on this machine's loopback: the same parameters, preemption, sudden death, other counts."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from configs import quickstart
from launch.local import free_port
from tests.test_soft_labels import asymmetric
from vae_jcc import cluster, loop
from vae_jcc.checkpoint import load_variables
from vae_jcc.data.sources import open_source
from vae_jcc.parallel import make_devices
from vae_jcc.soft_labels import FILE, soft_labels
from vae_jcc.train import fit

_ROOT = Path(__file__).parents[1]
_TOTAL = 10

# Prints each step's number before it runs; a fourth and fifth argument are a signal that process 1 sends itself, and
# its step.
_SCRIPT = """
import signal
import sys
from pathlib import Path
import jax
from tests.test_many_processes import make_config, sources
from vae_jcc import cluster, interrupt, loop
from vae_jcc.parallel import make_devices
from vae_jcc.train import fit

step = loop.Loop._step
def counted(self):
    print("step", self.done, flush=True)
    if sys.argv[2] == "1" and sys.argv[4:] and self.done == int(sys.argv[5]):
        signal.raise_signal(int(sys.argv[4]))
    step(self)
loop.Loop._step = counted
interrupt.preempted_from_now_on()
cluster.start(sys.argv[1], 2, int(sys.argv[2]), heartbeat_seconds=10)
config, workdir = make_config(), Path(sys.argv[3])
cluster.check_agreement(config, workdir)
try:
    fit(config, workdir, *sources(config), make_devices("jit", jax.devices()))
except interrupt.Preempted:
    sys.exit(interrupt.EXIT_PREEMPTED)
"""


# Process 0 alone saves and restores on its own devices, as it does when it trains a reference for the published table.
_ALONE = """
import sys
from pathlib import Path
import jax.numpy as jnp
import numpy as np
from tests.test_many_processes import make_config
from vae_jcc import checkpoint, cluster
from vae_jcc.parallel import make_devices

cluster.start(sys.argv[1], 2, int(sys.argv[2]), heartbeat_seconds=10)
if cluster.leads():
    config, devices = make_config(), make_devices("jit")
    assert devices.count == 2 and devices.processes == [0] and devices.rank == 0
    state = devices.put_state({"a": jnp.arange(3.0)})
    checkpoints = checkpoint.Checkpoints(Path(sys.argv[3]), 2, devices.processes)
    checkpoints.save(7, state, {"next": 1}, config)
    checkpoints.wait()
    got, iterator = checkpoints.restore(state, config)
    checkpoints.close()
    np.testing.assert_array_equal(got["a"], state["a"])
    assert got["a"].sharding == state["a"].sharding and iterator == {"next": 1}
    checkpoint.save_variables(Path(sys.argv[3]) / "best", {"b": np.ones(2)})
    assert checkpoint.load_variables(Path(sys.argv[3]) / "best")["b"].sum() == 2
"""


# Two processes ask a teacher whose answer depends on the order of columns, each about its share.
_ASK = """
import sys
from pathlib import Path
import jax
import numpy as np
from tests.test_many_processes import make_config, sources
from tests.test_soft_labels import asymmetric
from vae_jcc import cluster
from vae_jcc.parallel import make_devices
from vae_jcc.soft_labels import soft_labels

cluster.start(sys.argv[1], 2, int(sys.argv[2]), heartbeat_seconds=10)
config, workdir = make_config(), Path(sys.argv[3])
config.augment.flip, config.loss.teacher, config.loss.teacher_views = True, sys.argv[4], 2
images = sources(config)[1]
asked = []
def teacher(images):
    asked.append(images.shape[0])
    return asymmetric(images)
labels = soft_labels(config, teacher, images, workdir, make_devices("jit", jax.devices()))
assert asked == [32], asked
np.save(workdir / f"labels_{sys.argv[2]}.npy", labels)
"""


# Process 1 has no data; process 0 is where nothing but its own end would free it.
_ONE_FAILS = """
import sys, threading
from vae_jcc import main, train

def open_here(config, split):
    if number == 1:
        raise ValueError("no such data on this host")
    threading.Event().wait()

address, number, workdir = sys.argv[1], int(sys.argv[2]), sys.argv[3]
sys.argv[1:] = ["--config=configs/quickstart.py", f"--workdir={workdir}"]
sys.argv += [f"--coordinator={address}", "--num_processes=2", f"--process_id={number}"]
train._open = open_here
main.run()
"""


def make_config():
    """A tiny model, ten steps; 72 validation images are no multiple of the batch, so the hosts' shares differ."""
    config = quickstart.get_config()
    config.dataset.train_split, config.dataset.validation_split = "train[:160]", "test[:72]"
    config.model.latent_channels = 3
    config.model.encoder.stem_features, config.model.encoder.stages = 4, ((6, 1, 2),)
    config.model.classifier.stages = ((8, 1, 1),)
    config.entropy.filters, config.augment.crop_padding, config.augment.flip = (3,), 0, False  # sooner compiled
    config.train.batch_size, config.train.epochs = 32, 2.0
    config.eval.batch_size, config.eval.every_epochs = 64, 2.0
    config.checkpoint.every_epochs = 0.4
    return config


def sources(config):
    """Training and validation images."""
    return [open_source(config.dataset.name, s) for s in (config.dataset.train_split, config.dataset.validation_split)]


def start_two(*arguments, script=_SCRIPT):
    """Starts two processes with two devices each."""
    environment = os.environ | {"PYTHONPATH": str(_ROOT), "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "2"}
    address, after = f"localhost:{free_port()}", [str(a) for a in arguments]
    with_pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": environment}
    return [subprocess.Popen([sys.executable, "-c", script, address, str(i), *after], **with_pipes) for i in range(2)]


def run_two(*arguments, script=_SCRIPT):
    """Runs two processes to their ends and returns exit codes, the steps of process 0 and all errors."""
    processes = start_two(*arguments, script=script)
    outs, errs = zip(*(p.communicate(timeout=600) for p in processes), strict=True)
    steps = [int(line.split()[1]) for line in outs[0].splitlines() if line.startswith("step ")]
    return [p.returncode for p in processes], steps, "\n".join(errs)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The variables after an uninterrupted run of one process with four devices, and its validation record."""
    workdir = tmp_path_factory.mktemp("whole")
    config = make_config()
    variables = fit(config, workdir, *sources(config), make_devices("jit", jax.devices()[:4]))
    return variables, (workdir / "metrics.jsonl").read_text().splitlines()[-1]


def assert_close(got, want):
    for (path, a), (_, b) in zip(
        jax.tree_util.tree_leaves_with_path(want), jax.tree_util.tree_leaves_with_path(got), strict=True
    ):
        np.testing.assert_allclose(b, a, rtol=2e-3, atol=2e-5, err_msg=jax.tree_util.keystr(path))


def test_two_processes_preempted_then_killed_end_like_one(whole, tmp_path):
    """SIGTERM to one stops both after one step, with a checkpoint; SIGKILL of one fails the other; then to the end."""
    codes, steps, errors = run_two(tmp_path, int(signal.SIGTERM), 1)
    assert codes == [75, 75], errors
    saved = max(int(path.name) for path in (tmp_path / "checkpoints").iterdir())
    assert saved == steps[-1] + 1 < _TOTAL and "the same command resumes" in errors
    assert not list(tmp_path.glob(".seen_by_all*"))
    codes, _, errors = run_two(tmp_path, int(signal.SIGKILL), saved)
    assert codes[1] == -signal.SIGKILL and codes[0] not in (0, 75), errors
    codes, steps, errors = run_two(tmp_path)
    assert codes == [0, 0], errors
    assert steps[0] >= saved and steps[-1] == _TOTAL - 1
    assert_close(load_variables(tmp_path / "best"), whole[0])
    record = (tmp_path / "metrics.jsonl").read_text().splitlines()[-1]
    got, want = (json.loads(text) for text in (record, whole[1]))
    assert got["n_images"] == want["n_images"] == 72 and got["top1"] == want["top1"]
    assert got["objective"] == pytest.approx(want["objective"], rel=1e-4)


def test_what_process_zero_does_alone_waits_for_nobody(tmp_path):
    codes, _, errors = run_two(tmp_path, script=_ALONE)
    assert codes == [0, 0], errors


def test_a_teacher_is_asked_by_each_about_its_share(tiny_folder, tmp_path):
    """72 images in batches of 64: all of process 1's share of the last batch is padding."""
    codes, _, errors = run_two(tmp_path, tiny_folder, script=_ASK)
    assert codes == [0, 0], errors
    config = make_config()
    config.augment.flip, config.loss.teacher, config.loss.teacher_views = True, str(tiny_folder), 2
    images = sources(config)[1]
    alone = soft_labels(config, asymmetric, images, tmp_path / "alone", make_devices("jit", jax.devices()[:2]))
    for process in range(2):
        np.testing.assert_allclose(np.load(tmp_path / f"labels_{process}.npy"), alone, rtol=1e-5, atol=1e-5)
    said = "of its labels are right"
    assert errors.count(said) == 1
    with np.load(tmp_path / FILE) as file:
        np.testing.assert_array_equal(file["logits"], np.load(tmp_path / "labels_0.npy"))


def test_one_that_fails_alone_ends_and_does_not_wait_for_the_others(tmp_path):
    waiting, failing = start_two(tmp_path, script=_ONE_FAILS)
    try:
        _, error = failing.communicate(timeout=300)
        assert failing.returncode == 1 and "ValueError: no such data on this host" in error
    finally:
        waiting.kill()
        waiting.communicate()


@pytest.mark.parametrize("count", [1, 2])
def test_a_checkpoint_of_four_devices_resumes_on_fewer(count, whole, tmp_path, monkeypatch):
    config = make_config()
    with monkeypatch.context() as patch:
        patch.setattr(loop.StopSignals, "stop_after", lambda _, step: KeyboardInterrupt() if step == 5 else None)
        with pytest.raises(KeyboardInterrupt):
            fit(config, tmp_path, *sources(config), make_devices("jit", jax.devices()[:4]))
    variables = fit(config, tmp_path, *sources(config), make_devices("jit", jax.devices()[:count]))
    assert_close(variables, whole[0])


def test_a_process_that_stops_at_an_evaluation_resumes_to_the_same_best(whole, tmp_path, monkeypatch):
    """Stopped after the last step, the evaluation that was due has been made."""
    config = make_config()
    with monkeypatch.context() as patch:
        patch.setattr(loop.StopSignals, "stop_after", lambda _, step: KeyboardInterrupt() if step == _TOTAL else None)
        with pytest.raises(KeyboardInterrupt):
            fit(config, tmp_path, *sources(config), make_devices("jit", jax.devices()[:4]))
    assert_close(load_variables(tmp_path / "best"), whole[0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("host:1", None, 0), "all of --coordinator"),
        (("host:1", 2, 2), "not among 0..1"),
        (("host", 2, 0), "not HOST:PORT"),
        ((None, 4, None), "all of --coordinator"),
    ],
)
def test_flags_that_contradict_each_other_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        cluster.start(*arguments)


def test_alone_nothing_is_joined(monkeypatch, tmp_path):
    """Neither without any sign of others, nor where the flag says one."""
    monkeypatch.setattr(jax.distributed, "initialize", lambda *_, **__: pytest.fail("joined"))
    monkeypatch.setattr(cluster, "_has_tpu", lambda: False)
    for name in ("SLURM_STEP_NODELIST", "JOB_COMPLETION_INDEX"):
        monkeypatch.delenv(name, raising=False)
    cluster.start()
    monkeypatch.setenv("SLURM_STEP_NODELIST", "n[1-2]")
    monkeypatch.setenv("SLURM_NTASKS", "2")
    cluster.start(num_processes=1)
    cluster.check_agreement(make_config(), tmp_path / "untouched")
    assert not (tmp_path / "untouched").exists()


def test_the_environment_tells_the_kind_of_job(monkeypatch):
    monkeypatch.setattr(cluster, "_has_tpu", lambda: False)
    slurm = {"SLURM_STEP_NODELIST": "n[1-2]", "SLURM_NTASKS": "2"}
    assert cluster.detect_place(slurm) == "Slurm"
    assert cluster.detect_place(slurm | {"SLURM_NTASKS": "1"}) == ""
    assert cluster.detect_place({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}) == ""
    assert cluster.detect_place({"KUBERNETES_SERVICE_HOST": "10.0.0.1", "JOB_COMPLETION_INDEX": "0"}) == "Kubernetes"
    monkeypatch.setattr(cluster, "_has_tpu", lambda: True)
    assert cluster.detect_place({}) == "TPU"


def test_a_job_that_cannot_form_says_so(monkeypatch):
    def fail(*_, **__):
        raise ValueError("coordinator_address should be defined.")

    monkeypatch.setattr(jax.distributed, "initialize", fail)
    monkeypatch.setattr(cluster, "detect_place", lambda _: "Kubernetes")
    with pytest.raises(cluster.ClusterError, match=r"Kubernetes job: coordinator_address.*--num_processes=1"):
        cluster.start()
