"""Which servers have not answered lately, so that those that do come first. Pure; one for each mount.

A server that refuses costs nothing to try again, so it is held against it for BRIEFLY only: nobody is to notice that
after it is back. One that says nothing costs everybody a head start in a race (dfsfs/happyeyeballs.py), or a whole
time-out if there is no other one, so it comes after the others for LONG, or until somebody has heard of it. That
changes the order and nothing else: a server that is held for silent is asked all the same where no other one answers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dfsfs.errors import SERVER_FAULTS, ConnectError, ConnectionLost, DfsfsError, LoginRefused
from dfsfs.ntstatus import NtStatus
from dfsfs.unc import fold_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


REFUSED_SECONDS = 2.0
SILENT_SECONDS = 30.0
"""Seconds."""
_SILENT = frozenset({NtStatus.IO_TIMEOUT, NtStatus.HOST_UNREACHABLE, NtStatus.NETWORK_UNREACHABLE})


class Reachability:
    """See the module's text. `clock` in seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._until: dict[str, float] = {}

    def note_failure(self, host: str, error: DfsfsError) -> None:
        """A server could not be used. What is about one share or path of it is not held against it."""
        if isinstance(error, (ConnectError, ConnectionLost, LoginRefused)) and error.disposition in SERVER_FAULTS:
            self._note(host, SILENT_SECONDS if error.status in _SILENT else REFUSED_SECONDS)

    def late(self, host: str) -> None:
        """A server had said nothing when another one had answered that was asked later."""
        self._note(host, SILENT_SECONDS)

    def note_answer(self, host: str) -> None:
        """A server has answered."""
        self._until.pop(fold_name(host), None)

    def is_suspect(self, host: str) -> bool:
        """Whether a server had better be tried after the others."""
        return self._until.get(fold_name(host), 0.0) > self._clock()

    def order_hosts(self, hosts: Iterable[str]) -> list[str]:
        """The same hosts, in their order, the doubtful ones last."""
        return sorted(hosts, key=self.is_suspect)

    def _note(self, host: str, seconds: float) -> None:
        now = self._clock()
        for known in [known for known, until in self._until.items() if until <= now]:
            del self._until[known]
        self._until[fold_name(host)] = now + seconds
