"""FileRunner: runs the operations of open files, for the user who opened the file, where its inode is now."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from dfsfs.caller import current_caller, override_caller
from dfsfs.errors import DfsfsError, Disposition

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from dfsfs.namespace.junction import Attempt
    from dfsfs.vfs.data.openfile import OpenFile
    from dfsfs.vfs.names.lookup import Lookup

T = TypeVar("T")


class FileRunner:
    """See the module's text."""

    def __init__(self, lookup: Lookup) -> None:
        self._lookup = lookup

    async def run(self, file: OpenFile, operation: Callable[[Attempt | None], Awaitable[T]]) -> T:
        """Awaits an operation of an open file, which is given the attempt that it is part of.

        The attempt is None, and nothing is tried again, if the file has no path any more. The same is tried first if
        the handle is still open on a target that the namespace has left.

        Raises:
            DfsfsError: what the operation raised last.
        """
        if current_caller() is file.user:  # as always in a mount with one login
            return await self._run_as_opener(file, operation)
        with override_caller(file.user):
            return await self._run_as_opener(file, operation)

    async def _run_as_opener(self, file: OpenFile, operation: Callable[[Attempt | None], Awaitable[T]]) -> T:
        if file.inode.junction is None:
            return await operation(None)
        if file.is_on_former_target:
            try:
                return await operation(None)
            except DfsfsError as error:
                if error.disposition is Disposition.RETURN:
                    raise
                file.leave_target()
        return await self._lookup.run(file.inode, operation)
