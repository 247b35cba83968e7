"""HandleLimit: what is done when a server has no more handles to give. Samba gives 16,384 to a client.

Every question about a name takes a handle for a moment. When a server has none left, the handles are closed that are
only kept for the next open (deferredclose.py), and the question is asked once more. If that fails, too, a program that
opens a file gets ENFILE; programs that have files open go on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from dfsfs.errors import SmbError
from dfsfs.ntstatus import NtStatus

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from dfsfs.namespace.junction import Attempt

T = TypeVar("T")

NO_HANDLES = frozenset(
    {NtStatus.TOO_MANY_OPENED_FILES, NtStatus.INSUFFICIENT_RESOURCES, NtStatus.INSUFF_SERVER_RESOURCES}
)
"""Statuses of a server without free handles: Windows sends the first or the last, Samba the second."""


def is_handle_shortage(error: Exception) -> bool:
    """Whether an error is a server's answer that it has no more handles."""
    return isinstance(error, SmbError) and error.status in NO_HANDLES


class HandleLimit:
    """See the module's text."""

    def __init__(self) -> None:
        self.give_back: Callable[[Attempt], bool] = lambda attempt: False
        """Closes handles that no program uses, on the server of an attempt. Whether there were any."""

    def retry_with_fewer_handles(
        self, operation: Callable[[Attempt], Awaitable[T]]
    ) -> Callable[[Attempt], Awaitable[T]]:
        """An operation that is tried once more if the server has no handle for it and some could be closed."""

        async def tried_twice(attempt: Attempt) -> T:
            try:
                return await operation(attempt)
            except SmbError as error:
                if error.status not in NO_HANDLES or not self.give_back(attempt):
                    raise
            return await operation(attempt)

        return tried_twice
