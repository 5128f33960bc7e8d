import json
import multiprocessing
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vae_jcc import EdgeEncoder, Receiver
from vae_jcc.benchmark import efficiency
from vae_jcc.benchmark.energy import Estimate
from vae_jcc.benchmark.systems import Spec
from vae_jcc.benchmark.worker import Worker, WorkerError
from vae_jcc.cli import main

NAMES = ("ant", "bee", "cat")


@pytest.fixture
def folder(tmp_path, pictures, monkeypatch):
    """A data set of the tiny model's classes: five pictures in data/test/CLASS."""
    monkeypatch.chdir(tmp_path)
    for i, picture in enumerate(pictures):
        place = Path("data") / "test" / NAMES[i % 3]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(place / f"{i}.png")
    return tmp_path


def test_efficiency_writes_table_and_json(folder, tiny_folder, capfd):
    command = ["bench", "efficiency", "--model", str(tiny_folder), "--baselines", "jpeg", "--rounds", "2"]
    assert main([*command, "--batch", "4", "--watts", "2", "-o", "out"]) == 0
    result = json.loads(Path("out/efficiency.json").read_text())
    ours, jpeg = result["systems"]
    assert (ours["ours"], jpeg["ours"]) == (True, False)
    assert ours["size"] == jpeg["size"] == [16, 16]
    assert ours["parameters"] > 0 and ours["weight_bytes"] >= 4 * ours["parameters"] and jpeg["parameters"] == 0
    assert jpeg["macs_per_pixel"] is None and jpeg["bytes_per_image"] > ours["bytes_per_image"] > 0
    for row in (ours, jpeg):
        assert row["batch"] == 4 and row["energy"] in ("estimated", "RAPL")
        assert all(len(row[key]["rounds"]) == 2 for key in ("latency_ms", "images_per_s", "joules_per_image"))
        assert min(row["latency_ms"]["rounds"]) > 0 and row["peak_mib"]["batch_n"] >= row["peak_mib"]["batch_1"] > 0
    # JPEG's process has no JAX in it.
    assert jpeg["peak_mib"]["batch_n"] < ours["peak_mib"]["batch_1"]
    assert [line["claim"] for line in result["claims"]] == ["size", "latency", "throughput", "energy"]
    assert result["claims"][0]["against"] == []
    assert {"commit", "versions", "device", "command", "date", "threads"} <= set(result)
    text = Path("out/efficiency.md").read_text()
    assert "| JPEG quality 10 (Pillow) |" in text and "The paper's claims" in text
    assert "JPEG quality 10 (Pillow)" in capfd.readouterr().out


def test_efficiency_says_what_it_cannot_do(folder, tiny_folder, capsys):
    assert main(["bench", "efficiency", "-o", "out"]) == 1
    assert "--model or --config" in capsys.readouterr().err
    config = Path(__file__).parents[2] / "configs" / "cifar10.py"
    assert main(["bench", "efficiency", "--config", str(config), "-o", "out"]) == 1
    assert "@32x32" in capsys.readouterr().err
    assert main(["bench", "efficiency", "--config", f"{config}@huge", "-o", "out"]) == 1
    assert "height x width" in capsys.readouterr().err
    many = str(len(os.sched_getaffinity(0)) + 1) if hasattr(os, "sched_getaffinity") else "1"
    if many != "1":
        assert main(["bench", "efficiency", "--model", str(tiny_folder), "--threads", many, "-o", "out"]) == 1
        assert "cores" in capsys.readouterr().err
    assert not Path("out").exists()


def test_a_worker_that_cannot_open_its_system_says_why_and_ends(tmp_path):
    np.save(tmp_path / "images.npy", np.zeros((1, 8, 8, 3), np.uint8))
    with pytest.raises(WorkerError, match=r"nowhere"):
        Worker(Spec("model", "nowhere", (8, 8), 3), str(tmp_path / "images.npy"), 1)
    assert not multiprocessing.active_children()


def test_a_system_that_fails_on_the_way_costs_the_others_nothing(monkeypatch):
    """Killed for memory in its second round, say."""

    class Fake:
        def __init__(self, spec, images, threads):
            self.spec, self.calls = spec, 0
            self.facts = dict.fromkeys(("output", "weights", "parameters", "weight_bytes"), 0)
            self.facts |= {"name": spec.target, "macs": None, "libraries": ()}

        def run(self, batch, calls):
            self.calls += 1
            if self.spec.target == "weak" and self.calls == 2:
                raise WorkerError("its process ended (exit code -9)")
            return 0.01, 0.01

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        warm_up = bytes_per_image = lambda self, _: 0.01

        def peak_mib(self):
            return 1.0

    monkeypatch.setattr(efficiency, "Worker", Fake)
    specs = [Spec("classical", name, (8, 8), 3) for name in ("weak", "strong")]
    pictures = {(8, 8, 3): np.zeros((4, 8, 8, 3), np.uint8)}
    rows, left_out = efficiency.measure(specs, pictures, Estimate(2.0), efficiency.Protocol(rounds=3, batch=4))
    assert [row["system"] for row in rows] == ["strong"] and len(rows[0]["latency_ms"]["rounds"]) == 3
    assert left_out == {"weak at 8x8": "its process ended (exit code -9)"}


def test_reconstruct_writes_figures_and_pictures(folder, tiny_folder, pictures, capsys):
    pytest.importorskip("skimage")
    command = ["bench", "reconstruct", "--model", str(tiny_folder), "--data", "folder:data", "--pictures", "3"]
    assert main([*command, "-o", "out"]) == 0
    result = json.loads(Path("out/reconstruct.json").read_text())
    stream = EdgeEncoder.load(tiny_folder).compress_stream(pictures)
    assert result["n_images"] == 5 and result["size"] == [16, 16]
    assert result["ours"]["bpp_file"] == pytest.approx(8 * len(stream) / pictures[..., 0].size, rel=0.02)
    assert result["ours"]["payload_bytes"] < result["ours"]["file_bytes"]
    assert result["classification"]["identical_logits"] is True
    labels = np.array([i % 3 for i in range(5)])
    right = np.argmax(Receiver.load(tiny_folder).logits(stream), axis=1) == labels
    assert result["classification"]["top1"] == pytest.approx(np.mean(right))
    # At 16x16 a JPEG's headers alone are more than our whole message.
    assert result["jpeg"]["file"]["reached"] is False and result["jpeg"]["payload"]["reached"] is True
    assert result["jpeg"]["file"]["file_bytes"] > result["ours"]["file_bytes"]
    assert result["ours"]["ms_ssim"] is None and "176" in result["why_no_ms_ssim"]
    assert 0 < result["ours"]["psnr_db"] < result["jpeg"]["payload"]["psnr_db"]
    text = Path("out/reconstruct.md").read_text()
    assert "equal to the bit" in text and "JPEG has no quality with so few file bytes" in text
    with Image.open("out/reconstruct.png") as picture:
        assert min(picture.size) > 300
    assert "PSNR" in capsys.readouterr().out


def test_reconstruct_needs_a_decoder(folder, tiny_copy, capsys):
    pytest.importorskip("skimage")
    model = json.loads((tiny_copy / "model.json").read_text())
    del model["weights"]["decoder"]
    (tiny_copy / "model.json").write_text(json.dumps(model))
    assert main(["bench", "reconstruct", "--model", str(tiny_copy), "--data", "folder:data", "-o", "out"]) == 1
    assert "no decoder" in capsys.readouterr().err
