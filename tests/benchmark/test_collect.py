import json
import sys

import pytest

from vae_jcc.benchmark import collect


def run(system="vae_jcc/a", lam=0.5, seed=0, top1=0.9, bpp=0.2, **other):
    rates = {"bpp_estimated": [bpp], "bpp_payload": [bpp], "bpp_file": [bpp]}
    point = {"label": f"lam={lam}", "seeds": [seed], "top1": [top1], "top5": [0.99]} | rates
    result = {"system": system, "dataset": "cifar10", "data_note": "", "split": "test", "n_images": 100}
    result |= {"encoder": {"params": 5}, "receiver": {"params": 7}, "points": [point]}
    result |= {"device": "cpu", "versions": {}, "command": f"seed {seed}", "commit": "c", "date": "2026-01-01"}
    return result | other


def test_seeds_of_a_label_become_one_point_and_labels_one_curve():
    systems = collect.merge([run(lam=1.0, bpp=0.1), run(seed=1, top1=0.8), run(seed=2), run("vae_jcc/b")])
    assert [s["system"] for s in systems] == ["vae_jcc/a", "vae_jcc/b"]
    high, low = systems[0]["points"]
    assert (high["label"], high["seeds"], high["top1"]) == ("lam=0.5", [1, 2], [0.8, 0.9])
    assert (low["label"], low["seeds"]) == ("lam=1.0", [0])
    assert [r["command"] for r in high["runs"]] == ["seed 1", "seed 2"]


def test_what_was_gathered_before_can_grow():
    together = collect.merge([run(), run(seed=1), run(lam=1.0, bpp=0.1)])
    step_by_step = collect.merge([*collect.merge([run(), run(lam=1.0, bpp=0.1)]), run(seed=1)])
    assert step_by_step == together


def test_figures_that_not_every_seed_has_are_left_out():
    newer = run(seed=1)
    newer["points"][0]["bpp_joined"] = [0.19]
    for runs in ([run(), newer], [newer, run()]):
        (point,) = collect.merge(runs)[0]["points"]
        assert len(point["bpp_file"]) == 2 and "bpp_joined" not in point
    assert collect.merge([newer])[0]["points"][0]["bpp_joined"] == [0.19]


def test_a_seed_counted_twice_is_refused():
    with pytest.raises(ValueError, match="twice"):
        collect.merge([run(), run()])


def test_other_data_or_another_network_under_the_same_name_is_refused():
    with pytest.raises(ValueError, match="split"):
        collect.merge([run(), run(seed=1, split="train")])
    with pytest.raises(ValueError, match="encoder"):
        collect.merge([run(), run(seed=1, encoder={"params": 6})])


def test_command_line_writes_curve_and_plot(tmp_path, monkeypatch):
    jpeg = {
        "system": "JPEG",
        "encoder": None,
        "points": [{"label": "q", "seeds": [0], "top1": [0.5], "bpp_file": [1.0]}],
    }
    theirs = {"system": "theirs", "rate": "bpp_published", "points": [{"top1": [0.6], "bpp_published": [0.3]}]}
    again = jpeg | {"points": [jpeg["points"][0] | {"seeds": [1], "top1": [0.6]}]}
    for i, content in enumerate([[run(), jpeg], [run(seed=1), again], [theirs]]):
        (tmp_path / f"{i}.json").write_text(json.dumps(content))
    files = [str(tmp_path / f"{i}.json") for i in range(3)]
    out = tmp_path / "out"
    monkeypatch.setattr(sys, "argv", ["collect", *files[:2], "--published", files[2], "--out", str(out)])
    collect.main()
    written = json.loads((out / "result.json").read_text())
    assert [s["system"] for s in written] == ["vae_jcc/a", "JPEG"]
    assert written[0]["points"][0]["seeds"] == [0, 1]
    assert written[1]["points"][0]["top1"] == [0.5, 0.6]
    assert (out / "rate_accuracy.png").read_bytes()[:4] == b"\x89PNG"
