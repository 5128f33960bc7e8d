"""Pictures beside each other: a row a system, a column an image."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np


def draw_grid(
    path: Path, rows: Sequence[tuple[str, np.ndarray, Sequence[str]]], title: str, side_inches: float = 1.3
) -> None:
    """Draws pictures in a grid to a PNG file; pixels stay pixels.

    Args:
        path: of the file.
        rows: (name, pictures uint8 [n, H, W, C], a caption for each or none at all), the same n in each row.
        title: above all.
        side_inches: of a picture.
    """
    # The object interface needs no display and touches no global state.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = len(rows[0][1])
    figure = Figure(figsize=(side_inches * columns + 1.2, 1.25 * side_inches * len(rows) + 0.4), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(len(rows), columns, squeeze=False)
    for line, (name, pictures, captions) in zip(grid, rows, strict=True):
        line[0].set_ylabel(name, fontsize="small")
        for i, (axes, picture) in enumerate(zip(line, pictures, strict=True)):
            axes.imshow(picture.squeeze(), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
            axes.set(xticks=[], yticks=[])
            if captions:
                axes.set_xlabel(captions[i], fontsize="x-small")
    figure.suptitle(title, fontsize="medium")
    figure.savefig(path, dpi=150)
