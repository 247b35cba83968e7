"""Which servers have not answered lately, so that those that do come first. Pure; one for each mount.

A server that refuses a connection costs nothing to try again, so it is suspect for REFUSED_SECONDS only, too short for
a user to notice once it is back. One that says nothing costs a head start in each race (happyeyeballs.py), or a whole
time-out if there is no other one, so it comes after the others for SILENT_SECONDS, or until it has answered something.
That changes the order and nothing else: a suspect server is asked all the same where no other one answers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dfsfs.errors import SERVER_FAULTS, ConnectError, ConnectionLost, DfsfsError, LoginRefused
from dfsfs.ntstatus import NtStatus
from dfsfs.unc import fold_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

REFUSED_SECONDS = 2.0
"""How long a server is suspect that has refused, in seconds."""
SILENT_SECONDS = 30.0
"""How long a server is suspect that did not answer at all, in seconds."""
_SILENT = frozenset({NtStatus.IO_TIMEOUT, NtStatus.HOST_UNREACHABLE, NtStatus.NETWORK_UNREACHABLE})
"""The statuses of errors that stand for no answer at all."""


class Reachability:
    """See the module's text. `clock` in seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._suspect_until: dict[str, float] = {}
        """Seconds of the clock, by the folded names of servers."""

    def note_failure(self, host: str, error: DfsfsError) -> None:
        """A server could not be used. An error about one share or path of it does not make it suspect."""
        if isinstance(error, (ConnectError, ConnectionLost, LoginRefused)) and error.disposition in SERVER_FAULTS:
            self._suspect(host, SILENT_SECONDS if error.status in _SILENT else REFUSED_SECONDS)

    def note_silence(self, host: str) -> None:
        """A server had said nothing when another one had answered that was asked later."""
        self._suspect(host, SILENT_SECONDS)

    def note_answer(self, host: str) -> None:
        """A server has answered."""
        self._suspect_until.pop(fold_name(host), None)

    def is_suspect(self, host: str) -> bool:
        """Whether a server is to be tried after the others."""
        return self._suspect_until.get(fold_name(host), 0.0) > self._clock()

    def order_hosts(self, hosts: Iterable[str]) -> list[str]:
        """The same hosts, in their order, the suspect ones last."""
        return sorted(hosts, key=self.is_suspect)

    def _suspect(self, host: str, seconds: float) -> None:
        now = self._clock()
        for known in [known for known, until in self._suspect_until.items() if until <= now]:
            del self._suspect_until[known]
        self._suspect_until[fold_name(host)] = now + seconds
