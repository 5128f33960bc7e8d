"""What a rate-accuracy run shows: BD-accuracy, a table for terminal and Markdown, and a plot."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from vae_jcc.benchmark.bd import MIN_POINTS, TooFewPoints, bd_accuracy, smallest_lead
from vae_jcc.benchmark.codecs import CODECS
from vae_jcc.benchmark.plots import plot_rate_accuracy
from vae_jcc.files import write_file

System = dict[str, Any]

# Marker and colour of a classical codec: the pale ones of Matplotlib's tab20, whose strong ones are left to models.
_LOOKS = {
    "jpeg": ("s", "#9edae5"),
    "j2k": ("D", "#dbdb8d"),
    "webp": ("^", "#c7c7c7"),
    "heic": ("v", "#f7b6d2"),
    "avif": ("P", "#c49c94"),
    "jxl": ("X", "#c5b0d5"),
}

RATE_LABEL = "bits per pixel (classical codecs: payload; vae_jcc: file bytes in a stream)"
_POINT_COLUMNS = ("system", "point", "seeds", "top-1 %", "top-5 %", "bpp payload", "bpp file", "compared at", "images")
_BD_COLUMNS = (
    "system",
    "over JPEG",
    "over the best classical codec",
    "smallest lead over JPEG",
    "smallest lead over any codec",
)


def write_report(folder: Path, systems: Sequence[System]) -> list[Table]:
    """Writes result.json, table.md, rate_accuracy.png and .svg to a folder.

    Args:
        folder: that exists.
        systems: in the results schema; those of classical codecs have "codec" and "classifier".

    Returns:
        The tables of points and of BD-accuracy, for a terminal.
    """
    systems = [_styled(system) for system in sorted(systems, key=_place)]
    best = add_bd_accuracy(systems)
    add_smallest_lead(systems)
    write_file(folder / "result.json", (json.dumps(systems, indent=1) + "\n").encode())
    title = _title(systems)
    points, deltas = _point_rows(systems), _bd_rows(systems)
    bd_title = f"BD-accuracy in points of top-1{f'; the best classical codec is {best}' if best else ''}"
    text = f"# {title}\n\n{_markdown(_POINT_COLUMNS, points)}\n{bd_title}:\n\n{_markdown(_BD_COLUMNS, deltas)}"
    write_file(folder / "table.md", text.encode())
    for suffix in ("png", "svg"):
        path = folder / f"rate_accuracy.{suffix}"
        plot_rate_accuracy(path, systems, title, rate_label=RATE_LABEL, legend_beside=True, log_rate=True)
    return [_table(title, _POINT_COLUMNS, points), _table(bd_title, _BD_COLUMNS, deltas)]


def add_bd_accuracy(systems: Sequence[System]) -> str:
    """Adds "bd_accuracy" to each system: points of top-1 over JPEG and over the best classical codec.

    JPEG is the one with the fine-tuned classifier where that has points enough, else with the clean one. The best
    classical codec, with its classifier, is the one with the highest BD-accuracy over JPEG. A figure that cannot be had
    is the reason in words instead.

    Returns:
        Name of the best classical codec's system; "" where there is none.
    """
    classical = [system for system in systems if "codec" in system]
    jpegs = [s for s in classical if s["codec"] == "jpeg"]
    jpegs.sort(key=lambda s: (len(s["points"]) < MIN_POINTS, s["classifier"] == "clean"))
    for system in systems:
        system["bd_accuracy"] = {"over_jpeg": _delta(system, jpegs[0]) if jpegs else "no JPEG curve"}
    rated = [s for s in classical if isinstance(s["bd_accuracy"]["over_jpeg"], float)]
    best = max(rated, key=lambda s: s["bd_accuracy"]["over_jpeg"], default=None)
    for system in systems:
        over = _delta(system, best) if best else "no classical curve"
        system["bd_accuracy"] |= {"over_best_classical": over, "best_classical": best["system"] if best else ""}
    return best["system"] if best else ""


def add_smallest_lead(systems: Sequence[System]) -> None:
    """Adds "smallest_lead" to each model's system: points of top-1 that it is ahead at every common rate.

    "over_jpeg" is the least over JPEG with either classifier, "over_any_classical" over every codec with either, each
    at the rates that it shares with the model; None where there are none.
    """
    for system in (system for system in systems if "codec" not in system):
        leads: dict[str, list[float]] = {"over_jpeg": [], "over_any_classical": []}
        for other in (other for other in systems if "codec" in other):
            try:
                lead = smallest_lead(*_curve(system), *_curve(other))
            except TooFewPoints:
                continue
            leads["over_any_classical"].append(lead)
            if other["codec"] == "jpeg":
                leads["over_jpeg"].append(lead)
        system["smallest_lead"] = {key: min(values, default=None) for key, values in leads.items()}


def _delta(system: System, reference: System) -> float | str:
    try:
        return bd_accuracy(*_curve(system), *_curve(reference))
    except TooFewPoints as error:
        return str(error)


def _curve(system: System) -> tuple[list[float], list[float]]:
    """Returns rates (bpp) and top-1 (%), means over seeds.

    Of points at one rate the best is taken (neighbouring qualities can make the same bytes); none at a rate of 0, which
    has no logarithm.
    """
    best: dict[float, float] = {}
    for point in system["points"]:
        rate, top1 = (float(np.mean(point[key])) for key in (system.get("rate", "bpp_file"), "top1"))
        if rate > 0:
            best[rate] = max(100 * top1, best.get(rate, 0.0))
    return list(best), list(best.values())


def _styled(system: System) -> System:
    """Returns the system with the look of its curve: a marker a codec, a broken line for the clean classifier."""
    if "codec" not in system:
        return dict(system)
    marker, color = _LOOKS[system["codec"]]
    linestyle = ":" if system["classifier"] == "clean" else "-"
    return system | {"marker": marker, "color": color, "linestyle": linestyle, "zorder": 1}


def _place(system: System) -> tuple[int, str]:
    """Returns what systems are sorted by: models as they come, then each codec, clean before fine-tuned."""
    return (list(CODECS).index(system["codec"]), system["classifier"]) if "codec" in system else (-1, "")


def _title(systems: Sequence[System]) -> str:
    first = systems[0]
    note = f" ({first['data_note']})" if first.get("data_note") else ""
    return f"{first['dataset']}{note}, {first['split']} split"


def _point_rows(systems: Sequence[System]) -> list[list[str]]:
    rows = []
    for system in systems:
        rate = system.get("rate", "bpp_file")
        for point in sorted(system["points"], key=lambda p: float(np.mean(p[rate]))):
            row = [system["system"], point["label"], str(len(point.get("seeds", [0])))]
            row += [_mean(point, "top1", 100, 2), _mean(point, "top5", 100, 2)]
            row += [_mean(point, "bpp_payload", 1, 3), _mean(point, "bpp_file", 1, 3)]
            rows.append([*row, f"{_mean(point, rate, 1, 3)} {rate.removeprefix('bpp_')}", _images(system)])
    return rows


def _images(system: System) -> str:
    return f"{system['n_images']:,.0f}" if "n_images" in system else "-"


def _mean(point: dict[str, Any], key: str, scale: float, digits: int) -> str:
    """Returns mean, and standard deviation over seeds where there are several."""
    if key not in point:
        return "-"
    values = scale * np.asarray(point[key], np.float64)
    spread = f" +- {np.std(values, ddof=1):.{digits}f}" if len(values) > 1 else ""
    return f"{np.mean(values):.{digits}f}{spread}"


def _bd_rows(systems: Sequence[System]) -> list[list[str]]:
    def text(value: float | str | None) -> str:
        return f"{value:+.2f}" if isinstance(value, float) else value or "-"

    rows = []
    for system in systems:
        deltas, leads = system["bd_accuracy"], system.get("smallest_lead", {})
        row = [deltas["over_jpeg"], deltas["over_best_classical"]]
        row += [leads.get("over_jpeg"), leads.get("over_any_classical")]
        rows.append([system["system"], *map(text, row)])
    return rows


def _markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] + ["---:"] * (len(columns) - 1), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    table = Table(title=title)
    for i, column in enumerate(columns):
        table.add_column(column, justify="right" if i else "left")
    for row in rows:
        table.add_row(*row)
    return table
