"""Interrupts: a program that gets a signal stops waiting for its request.

The kernel says with FUSE_INTERRUPT that a signal has come for the thread that waits for a request, but not which one.
A program that is killed, or that gets a signal for which it has no handler and that ends it, is let go at once: its
request is cancelled as at its deadline. So is one that handles SIGINT, since a user has pressed Ctrl-C: it gets EINTR.
Other signals with handlers (a timer, a child's end, a window's size) do not end a read of a file on a disk, and
programs are not made for that (signal(7)): they are handled when the request is answered. For a lock that is waited
for, any signal with a handler ends the call, as fcntl(2) says.

The kernel says it once for each request. So one that goes on is looked at every PAUSE seconds, for a signal that comes
later. What a signal was is read from /proc, in threads (dfsfs/threads.py).

Nothing that was acknowledged is lost by that: data that write(2) has taken stays with the open file, is sent by what
comes next (another write, fsync(2), close(2), or the file system by itself), and its error, if there is one, is told by
fsync(2) or close(2). A write(2) that is itself interrupted may have been done or not, as on NFS.
"""

from __future__ import annotations

import signal
from collections import defaultdict
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from dfsfs.threads import Threads

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dfsfs.fuse.requests import HasRequests, Request

PAUSE = 0.05
"""Seconds between two looks at a thread that has got a signal and goes on waiting."""
EACH, TOTAL = 1, 16
"""Threads of ours that look at the threads of one user, and of all users, at most."""
PATIENCE = 1.0
"""Seconds that a look at one user's threads may take. It takes 0.00005 for each."""
LOCK_WAITS = frozenset({"setlkw", "flockw"})
"""Calls that any signal with a handler ends."""
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
        found: dict[bytes, int] = defaultdict(int)
        for line in status.splitlines():
            name, _, value = line.partition(b":")
            if name in (b"SigPnd", b"ShdPnd"):
                found[b"pending"] |= int(value, 16)
            elif name in (b"SigBlk", b"SigIgn", b"SigCgt"):
                found[name] = int(value, 16)
        return cls(found[b"pending"], found[b"SigBlk"], found[b"SigIgn"], found[b"SigCgt"])

    def end_wait(self, call: str) -> bool:
        """Whether a thread with these signals stops waiting for a call."""
        arrived = self.pending & ~self.ignored & (~self.blocked | _KILL)
        ending = arrived & ~self.caught & ~_ENDLESS
        handled = arrived & self.caught
        return bool(ending or handled & _INT or (call in LOCK_WAITS and handled))


class Interrupts:
    """See the module's text."""

    def __init__(self, requests: HasRequests) -> None:
        self._requests = requests
        self._noticed: set[trio.CancelScope] = set()
        self._arrived = trio.Event()
        self._threads = Threads(EACH, TOTAL)

    def notice(self, unique: int) -> None:
        """The kernel has said that a signal has come for the thread that waits for this request."""
        for scope, request in self._requests.under_way.items():
            if request.header is not None and request.header.unique == unique:
                self._noticed.add(scope)
                self._arrived.set()
                return

    async def serve(self) -> None:
        """Looks at what was noticed, until it is cancelled."""
        while True:
            await self._arrived.wait()
            self._arrived = trio.Event()
            while self._noticed:
                await self._check()
                if self._noticed:
                    with trio.move_on_after(PAUSE):
                        await self._arrived.wait()
                    self._arrived = trio.Event()

    async def _check(self) -> None:
        """Ends the waits of threads whose signals do so. Requests that were answered meanwhile are dropped."""
        by_user: dict[int, dict[trio.CancelScope, Request]] = defaultdict(dict)
        for scope in list(self._noticed):
            request = self._requests.under_way.get(scope)
            if request is None or request.header is None:
                self._noticed.discard(scope)
            else:
                by_user[request.header.uid][scope] = request
        async with trio.open_nursery() as nursery:
            for user, waiting in by_user.items():
                nursery.start_soon(self._check_user, user, waiting)

    async def _check_user(self, user: int, waiting: dict[trio.CancelScope, Request]) -> None:
        try:
            ended = await self._threads.run(user, partial(_find_ended, waiting), PATIENCE)
        except trio.TooSlowError:
            return  # the next look tries again
        for scope in ended:
            self._noticed.discard(scope)
            if self._requests.under_way.pop(scope, None) is not None:  # else it has been answered meanwhile
                scope.cancel()


def _find_ended(waiting: dict[trio.CancelScope, Request]) -> list[trio.CancelScope]:
    """Those of the requests for which their thread does not wait any more. It is called in a thread."""
    return [scope for scope, request in waiting.items() if _is_ended(request)]


def _is_ended(request: Request) -> bool:
    thread = 0 if request.header is None else request.header.pid
    try:
        return Signals.parse(Path(f"/proc/{thread}/status").read_bytes()).end_wait(request.call)
    except (OSError, ValueError):
        return True  # it has ended, or can't be looked at; the kernel has said that it got a signal
