"""Where a training step spends its time: a trace of some steps on random pixels, and its summary as text."""

import statistics
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import jax
from ml_collections import ConfigDict

from vae_jcc.benchmark.measuring import seconds
from vae_jcc.benchmark.peaks import peak_flops
from vae_jcc.benchmark.synthetic_training import SyntheticTraining, prepare_training
from vae_jcc.benchmark.trace import newest_trace, operation_times, sources
from vae_jcc.models.joint import PARTS

_HEAVIEST = 10
_SOURCE_COLUMNS = 100


@dataclass(frozen=True)
class Profile:
    """What was found of one training step."""

    head: str  # what ran, and on what
    step_seconds: float  # median, without the profiler
    images: int  # a step
    flops: int  # of the model, a step
    peak: float | None  # FLOP/s of all devices together; None where it is not known
    memory: Mapping[str, int]  # bytes a device by kind; empty where the compiler does not tell
    operations: Mapping[str, float]  # seconds a step, over all devices or threads
    sources: Mapping[str, str]  # where an operation comes from


def profile_training(
    config: ConfigDict, shape: tuple[int, int, int], num_classes: int, folder: Path, steps: int
) -> Profile:
    """Times `steps` training steps, then runs as many again under the profiler, whose trace goes to `folder`.

    Args:
        config: the complete configuration.
        shape: (H, W, C) of the images of a batch, margin included.
        num_classes: of the labels.
        folder: gets plugins/profile/TIME, with *.xplane.pb (TensorBoard) and perfetto_trace.json.gz (Perfetto).
        steps: at least 1.

    Raises:
        ValueError: the configuration contradicts itself, or its batch does not divide over the devices.
    """
    training = prepare_training(config, shape, num_classes)
    for _ in range(2):  # the first ones fill caches and pools of memory
        training.step()
    times = [seconds(training.step) for _ in range(steps)]
    options = jax.profiler.ProfileOptions()
    options.python_tracer_level = 0  # every Python call would be an event
    with jax.profiler.trace(folder, create_perfetto_trace=True, profiler_options=options):
        for number in range(steps):
            with jax.profiler.StepTraceAnnotation("train", step_num=number):
                training.step()
    text = training.compiled.as_text()
    module = text.split(maxsplit=2)[1].rstrip(",")  # "HloModule jit_train_step, ..."
    spent = operation_times(newest_trace(folder), module)
    if not spent:
        raise RuntimeError(f"The trace in {folder} has no operation of {module}: this device's profiler tells none.")
    kind = jax.devices()[0].device_kind
    peak = peak_flops(kind, config.compute_dtype)
    height, width, channels = shape
    return Profile(
        head=(
            f"{config.name} on {training.devices.count} x {kind} (jax {jax.__version__}): parallel={config.parallel}, "
            f"{config.compute_dtype}, batches of {config.train.batch_size} in {config.train.accumulate} part(s), "
            f"random images {height}x{width}x{channels}, {num_classes} classes, {training.parameters:,} parameters"
        ),
        step_seconds=statistics.median(times),
        images=config.train.batch_size,
        flops=training.flops,
        peak=None if peak is None else peak * training.devices.count,
        memory=compiled_memory(training),
        operations={name: time / steps for name, time in spent.items()},
        sources=sources(text),
    )


def compiled_memory(training: SyntheticTraining) -> dict[str, int]:
    """Returns the bytes a device that the compiled step needs by kind; empty where the compiler does not tell.

    "arguments" are state and batch, "donated" is the part of them that the outputs take over, and "temporary" is what
    lives during a step, mostly activations.
    """
    stats = training.compiled.memory_analysis()
    if stats is None:
        return {}
    return {
        "arguments": stats.argument_size_in_bytes,
        "outputs": stats.output_size_in_bytes,
        "donated": stats.alias_size_in_bytes,
        "temporary": stats.temp_size_in_bytes,
    }


def report(profile: Profile) -> str:
    """Returns the summary: step time, FLOPs, memory, the ten heaviest operations, and time by part of the model."""
    rate = profile.flops / profile.step_seconds
    share = f", {rate / profile.peak:.1%} of the peak of {profile.peak / 1e12:,.0f} TFLOP/s" if profile.peak else ""
    memory = ", ".join(f"{kind} {size / 2**20:,.1f}" for kind, size in profile.memory.items()) or "not told"
    total = sum(profile.operations.values())
    lines = [
        profile.head,
        "",
        f"step time        {1e3 * profile.step_seconds:,.2f} ms (median, without the profiler), "
        f"{profile.images / profile.step_seconds:,.0f} images/s",
        f"model FLOPs      {profile.flops / 1e9:,.2f} GFLOP a step (6 x multiply-accumulates of the forward pass)",
        f"FLOP rate        {rate / 1e9:,.1f} GFLOP/s{share or ' (no peak is known of this device)'}",
        f"memory, MiB      {memory} (a device, as compiled)",
        f"operations       {1e3 * total:,.2f} ms a step under the profiler, over all devices or threads",
        "",
        f"The {_HEAVIEST} heaviest operations:",
        "",
        f"{'ms/step':>9} {'share':>6}  operation and where it comes from",
    ]
    heaviest = sorted(profile.operations.items(), key=lambda item: -item[1])[:_HEAVIEST]
    for name, time in heaviest:
        source = profile.sources.get(name, "")
        source = source if len(source) <= _SOURCE_COLUMNS else f"...{source[3 - _SOURCE_COLUMNS :]}"
        lines.append(f"{1e3 * time:>9.3f} {time / total:>6.1%}  {name}  {source}".rstrip())
    lines += ["", "By part of the step:", "", f"{'ms/step':>9} {'share':>6}  part"]
    for part, time in sorted(_by_part(profile).items(), key=lambda item: -item[1]):
        lines.append(f"{1e3 * time:>9.3f} {time / total:>6.1%}  {part}")
    return "\n".join(lines) + "\n"


def _by_part(profile: Profile) -> dict[str, float]:
    times: dict[str, float] = defaultdict(float)
    for name, time in profile.operations.items():
        times[_part(profile.sources.get(name, ""))] += time
    return times


def _part(source: str) -> str:
    """Returns "encoder, backward" and the like; "rest of the step" outside the networks."""
    part = next((p for p in PARTS if f"/{p}/" in source or f"/{p}." in source), "loss and rest of the model")
    if "transpose(" in source or "rematted_computation" in source:
        return f"{part}, backward"
    return f"{part}, forward" if "jvp(" in source else "augmentation, optimizer and rest of the step"
