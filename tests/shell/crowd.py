"""Many requests about a few names of one folder at the same time, as the kernel sends them with FUSE_PARALLEL_DIROPS:
run by a schedule, each may be cancelled, and judged by what the server had.

What is right is in crowdtruth.py. Besides, this is looked at, after each step:

    counts      what the kernel was told of an inode, less what it has forgotten, is what the table counts
    inodes      a number that the kernel holds means one file, and a file has one number
    the end     no handle on the server, no task, no credit, no inode and no hidden name is left
"""

from __future__ import annotations

import errno
import os
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pyfuse3
import pytest
import trio
import trio.testing

from dfsfs.fuse.operations import DfsOperations
from dfsfs.vfs.filesystem import DOTS
from tests.shell.crowdtruth import CHANGES, FOLDER, NAMES, Answer, Task, Truth
from tests.shell.dcache import Lock
from tests.shell.explorer import quiet
from tests.shell.scene import ACTIMEO, HIDDEN, Scene
from tests.support.fakes.server.server import Server
from tests.support.fakes.server.volume import Volume

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence

    from pyfuse3 import EntryAttributes

    from tests.support.fakes.server.server import Held, Message

DEADLINE = 3600.0
PATIENCE = 40
"""How often a second may pass while nothing can happen, before that is called a hang."""
STEPS = 2_000
"""More than any schedule takes."""


class _Token:
    """The kernel's buffer for one answer to READDIRPLUS."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.entries: list[tuple[bytes, int, int]] = []


def _reply(token: _Token, name: bytes, entry: EntryAttributes, next_id: int) -> bool:
    if len(token.entries) >= token.room:
        return False
    token.entries.append((name, entry.st_ino, next_id))
    return True


@contextmanager
def replies() -> Iterator[None]:
    """Inside, pyfuse3.readdir_reply fills a _Token."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pyfuse3, "readdir_reply", _reply)
        yield


def new_server() -> Server:
    """A server with a folder that has a file and a folder in it."""
    server, begun = Server(Volume()), trio.current_time()
    volume = server.volume
    volume.clock = lambda: trio.current_time() - begun
    volume.add_folder(FOLDER)
    volume.add_file(f"{FOLDER}/a", b"a")
    volume.add_folder(f"{FOLDER}/b")
    return server


class Crowd:
    """See the module's text. `locks`: whether changes of the folder exclude each other and all else, as in one kernel;
    if not, they are as those of several kernels, but for one file system.
    """

    def __init__(self, tasks: Sequence[Task], *, locks: bool, page: int = 0) -> None:
        self.tasks = tasks
        self.locks = locks
        self.page = page
        self.problems: list[str] = []
        self.trace: list[str] = []
        self.answers: dict[int, Answer] = {}
        self._told: Counter[int] = Counter()
        self._files: dict[int, int] = {}
        """The file ids of the inodes that the kernel holds, by number."""
        self._begun: dict[int, int] = {}
        self._contexts: dict[int, object] = {}
        self._open: list[int] = []
        self._lock = Lock()
        self._step = 0

    async def play(self, clock: trio.testing.MockClock, pick: Callable[[int], int]) -> list[str]:
        """Plays one schedule. What was wrong."""
        async with trio.open_nursery() as nursery:
            self.scene = scene = Scene(nursery, server=new_server())
            scene.connection.session.page = self.page
            self.fs, self.server = scene.fs, scene.server
            self.truth = Truth(scene.server.volume)
            self.handlers = DfsOperations(scene.fs, deadline=DEADLINE)
            with replies():
                entry = await self.handlers.lookup(pyfuse3.ROOT_INODE, FOLDER.encode(), pyfuse3.RequestContext())
                self.folder = entry.st_ino
                self._take(entry.st_ino)
                await quiet()
                living = trio.lowlevel.current_statistics().tasks_living
                self.server.holds = True
                self.server.on_event = self._say
                if await self._meet(clock, nursery, pick):
                    await self._end(clock, living)
            nursery.cancel_scope.cancel()
        return self.problems

    def text(self) -> str:
        """The schedule and what is wrong with it."""
        head = f"{len(self.tasks)} requests in one folder{'' if self.locks else ', without the locks of a kernel'}"
        wrong, steps = (f"  WRONG: {line}" for line in self.problems), (f"    {line}" for line in self.trace)
        return "\n".join([head, *wrong, *steps])

    # -- while they meet --------------------------------------------------------------------------------------------

    async def _meet(self, clock: trio.testing.MockClock, nursery: trio.Nursery, pick: Callable[[int], int]) -> bool:
        waited = 0
        while not self.problems:
            self._step += 1
            assert self._step < STEPS, "it does not come to an end"
            if await self._kill_the_impatient():
                continue
            actions = self._actions(nursery)
            if actions:
                waited = 0
                await actions[pick(len(actions)) if len(actions) > 1 else 0]()
            elif all(number in self.answers and self.answers[number].ended for number in range(len(self.tasks))):
                return True
            elif waited == PATIENCE:
                left = [str(task) for number, task in enumerate(self.tasks) if not self.answers[number].ended]
                self.problems.append(f"nothing can happen any more, and these have not ended: {', '.join(left)}")
                return False
            else:
                waited += 1
                self._say("a second passes")
                clock.jump(1.0)
            await quiet()
            self._check_counts(exact=all(answer.ended for answer in self.answers.values()))
        return False

    def _actions(self, nursery: trio.Nursery) -> list[Callable[[], Awaitable[None]]]:
        """What can happen now."""
        found: list[Callable[[], Awaitable[None]]] = []
        next_task = len(self._begun)
        if next_task < len(self.tasks):

            async def begin() -> None:
                self._say("BEGINS", f"{next_task} {self.tasks[next_task]}")
                self._begun[next_task] = self._step
                self.answers[next_task] = Answer(self.truth.now)
                nursery.start_soon(self._perform, next_task)

            found.append(begin)
        server = self.server
        found += [self._applying(held) for held in server.requests if server.may_apply(held)]
        found += [self._letting_go(message) for message in server.messages if server.may_let_go(message)]
        return found

    def _applying(self, held: Held) -> Callable[[], Awaitable[None]]:
        async def apply() -> None:
            self._say("applied", held)
            self.server.apply(held)
            self.truth.remember()

        return apply

    def _letting_go(self, message: Message) -> Callable[[], Awaitable[None]]:
        async def let_go() -> None:
            self._say("reaches", message)
            self.server.let_go(message)

        return let_go

    async def _kill_the_impatient(self) -> bool:
        """Cancels the requests of programs that are killed now, as dfsfs/fuse/waiters.py does it."""
        killed = False
        for number, begun in self._begun.items():
            patience, answer = self.tasks[number].patience, self.answers[number]
            if patience is None or answer.ended or self._step - begun < patience:
                continue
            about = self._contexts.get(number)
            for scope, (_, arguments, *_) in list(self.handlers.under_way.items()):
                if arguments and any(argument is about for argument in arguments):
                    del self.handlers.under_way[scope]
                    self._say("KILLED", f"{number} {self.tasks[number]}")
                    scope.cancel()
                    killed = True
        if killed:
            await quiet()
            self._check_counts(exact=False)
        return killed

    async def _perform(self, number: int) -> None:
        task, answer = self.tasks[number], self.answers[number]
        context = self._contexts[number] = pyfuse3.RequestContext()
        try:
            if self.locks:
                async with self._lock.held(shared=task.verb not in CHANGES):
                    await self._do(task, answer, context)
            else:
                await self._do(task, answer, context)
        except pyfuse3.FUSEError as error:
            answer.error = error.errno
        answer.until, answer.ended, answer.ended_at = self.truth.now, True, self._step
        what = errno.errorcode[answer.error] if answer.error else answer.listed or answer.entry or "done"
        self._say("ENDS", f"{number} {task}: {what}")
        self._judge(task, answer)

    async def _do(self, task: Task, answer: Answer, context: Any) -> None:
        handlers, name = self.handlers, task.name.encode()
        answer.since, answer.asked_at = self.truth.now, self._step
        if task.verb == "lookup":
            answer.entry = self._take((await handlers.lookup(self.folder, name, context)).st_ino)
        elif task.verb in ("create", "create new"):
            flags = os.O_RDWR | os.O_CREAT | (os.O_EXCL if task.verb == "create new" else 0)
            opened, entry = await handlers.create(self.folder, name, 0o644, flags, context)
            answer.entry = self._take(entry.st_ino)
            self._open.append(opened.fh)
            if not task.stays_open:
                self._background(self._close, opened.fh)
        elif task.verb == "mknod":
            answer.entry = self._take((await handlers.mknod(self.folder, name, 0o644, 0, context)).st_ino)
        elif task.verb == "mkdir":
            answer.entry = self._take((await handlers.mkdir(self.folder, name, 0o755, context)).st_ino)
        elif task.verb == "unlink":
            await handlers.unlink(self.folder, name, context)
        elif task.verb == "rmdir":
            await handlers.rmdir(self.folder, name, context)
        elif task.verb == "rename":
            await handlers.rename(self.folder, name, self.folder, task.other.encode(), 0, context)
        elif task.verb == "forget":
            self._forget_all()
        else:
            await self._list(task, answer, context)

    def _background(self, action: Callable[..., Awaitable[None]], *arguments: Any) -> None:
        self.scene._nursery.start_soon(action, *arguments)

    async def _close(self, fh: int) -> None:
        await self.handlers.release(fh)
        self._open.remove(fh)

    async def _list(self, task: Task, answer: Answer, context: Any) -> None:
        handlers, number = self.handlers, next(n for n, known in self._contexts.items() if known is context)
        handle = await handlers.opendir(self.folder, context)
        offset = 0
        try:
            while True:
                token: Any = _Token(task.room)
                self._contexts[number] = token
                await handlers.readdir(handle, offset, token)
                for name, ino, following in token.entries:
                    offset = following
                    if name not in DOTS:
                        taken = self._take(ino)
                        assert taken is not None
                        answer.listed.append((name.decode(), taken[1], self.truth.now))
                if not token.entries:
                    answer.is_whole = True
                    return
        finally:
            self._background(handlers.releasedir, handle)

    # -- the kernel's references ------------------------------------------------------------------------------------

    def _take(self, ino: int) -> tuple[int, int, bool] | None:
        """The kernel takes an answer in; None: there is no such name."""
        if not ino:
            return None
        inode = self.fs._lookup.table.get(ino)
        if inode is None:
            self.problems.append(f"the kernel is told of inode {ino}, which is not in the table")
            return ino, 0, False
        held = self._files.get(ino) if self._told[ino] else None
        if held not in (None, inode.file_id):
            self.problems.append(f"inode {ino} was file {held} and is {inode.file_id} now")
        for other, file_id in self._files.items():
            if file_id == inode.file_id and other != ino and self._told[other]:
                self.problems.append(f"file {file_id} is inode {other} and {ino}")
        self._told[ino] += 1
        self._files[ino] = inode.file_id
        return ino, inode.file_id, inode.is_directory

    def _forget_all(self) -> None:
        """The kernel forgets what is in the folder, and not open."""
        kept = {self.fs._files.table.get(fh).inode.ino for fh in self._open}
        for ino in [ino for ino, count in self._told.items() if count and ino != self.folder and ino not in kept]:
            self.fs.forget(ino, self._told.pop(ino))

    def _check_counts(self, *, exact: bool) -> None:
        """`exact`: no request is under way, of which some entries may be on their way to the kernel."""
        table = self.fs._lookup.table
        counted = {ino: inode.lookups for ino, inode in table._inodes.items() if ino != pyfuse3.ROOT_INODE}
        for ino in sorted(counted.keys() | +self._told):
            has, told = counted.get(ino, 0), self._told[ino]
            if has < told or (exact and has != told):
                self.problems.append(f"inode {ino} counts {has} lookups, and the kernel was told of it {told} times")
        by_file = Counter((inode.share, inode.file_id) for inode in table._inodes.values() if inode.file_id)
        twice = [key for key, count in by_file.items() if count > 1]
        if twice:
            self.problems.append(f"there are two inodes for {twice}")
        table.check_invariants()

    # -- afterwards -------------------------------------------------------------------------------------------------

    async def _end(self, clock: trio.testing.MockClock, living: int) -> None:
        self._say("all have ended; what is held is let go")
        self.server.holds = False
        while self.server.requests or self.server.messages:
            for held in self.server.requests[:1]:
                self.server.apply(held)
            for message in list(self.server.messages):
                self.server.let_go(message)
            await quiet()
            self.truth.remember()
        self.problems += self.truth.judge_the_killed(self.tasks, self.answers)
        for _ in range(5):
            await quiet()
            clock.jump(1.0)
        for fh in list(self._open):
            await self._close(fh)
        for _ in range(2):  # which removes what was left under a hidden name
            clock.jump(2 * ACTIMEO)
            await quiet()
            await self._ask_again(Task("list", ""))
        for name in NAMES:
            await self._ask_again(Task("lookup", name))
        await quiet()
        self._check_counts(exact=True)
        self._forget_all()
        self.fs.forget(self.folder, self._told.pop(self.folder))
        await self.fs.close()
        await quiet()
        if len(self.fs._lookup.table) > 1:
            left = [inode.name for inode in self.fs._lookup.table._inodes.values()]
            self.problems.append(f"inodes are left: {left}")
        hidden = [path for path in self.scene.truth(with_hidden=True) if HIDDEN in path]
        if hidden:
            self.problems.append(f"hidden names are left: {hidden}")
        if self.server.opens:
            self.problems.append(f"{self.server.opens} handles are left open")
        statistics = self.scene.tree.connection.statistics()
        if statistics.in_flight or statistics.queued or statistics.credits.available != self.scene.connection.credits:
            self.problems.append(f"credits are lost: {statistics}")
        left_living = trio.lowlevel.current_statistics().tasks_living
        if left_living != living:
            self.problems.append(f"there were {living} tasks, and now there are {left_living}")

    async def _ask_again(self, task: Task) -> None:
        answer = Answer(self.truth.now)
        context = pyfuse3.RequestContext()
        self._contexts[-1] = context
        try:
            await self._do(task, answer, context)
        except pyfuse3.FUSEError as error:
            answer.error = error.errno
        answer.until = self.truth.now
        self._judge(task, answer)

    def _judge(self, task: Task, answer: Answer) -> None:
        problem = self.truth.judge(task, answer)
        if problem:
            self.problems.append(f"{task}: {problem}")

    def _say(self, what: str, about: object = "") -> None:
        self.trace.append(f"{what:8}{about}")
