"""UserPools: for a mount of many users (multiuser), one pool for each user, with a login and sessions of its own.

To the layers above it is one TreeProvider. Which pool a request goes to depends on the user that it is for
(dfsfs/caller.py). Root has the mount's own login, and so have requests that are about no file: referrals. All other
users log in with what `find_login` finds for them, at their first request. A user without tickets or a login gets
TicketError or PosixError, which is logged once; a later request tries again, as kinit may have been run since.

A pool that was not used for `idle` seconds, and whose user has no file open, ends: its sessions log off, its
connections close. The next request starts a new one. Background work of the mount, such as probing whether a better
target is back, neither starts a pool nor counts as use.

Each pool runs in a task of its own, in the nursery of UserPools.
"""

from __future__ import annotations

import contextlib
import errno
import logging
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Self

import trio

from dfsfs.background import contain, keep_going
from dfsfs.caller import Caller, current_caller, override_caller
from dfsfs.errors import ConnectError, DfsfsError, ForeignCaller, PosixError
from dfsfs.firstfew import FirstFew
from dfsfs.ntstatus import NtStatus
from dfsfs.smb.pool import Pool
from dfsfs.threads import Threads

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
    from types import TracebackType

    from dfsfs.smb.auth.credentials import Login
    from dfsfs.smb.auth.hostnames import HostNames
    from dfsfs.smb.connection.protocol import ProtocolStatistics
    from dfsfs.smb.connection.settings import TransportSettings
    from dfsfs.smb.sessioninfo import SessionInfo
    from dfsfs.smb.tree.tree import Tree
    from dfsfs.unc import UncPath

log = logging.getLogger("dfsfs.smb")

IDLE_TIMEOUT = 600.0
"""Seconds without a request of a user after which the user's sessions end."""
IDLE_CHECK_INTERVAL = 30.0
"""Seconds between two checks for idle users."""
REFUSAL_CACHE_TIME = 2.0
"""Seconds for which the failure of a user's login is raised again without another attempt."""
FIND_LOGIN_TIMEOUT = 5.0
"""Seconds that `find_login` may take, which reads files of the user."""
THREADS_PER_USER, THREADS_TOTAL = 4, 64
"""Threads for `find_login` and for KDCs: of one user, and of all users."""
MAX_WARNED_FOREIGN = 100
"""The most users for whom it is logged that a process in a container was refused."""
MAX_WARNED_USERS = 1000
"""The most users that are remembered as logged to have no login: one person may have thousands of user ids."""
LOGOUT_WRITE_TIMEOUT = 5.0
"""Seconds that a logout waits for the user's written data to reach the servers."""


@dataclass(slots=True, eq=False)
class _User:
    """One user's pool; `pool` is None before it has started and after it has ended. `last_used` in trio's time."""

    who: Caller
    pool: Pool | None = None
    last_used: float = 0.0
    changed: trio.Event = field(default_factory=trio.Event)
    """Set when the pool has started, and then replaced by one that is set when it has ended."""
    end_requested: trio.Event = field(default_factory=trio.Event)

    def notify_changed(self) -> None:
        """To be called when the pool has started or ended."""
        self.changed.set()
        self.changed = trio.Event()


class UserPools:
    """See the module's text. `has_open_files` says whether a user has files open. Use as an asynchronous context
    manager."""

    def __init__(
        self,
        settings: TransportSettings,
        own: Pool,
        find_login: Callable[[Caller], Login],
        *,
        idle: float = IDLE_TIMEOUT,
    ) -> None:
        self._settings = settings
        self._own = own
        self._find_login = find_login
        self._idle = idle
        self._users: dict[int, _User] = {}
        self._refused: dict[int, tuple[float, DfsfsError]] = {}
        self._warned_users: dict[int, None] = {}
        self._warned_foreign = FirstFew[int](MAX_WARNED_FOREIGN)
        self._threads = Threads(THREADS_PER_USER, THREADS_TOTAL)
        self.has_open_files: Callable[[int], bool] = lambda uid: False
        self.flush_writes: Callable[[int], Awaitable[None]] = _flush_nothing
        """Sends the written data of a user to the servers."""
        self.on_user_gone: Callable[[int], None] = lambda uid: None
        """Called when a user has neither sessions nor open files, so that nothing has to be kept for the user."""
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        self._nursery = await self._stack.enter_async_context(trio.open_nursery())
        self._nursery.start_soon(keep_going, "users", self._end_idle_pools)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for user in self._users.values():
            user.end_requested.set()
        with trio.CancelScope(shield=True), trio.move_on_after(2.0):
            while self._users:
                await next(iter(self._users.values())).changed.wait()
        self._nursery.cancel_scope.cancel()
        await self._stack.aclose()

    @property
    def names(self) -> HostNames:
        """Maps names of servers to names in DNS and Kerberos."""
        return self._own.names

    async def connect_tree(self, share: UncPath) -> Tree:
        """A live tree connect to `//host/share`, of the user that this task works for.

        Raises:
            DfsfsError: as Pool.connect_tree.
            PosixError: no login was found, or not in time.
        """
        who = current_caller()
        if who.uid == 0:
            return await self._own.connect_tree(share)
        self._check_refused(who)
        pool = await self._pool(who)
        try:
            tree = await pool.connect_tree(share)
        except DfsfsError as error:
            if error.is_about_login and not pool.statistics():  # else it is about that server alone
                self._remember_refusal(who, error)
                self._request_end(who.uid, pool)  # the next request begins with the tickets that there are then
            raise
        self._warned_users.pop(who.uid, None)
        return tree

    def is_logged_in(self, host: str) -> bool:
        """Whether the user that this task works for has a session on a server."""
        who = current_caller()
        if who.uid == 0:
            return self._own.is_logged_in(host)
        user = self._users.get(who.uid)
        return user is not None and user.pool is not None and user.pool.is_logged_in(host)

    @asynccontextmanager
    async def hold_connection(self, host: str) -> AsyncIterator[None]:
        """Waits until a server has answered the user that this task works for. Errors as in connect_tree."""
        who = current_caller()
        if who.uid != 0:
            self._check_refused(who)
        pool = self._own if who.uid == 0 else await self._pool(who)
        async with pool.hold_connection(host):
            yield

    async def connect_ipc(self, host: str) -> Tree:
        """The tree for requests to the server itself; always with the mount's own login."""
        return await self._own.connect_ipc(host)

    async def log_out(self, who: Caller) -> bool:
        """Ends a user's sessions, also with open files, unless the user's login can still be found. Returns whether it
        did; the sessions have ended then.
        """
        user = self._users.get(who.uid)
        if user is None or user.pool is None:
            return False
        pool, login = user.pool, None
        with contextlib.suppress(DfsfsError, trio.TooSlowError):
            login = await self._threads.run(who.uid, partial(self._find_login, who), FIND_LOGIN_TIMEOUT)
        if login == pool.login:
            return False
        with trio.move_on_after(LOGOUT_WRITE_TIMEOUT), contextlib.suppress(DfsfsError):
            await self.flush_writes(who.uid)
        log.info("user %d has logged out", who.uid)
        user.end_requested.set()
        while self._users.get(who.uid) is user:
            await user.changed.wait()
        return True

    def statistics(self) -> Mapping[str, ProtocolStatistics]:
        """Statistics of the live connections: the mount's own by host, those of users by `host (uid)`."""
        found = dict(self._own.statistics())
        for uid, user in self._users.items():
            if user.pool is not None:
                found |= {f"{host} ({uid})": shown for host, shown in user.pool.statistics().items()}
        return found

    def sessions(self) -> list[SessionInfo]:
        """The live sessions, the mount's own first."""
        found = self._own.sessions()
        for uid, user in self._users.items():
            if user.pool is not None:
                found += [replace(session, uid=uid) for session in user.pool.sessions()]
        return found

    @property
    def users(self) -> tuple[int, ...]:
        """The ids of users that have a pool, or whose pool is being started."""
        return tuple(self._users)

    # -- pieces -----------------------------------------------------------------------------------------------------

    async def _pool(self, who: Caller) -> Pool:
        """The user's pool, which is started if there is none. Errors as in connect_tree."""
        while True:
            user = self._users.get(who.uid)
            if user is None and who.is_background:
                raise ConnectError("", NtStatus.CONNECTION_DISCONNECTED, f"user {who.uid} has no sessions any more")
            if user is None:
                user = await self._start_pool(who)
            if user.pool is not None and not user.end_requested.is_set():
                if not who.is_background:
                    user.last_used = trio.current_time()
                return user.pool
            await user.changed.wait()

    async def _start_pool(self, who: Caller) -> _User:
        try:
            login = await self._threads.run(who.uid, partial(self._find_login, who), FIND_LOGIN_TIMEOUT)
        except trio.TooSlowError:
            text = f"what user {who.uid} logs in with was not found within {FIND_LOGIN_TIMEOUT:g} seconds"
            slow = PosixError(errno.ETIMEDOUT, text)
            self._remember_refusal(who, slow)
            raise slow from None
        except ForeignCaller as error:
            self._warn_foreign_once(who, error)
            self._notify_gone(who.uid)
            raise
        except DfsfsError as error:
            self._remember_refusal(who, error)
            raise
        known = self._users.get(who.uid)  # another task may have started one
        if known is not None:
            return known
        user = self._users[who.uid] = _User(who, last_used=trio.current_time())
        self._nursery.start_soon(contain, "sessions of a user", partial(self._run_pool, user, login))
        return user

    async def _run_pool(self, user: _User, login: Login) -> None:
        with override_caller(user.who):
            try:
                threads = self._threads.get_limiter(user.who.uid)
                async with Pool(self._settings, login, self._own.names, threads) as pool:
                    user.pool = pool
                    user.notify_changed()
                    await user.end_requested.wait()
            finally:
                user.pool = None
                del self._users[user.who.uid]
                user.notify_changed()
                self._notify_gone(user.who.uid)

    async def _end_idle_pools(self) -> None:
        while True:
            await trio.sleep(min(IDLE_CHECK_INTERVAL, self._idle))
            now = trio.current_time()
            for uid, user in self._users.items():
                if now - user.last_used >= self._idle and not self.has_open_files(uid):
                    log.info("user %d: no request for %g seconds, logging off", uid, self._idle)
                    user.end_requested.set()

    def _request_end(self, uid: int, pool: Pool) -> None:
        user = self._users.get(uid)
        if user is not None and user.pool is pool:
            user.end_requested.set()

    def _check_refused(self, who: Caller) -> None:
        known = self._refused.get(who.uid)
        if known is not None:
            if trio.current_time() < known[0]:
                self._notify_gone(who.uid)
                raise known[1].with_traceback(None)
            del self._refused[who.uid]

    def _warn_foreign_once(self, who: Caller, error: ForeignCaller) -> None:
        # The refusal is not remembered, as other processes of the user may log in.
        if self._warned_foreign.take(who.uid):
            log.warning("%s; said once", error)

    def _remember_refusal(self, who: Caller, error: DfsfsError) -> None:
        now = trio.current_time()
        self._refused.pop(who.uid, None)
        self._refused[who.uid] = (now + REFUSAL_CACHE_TIME, error)
        while (oldest := next(iter(self._refused.items())))[1][0] <= now:
            del self._refused[oldest[0]]
        if who.uid not in self._warned_users:
            self._warned_users[who.uid] = None
            log.warning("user %d: %s; said once", who.uid, error)
            if len(self._warned_users) > MAX_WARNED_USERS:
                del self._warned_users[next(iter(self._warned_users))]
        self._notify_gone(who.uid)

    def _notify_gone(self, uid: int) -> None:
        if uid not in self._users and not self.has_open_files(uid):
            self.on_user_gone(uid)


async def _flush_nothing(uid: int) -> None:
    """What `UserPools.flush_writes` is where nothing writes."""
