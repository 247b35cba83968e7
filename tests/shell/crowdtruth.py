"""What is right for a crowd (crowd.py): what the folder had on the server at each time, and what programs may be told.

An answer is right if the truth was such at some time between the question and the answer. A change that a program is
told of is one that happened in that time and that no other program was told of. A killed program's change may come
later, but not after somebody who asked for the name since then was told of it.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from tests.shell.scene import HIDDEN

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tests.support.fakes.server.volume import Volume

FOLDER = "d"
NAMES = ("a", "b", "c", "A")
"""The names that requests are about. On the server `a` and `A` are one."""
MAKES = frozenset({"create", "create new", "mknod", "mkdir"})
CHANGES = MAKES | {"unlink", "rmdir", "rename"}


class Task(NamedTuple):
    """What a program does: one request, or of a listing all of them."""

    verb: str
    name: str
    other: str = ""
    """The new name of a rename."""
    patience: int | None = None
    """After how many steps of the schedule, since it began, the program is killed; None: it is not."""
    room: int = 100
    """Entries for which the kernel has room in one answer to READDIRPLUS."""
    stays_open: bool = False
    """Whether a file that is created stays open until the end."""

    def __str__(self) -> str:
        about = f"{self.name} to {self.other}" if self.verb == "rename" else self.name
        return f"{self.verb} {about}".strip() + ("" if self.patience is None else f" (killed after {self.patience})")


@dataclass(slots=True)
class Answer:
    """What a task came to. `since` and `until` are times of the truth."""

    since: int
    error: int = 0
    entry: tuple[int, int, bool] | None = None
    """The inode's number, the server's file id, and whether it is a folder."""
    listed: list[tuple[str, int, int]] = field(default_factory=list)
    """Names, file ids, and until when the answer with them took."""
    until: int = 0
    ended: bool = False
    asked_at: int = -1
    """The step of the schedule at which the file system got the request."""
    ended_at: int = -1
    """The step at which it answered."""
    is_whole: bool = False
    """Whether a listing came to its end."""


State = dict[str, tuple[int, bool]]
"""What is in the folder: names with file ids, and whether that is a folder."""


class Truth:
    """See the module's text. Times are indexes into `history`."""

    def __init__(self, volume: Volume) -> None:
        self.history: list[State] = []
        self._volume = volume
        self._claimed: set[tuple[int, str]] = set()
        """Changes that a program was told of: when, and of which kind."""
        self.remember()

    @property
    def now(self) -> int:
        """The time of the last change."""
        return len(self.history) - 1

    def remember(self) -> None:
        """The server has carried something out."""
        volume = self._volume
        folder = volume.at(FOLDER)
        state = {
            name: (inode.file_id, inode.is_directory)
            for name, inode in folder.children.values()
            if HIDDEN not in name
            and not any(place[0] is folder and place[1] == volume.key(name) for place in inode.pending)
        }
        self.history.append(state)

    def _at(self, time: int, name: str) -> tuple[int, bool] | None:
        """What had a name at a time, in whatever case."""
        folded = name.lower()
        return next((what for known, what in self.history[time].items() if known.lower() == folded), None)

    def _window(self, answer: Answer, name: str) -> list[tuple[int, bool] | None]:
        return [self._at(time, name) for time in range(answer.since, answer.until + 1)]

    def judge(self, task: Task, answer: Answer) -> str:
        """What is wrong with an answer."""
        if task.verb == "forget":
            return ""
        if answer.error == errno.EINTR:
            return "EINTR, and nobody was killed" if task.patience is None else ""
        return self._judge_listing(answer) if task.verb == "list" else self._judge_request(task, answer)

    def _judge_listing(self, answer: Answer) -> str:
        if answer.error:
            return errno.errorcode[answer.error]
        names = [name for name, _, _ in answer.listed]
        if len(set(names)) < len(names):
            return f"a name comes twice: {names}"
        for name, file_id, until in answer.listed:
            states = self.history[answer.since : until + 1]
            if not any(state.get(name, (0,))[0] == file_id for state in states):
                return f"{name} was never file {file_id} in that time"
        always = set.intersection(*(set(state) for state in self.history[answer.since : answer.until + 1]))
        missing = always - set(names)
        return f"{sorted(missing)} were there all the time" if answer.is_whole and missing else ""

    def _judge_request(self, task: Task, answer: Answer) -> str:
        seen = self._window(answer, task.name)
        if answer.error or (task.verb == "lookup" and answer.entry is None):
            return self._judge_error(task, answer.error or errno.ENOENT, seen, self._window(answer, task.other))
        if answer.entry is not None:
            _, file_id, is_folder = answer.entry
            if (file_id, is_folder) not in seen:
                return f"answered by file {file_id}, which never had the name in that time: {seen}"
            is_new = task.verb in MAKES and self._claim_new(answer, file_id)
            if task.verb in MAKES - {"create"} and not is_new:
                return f"file {file_id} is not new"
            return ""
        if task.verb == "rename":
            return "" if self._claim_move(task, answer) else "it did not happen"
        return "" if self._claim_removal(task, answer) else "it did not happen"

    def _judge_error(
        self, task: Task, code: int, seen: list[tuple[int, bool] | None], other: list[tuple[int, bool] | None]
    ) -> str:
        folder, file = any(what and what[1] for what in seen), any(what and not what[1] for what in seen)
        other_folder = any(what and what[1] for what in other)
        other_file = any(what and not what[1] for what in other)
        makes = task.verb in MAKES - {"create"}
        possible = {
            errno.ENOENT: None in seen and not task.verb.startswith(("create", "mk")),
            errno.EEXIST: makes and (folder or file),
            errno.EISDIR: (task.verb in ("unlink", "create") and folder)
            or (task.verb == "rename" and file and other_folder),
            errno.ENOTDIR: (task.verb == "rmdir" and file) or (task.verb == "rename" and folder and other_file),
        }
        return "" if possible.get(code) else f"{errno.errorcode[code]}, and there was {seen} {other or ''}"

    def _claim_new(self, answer: Answer, file_id: int) -> bool:
        """Whether a file was made in that time, and nobody else was told so."""
        for time in range(answer.since + 1, answer.until + 1):
            ids, before = ({what[0] for what in self.history[at].values()} for at in (time, time - 1))
            if file_id in ids - before and (time, "new") not in self._claimed:
                self._claimed.add((time, "new"))
                return True
        return False

    def _claim_removal(self, task: Task, answer: Answer) -> bool:
        for time in range(answer.since + 1, answer.until + 1):
            before, after = self._at(time - 1, task.name), self._at(time, task.name)
            still = before in self.history[time].values()
            if before and not after and not still and (time, "gone") not in self._claimed:
                self._claimed.add((time, "gone"))
                return True
        return False

    def _claim_move(self, task: Task, answer: Answer) -> bool:
        for time in range(answer.since, answer.until + 1):
            if self._at(time, task.name) is not None and task.name == task.other:
                return True
            if time == answer.since:
                continue
            before, after = self.history[time - 1], self.history[time]
            moved = self._at(time - 1, task.name)
            if moved and after.get(task.other) == moved and before != after and (time, "moved") not in self._claimed:
                self._claimed.add((time, "moved"))
                return True
        return self._is_nothing_to_do(task, answer)

    def _is_nothing_to_do(self, task: Task, answer: Answer) -> bool:
        """Whether the file had the new name already, in another case: a server may rename nothing then."""
        same = task.name.lower() == task.other.lower()
        return same and any(task.other in self.history[time] for time in range(answer.since, answer.until + 1))

    def judge_the_killed(self, tasks: Sequence[Task], answers: Mapping[int, Answer]) -> list[str]:
        """A change that no program was told of is that of one that was killed. It came before anybody was told of the
        name who had asked after that.
        """
        problems = []
        for time in range(1, len(self.history)):
            names = {name for name in map(str.lower, NAMES) if self._at(time - 1, name) != self._at(time, name)}
            if not names or any(claimed == time for claimed, _ in self._claimed):
                continue
            about = [number for number, task in enumerate(tasks) if names & _names_of(task)]
            if not any(_explains(tasks, answers, number, about, time) for number in about):
                problems.append(f"{sorted(names)} changed at {time}, by nobody who might still do that")
        return problems


def _explains(tasks: Sequence[Task], answers: Mapping[int, Answer], number: int, about: list[int], time: int) -> bool:
    task, answer = tasks[number], answers[number]
    if task.verb not in CHANGES or answer.since >= time:
        return False
    if answer.error != errno.EINTR:
        return not answer.error and time <= answer.until
    killed = answer.ended_at
    return not any(
        answers[other].asked_at >= killed and answers[other].until < time and _is_told(tasks[other], answers[other])
        for other in about
    )


def _is_told(task: Task, answer: Answer) -> bool:
    """Whether a program was told what has a name, or has changed it."""
    verb, error = task.verb, answer.error
    return (verb == "lookup" and error != errno.EINTR) or (verb in CHANGES and not error)


def _names_of(task: Task) -> set[str]:
    names = {task.name, task.other} if task.verb == "rename" else {task.name}
    return {name.lower() for name in names if task.verb not in ("list", "forget")}
