"""Tables of results. One table has two forms:

    in a pipe or file   each row is one line, columns are two spaces apart, nothing is wrapped or cut: for grep and awk
    on a terminal       rich draws it (terminal.py): titles stand out, words wrap inside of their column

A path is never wrapped, so that it can be copied: a table whose paths alone are wider than the terminal has the first
form there, too. In every cell, what does not stand for itself is an escape: see printable.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dfsfs.printable import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

GAP = 2
"""Spaces between two columns."""


def _no_style(_: str) -> str:
    return ""


@dataclass(frozen=True, slots=True)
class Column:
    """`wraps`: its cells are words, and may take several lines of a terminal. `style`: the name of the colour in which
    a terminal shows a cell; empty: as everything else.
    """

    title: str
    wraps: bool = False
    style: Callable[[str], str] = _no_style


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of cells. A column that has nothing but numbers is set to the right."""

    columns: tuple[Column, ...]
    rows: Sequence[Sequence[str | float]]

    def is_numeric(self, index: int) -> bool:
        """Whether a column has nothing but numbers."""
        return bool(self.rows) and all(isinstance(row[index], int | float) for row in self.rows)

    def texts(self, encoding: str) -> list[list[str]]:
        """The cells as they are shown; a character that the encoding does not have is an escape, too."""
        return [[_escape_unencodable(printable(str(cell)), encoding) for cell in row] for row in self.rows]


def plain_lines(table: Table, encoding: str) -> list[str]:
    """The table with a line for each row."""
    rows = [[column.title for column in table.columns], *table.texts(encoding)]
    widths = [max(width_of(row[index]) for row in rows) for index in range(len(table.columns))]
    right = [table.is_numeric(index) for index in range(len(table.columns))]
    return [_join_cells(row, widths, right) for row in rows]


def _join_cells(row: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    padded = []
    for cell, width, to_right in zip(row, widths, right, strict=True):
        space = " " * (width - width_of(cell))
        padded.append(space + cell if to_right else cell + space)
    return (" " * GAP).join(padded).rstrip()


def width_of(text: str) -> int:
    """The columns of a terminal that a printable text takes: some characters take two, some none."""
    if text.isascii():
        return len(text)
    from dfsfs.cli.terminal import count_cells  # takes long to import, and most names do without

    return count_cells(text)


def _escape_unencodable(text: str, encoding: str) -> str:
    return text.encode(encoding, "backslashreplace").decode(encoding)
