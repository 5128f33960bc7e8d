"""The training command line: what it refuses before it starts."""

import subprocess
import sys


def test_a_workdir_that_is_an_address_is_refused_before_anything_is_made():
    command = [sys.executable, "-m", "vae_jcc.main", "--config=configs/quickstart.py", "--workdir=gs://bucket/run"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert result.stderr.strip().splitlines()[-1].startswith("ValueError: --workdir=gs://bucket/run is an address")
