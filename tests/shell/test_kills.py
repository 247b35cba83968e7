"""A program is killed at each moment of an operation, which ends there (dfsfs/fuse/waiters.py), and nothing is lost.

The operation was carried out, or was not; no handle stays open on the server, and no file under a hidden name.
"""

from __future__ import annotations

import errno
import inspect
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

from dfsfs.errors import PosixError
from dfsfs.ntstatus import NtStatus
from dfsfs.smb.wire.constants import Command, FileInformationClass
from tests.shell.explorer import quiet
from tests.shell.model import Failure
from tests.shell.operations import BY_NAME
from tests.shell.scene import ACTIMEO, HIDDEN
from tests.shell.test_cuts import OPEN, Cut, each_step, every_operation, however_open
from tests.support.fakes.server import messages
from tests.support.fakes.server.requests import Answer

if TYPE_CHECKING:
    from dfsfs.vfs.filesystem import FileSystem
    from tests.support.fakes.server.messages import Part
    from tests.support.fakes.server.requests import Session

pytestmark = pytest.mark.logs("had been set aside", "^WARNING dfsfs.vfs: closing")


class Killable:
    """The file system as the kernel sees it through dfsfs/fuse: what a program waits for can be ended, with EINTR, and
    is ended from then on.
    """

    def __init__(self, fs: FileSystem) -> None:
        self._fs = fs
        self._under_way: set[trio.CancelScope] = set()
        self._killed = False

    def kill(self) -> None:
        self._killed = True
        for scope in list(self._under_way):
            scope.cancel()

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._fs, name)
        if not inspect.iscoroutinefunction(found) or name in ("release", "releasedir"):
            return found

        async def call(*arguments: Any, **options: Any) -> Any:
            with trio.CancelScope() as scope:
                self._under_way.add(scope)
                if self._killed:
                    scope.cancel()
                try:
                    return await found(*arguments, **options)
                finally:
                    self._under_way.discard(scope)
            raise PosixError(errno.EINTR, "who waited for it was killed")

        return call


class Kill(Cut):
    """One operation, whose program is killed at one of its steps."""

    def end(self) -> None:
        killable: Any = self.scene.kernel.fs
        killable.kill()

    async def _perform(self) -> None:
        killable: Any = Killable(self.scene.fs)
        self.scene.kernel.fs = killable
        await super()._perform()


async def goes_on(kill: Cut, clock: trio.testing.MockClock) -> None:
    """The server does what it was asked, the program's files are closed, and others look at the folders."""
    scene = kill.scene
    await quiet()
    assert kill.ended, f"killed at step {kill.at}: it hangs"
    scene.kernel.fs = scene.fs
    scene.server.holds = False
    scene.server.run()
    for _ in range(5):
        await quiet()
        clock.jump(1.0)
    for fd in scene.fds.values():
        await scene.kernel.close(fd)
    for _ in range(2):  # which removes what was left under a hidden name
        clock.jump(2 * ACTIMEO)
        for folder in ("", "d"):
            await scene.kernel.listdir(folder)
        await quiet()
    scene.fs.check_invariants()
    await scene.fs.close()
    await quiet()
    truth, before, after = kill.truth(), kill.names(kill.before), kill.names(kill.after)
    told = f"killed at step {kill.at}, the program was told {kill.result}; the server has {truth}"
    assert truth in (before, after), told
    assert isinstance(kill.result, Failure) or truth == after, told
    assert scene.server.opens == 0, f"killed at step {kill.at}: a handle was lost"
    assert not [path for path in scene.truth(with_hidden=True) if HIDDEN in path], told


@every_operation
@however_open
def test_the_program_is_killed(name: str, needs: tuple[str, ...]) -> None:
    each_step(BY_NAME[name], needs, goes_on, Kill)


def _no_links(session: Session, part: Part) -> Answer | None:
    """A server that has no hard links: what is replaced while it is open is set aside instead."""
    if part.command is Command.SMB2_SET_INFO and part.body[3] == FileInformationClass.FILE_LINK_INFORMATION:
        return Answer(NtStatus.NOT_SUPPORTED, messages.ERROR_BODY)
    return None


class KillWithoutLinks(Kill):
    """The same on a server that has no hard links."""

    async def _perform(self) -> None:
        self.scene.connection.session.lie = _no_links
        await super()._perform()


@pytest.mark.parametrize("name", ["rename v to f", "rename f to v", "rename d/x to f"])
def test_the_program_is_killed_where_there_are_no_links(name: str) -> None:
    each_step(BY_NAME[name], OPEN["open"], goes_on, KillWithoutLinks)
