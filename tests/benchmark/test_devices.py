"""benchmarks/devices.py: bytes made in batches of one size, checked in batches of another."""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

_SPEC = importlib.util.spec_from_file_location("devices", Path(__file__).parents[2] / "benchmarks" / "devices.py")
devices = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(devices)


def test_a_symbol_that_differs_is_found(tiny_folder, pictures, tmp_path, monkeypatch):
    for i, picture in enumerate(pictures):
        place = tmp_path / "data" / "test" / ("ant", "bee", "cat")[i % 3]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(place / f"{i}.png")

    def run(task, batch_size, *more):
        command = [task, "--model", str(tiny_folder), "--data", f"folder:{tmp_path / 'data'}"]
        monkeypatch.setattr(sys, "argv", ["devices.py", *command, "--batch-size", str(batch_size), *more])
        devices.main()

    made, output = tmp_path / "made", tmp_path / "result.json"
    run("encode", 4, "-o", str(made))
    assert sorted(path.suffix for path in made.iterdir()) == [".json", ".npz", ".vjc"]
    check = (3, "--made", str(made), "-o", str(output))
    run("check", *check)
    row = json.loads(output.read_text())["models"][0]
    assert row["n_images"] == 5 and row["same_symbols"] and row["same_pixels"]
    assert row["mismatched_images"] == row["mismatched_predictions"] == 0

    path = next(made.glob("*.npz"))
    arrays = dict(np.load(path))
    arrays["digests"][1, 0] ^= 1
    np.savez(path, **arrays)
    with pytest.raises(SystemExit) as stop:
        run("check", *check)
    assert stop.value.code == 1
    assert json.loads(output.read_text())["models"][0]["mismatched_images"] == 1
