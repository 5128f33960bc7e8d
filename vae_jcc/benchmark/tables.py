"""One table, twice: for the terminal and as Markdown."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Table:
    """Text in rows and columns.

    Attributes:
        title: above it.
        columns: heads; the first column is aligned left and the others right, where they are numbers.
        rows: of cells.
        text_columns: how many columns from the left hold text.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    text_columns: int = 1

    def rich(self) -> Any:
        """Returns it for rich's console."""
        from rich.table import Table as RichTable

        table = RichTable(title=self.title)
        for i, column in enumerate(self.columns):
            table.add_column(column, justify="left" if i < self.text_columns else "right", overflow="fold")
        for row in self.rows:
            table.add_row(*row)
        return table

    def markdown(self) -> str:
        """Returns it as a Markdown section."""
        rules = [" --- " if i < self.text_columns else " ---: " for i in range(len(self.columns))]
        lines = [_line(self.columns), "|" + "|".join(rules) + "|", *map(_line, self.rows)]
        return f"## {self.title}\n\n" + "\n".join(lines) + "\n"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
