"""What rich does for tables, where a terminal is at the other end. Imported only then, as rich takes long to import."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING, Literal

from rich.cells import cell_len

from dfsfs.cli.tables import GAP

if TYPE_CHECKING:
    from rich.console import Console

    from dfsfs.cli.tables import Table


def count_cells(text: str) -> int:
    """The columns that a printable text takes."""
    return cell_len(text)


def draw(table: Table, encoding: str) -> str | None:
    """The table as the terminal shows it, with line ends; None if its paths alone are wider than the terminal.

    The variable NO_COLOR and a terminal without colours (TERM=dumb) are respected: no escape is written then.
    """
    from rich.console import Console

    buffer = io.StringIO()
    colours: Literal["auto"] | None = None if os.environ.get("NO_COLOR") else "auto"
    console = Console(file=buffer, force_terminal=True, highlight=False, color_system=colours)
    texts = table.texts(encoding)
    least = [_least_width(table, texts, index) for index in range(len(table.columns))]
    if sum(least) + GAP * (len(least) - 1) > console.width:
        return None
    _print(console, table, texts, least)
    return "".join(f"{line.rstrip()}\n" for line in buffer.getvalue().splitlines())


def _least_width(table: Table, texts: list[list[str]], index: int) -> int:
    """The columns of the terminal that a column of the table takes at least."""
    column = table.columns[index]
    cells = [column.title, *(row[index] for row in texts)]
    pieces = [word for cell in cells for word in cell.split()] if column.wraps else cells
    return max(map(cell_len, pieces), default=1)


def _print(console: Console, table: Table, texts: list[list[str]], least: list[int]) -> None:
    from rich.table import Table as Grid
    from rich.text import Text

    # Cells are Text: as str, `[red]` in a name would be markup.
    grid = Grid(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold")
    for index, column in enumerate(table.columns):
        grid.add_column(
            Text(column.title),
            justify="right" if table.is_numeric(index) else "left",
            no_wrap=not column.wraps,
            min_width=least[index],
        )
    for row in texts:
        grid.add_row(*(Text(cell, column.style(cell)) for cell, column in zip(row, table.columns, strict=True)))
    console.print(grid, crop=False, soft_wrap=False)
