import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import vae_jcc
from vae_jcc import EdgeEncoder, Receiver, model_folder
from vae_jcc.artifact_writing import add_evaluation
from vae_jcc.cli import main
from vae_jcc.coding import pack_file
from vae_jcc.interrupt import Preempted

Capture = pytest.CaptureFixture[str]
# Subprocesses run in a test's own folder: they find the package there whether or not it is installed.
ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(vae_jcc.__file__).parents[1])}


class Standard:
    """Stands in for sys.stdin and sys.stdout where bytes go through them."""

    def __init__(self, data: bytes = b"") -> None:
        self.buffer = io.BytesIO(data)

    def write(self, text: str) -> int:
        return self.buffer.write(text.encode())

    def flush(self) -> None:
        pass

    def isatty(self) -> bool:
        return False


@pytest.fixture
def model(tiny_folder: Path) -> str:
    return str(tiny_folder)


@pytest.fixture
def folder(tmp_path: Path, pictures: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder: pics/a.png, pics/deep/a.png, pics/deep/b.jpg and grey.png of another size."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pics" / "deep").mkdir(parents=True)
    Image.fromarray(pictures[0]).save("pics/a.png")
    Image.fromarray(pictures[1]).save("pics/deep/a.png")
    Image.fromarray(pictures[2]).save("pics/deep/b.jpg")
    Image.fromarray(pictures[3, :, :12, 0]).save("grey.png")
    (tmp_path / "pics" / "notes.txt").write_text("not a picture")
    return tmp_path


def _errors(capsys: Capture) -> list[str]:
    return [line for line in capsys.readouterr().err.splitlines() if line.startswith("vae-jcc: ")]


def test_encode_writes_beside_the_picture(folder: Path, model: str, pictures: np.ndarray, capsys: Capture) -> None:
    assert main(["encode", "--model", model, "pics/a.png"]) == 0
    data = Path("pics/a.vjc").read_bytes()
    assert data == EdgeEncoder.load(model).compress(pictures[0])
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == f"pics/a.png -> pics/a.vjc: {len(data)} bytes, {8 * len(data) / 256:.3f} bpp\n"


def test_a_dead_zone_sends_less_to_the_same_receiver(folder: Path, model: str, capsys: Capture) -> None:
    sizes = []
    for width in ("0", "0.3"):
        assert main(["encode", "--model", model, "pics", "--stream", "-o", "all.vjc", "--dead-zone", width]) == 0
        sizes.append(Path("all.vjc").stat().st_size)
        assert main(["classify", "--model", model, "all.vjc"]) == 0
    assert sizes[1] < sizes[0]
    capsys.readouterr()
    assert main(["encode", "--model", model, "pics/a.png", "--dead-zone", "-1"]) == 1
    assert "dead zone of -1.0 cannot be" in _errors(capsys)[0]


def test_encode_keeps_a_folders_shape(folder: Path, model: str, capsys: Capture) -> None:
    assert main(["encode", "--model", model, "pics", "grey.png", "-o", "out"]) == 0
    coded = sorted(str(p.relative_to("out")) for p in Path("out").rglob("*") if p.is_file())
    assert coded == ["a.vjc", "deep/a.vjc", "deep/b.vjc", "grey.vjc"]
    assert "4 pictures" in capsys.readouterr().err
    assert Receiver.load(model).symbols(Path("out/grey.vjc").read_bytes()).shape == (4, 3, 3)


def test_encode_takes_patterns(folder: Path, model: str) -> None:
    assert main(["encode", "--model", model, "pics/**/*.png", "--output", "out"]) == 1  # both are called a.png
    assert [p.name for p in Path("out").iterdir()] == ["a.vjc"]
    assert main(["encode", "--model", model, "pics/de*/*"]) == 0
    assert sorted(p.name for p in Path("pics/deep").glob("*.vjc")) == ["a.vjc", "b.vjc"]


def test_two_inputs_never_share_a_result(folder: Path, model: str, pictures: np.ndarray, capsys: Capture) -> None:
    Image.fromarray(pictures[4]).save("pics/a.webp", lossless=True)
    assert main(["encode", "--model", model, "pics/a.png", "pics/a.webp"]) == 1
    assert Path("pics/a.vjc").read_bytes() == EdgeEncoder.load(model).compress(pictures[0])
    assert _errors(capsys) == [
        "vae-jcc: pics/a.webp: pics/a.vjc is another input's result already: give this one an --output of its own"
    ]


@pytest.mark.parametrize("stream", [False, True])
def test_bad_pictures_spoil_nothing_else(folder: Path, model: str, stream: bool, capsys: Capture) -> None:
    Path("empty.png").write_bytes(b"")
    Path("text.png").write_text("no picture")
    Path("half.png").write_bytes(Path("pics/a.png").read_bytes()[:-30])
    Path("hollow").mkdir()
    bad = ["empty.png", "text.png", "half.png", "hollow", "nowhere.png", "no*match.png"]
    options = ["--stream", "-o", "all.vjc"] if stream else ["-o", "out"]
    assert main(["encode", "--model", model, *bad[:3], "pics", *bad[3:], *options]) == 1
    errors = _errors(capsys)
    assert [line.split(": ")[1] for line in errors] == bad
    assert all(line.count("\n") == 0 and "0x" not in line for line in errors)
    if stream:
        assert Receiver.load(model).classify(Path("all.vjc").read_bytes()).shape == (3, 3)
    else:
        assert len(list(Path("out").rglob("*.vjc"))) == 3


@pytest.mark.parametrize("joined", [[], ["--joined"]])
def test_no_stream_is_written_of_nothing(folder: Path, model: str, joined: list[str]) -> None:
    assert main(["encode", "--model", model, "nowhere.png", "--stream", *joined, "-o", "all.vjc"]) == 1
    assert not Path("all.vjc").exists()


def test_a_joined_stream_holds_pictures_of_one_size(folder: Path, model: str, capsys: Capture) -> None:
    assert main(["encode", "--model", model, "pics", "--stream", "-o", "plain.vjc"]) == 0
    assert main(["encode", "--model", model, "pics", "grey.png", "--stream", "--joined", "-o", "joined.vjc"]) == 1
    (line,) = _errors(capsys)
    assert line.startswith("vae-jcc: grey.png: A joined stream holds images of one size")
    plain, joined = Path("plain.vjc").read_bytes(), Path("joined.vjc").read_bytes()
    assert len(joined) < len(plain)
    receiver = Receiver.load(model)
    np.testing.assert_array_equal(np.stack(receiver.symbols(joined)), np.stack(receiver.symbols(plain)))
    assert main(["inspect", "--model", model, "joined.vjc"]) == 0
    assert "joined stream, format 1, 3 image(s), 16 x 16 pixels" in capsys.readouterr().out
    assert main(["classify", "--model", model, "joined.vjc"]) == 0
    assert main(["encode", "--model", model, "pics", "--joined", "-o", "out"]) == 1
    assert "give --stream too" in capsys.readouterr().err


def test_encode_json_and_resize(folder: Path, model: str, capsys: Capture) -> None:
    assert main(["encode", "--model", model, "grey.png", "--json"]) == 0
    row = json.loads(capsys.readouterr().out)
    assert (row["input"], row["output"], row["height"], row["width"]) == ("grey.png", "grey.vjc", 16, 12)
    assert row["bytes"] == Path("grey.vjc").stat().st_size
    assert main(["encode", "--model", model, "grey.png", "--json", "--resize"]) == 0
    row = json.loads(capsys.readouterr().out)
    assert (row["height"], row["width"]) == (16, 16)


def test_small_batches_give_the_same_files(folder: Path, model: str) -> None:
    assert main(["encode", "--model", model, "pics", "-o", "one", "--batch-size", "1"]) == 0
    assert main(["encode", "--model", model, "pics", "-o", "many"]) == 0
    for path in Path("one").rglob("*.vjc"):
        assert path.read_bytes() == (Path("many") / path.relative_to("one")).read_bytes()


def test_standard_input_and_output(
    folder: Path, model: str, monkeypatch: pytest.MonkeyPatch, pictures: np.ndarray
) -> None:
    edge = EdgeEncoder.load(model)

    def through(arguments: list[str], data: bytes) -> bytes:
        output = Standard()
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdin", Standard(data))
            patch.setattr(sys, "stdout", output)
            assert main(arguments) == 0
        return output.buffer.getvalue()

    coded = through(["encode", "--model", model, "-"], Path("pics/a.png").read_bytes())
    assert coded == edge.compress(pictures[0])
    symbols = np.load(io.BytesIO(through(["decode", "--model", model, "-"], coded)))
    np.testing.assert_array_equal(symbols, Receiver.load(model).symbols(coded))
    picture = np.asarray(Image.open(io.BytesIO(through(["reconstruct", "--model", model, "-"], coded))))
    np.testing.assert_array_equal(picture, Receiver.load(model).reconstruct(coded))
    text = through(["classify", "--model", model, "-", "--json"], coded).decode()
    assert json.loads(text)["input"] == "-"
    assert through(["encode", "--model", model, "pics/a.png", "-o", "-"], b"") == coded


def test_decode_stacks_a_stream_of_one_size(folder: Path, model: str) -> None:
    main(["encode", "--model", model, "pics", "--stream", "-o", "all.vjc"])
    assert main(["decode", "--model", model, "all.vjc"]) == 0
    assert np.load("all.npy").shape == (3, 4, 4, 3)
    main(["encode", "--model", model, "pics", "grey.png", "--stream", "-o", "mixed.vjc"])
    assert main(["decode", "--model", model, "mixed.vjc"]) == 0
    assert [np.load(f"mixed_{i:05d}.npy").shape for i in range(4)] == [(4, 4, 3)] * 3 + [(4, 3, 3)]


def test_reconstruct_spares_the_original(folder: Path, model: str) -> None:
    original = Path("pics/a.png").read_bytes()
    main(["encode", "--model", model, "pics/a.png"])
    assert main(["reconstruct", "--model", model, "pics/a.vjc"]) == 0
    assert Path("pics/a.png").read_bytes() == original
    with Image.open("pics/a.vjc.png") as made:
        assert made.size == (16, 16)
    main(["encode", "--model", model, "pics/deep", "--stream", "-o", "all.vjc"])
    assert main(["reconstruct", "--model", model, "all.vjc", "-o", "new/frame.png"]) == 0
    assert sorted(p.name for p in Path("new").iterdir()) == ["frame_00000.png", "frame_00001.png"]


def test_classify_names_pictures_files_and_streams(folder: Path, model: str, capsys: Capture) -> None:
    main(["encode", "--model", model, "pics", "--stream", "-o", "all.vjc"])
    main(["encode", "--model", model, "pics/a.png"])
    capsys.readouterr()
    assert main(["classify", "--model", model, "--json", "--top", "2", "pics/a.vjc", "pics/a.png", "all.vjc"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(row["input"], row["index"]) for row in rows] == [
        ("pics/a.vjc", 0),
        ("pics/a.png", 0),
        *(("all.vjc", i) for i in range(3)),
    ]
    assert rows[0]["top"] == rows[1]["top"]
    assert rows[0]["bytes"] == rows[1]["bytes"] == Path("pics/a.vjc").stat().st_size
    expected = Receiver.load(model).classify(Path("pics/a.vjc").read_bytes())
    names = ("ant", "bee", "cat")
    assert [entry["class"] for entry in rows[0]["top"]] == [names[k] for k in np.argsort(-expected)[:2]]
    assert rows[0]["top"][0]["probability"] == pytest.approx(expected.max(), abs=1e-4)


def test_classify_says_what_a_picture_costs_and_that_it_has_another_size(
    folder: Path, model: str, capsys: Capture
) -> None:
    assert main(["classify", "--model", model, "grey.png"]) == 0
    captured = capsys.readouterr()
    size = len(EdgeEncoder.load(model).compress(np.asarray(Image.open("grey.png").convert("RGB"))))
    assert captured.out.startswith(f"grey.png (coded to {size} bytes): ")
    assert captured.err == ("vae-jcc: grey.png: 12x16 pixels; the model learned from 16x16, --resize brings it there\n")
    assert main(["classify", "--model", model, "grey.png", "--resize"]) == 0
    assert capsys.readouterr().err == ""


def test_classify_reports_damage_and_goes_on(folder: Path, model: str, capsys: Capture) -> None:
    main(["encode", "--model", model, "pics", "-o", "out"])
    data = bytearray(Path("out/a.vjc").read_bytes())
    data[-5] ^= 4
    Path("out/a.vjc").write_bytes(data)
    Path("out/c.vjc").write_text("hello")
    capsys.readouterr()
    assert main(["classify", "--model", model, "--json", "out"]) == 1
    captured = capsys.readouterr()
    assert [json.loads(line)["input"] for line in captured.out.splitlines()] == ["out/deep/a.vjc", "out/deep/b.vjc"]
    assert sorted(line.split(": ")[1] for line in captured.err.splitlines()) == ["out/a.vjc", "out/c.vjc"]


def test_a_coder_that_is_not_installed_is_one_line(
    folder: Path, model: str, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setitem(sys.modules, "tensorflow_compression", None)
    assert main(["encode", "--model", model, "pics/a.png"]) == 0
    assert main(["recode", "--model", model, "--coder", "range", "pics/a.vjc"]) == 0
    assert Path("pics/a.range.vjc").read_bytes() == Path("pics/a.vjc").read_bytes()
    capsys.readouterr()
    for arguments in (["encode", "pics"], ["recode", "pics"]):
        assert main([*arguments, "--model", model, "--coder", "tfc"]) == 1
        (line,) = _errors(capsys)
        assert "pip install -r requirements-tfc.txt" in line


def test_inspect_with_and_without_the_model(folder: Path, model: str, capsys: Capture) -> None:
    main(["encode", "--model", model, "pics", "--stream", "-o", "all.vjc"])
    capsys.readouterr()
    assert main(["inspect", "--model", model, "--json", "all.vjc"]) == 0
    fields = json.loads(capsys.readouterr().out)
    assert (fields["input"], fields["kind"], fields["images"]) == ("all.vjc", "stream", 3)
    assert fields["bytes"]["total"] == Path("all.vjc").stat().st_size
    assert main(["inspect", "--model", model, "all.vjc"]) == 0
    text = capsys.readouterr().out
    assert "stream, format 1, 3 image(s), 16 x 16 pixels" in text
    assert "coder         range" in text
    assert f"payload {fields['bytes']['payload']}" in text
    assert main(["inspect", "all.vjc", "--json"]) == 0
    header = json.loads(capsys.readouterr().out)
    assert fields["fingerprint"].startswith(header["fingerprint"])
    assert (header["kind"], header["images"], header["width"]) == ("stream", 3, 16)
    assert main(["inspect", "pics/a.png"]) == 1


def test_a_wrong_model_is_one_clear_line(
    folder: Path, model: str, capsys: Capture, make_tiny: Callable[..., None]
) -> None:
    make_tiny(folder / "other", seed=1)
    main(["encode", "--model", model, "pics/a.png"])
    capsys.readouterr()
    for command in ("decode", "classify", "inspect", "reconstruct"):
        assert main([command, "--model", "other", "pics/a.vjc"]) == 1
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.count("\n") == 1
        assert captured.err.startswith("vae-jcc: pics/a.vjc: ")
        assert "model" in captured.err
    assert not Path("pics/a.npy").exists()
    assert main(["decode", "--model", "nothing", "pics/a.vjc"]) == 1
    assert "No model 'nothing'" in capsys.readouterr().err


def test_results_that_need_a_folder(folder: Path, model: str, capsys: Capture) -> None:
    Path("file").write_text("")
    for output in ("-", "file"):
        assert main(["encode", "--model", model, "pics", "-o", output]) == 1
        assert "need a folder as --output" in capsys.readouterr().err
    assert main(["encode", "--model", model, "pics", "--stream"]) == 1
    assert "--output" in capsys.readouterr().err


def test_a_folder_of_one_picture_is_a_folder_too(folder: Path, model: str, capsys: Capture) -> None:
    Path("pics/a.png").rename("one.png")
    Path("pics/deep/a.png").unlink()
    assert main(["encode", "--model", model, "pics", "-o", "out"]) == 0
    assert Path("out/deep/b.vjc").is_file()
    assert main(["encode", "--model", model, "pics/deep", "-o", "one.png"]) == 1
    assert "those of a folder, need a folder as --output" in capsys.readouterr().err


def test_a_link_and_a_pipe_stay_what_they_are(folder: Path, model: str) -> None:
    Path("real.vjc").write_bytes(b"old")
    Path("link.vjc").symlink_to("real.vjc")
    assert main(["encode", "--model", model, "pics/a.png", "-o", "link.vjc"]) == 0
    data = Path("real.vjc").read_bytes()
    assert Path("link.vjc").is_symlink() and len(data) > 3
    os.mkfifo("pipe")
    reader = os.open("pipe", os.O_RDONLY | os.O_NONBLOCK)
    assert main(["encode", "--model", model, "pics/a.png", "-o", "pipe"]) == 0
    assert os.read(reader, 10**6) == data and Path("pipe").is_fifo()
    os.close(reader)


def test_what_needs_too_much_memory_spoils_nothing_else(
    folder: Path, model: str, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    """Neither where JAX has none left, nor where NumPy has none; a fault of the program still passes through."""
    compress_all = EdgeEncoder.compress_all

    def fail(error: Exception) -> None:
        def compress_or_fail(edge: EdgeEncoder, images: list[np.ndarray]) -> list[bytes]:
            if any(image.shape[1] == 12 for image in images):
                raise error
            return compress_all(edge, images)

        monkeypatch.setattr(EdgeEncoder, "compress_all", compress_or_fail)

    Image.open("grey.png").convert("RGB").save("pics/b.png")  # 12 pixels wide
    for error in (RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes."), MemoryError()):
        fail(error)
        assert main(["encode", "--model", model, "pics", "-o", "out"]) == 1
        assert len(list(Path("out").rglob("*.vjc"))) == 3
        assert [line.split(":")[1] for line in _errors(capsys)] == [" pics/b.png"]
    fail(KeyError("a fault"))
    with pytest.raises(KeyError):
        main(["encode", "--model", model, "pics", "-o", "out"])


def test_a_file_that_announces_a_vast_picture_is_refused(folder: Path, model: str, capsys: Capture) -> None:
    fingerprint = Receiver.load(model).artifact.fingerprint
    Path("vast.vjc").write_bytes(pack_file(b"", fingerprint, 8192, 8192))
    main(["encode", "--model", model, "pics/a.png"])
    capsys.readouterr()
    for command in ("classify", "decode", "reconstruct", "inspect"):
        assert main([command, "--model", model, "vast.vjc"]) == 1
        assert "8192 x 8192 is more than 33554432 pixels" in capsys.readouterr().err
        assert main([command, "--model", model, "pics/a.vjc", "--max-pixels", "255"]) == 1
        assert "16 x 16 is more than 255 pixels" in capsys.readouterr().err


def test_sigterm_in_a_training_is_no_bad_input(monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(_: object) -> int:
        raise Preempted

    monkeypatch.setattr("vae_jcc.cli.models.list_models", stopped)
    assert main(["models"]) == 75


def test_nothing_is_half_written(folder: Path, model: str, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    Path("pics/a.vjc").write_bytes(b"old")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", fail)
    assert main(["encode", "--model", model, "pics/a.png"]) == 1
    assert capsys.readouterr().err == "vae-jcc: pics/a.png: No space left on device\n"
    assert Path("pics/a.vjc").read_bytes() == b"old"
    assert sorted(p.name for p in Path("pics").iterdir()) == ["a.png", "a.vjc", "deep", "notes.txt"]


def test_evaluate_prints_and_writes_the_figures(
    folder: Path, model: str, pictures: np.ndarray, capsys: Capture
) -> None:
    for i, name in enumerate(("ant", "bee", "cat")):
        Path("test", name).mkdir(parents=True)
        for j, picture in enumerate((pictures[i], pictures[i, ::-1])):
            Image.fromarray(picture).save(f"test/{name}/{j}.png")
    data = f"folder:{folder / 'test'}"
    arguments = ["evaluate", "--model", model, "--data", data, "--split", "train", "--batch-size", "4"]
    assert main([*arguments, "--json", "figures.json"]) == 0
    text = capsys.readouterr().out
    figures = json.loads(Path("figures.json").read_text())
    assert figures["n_images"] == 6 and {"command", "commit", "device", "versions"} <= set(figures)
    assert f"top-1 {figures['top1']:.2%}" in text
    assert f"{figures['bpp_file']:.4f} bpp file" in text
    files = EdgeEncoder.load(model).compress([np.asarray(Image.open(p)) for p in sorted(Path("test").rglob("*.png"))])
    assert figures["bytes_payload"] == sum(len(file) - 10 for file in files)
    assert figures["bpp_single_file"] == pytest.approx(8 * sum(map(len, files)) / (6 * 256))
    # Coded in batches of four: two groups where a stream of all six has one.
    joined = EdgeEncoder.load(model).compress_stream(pictures[[0, 0, 1, 1]], joined=True)
    assert len(joined) < figures["bytes_joined"] < figures["bytes_stream"]
    assert f"{figures['bpp_joined']:.4f} bpp file: joined stream" in text
    right = np.argmax(Receiver.load(model).classify(files), axis=1) == np.repeat([0, 1, 2], 2)
    assert figures["top1"] == pytest.approx(right.mean())
    assert main([*arguments, "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out) == figures
    assert main([*arguments, "--json", "pics"]) == 1  # a folder: the figures are printed all the same
    captured = capsys.readouterr()
    assert captured.out == text and captured.err.splitlines()[-1] == "vae-jcc: Is a directory: pics"
    assert main(["evaluate", "--model", model, "--data", "folder:pics", "--split", "train"]) == 1
    assert len(_errors(capsys)) == 1


def test_models_lists_the_zoo(
    tiny_copy: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture, tmp_path: Path
) -> None:
    monkeypatch.setattr(model_folder, "ZOO", tmp_path / "empty")
    assert main(["models"]) == 0
    assert "No model ships" in capsys.readouterr().out
    add_evaluation(tiny_copy, {"top1": 0.875, "bpp_file": 0.25})
    monkeypatch.setattr(model_folder, "ZOO", tiny_copy.parent)
    assert main(["models"]) == 0
    text = capsys.readouterr().out
    assert all(word in text for word in (tiny_copy.name, "87.50%", "0.250", "made up"))
    assert main(["models", "--json"]) == 0
    row = json.loads(capsys.readouterr().out)
    assert row["name"] == tiny_copy.name
    assert row["evaluation"] == {"top1": 0.875, "bpp_file": 0.25}


def test_decode_and_inspect_run_without_jax(folder: Path, model: str) -> None:
    main(["encode", "--model", model, "pics/a.png"])
    code = (
        "import sys\n"
        "for name in ('jax', 'jaxlib', 'flax', 'tensorflow', 'ml_collections'):\n"
        "    sys.modules[name] = None\n"
        "from vae_jcc.cli import main\n"
        f"sys.exit(main(['decode', '--model', {model!r}, 'pics/a.vjc'])\n"
        f"         or main(['inspect', '--model', {model!r}, 'pics/a.vjc']))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=ENVIRONMENT)
    assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal(np.load("pics/a.npy"), Receiver.load(model).symbols(Path("pics/a.vjc").read_bytes()))


def test_a_network_without_jax_is_one_line(folder: Path, model: str) -> None:
    code = (
        "import sys\n"
        "sys.modules['jax'] = None\n"
        "from vae_jcc.cli import main\n"
        f"sys.exit(main(['encode', '--model', {model!r}, 'pics/a.png']))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=ENVIRONMENT)
    assert done.returncode == 1
    assert done.stderr.startswith("vae-jcc: this command needs jax, which is not installed here: ")
    assert done.stderr.count("\n") == 1


def test_a_reader_that_leaves_ends_it_quietly(folder: Path, model: str) -> None:
    main(["encode", "--model", model, "pics", "-o", "out"])
    code = (
        f"import sys; from vae_jcc.cli import main; sys.exit(main(['inspect', '--model', {model!r}] + ['out'] * 500))"
    )
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1


@pytest.mark.parametrize("arguments", [[], ["encode"], ["classify", "--model", "m", "--top", "0", "x"], ["nonsense"]])
def test_bad_usage_exits_with_two(arguments: list[str], capsys: Capture) -> None:
    with pytest.raises(SystemExit) as error:
        main(arguments)
    assert error.value.code == 2
    assert "usage: vae-jcc" in capsys.readouterr().err
