"""`vae-jcc profile`: reading traces, peaks, settings on the command line, and one real profile of a tiny model."""

import gzip
import json

import pytest
from jax.profiler import ProfileData

from configs import cifar10, imagenet
from vae_jcc.benchmark.peaks import peak_flops
from vae_jcc.benchmark.synthetic_training import step_flops
from vae_jcc.benchmark.trace import newest_trace, operation_times, sources
from vae_jcc.cli import main
from vae_jcc.cli.profile import read_config

CONFIG = cifar10.__file__.replace("cifar10", "quickstart")
TINY = [
    "--config.model.latent_channels=3",
    "--config.model.encoder.stem_features=4",
    "--config.model.encoder.stages=((6,1,2),)",
    "--config.model.classifier.stages=((8,1,1),)",
    "--config.train.batch_size=8",
]


def trace(plane, line, events):
    """A trace of one line; events are (name, begin, length in ns, hlo_op or None, hlo_module)."""
    names = sorted({text for event in events for text in (event[0], event[3], event[4]) if text})
    ids = {name: i for i, name in enumerate(names, start=10)}
    body = ""
    for name, begin, length, operation, module in events:
        stats = f"stats {{ metadata_id: 1 ref_value: {ids[operation]} }} " if operation else ""
        stats += f"stats {{ metadata_id: 2 ref_value: {ids[module]} }}" if module else ""
        picoseconds = f"offset_ps: {1000 * begin} duration_ps: {1000 * length}"
        body += f"events {{ metadata_id: {ids[name]} {picoseconds} {stats} }}\n"
    texts = {1: "hlo_op", 2: "hlo_module"} | {i: name for name, i in ids.items()}
    tables = "".join(
        f'{table} {{ key: {i} value {{ id: {i} name: "{text}" }} }}\n'
        for i, text in texts.items()
        for table in ("stat_metadata", "event_metadata")
    )
    text = f'planes {{ name: "{plane}" lines {{ id: 1 name: "{line}" {body} }} {tables} }}'
    return ProfileData.from_serialized_xspace(ProfileData.text_proto_to_serialized_xspace(text))


def test_time_inside_an_operation_is_counted_once():
    """A loop of 100 ns around two operations, one of which holds a third; other modules do not count."""
    events = [
        ("while.3", 0, 100, "while.3", "jit_train_step"),
        ("fusion.1", 10, 50, "fusion.1", "jit_train_step"),
        ("copy", 20, 15, "copy", "jit_train_step"),
        ("fusion.1", 70, 20, "fusion.1", "jit_train_step"),
        ("fusion.1", 200, 70, "fusion.1", "jit_eval_step"),
        ("Wait", 0, 500, None, None),
    ]
    times = operation_times(trace("/host:CPU", "tf_XLAEigen", events), "train_step")
    assert times == pytest.approx({"fusion.1": 55e-9, "copy": 15e-9})


def test_an_accelerators_line_names_operations_by_their_text():
    """As on TPUs, where events of the line "XLA Ops" are whole instructions."""
    events = [("%fusion.7 = f32[8]{0} fusion(%p)", 5, 30, None, None)]
    assert operation_times(trace("/device:TPU:0", "XLA Ops", events), "train_step") == {"fusion.7": pytest.approx(3e-8)}


def test_sources_are_read_from_the_compiled_text():
    text = """HloModule jit_train_step
      %dot.1 = f32[2]{0} dot(%a, %b), metadata={op_type="dot" op_name="jit(train_step)/jvp(M)/encoder/dot" line=3}
      ROOT fusion.2 = f32[2]{0} fusion(%dot.1), kind=kLoop, metadata={op_name="jit(train_step)/add"}
      %copy = f32[2]{0} copy(%dot.1)"""
    assert sources(text) == {"dot.1": "jvp(M)/encoder/dot", "fusion.2": "add"}


def test_a_folder_without_a_trace_is_told(tmp_path):
    with pytest.raises(FileNotFoundError, match="no trace"):
        newest_trace(tmp_path)


@pytest.mark.parametrize(
    ("kind", "dtype", "peak"),
    [
        ("NVIDIA H100 80GB HBM3", "bfloat16", 989e12),
        ("NVIDIA A100-SXM4-40GB", "float32", 156e12),
        ("NVIDIA L40S", "bfloat16", 362e12),
        ("NVIDIA L40", "bfloat16", None),
        ("Tesla T4", "bfloat16", None),
        ("TPU v5 lite", "bfloat16", 197e12),
        ("cpu", "float32", None),
    ],
)
def test_peaks_are_of_that_very_device(kind, dtype, peak):
    assert peak_flops(kind, dtype) == peak


def test_model_flops_grow_with_batch_and_pixels_and_not_with_recomputation():
    config = imagenet.get_config()
    config.train.batch_size = 2
    flops = step_flops(config, (32, 32, 3), 10)
    config.model.remat = "blocks"
    assert step_flops(config, (32, 32, 3), 10) == flops
    config.train.batch_size = 4
    assert step_flops(config, (32, 32, 3), 10) == 2 * flops
    dense = 6 * 4 * 512 * 10  # the only layer that does not see the pixels
    assert step_flops(config, (64, 64, 3), 10) - dense == 4 * (2 * flops - dense)


def test_settings_are_read_as_in_training():
    config = read_config(CONFIG, [*TINY, "--config.compute_dtype=bfloat16", "--config.augment.flip=False"])
    assert config.model.encoder.stages == ((6, 1, 2),) and config.train.batch_size == 8
    assert config.compute_dtype == "bfloat16" and config.augment.flip is False
    with pytest.raises(ValueError, match="batch_sizes"):
        read_config(CONFIG, ["--config.train.batch_sizes=8"])
    with pytest.raises(ValueError, match="many"):
        read_config(CONFIG, ["--config.train.batch_size=many"])
    with pytest.raises(ValueError, match="no configuration"):
        read_config("configs/none.py", [])


def test_bad_arguments_are_refused(capsys):
    for arguments in (["--confg.seed=1"], ["--shape", "32x32"], ["--steps", "0"], ["extra"]):
        with pytest.raises(SystemExit) as stop:
            main(["profile", "--config", CONFIG, "-o", "nowhere", *arguments])
        assert stop.value.code == 2
    with pytest.raises(SystemExit):
        main(["models", "--config.seed=1"])
    assert "unrecognized arguments: --config.seed=1" in capsys.readouterr().err
    assert main(["profile", "--config", CONFIG, "-o", "nowhere", "--config.dataset.name=no_such_data"]) == 1
    assert "no_such_data is not at hand: name --shape" in capsys.readouterr().err


def test_a_profile_has_a_trace_and_names_the_heaviest_operations(tmp_path, capsys):
    """On four devices; the shape is the bundled images' own."""
    folder = tmp_path / "profile"
    assert main(["profile", "--config", CONFIG, *TINY, "-o", str(folder), "--steps", "1"]) == 0
    text = (folder / "profile.txt").read_text()
    assert text in capsys.readouterr().out
    assert "quickstart on 4 x cpu" in text and "28x28x1, 10 classes" in text and "temporary" in text
    table = text.split("heaviest operations:")[1].split("By part")[0]
    shares = [float(line.split()[1].rstrip("%")) for line in table.splitlines() if "%" in line]
    assert len(shares) == 10 and shares == sorted(shares, reverse=True) and 0 < sum(shares) <= 100.1
    assert "(JointModel)" in table and "encoder, backward" in text
    (perfetto,) = folder.glob("plugins/profile/*/perfetto_trace.json.gz")
    with gzip.open(perfetto) as file:
        assert any(event.get("args", {}).get("hlo_module") for event in json.load(file)["traceEvents"])
