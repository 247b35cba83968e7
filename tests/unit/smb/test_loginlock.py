"""loginlock.py: a password of which nobody knows whether it is right is tried at one server at a time."""

from __future__ import annotations

import trio

from dfsfs.errors import DfsfsError, LoginRefused
from dfsfs.ntstatus import NtStatus
from dfsfs.smb.auth.credentials import Credentials, Secret
from dfsfs.smb.auth.loginlock import LoginLock
from tests.support.fakes.pool import virtual

RIGHT, WRONG = (Credentials(username=name, password=Secret(name)) for name in ("right", "wrong"))


class Servers:
    """Logins that take a second each."""

    def __init__(self, status: int | None) -> None:
        self.status = status
        self.turn = LoginLock()
        self.tried = self.running = self.most = 0
        self.errors: list[DfsfsError] = []

    async def log_in(self, login: Credentials) -> None:
        try:
            async with self.turn.hold(login):
                self.tried += 1
                self.running += 1
                self.most = max(self.most, self.running)
                await trio.sleep(1.0)
                self.running -= 1
                if self.status is not None:
                    raise LoginRefused(self.status, "logging in")
        except DfsfsError as error:
            self.errors.append(error)

    async def crowd(self, login: Credentials) -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(self.log_in, login)


@virtual
async def test_a_wrong_password_counts_once_however_many_servers_are_needed() -> None:
    servers = Servers(NtStatus.LOGON_FAILURE)
    await servers.crowd(WRONG)
    assert (servers.tried, len(servers.errors)) == (1, 5)
    await servers.log_in(WRONG)
    assert servers.tried == 2, "who comes later finds out anew"


@virtual
async def test_once_it_was_right_nobody_waits() -> None:
    servers = Servers(None)
    await servers.log_in(RIGHT)
    begun = trio.current_time()
    await servers.crowd(RIGHT)
    assert trio.current_time() - begun == 1.0 and servers.most == 5 and servers.errors == []


@virtual
async def test_a_server_that_can_not_says_nothing_of_the_password() -> None:
    servers = Servers(NtStatus.NO_LOGON_SERVERS)
    await servers.crowd(RIGHT)
    assert (servers.tried, servers.most) == (5, 1)
