"""Operations in one scene: run by a schedule, and judged by the model.

What is looked at, in this order:

    results       those of one of the orders in which POSIX lets them happen
    at once       after all of them, with no time passing: what stat, fstat, readdir, a new open and read, and each
                  descriptor that is still open show is what that order leaves behind; i_size of what is open as well
    in between    no size became smaller that no operation has made smaller
    at the end    with everything closed, the server has just that, with no hidden file; times are later than before
                  if something was written, and do not change any more; no handle and no credit is left
"""

from __future__ import annotations

import os
import stat as posix
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import trio
import trio.testing

from dfsfs.smb.wire.constants import Access, Command, CreateDisposition, CreateOptions
from dfsfs.vfs.data.caching import CacheMode
from tests.shell.explorer import Action, Redundant, quiet
from tests.shell.model import Failure, Model, Outcome, outcomes, shown
from tests.shell.scene import ACTIMEO, OLD, OTHER, Scene, model
from tests.support.fakes.server import messages

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from tests.shell.explorer import Chooser
    from tests.shell.operations import Operation
    from tests.support.fakes.server.server import Held, Message

PATIENCE = 3
"""How often a second may pass while nothing can happen, before that is called a hang."""
ALWAYS = frozenset({"f", "g"})
"""What is looked at whatever the operations are about."""
NO_ERRORS = frozenset(("ESTALE", "EINVAL", "EIO", "EBADF", "EAGAIN", "EACCES"))
"""What no program may be told because another client has done something."""
_CHANGING = (Command.SMB2_WRITE, Command.SMB2_SET_INFO, Command.SMB2_IOCTL, Command.SMB2_OPLOCK_BREAK)
_ANYTHING = (Access.FILE_READ_DATA | Access.FILE_WRITE_DATA | Access.DELETE).value


@dataclass
class Verdict:
    """What came of one schedule."""

    problems: list[str]
    schedule: list[str]
    trace: list[str]
    in_order: bool = True
    """Whether the server has carried out requests in the order in which they came, as Samba does mostly."""

    def text(self, title: str) -> str:
        title += "" if self.in_order else " (the server carries out a later request first)"
        return "\n".join([title, *(f"  WRONG: {line}" for line in self.problems), *(f"    {s}" for s in self.trace)])


@dataclass
class Meeting:
    """Operations that meet. `also` are more descriptors that are open."""

    operations: tuple[Operation, ...]
    also: tuple[str, ...] = ()
    mode: CacheMode = CacheMode.STRICT
    leases: bool = True
    gates: bool = False
    _expected: dict[frozenset[tuple[int, int]], list[Outcome]] = field(default_factory=dict)

    @property
    def needs(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*(fd for one in self.operations for fd in one.needs), *self.also)))

    @property
    def others_take_part(self) -> bool:
        """Whether another client changes something: then what was known may be believed for actimeo."""
        return any(operation.elsewhere for operation in self.operations)

    def __str__(self) -> str:
        also = f" with {' '.join(self.also)}" if self.also else ""
        how = "" if self.mode is CacheMode.STRICT else f", cache={self.mode.name.lower()}"
        names = " | ".join(operation.name for operation in self.operations)
        return f"{names}{also}{how}{'' if self.leases else ', no leases'}"

    def expected(self, before: frozenset[tuple[int, int]]) -> list[Outcome]:
        """What may come of them. `before`: which had ended when others began."""
        if self.others_take_part:
            before = frozenset()
        if before not in self._expected:
            steps = [operation.model for operation in self.operations]
            self._expected[before] = outcomes(model(self.needs), steps, before)
        return self._expected[before]

    @property
    def names(self) -> list[str]:
        """What has to be looked at afterwards."""
        return sorted(ALWAYS.union(*(operation.touches for operation in self.operations)) - {"/"})

    async def play(self, clock: trio.testing.MockClock, chooser: Chooser, *, talks: bool = False) -> Verdict | None:
        """One schedule; None if it is no other than one that was tried. `talks`: the verdict has every step."""
        async with trio.open_nursery() as nursery:
            run = _Run(self, Scene(nursery, mode=self.mode, leases=self.leases), clock, chooser, nursery)
            run.talks = talks
            try:
                return await run.play()
            except Redundant:
                return None
            finally:
                nursery.cancel_scope.cancel()
        raise AssertionError("not reached")


class _Run:
    def __init__(
        self,
        meeting: Meeting,
        scene: Scene,
        clock: trio.testing.MockClock,
        chooser: Chooser,
        nursery: trio.Nursery,
    ) -> None:
        self.meeting = meeting
        self.scene = scene
        self.problems: list[str] = []
        self.trace: list[str] = []
        self.schedule: list[str] = []
        self.talks = False
        self._clock = clock
        self._chooser = chooser
        self._nursery = nursery
        self._operations = meeting.operations
        self._results: list[Any] = [None] * len(meeting.operations)
        self._begun: list[int] = []
        self._ended: list[int] = []
        self._before: set[tuple[int, int]] = set()
        self._gates: list[tuple[str, trio.Event]] = []
        self._breaks: list[Message] = []
        self._gated = 0
        self._in_order = True

    async def play(self) -> Verdict:
        scene = self.scene
        await scene.prepare(self.meeting.needs)
        await quiet()
        self._clock.jump(2 * ACTIMEO)
        await quiet()
        scene.server.holds = True
        scene.server.on_event = self._say
        if self.meeting.gates:
            scene.kernel.gate = self._gate
        scene.pause = self._gate
        scene.kernel.cut.clear()
        if await self._meet():
            scene.kernel.gate = None
            scene.server.holds, self.talks = False, False
            scene.server.run()
            await quiet()
            await self._judge()
        return Verdict(self.problems, self.schedule, self.trace, self._in_order)

    # -- while they meet --------------------------------------------------------------------------------------------

    async def _meet(self) -> bool:
        """Whether it came to an end."""
        waited = 0
        while True:
            actions = self._actions()
            if not actions:
                if len(self._ended) == len(self._operations):
                    return True
                if waited == PATIENCE:
                    self.problems.append("nothing can happen any more, and not both have ended")
                    return False
                waited += 1
                self._say("a second passes")
                self._clock.jump(1.0)
                await quiet()
                continue
            action = self._chooser.choose(list(actions))
            self.schedule.append(f"{action.kind} {action.key}")
            await self._do(action, actions[action])
            await quiet()

    def _actions(self) -> dict[Action, Any]:
        server = self.scene.server
        found: dict[Action, Any] = {}
        for index, operation in enumerate(self._operations):
            if index not in self._begun:
                found[Action("begin", f"{index} {operation.name}", client=_client(operation))] = index
        for held in server.requests:
            if server.may_apply(held):
                found[Action("apply", _key(held), _only_looks(held), held.connection.name)] = held
        for message in server.messages:
            if server.may_let_go(message):
                found[Action("reach", self._message_key(message), False, message.connection.name)] = message
        for what, event in self._gates:
            found[Action("reach", f"kernel {what}")] = event
        return found

    def _message_key(self, message: Message) -> str:
        if message.request is not None:
            return _key(message.request)
        if message not in self._breaks:
            self._breaks.append(message)
        return f"break{self._breaks.index(message)}"

    async def _do(self, action: Action, what: Any) -> None:
        server = self.scene.server
        if action.kind == "begin":
            self._say("BEGINS", self._operations[what].name)
            self._begun.append(what)
            self._before.update((ended, what) for ended in self._ended)
            self._nursery.start_soon(self._perform, what)
        elif action.kind == "apply":
            self._say("applied", what)
            self._in_order &= not any(_came_before(held, what) for held in server.requests)
            nobody_waits = _is_posted(what, server.volume)
            server.apply(what)
            if nobody_waits:
                for message in [message for message in server.messages if message.request is what]:
                    server.let_go(message)
        elif isinstance(what, trio.Event):
            self._say("reaches", action.key)
            self._gates = [gate for gate in self._gates if gate[1] is not what]
            what.set()
        else:
            self._say("reaches", what)
            server.let_go(what)

    async def _perform(self, index: int) -> None:
        operation = self._operations[index]
        try:
            result = await operation.real(self.scene)
        except OSError as error:
            result = Failure(error.errno or 0)
            self._say("", error)
        self._results[index] = result
        self._ended.append(index)
        self._say("ENDS", f"{operation.name}: {_shown(result)}")

    async def _gate(self, what: str) -> None:
        event = trio.Event()
        self._gated += 1
        self._gates.append((f"{self._gated} {what}", event))
        await event.wait()

    def _say(self, what: str, about: object = "") -> None:
        if self.talks:
            self.trace.append(f"{what:8}{about}")

    # -- afterwards -------------------------------------------------------------------------------------------------

    async def _judge(self) -> None:
        if self.meeting.others_take_part:
            await self._judge_by_the_server()
            return
        results = tuple(self._results)
        expected = self.meeting.expected(frozenset(self._before))
        possible = [outcome for outcome in expected if self._are_equal(outcome.results, results)]
        if not possible:
            allowed = {_shown(outcome.results) for outcome in expected}
            self.problems.append(f"results {_shown(results)}; possible: {' or '.join(sorted(allowed))}")
            possible = expected
        if self.scene.kernel.cut and all(operation.grows for operation in self._operations):
            self.problems.append(f"the kernel was told to cut {self.scene.kernel.cut}")
        seen = await self._look()
        verdicts = [(self._differences(seen, _expect(outcome.state, seen)), outcome.state) for outcome in possible]
        differences, state = min(verdicts, key=lambda verdict: len(verdict[0]))
        self.problems += differences
        await self._end(state)

    def _differences(self, seen: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
        forgotten = any(operation.forgets for operation in self._operations)
        return [
            f"{what}: {_shown(seen[what])}; right: {_shown(wanted[what])}"
            for what in seen
            if seen[what] != wanted[what] and not (forgotten and _is_uncounted(seen[what], wanted[what]))
        ]

    def _are_equal(self, wanted: tuple[Any, ...], results: tuple[Any, ...]) -> bool:
        """A read that meets a truncation may get zeros: FUSE's kernel part fills the page before it cuts the size."""
        if wanted == results:
            return True
        if all(operation.grows for operation in self._operations):
            return False
        return all(
            one == other or (isinstance(one, bytes) and isinstance(other, bytes) and one == other.rstrip(b"\0"))
            for one, other in zip(wanted, results, strict=True)
        )

    async def _judge_by_the_server(self) -> None:
        """Where another client takes part, a system call is no longer one step. But after actimeo nothing is to be seen
        but what the server has, and no error is told that says nothing about the names and files there are.
        """
        for operation, result in zip(self._operations, self._results, strict=True):
            if isinstance(result, Failure) and str(result) in NO_ERRORS and not operation.elsewhere:
                self.problems.append(f"{operation.name} ends in {result}")
        kernel = self.scene.kernel
        for fd, number in self.scene.fds.items():
            if isinstance(failed := await self._caught(kernel.fsync(number)), Failure):
                self.problems.append(f"fsync by {fd}: {failed}")
        self._clock.jump(2 * ACTIMEO)
        await quiet()
        files = {fd: self.scene.number_of(kernel.files[number].inode.ino) for fd, number in self.scene.fds.items()}
        state = self.scene.as_model(files)
        seen = {what: value for what, value in (await self._look()).items() if not self._is_of_a_new_file(what, files)}
        self.problems += self._differences(seen, _expect(state, seen))
        await self._end(state)

    @staticmethod
    def _is_of_a_new_file(what: str, files: dict[str, int]) -> bool:
        """Whether something was seen through a descriptor of which nobody can say what file it is."""
        return any(what in (f"fstat {fd}", f"read by {fd}") for fd, number in files.items() if not number)

    async def _look(self) -> dict[str, Any]:
        """What programs see now."""
        kernel, seen = self.scene.kernel, {}
        for fd, number in self.scene.fds.items():
            size = kernel.size_of(number)
            if size is not None and not self.meeting.others_take_part:
                seen[f"i_size of {fd}"] = size
            seen[f"fstat {fd}"] = await self._caught(self._fstat(number))
            if kernel.files[number].flags & os.O_ACCMODE != os.O_WRONLY:
                seen[f"read by {fd}"] = await self._caught(kernel.read(number, 0, 4096))
        names = self.meeting.names
        for name in names:
            seen[f"stat {name}"] = await self._caught(self._stat(name))
        for folder in sorted({name.rpartition("/")[0] for name in names}):
            seen[f"list {folder}"] = await self._caught(self._list(folder))
        for name in names:
            if name not in ("d", "e") and (name != "g" or self._is_about("g")):
                seen[f"content of {name}"] = await self._caught(self._content(name))
        return seen

    def _is_about(self, name: str) -> bool:
        return any(name in operation.touches for operation in self._operations)

    async def _caught(self, action: Awaitable[Any]) -> Any:
        try:
            return await action
        except OSError as error:
            return Failure(error.errno or 0)

    async def _fstat(self, fd: int) -> Any:
        return self.scene.seen(await self.scene.kernel.fstat(fd))

    async def _stat(self, name: str) -> Any:
        return self.scene.seen(await self.scene.kernel.stat(name))

    async def _list(self, folder: str) -> Any:
        found = await self.scene.kernel.listdir(folder)
        return {name: self.scene.number_of(ino) for name, ino in found.items()}

    async def _content(self, name: str) -> Any:
        kernel = self.scene.kernel
        if (await kernel.stat(name)).kind == posix.S_IFLNK:
            return await kernel.readlink(name)
        fd = await kernel.open(name, os.O_RDONLY)
        try:
            return await kernel.read(fd, 0, 4096)
        finally:
            await kernel.close(fd)

    async def _end(self, state: Model) -> None:
        scene = self.scene
        for fd in list(scene.fds):
            closed = await self._caught(scene.kernel.close(scene.fds.pop(fd)))
            if isinstance(closed, Failure):
                self.problems.append(f"close of {fd}: {closed}")
        await quiet()
        if any(operation.writes for operation in self._operations) and not self.meeting.others_take_part:
            await self._check_times(state)
        await scene.fs.close()
        await quiet()
        self._check_server(state)

    async def _check_times(self, state: Model) -> None:
        """Of the file that was written: its time is later than before, and stays as it is."""
        paths = [path for path, (number, _, _) in state.tree().items() if number == 1]
        if not paths:
            return
        soon = await self._caught(self.scene.kernel.stat(paths[0]))
        self._clock.jump(2 * ACTIMEO)
        await quiet()
        later = await self._caught(self.scene.kernel.stat(paths[0]))
        if isinstance(soon, Failure) or isinstance(later, Failure):
            self.problems.append(f"stat {paths[0]}: {_shown(soon)}, later {_shown(later)}")
            return
        if soon.mtime != later.mtime:
            self.problems.append(f"the time of {paths[0]} goes from {soon.mtime} to {later.mtime} by itself")
        if later.mtime == self.scene.times["f"] and state.files[1].data != OLD:
            self.problems.append(f"{paths[0]} was written and has the time from before")

    def _check_server(self, state: Model) -> None:
        scene = self.scene
        truth, wanted = scene.truth(with_hidden=True), state.tree()
        for path in sorted({*truth, *wanted}):
            if truth.get(path) != wanted.get(path):
                self.problems.append(f"the server has {truth.get(path)} as {path}; right: {wanted.get(path)}")
        for opened in scene.server.volume.opens.values():
            self.problems.append(
                f"a handle is left open: access {opened.access:#x} on {opened.place and opened.place[1]}"
            )
        statistics = scene.tree.connection.statistics()
        if statistics.in_flight or statistics.queued or statistics.credits.available != scene.connection.credits:
            self.problems.append(f"credits are lost: {statistics}")


def _expect(state: Model, seen: dict[str, Any]) -> dict[str, Any]:
    """What the model says to each observation."""
    return {what: _expected_of(state, *what.split(" ", 1)) if what[:2] != "i_" else _size(state, what) for what in seen}


def _size(state: Model, what: str) -> int:
    return len(state.files[state.open[what.removeprefix("i_size of ")][0]].data)


def _expected_of(state: Model, verb: str, rest: str) -> Any:
    try:
        if verb == "fstat":
            return _stat_of(state, state.open[rest][0])
        if verb == "read":
            return state.files[state.open[rest.removeprefix("by ")][0]].data
        if verb == "stat":
            return _stat_of(state, state.find(rest))
        if verb == "list":
            return {name: shown(number) for name, number in state.entries(state.find(rest)).items()}
        return _content_of(state, rest.removeprefix("of "))
    except OSError as error:
        return Failure(error.errno or 0)


def _stat_of(state: Model, number: int) -> tuple[int, int, int, int]:
    file = state.files[number]
    if file.entries is not None:
        return (shown(number), file.kind, 0, 2)
    return (shown(number), file.kind, len(file.data), file.links)


def _content_of(state: Model, name: str) -> Any:
    number = state.find(name)
    file = state.files[number]
    if file.entries is not None:
        return Failure(21)
    return file.data


def _is_uncounted(seen: Any, wanted: Any) -> bool:
    """Whether a stat is right but for the names of the file, of which it has one."""
    return isinstance(seen, tuple) and isinstance(wanted, tuple) and seen == (*wanted[:3], 1)


def _shown(value: Any) -> str:
    if isinstance(value, Failure):
        return str(value)
    if isinstance(value, tuple):
        return f"({', '.join(map(_shown, value))})"
    return repr(value)


def _came_before(one: Held, other: Held) -> bool:
    return one.connection is other.connection and one.number < other.number and not one.waits


def _client(operation: Operation) -> str:
    return OTHER if operation.elsewhere else ""


def _key(held: Held) -> str:
    return f"{held.connection.name}#{held.number}"


def _only_looks(held: Held) -> bool:
    """Whether a request leaves the server as it is, so that it makes no difference which of two such is the first."""
    for part in held.parts:
        if part.command is Command.SMB2_CREATE:
            asked = messages.parse_create(part.body)
            is_folder = bool(asked.options & CreateOptions.FILE_DIRECTORY_FILE)
            if asked.disposition != CreateDisposition.FILE_OPEN or (asked.access & _ANYTHING and not is_folder):
                return False
        elif part.command in _CHANGING or (part.command is Command.SMB2_CLOSE and len(held.parts) == 1):
            return False
    return True


def _is_posted(held: Held, volume: Any) -> bool:
    """Whether nobody waits for the answer, so that it makes no difference when it comes: the CLOSE of a handle that was
    not written through, and the acknowledgement of a break.
    """
    if len(held.parts) != 1:
        return False
    (part,) = held.parts
    if part.command is Command.SMB2_OPLOCK_BREAK:
        return True
    if part.command is not Command.SMB2_CLOSE:
        return False
    opened = volume.opens.get(messages.parse_file_only(part.body)[1])
    return opened is not None and not opened.wrote
