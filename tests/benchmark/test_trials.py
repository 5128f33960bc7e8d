"""Short trainings that are kept and read back: never under another configuration than they were run with."""

import importlib.util
import json
from pathlib import Path

import pytest

from configs import quickstart

_SPEC = importlib.util.spec_from_file_location("trials", Path(__file__).parents[2] / "benchmarks" / "trials.py")
trials = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(trials)


def test_a_finished_run_is_read_back_with_its_own_configuration_alone(tmp_path):
    config, result = quickstart.get_config(), {"top1": 0.5}
    saved = {"config": json.loads(config.to_json()), "result": result}
    (tmp_path / "validation.json").write_text(json.dumps(saved))
    assert trials.run(config, tmp_path) == result
    config.dataset.train_split = "train[:9]"
    with pytest.raises(ValueError, match="another configuration than this run's"):
        trials.run(config, tmp_path)
