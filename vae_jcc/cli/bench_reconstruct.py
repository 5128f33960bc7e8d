"""`vae-jcc bench reconstruct`: how good the pictures are that a decoder rebuilds (docs/benchmark_reconstruct.md)."""

import argparse
import json
import shlex
import sys
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vae_jcc.cli.evaluation_data import open_evaluation_data
from vae_jcc.cli.files import write_bytes

if TYPE_CHECKING:
    from vae_jcc.benchmark.reconstruct import Shown
    from vae_jcc.benchmark.tables import Table


def add_arguments(benchmarks: Any) -> None:
    """Adds the benchmark to `vae-jcc bench`."""
    text = "PSNR, SSIM and MS-SSIM of pictures rebuilt from the bytes, and of JPEG's from as many"
    parser = benchmarks.add_parser("reconstruct", help=text, description=text)
    parser.set_defaults(run=run)
    model = "a shipped model's name or an artifact's folder; it needs a decoder"
    parser.add_argument("--model", required=True, metavar="NAME|DIR", help=model)
    data = 'a TFDS name, "folder:DIR" or "bundled:NAME"; default: what the model was trained on'
    parser.add_argument("--data", default="", metavar="SOURCE", help=data)
    parser.add_argument("--split", default="", help="default: the model's test split; for other data, test")
    parser.add_argument("--data-dir", default="", help="where TFDS data sets lie; default: TFDS_DATA_DIR")
    pictures = "first images of the split to draw; default 8"
    parser.add_argument("--pictures", type=_positive, default=8, metavar="N", help=pictures)
    output = "folder for reconstruct.json, reconstruct.md and reconstruct.png"
    parser.add_argument("--output", "-o", required=True, metavar="DIR", help=output)


def run(options: Namespace) -> int:
    """Measures, prints the table, and writes figures and pictures."""
    from rich.console import Console
    from rich.progress import Progress

    from vae_jcc.artifact import Artifact

    artifact = Artifact.load(options.model)
    source, name, split = open_evaluation_data(options, artifact)
    from vae_jcc.benchmark.picture_grid import draw_grid
    from vae_jcc.benchmark.reconstruct import measure_reconstruction
    from vae_jcc.publish import describe_run

    with Progress(console=Console(stderr=True), disable=not sys.stderr.isatty(), transient=True) as progress:
        task = progress.add_task("reconstruct", total=len(source))
        result, shown = measure_reconstruction(
            artifact, source, shown=options.pictures, progress=lambda done: progress.update(task, completed=done)
        )
    note = source.info.note  # what this copy says of itself: the model may have seen another
    made = describe_run(shlex.join(["vae-jcc", *sys.argv[1:]]))
    made["versions"] |= _versions(result)
    about = {"system": f"vae_jcc/{artifact.config.name}", "model": options.model}
    about |= {"fingerprint": artifact.fingerprint.hex(), "dataset": name, "data_note": note, "split": split}
    result = about | result | made
    folder = Path(options.output)
    write_bytes(folder / "reconstruct.json", (json.dumps(result, indent=1) + "\n").encode())
    table, notes = _table(result), _notes(result)
    text = "\n".join(["# Pictures rebuilt from the bytes\n", table.markdown(), *(f"{note}\n" for note in notes)])
    write_bytes(folder / "reconstruct.md", f"{text}\n![Originals, ours and JPEG's](reconstruct.png)\n".encode())
    draw_grid(folder / "reconstruct.png", _rows(result, shown), table.title)
    console = Console(width=None if sys.stdout.isatty() else 160)
    console.print(table.rich())
    for line in notes:
        console.print(line, markup=False, highlight=False)
    return 0


def _versions(result: dict[str, Any]) -> dict[str, str]:
    from importlib.metadata import version

    names = ["scikit-image", *(["torchmetrics", "torch"] if result["ours"]["ms_ssim"] is not None else [])]
    return {name: version(name) for name in names}


def _table(result: dict[str, Any]) -> "Table":
    from vae_jcc.benchmark.tables import Table

    ours = result["ours"]
    rows = [[f"{result['system']}, decoder", "-", *_cells(ours)]]
    for basis, point in result["jpeg"].items():
        nearest = f"nearest {basis} bytes" if point["reached"] else f"{basis} bytes: not reached"
        rows.append([f"JPEG quality {point['quality']}", nearest, *_cells(point)])
    note = f" ({result['data_note']})" if result["data_note"] else ""
    title = f"{result['dataset']}{note}, split {result['split']}: {result['n_images']:,} images"
    columns = ("system", "chosen by", "payload bytes", "file bytes", "bpp payload", "bpp file")
    return Table(title, (*columns, "PSNR (dB)", "SSIM", "MS-SSIM"), rows, text_columns=2)


def _cells(point: dict[str, Any]) -> list[str]:
    def number(key: str, digits: int) -> str:
        return "-" if point[key] is None else f"{point[key]:.{digits}f}"

    sizes = [number("payload_bytes", 1), number("file_bytes", 1), number("bpp_payload", 4), number("bpp_file", 4)]
    return [*sizes, number("psnr_db", 2), number("ssim", 4), number("ms_ssim", 4)]


def _notes(result: dict[str, Any]) -> list[str]:
    same = "equal to the bit" if result["classification"]["identical_logits"] else "NOT equal"
    top1 = result["classification"]["top1"]
    notes = [
        f"Classified from the same bytes: top-1 {top1:.2%}; the logits with and without the decoder are {same}, "
        f"over all {result['n_images']:,} images.",
        "Bytes are means over images. Our file bytes are the stream format's, one header for all. JPEG's payload "
        "leaves out the bytes that a flat grey image costs (headers and tables).",
    ]
    for basis, point in result["jpeg"].items():
        if not point["reached"]:
            times = point[f"{basis}_bytes"] / result["ours"][f"{basis}_bytes"]
            notes.append(
                f"JPEG has no quality with so few {basis} bytes: at its least (quality {point['quality']}) it takes "
                f"{times:.1f} times ours."
            )
    for key, who in (("ours", "Ours"), *((basis, "JPEG") for basis in result["jpeg"])):
        point = result["ours"] if key == "ours" else result["jpeg"][key]
        if point["identical"]:
            notes.append(f"{who}: {point['identical']} images equal to their originals are left out of the mean PSNR.")
    if result["why_no_ms_ssim"]:
        notes.append(f"No MS-SSIM: {result['why_no_ms_ssim']}.")
    return notes


def _rows(result: dict[str, Any], shown: "Shown") -> list[tuple[str, Any, list[str]]]:
    from vae_jcc.benchmark.quality import psnr

    def captions(pictures: Any, sizes: list[int]) -> list[str]:
        pairs = zip(shown.original, pictures, sizes, strict=True)
        return [f"{size} B, {psnr(original, picture):.1f} dB" for original, picture, size in pairs]

    jpeg = f"JPEG quality {result['jpeg']['payload']['quality']}"
    return [
        ("original", shown.original, []),
        ("ours", shown.ours, captions(shown.ours, shown.our_bytes)),
        (jpeg, shown.jpeg, captions(shown.jpeg, shown.jpeg_bytes)),
    ]


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not a positive number")
    return value
