"""Those who only look: they must change nothing for the others, and no look may fail for a reason of its own.

A name that is gone meanwhile is no failure: names come and go in a storm. Real programs do most of the looking; listing
with attributes and stat are done in this process, too, since a program that is started for each look is slow.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import shutil
import signal
import struct
import subprocess
import time
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

from tests.stress.world import AWAY, CONFS, LOGS, Difference

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.stress.world import Process

PAUSE = 0.05
"""Seconds between two looks of one onlooker: all of them together leave the processors to those who write."""
FORGET_EVERY = 1.0
"""Seconds between two times at which the kernel forgets inodes and dentries that nobody uses."""
PROGRAM = 60.0
"""Seconds that a program may take."""
GONE = re.compile(r"No such file or directory|has become inaccessible|has been replaced|has appeared|file truncated")
"""What programs say about names that come and go."""
SERVER = re.compile("|".join(map(re.escape, map(os.strerror, sorted(AWAY)))))
IN_ALL = 0x00000FFF
IN_UNMOUNT, IN_IGNORED = 0x2000, 0x8000
_EVENT = struct.Struct("iIII")
DROP = Path("/proc/sys/vm/drop_caches")


class Onlookers:
    """What each kind of onlooker does in one round, by name."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._tail: subprocess.Popen[bytes] | None = None
        self._tail_of = 0
        self._rest = b""
        self._watch = -1
        self._repository = process.top / f"git{process.number}"
        self._repository_since = 0
        self.kinds: dict[str, Callable[[], None]] = {
            "list": self._list,
            "stat": self._stat,
            "cat": self._cat,
            "programs": self._programs,
            "tail": self._follow,
            "git": self._git,
            "inotify": self._inotify,
            "forget": self._forget,
        }

    def end(self) -> None:
        """Lets go of what stays over rounds."""
        if self._tail is not None:
            self._tail.kill()
            self._tail.communicate()
        if self._watch != -1:
            os.close(self._watch)

    def _look(self, what: str) -> None:
        self._process.begin("look", what)

    def _list(self) -> None:
        """As `ls -l` does it: one listing, with attributes."""
        self._look("ls -l")
        for entry in os.scandir(self._process.top):
            with contextlib.suppress(FileNotFoundError):
                entry.stat(follow_symlinks=False)

    def _stat(self) -> None:
        names = os.listdir(self._process.top)
        for name in self._process.chance.sample(names, min(20, len(names))):
            self._look(f"stat {name}")
            with contextlib.suppress(FileNotFoundError):
                os.stat(self._process.top / name)

    def _cat(self) -> None:
        """Reads whole files, in the middle of whatever is done to them."""
        names = os.listdir(self._process.top)
        for name in self._process.chance.sample(names, min(5, len(names))):
            self._look(f"cat {name}")
            path = self._process.top / name
            with contextlib.suppress(FileNotFoundError, IsADirectoryError):
                path.read_bytes()

    def _programs(self) -> None:
        top = str(self._process.top)
        commands: Sequence[list[str]] = (
            ["ls", "-l", top],
            ["ls", "-laR", top],
            ["find", top, "-newer", f"{top}/conf0", "-size", "+1"],
            ["du", "-s", top],
            ["cat", *(f"{top}/conf{conf}" for conf in range(CONFS))],
        )
        command = self._process.chance.choice(commands)
        self._run(command, may_miss=command[0] != "cat")

    def _run(self, command: Sequence[str], *, may_miss: bool = True) -> str:
        """A program that has to succeed, but for names that have gone meanwhile."""
        self._look(" ".join(command[:2]))
        since = self._process.world.outage()
        environment = {**os.environ, "LC_ALL": "C"}
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=PROGRAM, env=environment, check=False
        )
        complaints = [line for line in done.stderr.splitlines() if not (may_miss and GONE.search(line))]
        if complaints and self._may_be_away(since):
            complaints = [line for line in complaints if not SERVER.search(line)]
        if complaints:
            self._process.differs(f"{' '.join(command)}: {complaints[:5]}")
        return done.stdout

    def _may_be_away(self, since: int) -> bool:
        return not self._process.world.is_calm() or self._process.world.outage() != since

    def _follow(self) -> None:
        """`tail -F` of a log: each line that it shows was written by somebody."""
        if self._tail is not None and self._tail.poll() is not None:
            if self._process.world.outage() == 0:
                self._process.differs(f"tail -F of log{self._tail_of} has ended")
            self._tail.communicate()  # it ends when a read fails, as reads do while the server is away
            self._tail, self._rest = None, b""
        if self._tail is None:
            mounts = len(self._process.world.settings.tops)
            self._tail_of = self._process.chance.choice(
                [log for log in range(LOGS) if log % mounts == self._process.mount]
            )
            path = self._process.top / f"log{self._tail_of}"
            self._look(f"tail {path.name}")
            command = ["tail", "-n", "0", "-s", "0.2", "-F", str(path)]
            self._tail = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
            assert self._tail.stdout is not None
            os.set_blocking(self._tail.stdout.fileno(), False)
        assert self._tail.stdout is not None
        piece = self._tail.stdout.read()
        *lines, self._rest = (self._rest + (piece or b"")).split(b"\n")
        for line in lines:
            self._look("tail")
            text, _, checksum = line.rpartition(b" ")
            # The first one after a truncation may begin anywhere: tail goes on where it was.
            if (
                checksum.decode(errors="replace") != f"{zlib.crc32(text):08x}"
                and b"\0" in line
                and self._process.world.outage() == 0
            ):
                self._process.differs(f"tail -F of log{self._tail_of} shows bytes that nobody wrote: {line[:80]!r}")

    def _git(self) -> None:
        """A file that was added is unchanged for git until somebody changes it.

        An outage may leave git's own lock files behind, and git does not say why something failed: no look then, and a
        new repository afterwards.
        """
        since = self._process.world.outage()
        if not self._process.world.is_calm():
            return
        if since != self._repository_since:
            shutil.rmtree(self._repository, ignore_errors=True)
            self._repository = self._process.top / f"git{self._process.number}-{since}"
            self._repository_since = since
        try:
            self._add_and_commit()
        except Difference:
            if self._process.world.outage() == since:
                raise

    def _add_and_commit(self) -> None:
        git = ["git", "-C", str(self._repository), "-c", "user.name=storm", "-c", "user.email=storm@localhost"]
        if not self._repository.exists():
            self._run(["git", "init", "-q", str(self._repository)])
        name = f"file{self._process.chance.randrange(10)}"
        (self._repository / name).write_bytes(self._process.chance.randbytes(self._process.chance.randrange(1, 5000)))
        self._run([*git, "add", name], may_miss=False)
        for command in (["diff-files", "--name-only"], ["commit", "-q", "-m", name], ["status", "--porcelain"]):
            told = self._run([*git, *command], may_miss=False)
            if told:
                self._process.differs(f"git {' '.join(command)} after git add {name}: {told!r}")

    def _inotify(self) -> None:
        """A watch of the directory: the kernel tells of what is done through this mount, and nobody minds."""
        libc = ctypes.CDLL(None, use_errno=True)
        if self._watch == -1:
            self._watch = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
            if libc.inotify_add_watch(self._watch, os.fsencode(self._process.top), IN_ALL) == -1:
                self._process.differs(f"inotify_add_watch: {os.strerror(ctypes.get_errno())}")
        try:
            data = os.read(self._watch, 65536)
        except BlockingIOError:
            return
        self._look("inotify")
        while data:
            _, mask, _, length = _EVENT.unpack_from(data)
            if mask & (IN_UNMOUNT | IN_IGNORED):
                self._process.differs(f"inotify: the watch has ended, mask {mask:#x}")
            data = data[_EVENT.size + length :]

    def _forget(self) -> None:
        """As memory pressure does: the kernel forgets inodes and dentries. Needs root."""
        time.sleep(FORGET_EVERY)
        if os.access(DROP, os.W_OK):
            self._look("drop_caches")
            DROP.write_text("2")

    def look(self, kind: str) -> None:
        """One round of a kind, whose errors count as differences unless the server is away."""
        since = self._process.world.outage()
        try:
            self.kinds[kind]()
        except FileNotFoundError as error:
            if self._process.world.outage() == 0 and str(self._process.top) == str(error.filename):
                self._process.differs(f"{kind}: {error!r}")
        except (OSError, subprocess.TimeoutExpired) as error:
            if isinstance(error, subprocess.TimeoutExpired) or not self._process.excuses(error, since):
                self._process.differs(f"{kind}: {error!r}")
        time.sleep(PAUSE)


def is_left_over(name: str) -> bool:
    """Whether a name on the server is one that dfsfs uses for a while and then removes."""
    return name.startswith(".dfsfs_") or name.endswith(".part")


def ignore_interrupts() -> None:
    """The storm's main process says when it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
