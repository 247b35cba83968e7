"""AbsentNames: the last names that servers have said not to be there.

The kernel looks up the name that a file is to get, and asks for the rename once it knows that there is no such name. So
what was answered a moment ago need not be asked again. It is believed like any other answer (ordering.py): not beyond a
lifetime, not once a change made here has overtaken it, and only for the user who was told so.

Pure: the time is an argument.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from dfsfs.vfs.names.inodetable import Inode, InodeTable

NAMES_MAX = 64
"""Names that are remembered: each for the request that follows."""


class _Answer(NamedTuple):
    asked: int
    """The version (InodeTable.version) at which it was asked for."""
    time: float


class AbsentNames:
    """See the module's text. Names are wire names, times in seconds of the clock."""

    def __init__(self, table: InodeTable) -> None:
        self._table = table
        self._answers: OrderedDict[tuple[Inode, str, int], _Answer] = OrderedDict()

    def add(self, directory: Inode, name: str, user: int, asked: int, now: float) -> None:
        """A server has told a user that there is no such name in a directory; it was asked at version `asked`."""
        key = (directory, name, user)
        self._answers[key] = _Answer(asked, now)
        self._answers.move_to_end(key)
        if len(self._answers) > NAMES_MAX:
            self._answers.popitem(last=False)

    def has(self, directory: Inode, name: str, user: int, now: float, lifetime: float) -> bool:
        """Whether it is known that there is no such name, by an answer that is believed for `lifetime`."""
        answer = self._answers.get((directory, name, user))
        if answer is None or now - answer.time >= lifetime:
            return False
        return not self._table.has_name_changed_since(directory, name, answer.asked)
