"""Interrupts: a program that gets a signal stops waiting for its request.

The kernel says with FUSE_INTERRUPT that a signal has come for the thread that waits for a request, but not which one.
A program that is killed, or that gets a signal for which it has no handler and that ends it, is let go at once: its
request is cancelled as at its deadline. So is one that handles SIGINT, since a user has pressed Ctrl-C: it gets EINTR.
Other signals with handlers (a timer, a child's end, a window's size) do not end a read of a file on a disk, and
programs are not made for that (signal(7)): they are handled when the request is answered. For a lock that is waited
for, any signal with a handler ends the call, as fcntl(2) says.

The kernel says it once for each request, and of some requests never: of reads into its page cache, where who waits
waits for the page, and of the flush of who was killed and exits. Nor does it get through while there are as many
requests as are read. So the threads behind requests that take longer are looked at every PAUSE seconds besides.

A page that is read may be for read(2) or for a page fault. A fault that fails may be SIGBUS, which a program that
handles SIGINT does not survive, or EFAULT of the call in which it is met; so a read is ended for such a SIGINT only if
the thread is in a call that reads from a descriptor. Where the kernel does not show that (a mount that is not root's,
with Yama), such a program waits on. The read of a thread that is gone is nobody's after GONE_AFTER seconds. If another
one waits for the same page, the kernel asks anew.

Requests that run in a scope of their task (boundary.py) are ended here at their deadline, too.

What a thread's signals are, and what it does, is read from /proc, in threads (dfsfs/threads.py).
"""

from __future__ import annotations

import platform
import signal
import time
from collections import defaultdict
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from dfsfs.fuse.threadstates import ThreadState, get_thread_state
from dfsfs.threads import Threads

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dfsfs.fuse.requests import HasRequests, Request

PAUSE = 0.05
"""Seconds between two looks at the threads that wait."""
SHARE = 10
"""The pause is at least so many times as long as the processor was busy with the look: with 200 threads some 0.01 s."""
GONE_AFTER = 1.0
"""Seconds after which the read of a thread that is gone is ended. It may have wanted the pages to be there for others:
readahead(2), and the end.
"""
EACH, TOTAL = 1, 16
"""Threads of ours that look at the threads of one user, and of all users, at most."""
PATIENCE = 1.0
"""Seconds that a look at one user's threads may take. It takes 0.00005 for each."""
LOCK_WAITS = frozenset({"setlkw", "flock"})
"""Calls that any signal with a handler ends."""
PAGE_FAULT = "page fault"
"""Stands for a read that must not fail but for who is ending."""
_UNANSWERED = frozenset({"release", "releasedir"})
"""Calls that no program waits for."""
_READING = {
    # Numbers of the system calls that read from a descriptor: read, pread64, readv, preadv, preadv2, sendfile, splice,
    # copy_file_range.
    "x86_64": frozenset({0, 17, 19, 295, 327, 40, 275, 326}),
    "aarch64": frozenset({63, 67, 65, 69, 286, 71, 76, 285}),
}.get(platform.machine(), frozenset[int]())
_UNHARMFUL = {signal.SIGCHLD, signal.SIGCONT, signal.SIGURG, signal.SIGWINCH}
_STOPPING = {signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU}


def _mask(signals: Iterable[int]) -> int:
    return sum(1 << (number - 1) for number in signals)


_ENDLESS = _mask(_UNHARMFUL | _STOPPING)
"""Signals that do not end a program which has no handler for them."""
_KILL, _INT = _mask([signal.SIGKILL]), _mask([signal.SIGINT])


@dataclass(frozen=True, slots=True)
class Signals:
    """The signals of a thread (proc(5), status), as masks: bit 0 is signal 1."""

    pending: int
    blocked: int
    ignored: int
    caught: int

    @classmethod
    def parse(cls, status: bytes) -> Signals:
        """From the text of /proc/PID/status. Raises: ValueError: it is none."""
        found: dict[bytes, int] = {}
        for line in status.splitlines():
            name, _, value = line.partition(b":")
            if name in (b"SigPnd", b"ShdPnd", b"SigBlk", b"SigIgn", b"SigCgt"):
                found[name] = int(value, 16)
        if len(found) < 5:
            raise ValueError("no signals")
        return cls(found[b"SigPnd"] | found[b"ShdPnd"], found[b"SigBlk"], found[b"SigIgn"], found[b"SigCgt"])

    def end_wait(self, call: str) -> bool:
        """Whether a thread with these signals stops waiting for a call: a key of errnos.ALLOWED, or PAGE_FAULT."""
        arrived = self.pending & ~self.ignored & (~self.blocked | _KILL)
        if arrived & ~self.caught & ~_ENDLESS:
            return True
        handled = arrived & self.caught
        return bool(handled) if call in LOCK_WAITS else bool(handled & _INT) and call != PAGE_FAULT


@dataclass(frozen=True, slots=True)
class Wait:
    """A thread that waits for a call, as far as is known."""

    thread: int
    call: str
    is_old: bool = False
    """Whether it has been waiting for GONE_AFTER seconds."""
    is_told: bool = False
    """Whether the kernel has said that a signal has come."""


class Interrupts:
    """See the module's text."""

    def __init__(self, requests: HasRequests) -> None:
        self._requests = requests
        self._noticed: set[int] = set()
        self._arrived = trio.Event()
        self._threads = Threads(EACH, TOTAL)
        self._since: dict[trio.CancelScope, tuple[Request, float]] = {}
        """The requests of the last look, and when they were seen first."""

    def notice(self, unique: int) -> None:
        """The kernel has said that a signal has come for the thread that waits for this request."""
        self._noticed.add(unique)
        self._arrived.set()

    async def serve(self) -> None:
        """Ends requests until it is cancelled. While there are none, it sleeps."""
        try:
            while True:
                if not self._requests.under_way:
                    self._since.clear()
                    self._requests.watcher = trio.Event()
                    await self._requests.watcher.wait()
                    self._requests.watcher = None
                await self._look_for_a_while()
        finally:
            self._requests.watcher = None

    async def _look_for_a_while(self) -> None:
        """Looks at what has waited for a PAUSE, and, in the pause after that, at what the kernel says."""
        ages = self._get_ages(now := trio.current_time())
        for scope, age in ages.items():
            if age >= self._requests.under_way[scope].deadline:
                scope.cancel()
        took = await self._end(ages, is_told=False)
        end = now + max(PAUSE, SHARE * took)
        while True:
            with trio.move_on_at(end):
                await self._arrived.wait()
            if not self._arrived.is_set():
                return
            self._arrived = trio.Event()
            noticed, self._noticed = self._noticed, set()
            await self._end(
                {
                    scope: 0.0
                    for scope, request in self._requests.under_way.items()
                    if request.header is not None and request.header.unique in noticed
                },
                is_told=True,
            )

    def _get_ages(self, now: float) -> dict[trio.CancelScope, float]:
        """The requests that were there at the last look, and for how many seconds they have been seen."""
        known, self._since = self._since, {}
        ages: dict[trio.CancelScope, float] = {}
        for scope, request in self._requests.under_way.items():
            before = known.get(scope)
            if before is not None and before[0] is request:
                self._since[scope] = before
                ages[scope] = now - before[1]
            else:
                self._since[scope] = request, now
        return ages

    async def _end(self, ages: dict[trio.CancelScope, float], *, is_told: bool) -> float:
        """Ends those of the requests that their thread does not wait for any more, and returns how many seconds of the
        processor's that took. `ages`: seconds that they wait.
        """
        if not ages:
            return 0.0
        by_user: dict[int, dict[Wait, list[tuple[trio.CancelScope, Request]]]] = defaultdict(lambda: defaultdict(list))
        for scope, age in ages.items():
            request = self._requests.under_way[scope]
            if request.header is None or request.call in _UNANSWERED or not (request.header.pid or is_told):
                continue  # nobody waits, or it is not known who: the kernel itself, writing back a shared map
            wait = Wait(request.header.pid, request.call, age >= GONE_AFTER, is_told)
            by_user[request.header.uid][wait].append((scope, request))
        took: list[float] = []
        async with trio.open_nursery() as nursery:
            for user, waiting in by_user.items():
                nursery.start_soon(self._end_of_user, user, waiting, took)
        return sum(took)

    async def _end_of_user(
        self, user: int, waiting: dict[Wait, list[tuple[trio.CancelScope, Request]]], took: list[float]
    ) -> None:
        try:
            ended, seconds = await self._threads.run(user, partial(find_ended, list(waiting)), PATIENCE)
        except trio.TooSlowError:
            return  # the next look tries again
        took.append(seconds)
        for wait in ended:
            for scope, request in waiting[wait]:
                if self._requests.under_way.get(scope) is request:  # else it has been answered meanwhile
                    del self._requests.under_way[scope]
                    scope.cancel()


def find_ended(waits: Iterable[Wait]) -> tuple[list[Wait], float]:
    """Those whose thread does not wait any more, and how many seconds of the processor's it took to find them. It is
    called in a thread.
    """
    begun = time.thread_time()
    ended = [wait for wait in waits if _is_ended(wait)]
    return ended, time.thread_time() - begun


def _is_ended(wait: Wait) -> bool:
    """Whether a thread has stopped waiting for a call."""
    try:
        signals = Signals.parse(Path(f"/proc/{wait.thread}/status").read_bytes())
    except (OSError, ValueError):
        if wait.is_told:
            return True  # it got a signal, has ended, or is in another PID namespace, where nobody can tell which
        return wait.call == "read" and wait.is_old and get_thread_state(wait.thread) is ThreadState.GONE
    if wait.call == "flush" and get_thread_state(wait.thread) is ThreadState.KILLED:
        return True  # it exits, and has no signals any more
    call = wait.call
    if call == "read" and signals.end_wait(call) and not _is_reading(wait.thread):
        call = PAGE_FAULT
    return signals.end_wait(call)


def _is_reading(thread: int) -> bool:
    """Whether a thread is in a system call that reads from a descriptor, as far as the kernel shows it."""
    try:
        return int(Path(f"/proc/{thread}/syscall").read_bytes().split()[0]) in _READING
    except (OSError, ValueError, IndexError):
        return False
