"""What is hidden: whose names they are, what makes way for a replacement, and what is under way meanwhile."""

from __future__ import annotations

import errno
import os
import time
from typing import TYPE_CHECKING

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from dfsfs.errors import ConnectionLost, SmbError
from dfsfs.ntstatus import NtStatus
from dfsfs.smb.wire.constants import FileAttributes
from dfsfs.vfs.data.pending import PATIENCE, PendingOperations
from dfsfs.vfs.names.hiddennames import (
    FOREIGN_AGE_MAX,
    OPEN_RETRY,
    HiddenNames,
    NameOwner,
    get_aside_name,
    is_hidden_name,
    is_kept_name,
    this_process,
)
from dfsfs.vfs.names.inodetable import ROOT, Inode
from tests.unit.vfs.world import World, fails, refuse

if TYPE_CHECKING:
    from dfsfs.unc import UncPath

pytestmark = pytest.mark.logs("had been set aside", "^WARNING dfsfs.vfs: closing")

ME = NameOwner("11111111", os.getpid(), 5)
NOW = 0x7000_0000


def name_of(tag: str = ME.tag, pid: int = ME.pid, start: int = ME.start, made: int = NOW) -> str:
    return f".dfsfs_deleted_{tag}-{pid:x}-{start:x}_{made:08x}_00c0ffee"


@pytest.mark.parametrize(
    ("name", "is_abandoned"),
    [
        (name_of(), True),
        (name_of(pid=7, start=70), False),
        (name_of(pid=7, start=71), True),
        (name_of(pid=8), True),
        (name_of("22222222"), False),
        (name_of("22222222", made=NOW - FOREIGN_AGE_MAX), False),
        (name_of("22222222", made=NOW - FOREIGN_AGE_MAX - 1), True),
        (name_of("22222222", made=NOW + 5 * FOREIGN_AGE_MAX), False),
        (".dfsfs_deleted_0123456789abcdef", False),
        (".dfsfs_deleted_by_me", False),
    ],
    ids=[
        "mine",
        "running",
        "another-start",
        "gone",
        "other-machine",
        "a-day",
        "over-a-day",
        "future",
        "plain",
        "users",
    ],
)
def test_who_may_come_back_for_a_hidden_file(name: str, *, is_abandoned: bool) -> None:
    names = HiddenNames(lambda: ME, {7: 70}.get)
    assert names.is_abandoned(name, NOW, FOREIGN_AGE_MAX) is is_abandoned


def test_a_name_is_in_use_until_its_maker_says_that_it_is_not() -> None:
    names = HiddenNames()
    for name in (names.make_deleted_name(), names.make_kept_name(-1)):
        assert is_hidden_name(name) and len(name) < 128
        assert is_kept_name(name) == ("kept" in name)
        assert not names.is_abandoned(name, NOW, FOREIGN_AGE_MAX)
        names.release(name)
        assert names.is_abandoned(name, NOW, FOREIGN_AGE_MAX)
        assert not HiddenNames(lambda: ME, {os.getpid(): this_process().start}.get).is_abandoned(name, NOW, 10**10)


class CountedTime(float):
    """A time that counts how often one is compared with it."""

    compared = 0

    def __sub__(self, other: float) -> float:
        CountedTime.compared += 1
        return float(self) - other


def test_open_files_are_looked_at_again_after_a_pause_however_many_there_are() -> None:
    names, count = HiddenNames(), 2000
    for number in range(count):
        names.mark_open(str(number), CountedTime(number * OPEN_RETRY / count))
    assert CountedTime.compared <= 3 * count
    assert (
        not names.is_due("0", OPEN_RETRY - 1) and names.is_due("0", OPEN_RETRY) and not names.is_due("1999", OPEN_RETRY)
    )
    names.mark_open("0", OPEN_RETRY)  # again
    names.mark_open("x", 2 * OPEN_RETRY - 0.001)
    assert list(names._open) == ["0", "x"], "nothing is kept for longer"


async def test_a_replaced_file_keeps_its_name_until_the_other_has_it(autojump_clock: object) -> None:
    """Each request is seen by a look at the store before it is carried out."""
    world = World()
    world.root.has_hard_links = True
    world.root.add_file("new", b"new")
    world.root.add_file("old", b"old")
    opened = await world.fs.open(await world.ino("old"), os.O_RDONLY)

    def old_is_there(verb: str, path: UncPath) -> None:
        found = world.root.find("old")
        assert found is not None and bytes(found.data) in (b"old", b"new")

    world.root.before = world.root.after = old_is_there
    world.clear()
    await world.fs.rename(ROOT, b"new", ROOT, b"old", 0)
    verbs = [verb for verb, _ in world.root.calls]
    assert [verb for verb in verbs if verb != "stat"] == ["link", "close", "rename", "open", "query"]
    assert bytes(await world.fs.read(opened.handle, 0, 10)) == b"old"
    assert list(await world.listing()) == ["link", "old"]
    await world.fs.release(opened.handle)
    assert world.root.names() == ["link", "old"]
    world.fs.check_invariants()


@pytest.mark.parametrize("links", [True, False])
async def test_after_a_refused_replacement_all_is_as_it_was(autojump_clock: object, *, links: bool) -> None:
    world = World()
    world.root.has_hard_links = links
    world.root.add_file("new", b"new")
    world.root.add_file("old", b"old")
    ino = await world.ino("old")
    opened = await world.fs.open(ino, os.O_RDONLY)
    world.root.before = lambda verb, path: refuse(f"{verb} {path.components[-1]}", "rename new")
    await fails(errno.EACCES, world.fs.rename(ROOT, b"new", ROOT, b"old", 0))
    assert world.root.names() == ["link", "new", "old"]
    assert bytes(await world.fs.read(opened.handle, 0, 10)) == b"old"
    assert await world.ino("old") == ino
    assert (await world.fs.getattr(ino)).nlink == 1
    await world.fs.release(opened.handle)
    assert world.root.names() == ["link", "new", "old"]
    world.fs.check_invariants()


async def test_a_program_that_opens_a_file_while_it_is_replaced_is_in_nobody_s_way(autojump_clock: object) -> None:
    world = World()
    world.root.has_hard_links = True
    world.root.add_file("new", b"new")
    world.root.add_file("old", b"old")
    ino, handles = await world.ino("old"), []

    async def look() -> None:
        handles.append((await world.fs.open(ino, os.O_RDONLY)).handle)

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(look)
        nursery.start_soon(world.fs.rename, ROOT, b"new", ROOT, b"old", 0)
    for handle in handles:
        assert bytes(await world.fs.read(handle, 0, 10)) == b"old"
        await world.fs.release(handle)
    assert world.root.names() == ["link", "old"]
    found = world.root.find("old")
    assert found is not None and bytes(found.data) == b"new"
    world.fs.check_invariants()


async def test_who_is_refused_for_a_moment_tries_again_before_a_program_hears_of_it(autojump_clock: object) -> None:
    """As when a file that was fetched ahead is not closed yet."""
    world = World()
    world.root.add_file("new", b"new")
    world.root.add_file("old", b"old")
    refusals = iter([True])

    def once(verb: str, path: UncPath) -> None:
        if verb == "rename" and next(refusals, False):
            raise SmbError(NtStatus.SHARING_VIOLATION, "for a moment")

    world.root.before = once
    await world.fs.rename(ROOT, b"new", ROOT, b"old", 0)
    assert world.root.names() == ["link", "old"]


@pytest.mark.parametrize("inside", [False, True])
async def test_a_folder_takes_the_place_of_an_empty_one(autojump_clock: object, *, inside: bool) -> None:
    """`inside`: somebody makes a file in it at the last moment."""
    world = World()
    for name in ("new", "old"):
        world.root.add_folder(name)
    world.root.add_file("new/file")

    def meddle(verb: str, path: UncPath) -> None:
        if inside and verb == "rmdir" and path.components[-1].endswith("_old"):
            world.root.add_file("/".join([*path.below_share, "late"]))
            world.root.before = lambda verb, path: None

    world.root.before = meddle
    rename = world.fs.rename(ROOT, b"new", ROOT, b"old", 0)
    if inside:
        await fails(errno.ENOTEMPTY, rename)
        assert (world.root.names(), world.root.names("old")) == (["link", "new", "old"], ["late"])
    else:
        await rename
        assert (world.root.names(), world.root.names("old")) == (["link", "old"], ["file"])
    world.fs.check_invariants()


@pytest.mark.parametrize("which", [1, 2])
async def test_a_removal_whose_answer_is_lost_has_removed_it(autojump_clock: object, *, which: int) -> None:
    """First the empty folder whose name another one has, then the hidden one that it was in."""
    world = World()
    for name in ("new", "old"):
        world.root.add_folder(name)
    world.root.add_file("new/file")
    removals = iter(range(1, 10))

    def lose(verb: str, path: UncPath) -> None:
        if verb == "rmdir" and next(removals) == which:
            world.namespace.cut("//dfs/ns")
            raise ConnectionLost(path.host, NtStatus.CONNECTION_RESET, "and the answer with it")

    world.root.after = lose
    await world.fs.rename(ROOT, b"new", ROOT, b"old", 0)
    assert (world.root.names(), world.root.names("old")) == (["link", "old"], ["file"])
    world.fs.check_invariants()


@pytest.mark.parametrize(
    ("inside", "attributes"),
    [
        ("", FileAttributes.FILE_ATTRIBUTE_REPARSE_POINT),
        ("thesis", FileAttributes.FILE_ATTRIBUTE_NORMAL),
        (".dfsfs_aside_01234567_x", 0),
    ],
    ids=["a junction to an empty folder", "what was not set aside", "what was set aside elsewhere"],
)
async def test_what_only_has_the_name_of_a_folder_of_what_was_set_aside_is_left_alone(
    autojump_clock: object, caplog: pytest.LogCaptureFixture, inside: str, attributes: int
) -> None:
    world = World()
    kept = f".dfsfs_kept_0badcafe-1-1_{int(time.time() - FOREIGN_AGE_MAX):08x}_00000001_1"
    world.root.add_folder(kept).attributes = attributes
    if inside:
        world.root.add_file(f"{kept}/{inside}")
    for _ in range(2):
        assert list(await world.listing()) == ["link"]
    assert kept in world.root.names()
    assert world.root.names(kept) == [inside] * bool(inside)
    assert caplog.text.count("left alone") == 1


def test_a_name_that_is_too_long_for_more_is_set_aside_as_it_is() -> None:
    assert get_aside_name("K", "x" * 233).endswith("_" + "x" * 233)
    assert get_aside_name("K", "x" * 234) == "x" * 234
    assert get_aside_name("K", "\udc80" * 80) == "\udc80" * 80


async def test_an_open_waits_while_its_file_is_barred_and_a_bar_for_those_before(autojump_clock: object) -> None:
    under_way, inode, seen = PendingOperations(), Inode(5, "file", False), list[str]()
    done = trio.Event()

    async def first() -> None:
        async with under_way.opening(inode):
            seen.append("first begins")
            await done.wait()

    async def bar() -> None:
        async with under_way.opens_blocked(inode):
            seen.append("opens_blocked")
            assert under_way.are_opens_blocked(inode) and not under_way.is_busy(inode)
            await trio.sleep(1)
        seen.append("free")

    async def second() -> None:
        async with under_way.opening(inode):
            seen.append("second begins")

    async with trio.open_nursery() as nursery:
        for work in (first, bar, second):
            nursery.start_soon(work)
            await wait_all_tasks_blocked()
        assert seen == ["first begins"]
        done.set()
    assert seen == ["first begins", "opens_blocked", "free", "second begins"]


async def test_an_open_that_takes_for_ever_does_not_hold_a_removal_for_ever(autojump_clock: object) -> None:
    under_way, inode = PendingOperations(), Inode(5, "file", False)
    async with under_way.opening(inode):
        started = trio.current_time()
        async with under_way.opens_blocked(inode):
            assert trio.current_time() - started == PATIENCE
            assert under_way.is_busy(inode)


@pytest.mark.parametrize("given_up", ["putting back", "giving the last name", "removing the folder"])
async def test_what_was_set_aside_is_put_right_though_a_rename_was_given_up(
    autojump_clock: object, *, given_up: str
) -> None:
    """As when a server does not answer until the rename's time is over: the next listing finds what is left."""
    world = World()
    world.root.add_file("new", b"new")
    world.root.add_file("old", b"old")
    opened = await world.fs.open(await world.ino("old"), os.O_RDONLY)
    last = 2 if given_up == "removing the folder" else 1
    with trio.CancelScope() as scope:
        renames = iter(range(10))  # into the folder, over the name, back or to the last name

        def meddle(verb: str, path: UncPath) -> None:
            if verb == "rename" and next(renames) == last:
                scope.cancel()
                if given_up == "putting back":
                    raise SmbError(NtStatus.DISK_FULL, "as the test wants it")

        world.root.before = meddle
        await world.fs.rename(ROOT, b"new", ROOT, b"old", 0)
    assert scope.cancelled_caught
    world.root.before = lambda verb, path: None
    await world.fs.release(opened.handle)
    await world.listing()
    assert not list(filter(is_hidden_name, world.root.names()))
    found = world.root.find("old")
    assert found is not None and bytes(found.data) == (b"old" if given_up == "putting back" else b"new")
    world.fs.check_invariants()


async def test_a_second_name_whose_maker_was_given_up_is_removed_by_the_next_listing(autojump_clock: object) -> None:
    world = World()
    world.root.has_hard_links = True
    world.root.add_file("new", b"new")
    world.root.add_file("old", b"old")
    opened = await world.fs.open(await world.ino("old"), os.O_RDONLY)
    with trio.CancelScope() as scope:

        def meddle(verb: str, path: UncPath) -> None:
            if verb == "link":
                scope.cancel()
                raise ConnectionLost(path.host, NtStatus.CONNECTION_RESET, "and the answer with it")

        world.root.after = meddle
        await world.fs.rename(ROOT, b"new", ROOT, b"old", 0)
    assert scope.cancelled_caught
    world.root.after = lambda verb, path: None
    await world.fs.release(opened.handle)
    assert list(filter(is_hidden_name, world.root.names()))
    await world.listing()
    assert world.root.names() == ["link", "new", "old"]
    world.fs.check_invariants()


async def test_a_file_that_another_client_has_put_in_the_place_of_an_open_one_is_removed(
    autojump_clock: object,
) -> None:
    """In the moment before the open file is hidden: it is not that one which is hidden then, and it loses no name."""
    world = World()
    world.root.add_file("file", b"mine")
    ino = await world.ino("file")
    opened = await world.fs.open(ino, os.O_RDWR)

    def replace_file(verb: str, path: UncPath) -> None:
        if verb == "rename":
            world.root.remove("file")
            world.root.add_file("file", b"theirs")

    world.root.before = replace_file
    await world.fs.unlink(ROOT, b"file")
    world.root.before = lambda verb, path: None
    assert world.root.names() == ["link"]
    assert bytes(await world.fs.read(opened.handle, 0, 10)) == b"mine"
    assert (await world.fs.getattr(ino)).nlink == 1, "by another name, for all that is known here"
    await world.fs.release(opened.handle)
    assert world.root.names() == ["link"]
