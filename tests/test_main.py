"""The training command line: what it refuses before it starts."""

import subprocess
import sys

import pytest


def test_a_workdir_that_is_an_address_is_refused_before_anything_is_made():
    command = [sys.executable, "-m", "vae_jcc.main", "--config=configs/quickstart.py", "--workdir=gs://bucket/run"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert result.stderr.strip().splitlines()[-1].startswith("ValueError: --workdir=gs://bucket/run is an address")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--config=configs/quickstart.py", "--config.loss.lamm=1"], 'Did you mean "lam" instead of "lamm"?'),
        (["--config=configs/nope.py"], "No such file or directory: 'configs/nope.py'"),
        (["--config=configs/quickstart.py", "--config.loss.lam=much"], "could not convert string to float: 'much'"),
    ],
)
def test_what_cannot_be_set_is_told_in_a_line(flags, message):
    command = [sys.executable, "-m", "vae_jcc.main", *flags]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode != 0 and message in result.stderr and "Traceback" not in result.stderr
    assert len(result.stderr.strip().splitlines()) <= 2
