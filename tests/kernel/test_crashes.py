"""Operations of ours that take several requests, ended after each of them: by the server, or by the daemon's death.

A proxy passes so many frames of the operation on to the server, waits until the last one was answered, and then ends
the connection instead of handing that answer on. It does so after the first frame, after the second, and so on until
the operation gets through. What is on the server's disk then is the old or the new state, never neither and never a
mixture; and once there is a mount again and it has listed the folder, nothing is left that nobody asked for.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import signal
import stat as posix
import subprocess
import threading
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, NoReturn

import pytest

from tests.conftest import LONG, SAMBAS
from tests.kernel.mounts import clean_up, daemons, mount_command, serving, signal_each, unmount, wait_until
from tests.support.fakes.proxy import Proxy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.lab.samba import Lab

pytestmark = [pytest.mark.lab, pytest.mark.mount, pytest.mark.every_samba]

OLD, NEW = b"the old content " * 100, b"what is new " * 150
HIDDEN = ".dfsfs_"
MOST = 30
"""Frames that no operation takes."""


class Cutter(Proxy):
    """A proxy that ends everything with the answer to a certain frame, counted from `arm`."""

    def __init__(self, address: str, server: str) -> None:
        super().__init__(address, server)
        self.then: Callable[[], None] = lambda: None
        """What else ends at that moment."""
        self.refuses = False
        """Whether the server is down from then on, until `disarm`."""
        self.was_cut = threading.Event()
        self._left: int | None = None

    def arm(self, frames: int, *, refuses: bool, then: Callable[[], None] = lambda: None) -> None:
        self.was_cut.clear()
        self.then, self.refuses, self._left = then, refuses, frames

    def disarm(self) -> None:
        self._left, self.refuses = None, False

    def _seen(self, frame: bytes) -> bytes:
        if self.refuses and self.was_cut.is_set():
            raise ConnectionResetError
        if self._left is not None and not self.was_cut.is_set():
            if not self._left:
                self._cut()  # the last one before this was not answered yet
            self._left -= 1
        return super()._seen(frame)

    def _changed(self, frame: bytes) -> bytes:
        if self._left == 0 and not self.was_cut.is_set():
            self._cut()
        if self.refuses and self.was_cut.is_set():
            raise ConnectionResetError
        return super()._changed(frame)

    def _cut(self) -> NoReturn:
        self.was_cut.set()
        self.then()
        raise ConnectionResetError


@dataclass
class Line:
    """fs1's share `data` through a proxy, and the folder of this test in it, here and on the server's disk."""

    proxy: Cutter
    mountpoint: Path
    disk: Path
    lab: Lab
    failover_timeout: float
    """Seconds."""

    @property
    def folder(self) -> Path:
        return self.mountpoint / self.disk.name

    def mount(self) -> None:
        user, password = self.lab.credentials
        options = f"username={user},failover_timeout={self.failover_timeout},actimeo=0"
        result = mount_command(f"//{self.proxy.address}/data", self.mountpoint, options, password)
        assert result.returncode == 0, result.stderr

    def make(self, name: str, data: bytes) -> None:
        """Makes a file behind the mount's back."""
        (self.disk / name).write_bytes(data)
        self.own()

    def own(self) -> None:
        subprocess.run(["chown", "-R", f"--reference={self.disk.parent}", str(self.disk)], check=True)

    def visible(self) -> list[str]:
        return sorted(name for name in os.listdir(self.disk) if not name.startswith(HIDDEN))

    def hidden(self) -> list[str]:
        return [name for _, folders, files in os.walk(self.disk) for name in folders + files if HIDDEN in name]


@pytest.fixture
def line(lab: Lab, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Line]:
    disk = lab.host("fs1").share_path("data") / "crashes"
    disk.mkdir()
    shutil.chown(disk, *(os.stat(disk.parent).st_uid, os.stat(disk.parent).st_gid))
    mountpoint = tmp_path / "m"
    mountpoint.mkdir()
    try:
        with Cutter(f"{lab.net}.83", lab.address("fs1")) as proxy:
            line = Line(proxy, mountpoint, disk, lab, getattr(request, "param", 1.0))
            try:
                line.mount()
                yield line
                unmount(mountpoint)
            finally:
                clean_up(mountpoint)
    finally:
        shutil.rmtree(disk)


class Operation:
    """What is tried. `begin` makes what it needs behind the mount's back, `check` looks at the server's disk."""

    descriptor = -1

    def begin(self, line: Line) -> None:
        raise NotImplementedError

    def act(self, folder: Path) -> None:
        raise NotImplementedError

    def check(self, line: Line) -> None:
        raise NotImplementedError

    def seen(self, folder: Path) -> None:
        """Looks at what a mount shows in the end."""

    def close(self) -> None:
        """Closes what the operation had open; its mount may be gone."""
        if self.descriptor >= 0:
            with contextlib.suppress(OSError):
                os.close(self.descriptor)
        self.descriptor = -1


class Replace(Operation):
    """rename(2) over a file that a program is reading."""

    is_open = True

    def begin(self, line: Line) -> None:
        line.make("target", OLD)
        line.make("source", NEW)
        if self.is_open:
            self.descriptor = os.open(line.folder / "target", os.O_RDONLY)
            assert os.pread(self.descriptor, 16, 0) == OLD[:16]

    def act(self, folder: Path) -> None:
        os.replace(folder / "source", folder / "target")

    def check(self, line: Line) -> None:
        content = (line.disk / "target").read_bytes()
        assert content in (OLD, NEW)
        if content == OLD:
            assert (line.disk / "source").read_bytes() == NEW
        else:
            assert not (line.disk / "source").exists()


class ReplaceUnopened(Replace):
    is_open = False


class ReplaceReadOnly(Replace):
    is_open = False

    def begin(self, line: Line) -> None:
        super().begin(line)
        (line.folder / "target").chmod(0o444)


class UnlinkOpen(Operation):
    def begin(self, line: Line) -> None:
        line.make("target", OLD)
        self.descriptor = os.open(line.folder / "target", os.O_RDONLY)

    def act(self, folder: Path) -> None:
        os.unlink(folder / "target")

    def check(self, line: Line) -> None:
        assert line.visible() in ([], ["target"])
        if line.visible():
            assert (line.disk / "target").read_bytes() == OLD


class UnlinkReadOnly(Operation):
    def begin(self, line: Line) -> None:
        line.make("target", OLD)
        (line.folder / "target").chmod(0o444)

    def act(self, folder: Path) -> None:
        os.unlink(folder / "target")

    def check(self, line: Line) -> None:
        if (line.disk / "target").exists():
            assert (line.disk / "target").read_bytes() == OLD

    def seen(self, folder: Path) -> None:
        for name in os.listdir(folder):
            assert not (folder / name).stat().st_mode & posix.S_IWUSR, "it is read-only still"


class ReplaceFolder(Operation):
    def begin(self, line: Line) -> None:
        (line.disk / "target").mkdir()
        (line.disk / "source").mkdir()
        line.make("source/inside", NEW)

    def act(self, folder: Path) -> None:
        (folder / "source").rename(folder / "target")

    def check(self, line: Line) -> None:
        if (line.disk / "source").exists():
            assert os.listdir(line.disk / "source") == ["inside"]
            assert os.listdir(line.disk / "target") == []
        else:
            assert (line.disk / "target" / "inside").read_bytes() == NEW


class RenameBusyFolder(Operation):
    def begin(self, line: Line) -> None:
        (line.disk / "source").mkdir()
        line.make("source/inside", OLD)
        self.descriptor = os.open(line.folder / "source" / "inside", os.O_RDONLY)

    def act(self, folder: Path) -> None:
        (folder / "source").rename(folder / "target")

    def check(self, line: Line) -> None:
        (name,) = line.visible()
        assert name in ("source", "target")
        assert (line.disk / name / "inside").read_bytes() == OLD


class Symlink(Operation):
    def begin(self, line: Line) -> None:
        pass

    def act(self, folder: Path) -> None:
        (folder / "target").symlink_to("where it leads")

    def check(self, line: Line) -> None:
        assert line.visible() in ([], ["target"])

    def seen(self, folder: Path) -> None:
        for name in os.listdir(folder):
            assert os.readlink(folder / name) == "where it leads"


class RenameSymlink(Symlink):
    def begin(self, line: Line) -> None:
        (line.folder / "source").symlink_to("where it leads")

    def act(self, folder: Path) -> None:
        (folder / "source").rename(folder / "target")

    def check(self, line: Line) -> None:
        assert line.visible() in (["source"], ["target"])


OPERATIONS = (
    Replace,
    ReplaceUnopened,
    ReplaceReadOnly,
    UnlinkOpen,
    UnlinkReadOnly,
    ReplaceFolder,
    RenameBusyFolder,
    Symlink,
    RenameSymlink,
)
OF_EACH_RUN = OPERATIONS if LONG else (Replace,)
"""Those that are tried in the ways that take long, a new mount or a server that can't be reached."""
OF_OPEN_FILES = (UnlinkOpen, RenameBusyFolder, ReplaceFolder)
"""Those for which Samba 4.22 waits for a lease that it has just lost the holder of, half a minute, and may go on with
the request of a lost connection after it was asked again: see docs/semantics.md, "What is not right yet".
"""
WITHOUT_WAIT = list(SAMBAS) if LONG else ["stable"]
ONES_OWN_FAULT = {errno.ENOTCONN, errno.EIO, errno.EHOSTUNREACH, errno.ECONNABORTED, errno.ESTALE, errno.ENOENT}
"""What a program may hear when its server or its mount goes away."""


def name_of(kind: type[Operation]) -> str:
    return kind.__name__


def attempt(operation: Operation, folder: Path) -> None:
    code = 0
    try:
        operation.act(folder)
    except OSError as error:
        code = error.errno or -1
    assert not code or code in ONES_OWN_FAULT, errno.errorcode.get(code)


def clear(line: Line) -> None:
    for path in line.disk.iterdir():
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def look(line: Line, operation: Operation) -> None:
    """Lists everything through the mount; then all is as it should be, and nothing hidden is left on the server."""

    def nothing_is_hidden() -> bool:
        done = subprocess.run(["ls", "-lR", str(line.folder)], check=False, capture_output=True, timeout=60)
        return not done.returncode and not line.hidden()

    wait_until(nothing_is_hidden, "what is left of the operation goes", every=0.1)  # each look is a process
    operation.check(line)
    operation.seen(line.folder)


@pytest.mark.parametrize("kind", [kind for kind in OPERATIONS if kind not in OF_OPEN_FILES], ids=name_of)
def test_the_connection_ends_after_each_request(line: Line, kind: type[Operation]) -> None:
    end_after_each_request(line, kind, down=False)


@pytest.mark.parametrize("lab", WITHOUT_WAIT, indirect=True, scope="session")
@pytest.mark.parametrize("kind", OF_OPEN_FILES, ids=name_of)
def test_the_connection_ends_after_each_request_about_open_files(line: Line, kind: type[Operation]) -> None:
    end_after_each_request(line, kind, down=False)


@pytest.mark.parametrize("line", [0.2], indirect=True)  # each request costs that, as nobody answers
@pytest.mark.parametrize("lab", WITHOUT_WAIT, indirect=True, scope="session")
@pytest.mark.parametrize("kind", OF_EACH_RUN, ids=name_of)
def test_the_server_goes_down_after_each_request(line: Line, kind: type[Operation]) -> None:
    end_after_each_request(line, kind, down=True)


def check_now(line: Line, operation: Operation) -> None:
    """What a program finds at once, unless an empty folder is still set aside."""
    if not isinstance(operation, ReplaceFolder) or not line.hidden():
        operation.check(line)


def look_and_clear(line: Line, operation: Operation) -> None:
    look(line, operation)
    clear(line)
    subprocess.run(["ls", str(line.folder)], check=True, capture_output=True, timeout=60)


def end_after_each_request(line: Line, kind: type[Operation], *, down: bool) -> None:
    """`down`: the server can't be reached again before the operation has failed."""
    for frames in range(1, MOST):
        operation = kind()
        operation.begin(line)
        line.proxy.arm(frames, refuses=down)
        attempt(operation, line.folder)
        was_cut = line.proxy.was_cut.is_set()
        line.proxy.disarm()
        check_now(line, operation)
        if operation.descriptor >= 0:
            with contextlib.suppress(OSError):
                assert os.pread(operation.descriptor, 16, 0) == OLD[:16]
        operation.close()
        look_and_clear(line, operation)
        if not was_cut:
            return
    raise AssertionError("it never gets through")


@pytest.mark.parametrize("lab", WITHOUT_WAIT, indirect=True, scope="session")
@pytest.mark.parametrize("kind", OF_EACH_RUN, ids=name_of)
def test_the_daemon_dies_after_each_request(line: Line, kind: type[Operation]) -> None:
    for frames in range(1, MOST):
        operation = kind()
        operation.begin(line)
        with serving(line.mountpoint) as found:
            line.proxy.arm(frames, refuses=True, then=partial(signal_each, found.values(), signal.SIGKILL))
            attempt(operation, line.folder)
            was_cut = line.proxy.was_cut.is_set()
            operation.close()
            line.proxy.disarm()
        if was_cut:
            wait_until(lambda: not daemons(line.mountpoint), "the daemon is gone")
            subprocess.run(["umount", "-l", str(line.mountpoint)], check=True, timeout=60)
            wait_until(lambda: line.lab.host("fs1").connections() == 0, "the server has noticed")
            check_now(line, operation)
            line.mount()
        look_and_clear(line, operation)
        if not was_cut:
            return
    raise AssertionError("it never gets through")
