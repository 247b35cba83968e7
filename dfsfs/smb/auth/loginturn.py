"""LoginTurn: as long as nobody knows whether a password is right, it is tried at one server at a time.

A mount may need several servers at once, and a wrong password that is tried at all of them at the same time counts as
often, which locks accounts. So the first one is tried alone; who has waited for a server's no is told the same. Once a
password was right, logins do not wait for each other. Kerberos needs none of that: a ticket is right.
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


class LoginTurn:
    """Of the logins of one pool."""

    def __init__(self) -> None:
        self._lock = trio.Lock()
        self._right: Login | None = None
        self._refusals = 0
        self._refused: tuple[Login, LoginRefused] | None = None

    @asynccontextmanager
    async def taken(self, login: Login) -> AsyncIterator[None]:
        """The block is the login.

        Raises:
            LoginRefused: a server has refused the same login while this one waited.
        """
        if not isinstance(login, Credentials) or login is self._right:
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
            self._right = login
