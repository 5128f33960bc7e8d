"""Rate-accuracy plots from results in the project's JSON schema."""

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np


def plot_rate_accuracy(
    path: Path,
    results: Sequence[dict[str, Any]],
    title: str,
    rate: str = "bpp_file",
    rate_label: str = "bits per pixel",
    legend_beside: bool = False,
    log_rate: bool = False,
) -> None:
    """Draws top-1 against bits per pixel, one line a system, error bars over seeds, to a PNG or SVG file.

    Args:
        path: of the picture.
        results: dictionaries in the results schema: "system", "points" with "top1" and rates as lists over seeds. A
            system may name another rate to be drawn at in "rate", and a "marker", "linestyle", "color" and "zorder".
        title: of the plot; name the data set and its note.
        rate: which of a point's rates is the abscissa.
        rate_label: what the abscissa says; name the kind of rate where systems differ in it.
        legend_beside: puts the legend to the right of the axes, for more systems than fit inside.
        log_rate: makes the abscissa logarithmic, for rates of several orders.
    """
    # The object interface needs no display and touches no global state.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter

    figure = Figure(figsize=(8.6 if legend_beside else 6.4, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for result in results:
        points = sorted(result["points"], key=lambda p: np.mean(p[result.get("rate", rate)]))
        x = [np.mean(p[result.get("rate", rate)]) for p in points]
        y = [100 * np.mean(p["top1"]) for p in points]
        spread = [100 * np.std(p["top1"], ddof=1) if len(p["top1"]) > 1 else 0.0 for p in points]
        axes.errorbar(
            x,
            y,
            yerr=spread if any(spread) else None,
            marker=result.get("marker", "o"),
            linestyle=result.get("linestyle", "-"),
            color=result.get("color"),
            zorder=result.get("zorder", 2),
            capsize=3,
            label=result["system"],
        )
    axes.set(xlabel=rate_label, ylabel="top-1 accuracy (%)", title=textwrap.fill(title, 56))
    if log_rate:
        axes.set_xscale("log", nonpositive="mask")  # a codec can have a point without any payload
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.xaxis.set_major_formatter(FormatStrFormatter("%g"))
        axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        axes.set_xlim(0, 1.04 * max(np.mean(p[r.get("rate", rate)]) for r in results for p in r["points"]))
    axes.grid(alpha=0.3)
    if legend_beside:
        figure.legend(fontsize="small", loc="outside right upper")
    else:
        axes.legend(fontsize="small")
    # An SVG states when it was drawn, unless told not to: the same figures then give the same file.
    figure.savefig(path, dpi=150, metadata={"Date": None} if path.suffix == ".svg" else None)
