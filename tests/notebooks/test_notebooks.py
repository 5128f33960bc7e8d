"""The notebooks: files without outputs, of one form and one address, that run from top to bottom on the CPU."""

import json
import os
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[2]
PATHS = sorted((ROOT / "notebooks").glob("*.ipynb"))
REPOSITORY = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]["Repository"]
TFDS_DIR = Path(os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")).expanduser()

Run = Callable[..., dict[str, Any]]


def faults(text: str) -> list[str]:
    """What keeps a notebook's file from being clean; empty where nothing does."""
    notebook = json.loads(text)
    found = [] if (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5) else ["not format 4.5"]
    if notebook["metadata"].get("kernelspec", {}).get("name") != "python3":
        found.append("kernel is not python3")
    if set(notebook["metadata"]) != {"kernelspec", "language_info"}:
        found.append("metadata of an editor")
    cells = notebook["cells"]
    if len({cell.get("id") for cell in cells}) < len(cells) or not all(cell.get("id") for cell in cells):
        found.append("a cell without an id of its own")
    for cell in cells:
        if cell.get("outputs") or cell.get("execution_count"):
            found.append(f"{cell.get('id')} was run")
        if cell["metadata"] not in ({}, {"tags": ["parameters"]}):
            found.append(f"{cell.get('id')} has metadata")
    if [cell.get("id") for cell in cells if cell["metadata"].get("tags")] != ["parameters"]:
        found.append("not one cell of parameters")
    return found


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_the_file_is_clean(path):
    text = path.read_text()
    assert faults(text) == []
    notebook = nbformat.reads(text, as_version=4)
    nbformat.validate(notebook)
    assert text == nbformat.writes(notebook) + "\n"  # as Jupyter saves it, so that a change shows as itself


@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        (lambda n: n["cells"][1].update(execution_count=3), "parameters was run"),
        (lambda n: n["cells"][1].update(outputs=[{"output_type": "stream"}]), "parameters was run"),
        (lambda n: n["cells"][0].pop("id"), "a cell without an id of its own"),
        (lambda n: n["cells"][0].update(metadata={"colab": {}}), "title has metadata"),
        (lambda n: n["cells"][1].update(metadata={}), "not one cell of parameters"),
        (lambda n: n["metadata"].update(widgets={}), "metadata of an editor"),
        (lambda n: n["metadata"]["kernelspec"].update(name="venv"), "kernel is not python3"),
        (lambda n: n.update(nbformat_minor=4), "not format 4.5"),
    ],
)
def test_what_is_not_clean_is_found(damage, fault):
    notebook = json.loads(PATHS[0].read_text())
    damage(notebook)
    assert fault in faults(json.dumps(notebook))


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_badge_and_clone_lead_to_the_project_s_repository(path):
    notebook = nbformat.read(path, as_version=4)
    address = f"https://colab.research.google.com/github/{REPOSITORY.removeprefix('https://github.com/')}"
    link = f"{address}/blob/main/notebooks/{path.name}"
    assert f"]({link})" in notebook.cells[0].source.splitlines()[0]
    assert f'REPOSITORY = "{REPOSITORY}"' in next(cell.source for cell in notebook.cells if cell.id == "install")
    assert link in (ROOT / "README.md").read_text()
    assert f'repository-code: "{REPOSITORY}"' in (ROOT / "CITATION.cff").read_text()


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """`run(name, tfds_dir=..., **parameters)` executes a notebook; returns the outputs of each cell by its id."""
    from nbclient import NotebookClient

    def execute(name: str, tfds_dir: Path = tmp_path / "no_data", **parameters: Any) -> dict[str, Any]:
        notebook = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)
        cell = next(cell for cell in notebook.cells if cell.id == "parameters")
        declared = set(re.findall(r"^(\w+) = ", cell.source, flags=re.MULTILINE))
        assert set(parameters) <= declared
        cell.source += "".join(f"\n{key} = {value!r}" for key, value in parameters.items())
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        environment = os.environ | {"PYTHONPATH": path, "TFDS_DATA_DIR": str(tfds_dir)}
        environment["PYTHONFAULTHANDLER"] = "1"  # a kernel that dies says where
        place = {"metadata": {"path": str(tmp_path)}}
        client = NotebookClient(notebook, timeout=900, startup_timeout=300, kernel_name="python3", resources=place)
        client.execute(env=environment)  # raises what a cell raises; the timeout is for one that hangs
        return {cell.id: cell.outputs for cell in notebook.cells if cell.cell_type == "code"}

    return execute


def text_of(outputs: list[Any]) -> str:
    return "".join(output.text for output in outputs if output.get("name") == "stdout")


def has_picture(outputs: list[Any]) -> bool:
    return any("image/png" in output.get("data", {}) for output in outputs)


def percent(text: str) -> float:
    return float(re.search(r"top-1 (\d+\.\d+)%", text)[1])


def test_quickstart_runs(run, tmp_path):
    short = {"EPOCHS": 0.5, "DECODER_EPOCHS": 0.1, "OTHER_LAMS": (1.0,), "OTHER_EPOCHS": 0.1, "JPEG_BASELINE": False}
    outputs = run("quickstart", WORKDIR=str(tmp_path / "run"), **short)
    assert "1 x CPU" in text_of(outputs["device"]) or "4 x CPU" in text_of(outputs["device"])
    assert percent(text_of(outputs["train"])) > 30.0  # of ten classes, after half an epoch
    (system,) = json.loads((tmp_path / "run/result.json").read_text())
    assert system["command"] == "vae_jcc.train.train_and_evaluate, called by ipykernel_launcher.py"
    assert text_of(outputs["sweep"]).startswith("lam 1.0: top-1 ")
    file = bytes.fromhex("".join(re.findall(r"^ *\d+  ([0-9a-f ]+)$", text_of(outputs["code"]), flags=re.MULTILINE)))
    fields = text_of(outputs["inspect"])
    assert file[0] == 0xCA and file[2:4].hex() in fields and f"'total': {len(file)}" in fields
    assert "BitstreamError" in text_of(outputs["damage"])
    assert has_picture(outputs["curve"]) and has_picture(outputs["predict"])
    assert re.search(r"\d of 8 right", text_of(outputs["predict"]))


def test_rate_accuracy_runs_without_cifar10_on_what_is_bundled(run, tmp_path):
    short = {"N_IMAGES": 64, "JPEG_QUALITIES": (5, 80), "FALLBACK_EPOCHS": 0.2, "DOWNLOAD": False}
    outputs = run("rate_accuracy", WORKDIR=str(tmp_path / "run"), **short)
    assert "cifar10 cannot be had" in text_of(outputs["data"])
    check_rate_accuracy(outputs)


@pytest.mark.skipif(not (TFDS_DIR / "cifar10").is_dir(), reason=f"CIFAR-10 is not prepared in {TFDS_DIR}")
def test_rate_accuracy_runs_with_the_shipped_model(run):
    short = {"N_IMAGES": 64, "JPEG_QUALITIES": (5, 80), "DOWNLOAD": False}
    outputs = run("rate_accuracy", tfds_dir=TFDS_DIR, **short)
    assert "model cifar10: 12 channels" in text_of(outputs["data"])
    assert percent(text_of(outputs["evaluate"])) > 75.0  # 87.9 on all 10,000
    check_rate_accuracy(outputs)


def check_rate_accuracy(outputs: dict[str, Any]) -> None:
    """Checks what the notebook shows whatever its data."""
    rates = dict(re.findall(r"^(bpp_\w+) +([\d.]+)$", text_of(outputs["evaluate"]), flags=re.MULTILINE))
    assert 0 < float(rates["bpp_payload"]) < float(rates["bpp_file"]) < float(rates["bpp_single_file"])
    payload, file = zip(*re.findall(r"payload ([\d.]+) bpp +file ([\d.]+) bpp", text_of(outputs["jpeg"])), strict=True)
    assert len(payload) == 2 and all(float(p) < float(f) for p, f in zip(payload, file, strict=True))
    channels = re.search(r"(\d+) of (\d+) channels are used", text_of(outputs["channels"]))
    assert 0 < int(channels[1]) <= int(channels[2])
    assert all(has_picture(outputs[cell]) for cell in ("curve", "maps", "one-picture"))
    by_channel, coded = re.search(
        r"all channels: ([\d.]+) bytes; payload: (\d+)", text_of(outputs["one-picture"])
    ).groups()
    assert abs(float(by_channel) - int(coded)) < 2.0  # the coder ends on a whole byte
