"""POSIX in a dictionary: what operations may lead to, whichever comes first.

An operation of the model is a generator: it does one atomic step between two yields, as a local file system would, and
returns what the program sees. `outcomes` runs several of them in every order of their steps.
"""

from __future__ import annotations

import errno
import stat as posix
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Sequence

    Steps = Generator[None, None, Any]
    """An operation of the model, begun."""
    Modelled = Callable[["Model"], Steps]

ROOT = 0
FIRST_NEW = 100
"""The number of the first file that an operation makes."""


class Failure(NamedTuple):
    """What a program sees of an error."""

    errno: int

    def __str__(self) -> str:
        return errno.errorcode.get(self.errno, str(self.errno))


@dataclass(slots=True)
class File:
    kind: int
    data: bytes = b""
    entries: dict[str, int] | None = None
    links: int = 1


@dataclass(slots=True)
class Model:
    """Files by number. `open` are the descriptors of programs by name: the file, and whether it appends."""

    files: dict[int, File] = field(default_factory=lambda: {ROOT: File(posix.S_IFDIR, entries={}, links=2)})
    open: dict[str, tuple[int, bool]] = field(default_factory=dict)
    next: int = FIRST_NEW

    def copy(self) -> Model:
        files = {number: replace(file) for number, file in self.files.items()}
        for file in files.values():
            file.entries = None if file.entries is None else dict(file.entries)
        return Model(files, dict(self.open), self.next)

    def add(self, path: str, file: File, number: int | None = None) -> int:
        if number is None:
            number, self.next = self.next, self.next + 1
        self.files[number] = file
        folder, name = self.parent(path)
        self.entries(folder)[name] = number
        return number

    def entries(self, number: int) -> dict[str, int]:
        found = self.files[number].entries
        if found is None:
            raise OSError(errno.ENOTDIR, "not a directory")
        return found

    def parent(self, path: str) -> tuple[int, str]:
        above, _, name = path.rpartition("/")
        return self.find(above), name

    def find(self, path: str) -> int:
        number = ROOT
        for name in path.split("/") if path else ():
            entries = self.entries(number)
            if name not in entries:
                raise OSError(errno.ENOENT, path)
            number = entries[name]
        return number

    def has(self, path: str) -> bool:
        folder, name = self.parent(path)
        return name in self.entries(folder)

    def drop(self, path: str) -> None:
        """Takes a name away."""
        folder, name = self.parent(path)
        number = self.entries(folder).pop(name)
        self.files[number].links -= 1

    def tree(self) -> dict[str, tuple[int, bytes, int]]:
        """All paths with what is there: the file's number (0 for new ones), its data, how many names it has."""
        return dict(self._below(ROOT, ""))

    def _below(self, folder: int, above: str) -> Iterable[tuple[str, tuple[int, bytes, int]]]:
        for name, number in self.entries(folder).items():
            file = self.files[number]
            yield above + name, (shown(number), file.data, file.links if file.entries is None else 0)
            if file.entries is not None:
                yield from self._below(number, f"{above}{name}/")


def shown(number: int) -> int:
    """The number by which results name a file: new ones have none that could be known before."""
    return number if number < FIRST_NEW else 0


class Outcome(NamedTuple):
    """What came of some operations, and the files that they leave behind."""

    results: tuple[Any, ...]
    state: Model


def outcomes(start: Model, operations: Sequence[Modelled], before: Iterable[tuple[int, int]] = ()) -> list[Outcome]:
    """Everything that may come of operations, each once. `before` has those that had ended when others began."""
    found: dict[str, Outcome] = {}
    after = {index: {first for first, then in before if then == index} for index in range(len(operations))}
    waiting: list[list[int]] = [[]]
    while waiting:
        outcome = _run(start, operations, after, waiting.pop(), waiting)
        found[repr(outcome)] = outcome
    return list(found.values())


def _run(
    start: Model,
    operations: Sequence[Modelled],
    after: dict[int, set[int]],
    choices: list[int],
    waiting: list[list[int]],
) -> Outcome:
    """Lets operations take steps in the order of `choices` and then in any; other ones are put in `waiting`."""
    state = start.copy()
    running = {index: operation(state) for index, operation in enumerate(operations)}
    results: list[Any] = [None] * len(operations)
    taken: list[int] = []
    while running:
        ready = [index for index in running if not after[index] & running.keys()]
        if len(taken) == len(choices):
            waiting += [[*taken, other] for other in ready[1:]]
            choices = [*taken, ready[0]]
        index = choices[len(taken)]
        taken.append(index)
        try:
            next(running[index])
        except StopIteration as stop:
            results[index] = stop.value
            del running[index]
        except OSError as error:
            results[index] = Failure(error.errno or 0)
            del running[index]
    return Outcome(tuple(results), state)
