"""Pools of users, against real servers: who gets one, and when it ends."""

from __future__ import annotations

import errno
import threading
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from dfsfs.caller import Caller, override_caller
from dfsfs.errors import ConnectError, DfsfsError, ForeignCaller, PosixError, SmbError
from dfsfs.ntstatus import NtStatus
from dfsfs.smb.auth.credentials import Credentials, Login, Secret
from dfsfs.smb.connection.settings import TransportSettings
from dfsfs.smb.userpools import FIND_LOGIN_TIMEOUT, UserPools
from dfsfs.unc import UncPath
from tests.samba.clients import open_pool
from tests.support.lab.topology import ALICE, BOB

if TYPE_CHECKING:
    from tests.support.lab.samba import Lab

pytestmark = pytest.mark.lab

HERS, HIS, NOBODYS = Caller(ALICE.uid, 1), Caller(BOB.uid, 1), Caller(3, 1)


class Logins:
    """What users have stored."""

    def __init__(self) -> None:
        self.known: dict[int, Login] = {
            user.uid: Credentials(user.name, Secret(user.password)) for user in (ALICE, BOB)
        }
        self.asked: list[int] = []
        self.foreign: set[int] = set()
        """Processes that live in a container."""
        self.stuck: set[int] = set()
        """Users whose files are on something that does not answer."""
        self.answers = threading.Event()

    def __call__(self, who: Caller) -> Login:
        self.asked.append(who.uid)
        if who.pid in self.foreign:
            raise ForeignCaller(who.pid, who.uid, "as the test wants it")
        if who.uid in self.stuck:
            self.answers.wait()
        if who.uid not in self.known:
            raise SmbError(NtStatus.LOGON_FAILURE, "no login")
        return self.known[who.uid]


async def until(condition: object, users: UserPools) -> None:
    with trio.fail_after(10):
        while users.users != condition:  # noqa: ASYNC110 - nothing else says so
            await trio.sleep(0.01)


async def test_each_user_has_sessions_of_their_own(lab: Lab) -> None:
    only_bob = UncPath((lab.address("fs1"), "bobonly"))
    async with open_pool(lab) as own, UserPools(TransportSettings(), own, Logins()) as users:
        with override_caller(HIS):
            his = await users.connect_tree(only_bob)
            assert await users.connect_tree(only_bob) is his
        with override_caller(HERS), pytest.raises(SmbError, match="ACCESS_DENIED"):
            await users.connect_tree(only_bob)
        assert set(users.users) == {HERS.uid, HIS.uid}
        assert (await users.connect_ipc(lab.address("fs1"))).connection is not his.connection
        assert f"{lab.address('fs1')} ({HIS.uid})" in users.statistics()
    assert users.users == ()


async def test_idle_users_are_logged_off_unless_they_have_files_open(lab: Lab) -> None:
    share, server = UncPath((lab.address("fs2"), "data")), lab.host("fs2")
    before = server.connections()
    async with open_pool(lab) as own, UserPools(TransportSettings(), own, Logins(), idle=0.1) as users:
        users.has_open_files = {HERS.uid}.__contains__
        for who in (HERS, HIS):
            with override_caller(who):
                tree = await users.connect_tree(share)
        await until((HERS.uid,), users)
        assert not tree.alive
        users.has_open_files = set[int]().__contains__
        await until((), users)
        with trio.fail_after(10):
            while server.connections() > before:  # noqa: ASYNC110 - the server's side
                await trio.sleep(0.01)
        with override_caller(HIS):
            assert (await users.connect_tree(share)).alive, "and comes again"


async def test_what_nobody_asked_for_keeps_nobody_logged_in(lab: Lab) -> None:
    share = UncPath((lab.address("fs2"), "data"))
    async with open_pool(lab) as own, UserPools(TransportSettings(), own, Logins(), idle=0.2) as users:
        with override_caller(HIS._replace(is_background=True)):
            with pytest.raises(ConnectError, match="no sessions"):
                await users.connect_tree(share)
            with override_caller(HIS):
                await users.connect_tree(share)
            with trio.fail_after(10):
                while users.users:
                    try:
                        await users.connect_tree(share)
                    except ConnectError:
                        pass
                    await trio.sleep(0.02)


async def test_who_has_no_login_is_not_looked_for_again_at_once(lab: Lab) -> None:
    share = UncPath((lab.address("fs2"), "data"))
    logins = Logins()
    async with open_pool(lab) as own, UserPools(TransportSettings(), own, logins) as users:
        with override_caller(NOBODYS):
            for _ in range(5):
                with pytest.raises(DfsfsError, match="no login"):
                    await users.connect_tree(share)
            assert logins.asked == [NOBODYS.uid]
            logins.known[NOBODYS.uid] = logins.known[ALICE.uid]
            with trio.fail_after(10):
                while True:
                    try:
                        await users.connect_tree(share)
                        break
                    except DfsfsError:
                        await trio.sleep(0.05)


async def test_a_wrong_password_is_asked_for_again_later(lab: Lab) -> None:
    share = UncPath((lab.address("fs2"), "data"))
    logins = Logins()
    logins.known[HERS.uid] = Credentials(ALICE.name, Secret("wrong"))
    async with open_pool(lab) as own, UserPools(TransportSettings(), own, logins) as users:
        with override_caller(HERS):
            with pytest.raises(SmbError, match="LOGON_FAILURE"):
                await users.connect_tree(share)
        await until((), users)


async def test_many_requests_of_a_new_user_make_one_pool(lab: Lab) -> None:
    share = UncPath((lab.address("fs2"), "data"))
    trees = []
    async with open_pool(lab) as own, UserPools(TransportSettings(), own, Logins()) as users:

        async def ask() -> None:
            with override_caller(HIS):
                trees.append(await users.connect_tree(share))

        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(ask)
        assert len(set(map(id, trees))) == 1


@pytest.mark.parametrize("crowd", [1, 40])
async def test_users_whose_logins_are_stuck_keep_nobody_from_logging_in(lab: Lab, crowd: int) -> None:
    """One user with more requests than there are threads; and so many users that all threads are theirs: the mount's
    own login has others.
    """
    share = UncPath((lab.address("fs2"), "data"))
    logins, uids = Logins(), [HERS.uid, *range(70_000, 70_000 + crowd - 1)]
    logins.stuck = set(uids)
    async with open_pool(lab) as own, UserPools(TransportSettings(), own, logins) as users:

        async def ask(uid: int) -> None:
            with override_caller(Caller(uid, 1)):
                await users.connect_tree(share)

        async with trio.open_nursery() as nursery:
            for number in range(80):
                nursery.start_soon(ask, uids[number % crowd])
            await trio.testing.wait_all_tasks_blocked(0.1)
            try:
                with trio.fail_after(FIND_LOGIN_TIMEOUT / 2):
                    assert (await users.connect_ipc(lab.address("fs2"))).alive
                    if crowd == 1:
                        with override_caller(HIS):
                            assert (await users.connect_tree(share)).alive
            finally:
                nursery.cancel_scope.cancel()
                logins.answers.set()


async def test_what_a_user_logs_in_with_has_to_be_found_in_time(lab: Lab) -> None:
    share, logins = UncPath((lab.address("fs2"), "data")), Logins()
    logins.stuck = {HERS.uid}
    async with open_pool(lab) as own, UserPools(TransportSettings(), own, logins) as users:
        try:
            started = trio.current_time()
            with override_caller(HERS), pytest.raises(PosixError, match="not found within 5 seconds"):
                await users.connect_tree(share)
            assert trio.current_time() - started < 2 * FIND_LOGIN_TIMEOUT
        finally:
            logins.answers.set()


async def test_stuck_threads_keep_no_mount_from_ending(lab: Lab) -> None:
    share, logins = UncPath((lab.address("fs2"), "data")), Logins()
    logins.stuck = {HERS.uid}
    try:
        with trio.move_on_after(0.5):
            async with open_pool(lab) as own, UserPools(TransportSettings(), own, logins) as users:
                with override_caller(HERS):
                    await users.connect_tree(share)
        assert logins.asked == [HERS.uid] and not logins.answers.is_set()
    finally:
        logins.answers.set()


async def test_a_container_is_refused_and_the_user_of_that_number_is_not(lab: Lab) -> None:
    share, logins = UncPath((lab.address("fs2"), "data")), Logins()
    logins.foreign = {17}
    async with open_pool(lab) as own, UserPools(TransportSettings(), own, logins) as users:
        with override_caller(HERS._replace(pid=17)), pytest.raises(ForeignCaller) as caught:
            await users.connect_tree(share)
        assert caught.value.errno == errno.EACCES
        with override_caller(HERS._replace(pid=18)):
            assert (await users.connect_tree(share)).alive
