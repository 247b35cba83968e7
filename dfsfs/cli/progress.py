"""Bars on stderr that show how far a command is, where a terminal is at the other end."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich import progress
from rich.console import Console

from dfsfs.printable import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# Without markup: or else `[/]` in a name would be an error, and `[link=...]` a link.
_NAME = progress.TextColumn("{task.description}", markup=False)


@contextmanager
def of_bytes(name: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar for a file; gives what to call with the bytes that are done so far."""
    columns = (
        _NAME,
        progress.BarColumn(),
        progress.DownloadColumn(binary_units=True),
        progress.TransferSpeedColumn(),
        progress.TimeRemainingColumn(),
    )
    with progress.Progress(*columns, console=Console(stderr=True)) as shown:
        task = shown.add_task(printable(name), total=total)
        yield lambda done: shown.update(task, completed=done)


class Counts:
    """Bars that count what is found and what is done; they vanish at the end."""

    def __init__(self, shown: progress.Progress) -> None:
        self._shown = shown
        self._tasks: dict[str, progress.TaskID] = {}

    def begin(self, name: str, total: int | None = None) -> None:
        """A bar of that name; `total` where it is known."""
        self._tasks[name] = self._shown.add_task(printable(name), total=total)

    def advance(self, name: str) -> None:
        """One more."""
        self._shown.advance(self._tasks[name])

    def end(self, name: str, total: int) -> None:
        """There is no more than that."""
        self._shown.update(self._tasks[name], total=total)


@contextmanager
def of_counts() -> Iterator[Counts]:
    """Bars for numbers of things."""
    columns = (_NAME, progress.BarColumn(), progress.MofNCompleteColumn())
    with progress.Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        yield Counts(shown)
