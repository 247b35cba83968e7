"""LoginLock: until a password is known to be right, it is tried at one server at a time.

A mount may need several servers at once. A wrong password that is tried at all of them counts several times, which
locks accounts. So the first login is made alone; logins that have waited for it share its refusal. Once a password was
accepted, logins no longer wait for each other. Kerberos needs no lock: a wrong password can't yield a ticket.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import trio

from dfsfs.errors import LoginRefused
from dfsfs.smb.auth.credentials import Credentials

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from dfsfs.smb.auth.credentials import Login


class LoginLock:
    """The lock for the logins of one pool."""

    def __init__(self) -> None:
        self._lock = trio.Lock()
        self._accepted: Login | None = None
        self._refusals = 0
        self._refused: tuple[Login, LoginRefused] | None = None

    @asynccontextmanager
    async def hold(self, login: Login) -> AsyncIterator[None]:
        """Holds the lock for the block, which is to log in, unless this login was accepted before or needs no lock.

        Raises:
            LoginRefused: a server has refused the same login while this call waited.
        """
        if not isinstance(login, Credentials) or login is self._accepted:
            yield
            return
        known = self._refusals
        async with self._lock:
            if self._refused is not None and self._refusals > known and self._refused[0] is login:
                raise self._refused[1].with_traceback(None)
            try:
                yield
            except LoginRefused as error:
                if error.is_about_login:
                    self._refusals += 1
                    self._refused = (login, error)
                raise
            self._accepted = login
