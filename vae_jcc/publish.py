"""From trained variables to what a user keeps: the artifact, its figures from real bytes, a table and a plot."""

import json
import platform
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict
from rich.console import Console
from rich.table import Table

from vae_jcc.artifact import Artifact
from vae_jcc.artifact_writing import save_artifact, save_receiver
from vae_jcc.benchmark.cost import count_macs, count_parameters
from vae_jcc.benchmark.jpeg import evaluate_jpeg
from vae_jcc.benchmark.plots import plot_rate_accuracy
from vae_jcc.data.sources import Source
from vae_jcc.entropy.factorized import quantization_offset
from vae_jcc.entropy.tabulate import as_float32, count_logits, prior_layers, tabulate, tabulate_categorical
from vae_jcc.evaluate import count_symbols, evaluate_artifact, input_shape
from vae_jcc.models.joint import PARTS, build_encoder
from vae_jcc.train_context import train_context
from vae_jcc.train_decoder import train_decoder

_LIBRARIES = ("jax", "flax", "optax", "numpy", "constriction", "pillow")


def publish(
    config: ConfigDict, workdir: Path, variables: dict[str, Any], train: Source, validation: Source, test: Source
) -> dict[str, Any]:
    """Writes artifact/, evaluation.json, result.json and rate_accuracy.png to `workdir` and prints the table.

    Args:
        config: the complete configuration.
        workdir: of the run.
        variables: {"params", "batch_stats"} of the joint model.
        train: source of training images (for the decoder and the JPEG reference).
        validation: source for the reference's choices.
        test: source of the published figures.

    Returns:
        The evaluation of the test split (see `evaluate_artifact`).
    """
    folder, d, training = workdir / "artifact", config.dataset, config
    config = config.copy_and_resolve_references()
    config.compute_dtype = training.artifact_compute_dtype
    image_shape = input_shape(config, train)
    own_context = config.entropy.context.kind
    if config.quantizer.kind == "hard":
        base = Artifact.load(config.init_from)
        if not own_context:  # the model codes with that of the bytes
            config.entropy = base.config.entropy
        export_receiver(folder, config, variables, test, image_shape[:2], base)
    else:
        export_artifact(folder, config, variables, test, image_shape[:2], validation)
    if config.model.decoder.mode == "frozen":
        train_decoder(config, folder, train)
    if own_context:
        goes_on = config.entropy.kind == "context" and config.entropy.context.kind == "serial"
        start = variables["params"].get("context") if goes_on else None
        train_context(config, folder, train, validation, start)
    artifact = Artifact.load(str(folder))
    ours = evaluate_artifact(
        artifact, test, batch_size=config.eval.batch_size, workers=d.workers, memory_limit=d.memory_limit
    )
    ours |= {"dataset": d.name, "split": d.test_split, "data_note": d.note}
    (workdir / "evaluation.json").write_text(json.dumps(ours, indent=1) + "\n")
    results = [describe_system(config, variables, ours, image_shape, _command())]
    jpeg = None
    if config.eval.jpeg_baseline:
        jpeg = evaluate_jpeg(training, workdir / "jpeg", train, validation, test, ours["bpp_file"])
        points = {k: [jpeg[k]] for k in ("top1", "top5", "bpp_payload", "bpp_file")}
        name = "JPEG + same classifier (payload only)"
        results.append(
            {
                "system": name,
                "encoder": None,
                "rate": "bpp_payload",
                "marker": "s",
                "points": [{"label": f"quality={jpeg['quality']}", "seeds": [config.seed]} | points],
            }
        )
    (workdir / "result.json").write_text(json.dumps(results, indent=1) + "\n")
    title = f"{d.name} {f'({d.note})' if d.note else ''}"
    plot_rate_accuracy(workdir / "rate_accuracy.png", results, title)
    _print_table(config, workdir, ours, jpeg)
    return ours


def export_artifact(
    folder: Path,
    config: ConfigDict,
    variables: dict[str, Any],
    source: Source,
    input_size: tuple[int, int],
    validation: Source | None = None,
) -> None:
    """Builds the coding tables and saves the artifact (replacing one that is there).

    Args:
        folder: of the artifact.
        config: the complete configuration.
        variables: {"params", "batch_stats"} of the joint model.
        source: of the images that it is for; names the classes.
        input_size: (H, W) of the training images.
        validation: images whose symbols are counted, for a model that was trained with a context model: its tables say
            how often each symbol occurs in a channel.

    Raises:
        ValueError: a model with a context model comes without validation images.
    """
    params, stats = variables["params"], variables["batch_stats"]
    parts = {p: {"params": params[p], "batch_stats": stats.get(p, {})} for p in PARTS if p in params and p != "context"}
    if "centres" in parts:
        centres = np.asarray(params["centres"]["values"])
        if "prior" not in parts:
            if validation is None:
                raise ValueError("A model with a context model needs validation images, whose symbols are counted.")
            base = count_logits(count_symbols(config, parts["encoder"], centres, validation))
            parts["prior"] = {"params": {"base": base}, "batch_stats": {}}
        tables = tabulate_categorical(parts["prior"]["params"]["base"])
        offset = np.full(config.model.latent_channels, centres[0])
    else:
        offset = np.asarray(quantization_offset(as_float32(prior_layers(params["prior"]))))
        tables = tabulate(params["prior"], offset)
    save_artifact(
        folder,
        config=config,
        variables=parts,
        tables=tables,
        offset=offset,
        class_names=source.info.class_names,
        channels=source.info.channels,
        input_size=input_size,
        dataset=config.dataset.name,
        dataset_note=config.dataset.note,
        facts={"encoder_parameters": count_parameters(params["encoder"]), "seed": config.seed},
        dtype=config.artifact_dtype,
    )


def export_receiver(
    folder: Path,
    config: ConfigDict,
    variables: dict[str, Any],
    source: Source,
    input_size: tuple[int, int],
    base: Artifact,
) -> None:
    """Saves an artifact with a new receiver for the bytes of another (replacing one that is there).

    Args:
        folder: of the artifact.
        config: the complete configuration of the training, with `quantizer.kind="hard"`.
        variables: {"params", "batch_stats"} of the joint model.
        source: of the images that it is for; names the classes, which may be others than those of `base`.
        input_size: (H, W) of the training images.
        base: the model that `config.init_from` names.
    """
    params, stats = variables["params"], variables["batch_stats"]
    parts = [part for part in ("classifier", "decoder") if part in params]
    of_bytes = {key: base.facts[key] for key in ("encoder_parameters", "context") if key in base.facts}
    save_receiver(
        folder,
        base,
        config=config,
        variables={part: {"params": params[part], "batch_stats": stats.get(part, {})} for part in parts},
        class_names=source.info.class_names,
        input_size=input_size,
        facts=of_bytes | {"seed": config.seed, "bytes_of": config.init_from},
        dtype=config.artifact_dtype,
    )


def describe_system(
    config: ConfigDict,
    variables: dict[str, Any],
    evaluation: dict[str, Any],
    image_shape: tuple[int, int, int],
    command: str,
) -> dict[str, Any]:
    """Returns a trained model's figures in the results schema (one point, one seed).

    Args:
        config: of the model.
        variables: {"params", "batch_stats"} with "encoder" and "classifier".
        evaluation: of `evaluate_artifact`, with "dataset", "split" and "data_note".
        image_shape: (H, W, C) for which the encoder's work is counted.
        command: that made it.
    """
    params = variables["params"]
    encoder = build_encoder(config)
    encoder_variables = {k: variables[k]["encoder"] for k in ("params", "batch_stats")}
    macs = count_macs(encoder.apply, encoder_variables, jnp.zeros((1, *image_shape)))
    context = config.entropy.context.kind
    figures = ["top1", "top5", "bpp_estimated", "bpp_payload", "bpp_file", "bpp_joined"]
    figures += ["context_params"] if context else []
    return {
        "system": f"vae_jcc/{config.name}" + (f", {context} context" if context else ""),
        "dataset": evaluation["dataset"],
        "data_note": evaluation["data_note"],
        "split": evaluation["split"],
        "n_images": evaluation["n_images"],
        "encoder": {
            "params": count_parameters(params["encoder"]),
            "macs_per_pixel": macs / (image_shape[0] * image_shape[1]),
        },
        "receiver": {"params": count_parameters(params["classifier"])},
        "points": [{"label": point_label(config), "seeds": [config.seed]} | {k: [evaluation[k]] for k in figures}],
    } | describe_run(command)


def point_label(config: ConfigDict) -> str:
    """Returns what sets a point of a curve apart: the weight of the rate, or the rate that the hinge aims at."""
    return f"target={config.loss.hinge_target}" if config.loss.hinge_beta else f"lam={config.loss.lam}"


def describe_run(command: str) -> dict[str, Any]:
    """Returns what a result says of its making: "device", "versions", "command", "commit" and "date"."""
    return {
        "device": f"{jax.devices()[0].device_kind} x{jax.device_count()}, {platform.machine()}",
        "versions": {name: version(name) for name in _LIBRARIES},
        "command": command,
        "commit": _commit(),
        "date": datetime.now(UTC).date().isoformat(),
    }


def _command() -> str:
    """Returns the command line of this training; one that a notebook or a program called for has none."""
    program = Path(sys.argv[0])
    if program.parts[-2:] == ("vae_jcc", "main.py"):
        return shlex.join(["python", "-m", "vae_jcc.main", *sys.argv[1:]])
    return f"vae_jcc.train.train_and_evaluate, called by {program.name or 'Python'}"


def _commit() -> str:
    """Returns the checkout's commit, with "+" where files differ from it; "" outside a checkout."""
    try:
        answer = subprocess.run(
            ["git", "describe", "--always", "--abbrev=40", "--dirty=+"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return answer.stdout.strip()


def _print_table(config: ConfigDict, workdir: Path, ours: dict[str, Any], jpeg: dict[str, Any] | None) -> None:
    note = f" ({config.dataset.note})" if config.dataset.note else ""
    table = Table(title=f"{config.dataset.name}{note}, split {config.dataset.test_split}: {ours['n_images']} images")
    for column in ("system", "top-1", "top-5", "bpp estimated", "bpp payload", "bpp file"):
        table.add_column(column, justify="left" if column == "system" else "right")
    table.add_row(
        f"vae_jcc/{config.name} (stream format)",
        f"{ours['top1']:.2%}",
        f"{ours['top5']:.2%}",
        *(f"{ours[k]:.4f}" for k in ("bpp_estimated", "bpp_payload", "bpp_file")),
    )
    if jpeg is not None:
        table.add_row(
            f"JPEG quality {jpeg['quality']} + same classifier",
            f"{jpeg['top1']:.2%}",
            f"{jpeg['top5']:.2%}",
            "-",
            f"{jpeg['bpp_payload']:.4f}",
            f"{jpeg['bpp_file']:.4f}",
        )
    console = Console(width=max(100, Console().width))
    console.print(table)
    if jpeg is not None:
        console.print("JPEG's payload leaves out the bytes that a flat grey image costs (headers and tables).")
    model = workdir / "artifact"
    console.print(
        f"\nWritten to {workdir}: artifact/ (the model), evaluation.json, result.json, rate_accuracy.png, best/.\n"
        f"Try next:\n"
        f"  vae-jcc encode   --model {model} PICTURE.png      # a picture to a file of bytes\n"
        f"  vae-jcc classify --model {model} PICTURE.vjc      # what it shows, from that file alone\n"
        f"  vae-jcc evaluate --model {model} --data {config.dataset.name} --split {config.dataset.test_split}\n"
        f"  vae-jcc bench rate-accuracy --model {model} -o {workdir / 'bench'}   # beside classical codecs\n"
        f"  python -m vae_jcc.main --config=configs/cifar10.py      # other data: the configurations in configs/",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
