"""What servers of SMB do that this file system rests on, as checks for any of them.

Each check is a coroutine that takes a Bench: two clients of one share, and an empty folder on it. They are run against
real servers (test_battery.py) and against the one in memory (tests/unit/smb/test_memory_server.py), so that tests on
that one show what a real server would.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from dfsfs.errors import SmbError
from dfsfs.ntstatus import NtStatus
from dfsfs.smb.connection.leases import LeaseRequest
from dfsfs.smb.wire import fscc, messages
from dfsfs.smb.wire.constants import Access, CreateDisposition, CreateOptions, FileInformationClass, LeaseState
from tests.samba.clients import PATIENCE, eventually

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from dfsfs.smb.connection.leases import Acknowledge, Lease
    from dfsfs.smb.tree.file import RemoteFile
    from dfsfs.smb.tree.tree import Tree
    from dfsfs.unc import UncPath

READ_WRITE = Access.READ | Access.WRITE
OPEN, CREATE = CreateDisposition.FILE_OPEN, CreateDisposition.FILE_CREATE
NONE, SHARED, ALL = LeaseState.SMB2_LEASE_NONE, LeaseState.SHARED, LeaseState.ALL


@dataclass(frozen=True)
class Bench:
    """`one` and `two` are clients of their own; `folder` is empty."""

    one: Tree
    two: Tree
    folder: UncPath

    def path(self, name: str) -> UncPath:
        return self.folder.join(name.split("/"))

    async def make(self, name: str, data: bytes = b"data") -> UncPath:
        """A file that nobody has open any more."""
        file = await self.one.open(self.path(name), access=READ_WRITE, disposition=CREATE)
        if data:
            await file.write(0, data)
        await closed(file)
        return self.path(name)

    async def names(self) -> set[str]:
        return {entry.name async for batch in self.two.list(self.folder) for entry in batch}


async def closed(file: RemoteFile) -> None:
    """Closes a file, and waits for that whether it was written or not."""
    file.is_written = True
    await file.close()


async def status_of(action: Awaitable[object]) -> int:
    try:
        await action
    except SmbError as error:
        return error.status
    return NtStatus.SUCCESS


async def opened(tree: Tree, path: UncPath, access: Access = READ_WRITE) -> RemoteFile:
    return await tree.open(path, access=access, disposition=OPEN)


async def asked_for_deletion(file: RemoteFile) -> None:
    """The name is to go when the file is closed."""
    info = fscc.encode_disposition()
    (response,) = await file.tree.call(
        [messages.encode_set_info(file._file_id, FileInformationClass.FILE_DISPOSITION_INFORMATION, info)]
    )
    file.tree.check(response, "deletion")


class Leased:
    """A client that opens one file under a lease. Breaks are acknowledged by `agree`."""

    def __init__(self, tree: Tree, path: UncPath) -> None:
        self.tree = tree
        self.path = path
        self.breaks: list[tuple[LeaseState, LeaseState]] = []
        self._acknowledge: list[Acknowledge] = []
        lease = tree.make_lease(path)
        assert lease is not None
        self.lease: Lease = lease
        lease.on_break = self._on_break

    def _on_break(self, before: LeaseState, acknowledge: Acknowledge) -> None:
        self.breaks.append((before, self.lease.state))
        self._acknowledge.append(acknowledge)

    async def open(self, wanted: LeaseState = ALL, access: Access = READ_WRITE) -> RemoteFile:
        return await self.tree.open(self.path, access=access, disposition=OPEN, lease=LeaseRequest(self.lease, wanted))

    async def agree(self) -> None:
        with trio.fail_after(PATIENCE):
            await eventually(lambda: bool(self._acknowledge))
        while self._acknowledge:
            self._acknowledge.pop()()


async def both(first: Callable[[], Awaitable[object]], second: Callable[[], Awaitable[object]]) -> list[object]:
    """Runs two things at the same time."""
    results: list[object] = [None, None]

    async def run(index: int, work: Callable[[], Awaitable[object]]) -> None:
        results[index] = await work()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run, 0, first)
        nursery.start_soon(run, 1, second)
    return results


# -- names ------------------------------------------------------------------------------------------------------------


async def a_new_file_is_there_with_what_was_written(bench: Bench) -> None:
    path = await bench.make("file", b"some bytes")
    stat = await bench.two.stat(path)
    assert (stat.size, stat.links, stat.is_directory) == (10, 1, False)
    file = await opened(bench.two, path, Access.READ)
    assert bytes(await file.read(0, 100)) == b"some bytes"
    assert bytes(await file.read(10, 5)) == b""
    await closed(file)


async def names_are_taken_once(bench: Bench) -> None:
    path = await bench.make("file")
    again = bench.one.open(path, access=READ_WRITE, disposition=CREATE)
    assert await status_of(again) == NtStatus.OBJECT_NAME_COLLISION
    assert await status_of(bench.one.make_directory(path)) == NtStatus.OBJECT_NAME_COLLISION
    assert await status_of(bench.one.stat(bench.path("other"))) == NtStatus.OBJECT_NAME_NOT_FOUND
    assert await status_of(bench.one.stat(bench.path("other/file"))) == NtStatus.OBJECT_PATH_NOT_FOUND


async def folders_are_folders(bench: Bench) -> None:
    file, folder = await bench.make("file"), bench.path("folder")
    assert (await bench.one.make_directory(folder)).is_directory
    as_file = bench.one.open(
        folder, access=Access.READ, disposition=OPEN, options=CreateOptions.FILE_NON_DIRECTORY_FILE
    )
    assert await status_of(as_file) == NtStatus.FILE_IS_A_DIRECTORY
    assert await status_of(bench.one.remove_directory(file)) == NtStatus.NOT_A_DIRECTORY
    await bench.make("folder/file")
    assert await status_of(bench.one.remove_directory(folder)) == NtStatus.DIRECTORY_NOT_EMPTY
    await bench.one.remove_file(bench.path("folder/file"))
    assert await status_of(bench.one.remove_directory(folder)) == NtStatus.SUCCESS
    assert await bench.names() == {"file"}


async def a_listing_tells_what_stat_tells(bench: Bench) -> None:
    path = await bench.make("file", b"12345")
    await bench.one.make_directory(bench.path("folder"))
    (batch,) = [batch async for batch in bench.one.list(bench.folder)]
    found = {entry.name: entry.stat for entry in batch}
    assert set(found) == {"file", "folder"}
    stat = await bench.one.stat(path)
    listed = found["file"]
    assert (listed.size, listed.file_id, listed.written, listed.changed, listed.created) == (
        *(stat.size, stat.file_id, stat.written, stat.changed, stat.created),
    )
    assert found["folder"].is_directory and not listed.is_directory


async def what_is_removed_while_it_is_open_keeps_its_name_until_the_last_close(bench: Bench) -> None:
    path = await bench.make("file")
    file = await opened(bench.two, path)
    await bench.one.remove_file(path)
    assert await status_of(bench.one.stat(path)) == NtStatus.DELETE_PENDING
    again = bench.one.open(path, access=READ_WRITE, disposition=CREATE)
    assert await status_of(again) == NtStatus.OBJECT_NAME_COLLISION
    assert "file" in await bench.names()
    assert bytes(await file.read(0, 4)) == b"data"
    await closed(file)
    assert await status_of(bench.one.stat(path)) == NtStatus.OBJECT_NAME_NOT_FOUND


async def the_deletion_of_one_name_leaves_the_other(bench: Bench) -> None:
    path, other = await bench.make("file"), bench.path("other")
    await bench.one.link(path, other)
    file = await opened(bench.two, path)
    await bench.one.remove_file(path)
    assert await status_of(bench.one.stat(path)) == NtStatus.DELETE_PENDING
    assert (await bench.one.stat(other)).size == 4
    await closed(file)
    assert await bench.names() == {"other"}


async def a_name_goes_although_another_one_of_the_file_is_open(bench: Bench) -> None:
    path, other = await bench.make("file"), bench.path("other")
    await bench.one.link(path, other)
    file = await opened(bench.two, other)
    await bench.one.remove_file(path)
    assert await bench.names() == {"other"}
    await closed(file)


async def hard_links_are_counted(bench: Bench) -> None:
    path, other = await bench.make("file"), bench.path("other")
    await bench.one.link(path, other)
    one, two = await bench.one.stat(path), await bench.two.stat(other)
    assert one.file_id == two.file_id and one.links == two.links == 2
    assert await status_of(bench.one.link(path, other)) == NtStatus.OBJECT_NAME_COLLISION
    file = await opened(bench.one, other)
    await file.write(0, b"more than before")
    await closed(file)
    assert (await bench.two.stat(path)).size == 16
    await bench.one.remove_file(path)
    assert (await bench.one.stat(other)).links == 1


async def a_rename_takes_the_place_of_a_file_only_if_it_may(bench: Bench) -> None:
    new, old = await bench.make("new", b"new one"), await bench.make("old")
    assert await status_of(bench.one.rename(new, old, replace=False)) == NtStatus.OBJECT_NAME_COLLISION
    before = await bench.one.stat(new)
    await bench.one.rename(new, old, replace=True)
    after = await bench.two.stat(old)
    assert (after.file_id, after.size, after.written) == (before.file_id, 7, before.written)
    assert await bench.names() == {"old"}


async def a_file_that_its_client_has_open_is_not_replaced(bench: Bench) -> None:
    new, old = await bench.make("new"), await bench.make("old")
    file = await opened(bench.one, old)
    assert await status_of(bench.one.rename(new, old, replace=True)) == NtStatus.ACCESS_DENIED
    await closed(file)
    assert await status_of(bench.one.rename(new, old, replace=True)) == NtStatus.SUCCESS


async def a_file_that_is_open_can_get_another_name(bench: Bench) -> None:
    path, new = await bench.make("file"), bench.path("new")
    file = await opened(bench.one, path)
    await bench.one.rename(path, new, replace=False)
    await file.write(0, b"after")
    assert (await file.query()).size == 5
    await closed(file)
    assert await bench.names() == {"new"}
    assert (await bench.two.stat(new)).size == 5


async def a_folder_with_an_open_file_keeps_its_name(bench: Bench) -> None:
    await bench.one.make_directory(bench.path("folder"))
    file = await opened(bench.one, await bench.make("folder/file"))
    renaming = bench.one.rename(bench.path("folder"), bench.path("new"), replace=False)
    assert await status_of(renaming) == NtStatus.ACCESS_DENIED
    await closed(file)
    await bench.one.rename(bench.path("folder"), bench.path("new"), replace=False)
    assert (await bench.two.stat(bench.path("new/file"))).size == 4


async def an_open_that_shares_nothing_bears_no_other(bench: Bench) -> None:
    path = await bench.make("file")
    file = await opened(bench.two, path)
    assert await status_of(bench.one.remove_unused(path)) == NtStatus.SHARING_VIOLATION
    assert (await bench.one.stat(path)).size == 4
    await closed(file)
    assert await status_of(bench.one.remove_unused(path)) == NtStatus.SUCCESS


async def what_is_read_only_is_neither_written_nor_deleted(bench: Bench) -> None:
    path = await bench.make("file")
    await bench.one.set_basic(path, fscc.encode_basic_information(None, None, None, None, 1))
    assert await status_of(opened(bench.one, path)) == NtStatus.ACCESS_DENIED
    assert await status_of(bench.one.remove_unused(path)) == NtStatus.CANNOT_DELETE
    await bench.one.remove_file(path)
    assert await bench.names() == set()


async def what_is_read_only_is_replaced_all_the_same(bench: Bench) -> None:
    path, new = await bench.make("file"), await bench.make("new", b"new one")
    await bench.one.set_basic(path, fscc.encode_basic_information(None, None, None, None, 1))
    assert await status_of(bench.one.rename(new, path, replace=True)) == NtStatus.SUCCESS
    assert (await bench.two.stat(path)).size == 7


async def an_overwriting_open_cuts_the_file(bench: Bench) -> None:
    path = await bench.make("file", b"longer than nothing")
    before = await bench.one.stat(path)
    file = await bench.two.open(path, access=READ_WRITE, disposition=CreateDisposition.FILE_OVERWRITE)
    now = await bench.one.stat(path)
    assert (now.size, now.file_id) == (0, before.file_id)
    await closed(file)


async def sizes_are_set_and_holes_are_zeros(bench: Bench) -> None:
    path = await bench.make("file", b"abc")
    await bench.one.set_size(path, 5)
    file = await opened(bench.one, path)
    await file.write(7, b"z")
    assert bytes(await file.read(0, 100)) == b"abc\0\0\0\0z"
    await file.set_size(2)
    assert (await bench.two.stat(path)).size == 2
    await closed(file)


# -- times ------------------------------------------------------------------------------------------------------------

LONG_AGO = 1_000_000_000 * 10**9


async def aged(bench: Bench, name: str) -> UncPath:
    """A file that was last written long ago."""
    path = await bench.make(name)
    await bench.one.set_basic(path, fscc.encode_basic_information(None, None, LONG_AGO, None))
    assert (await bench.one.stat(path)).written == LONG_AGO
    return path


async def the_close_of_a_written_handle_moves_the_time(bench: Bench) -> None:
    path = await aged(bench, "file")
    file = await opened(bench.one, path)
    await file.write(0, b"new")
    assert (await file.query()).written == LONG_AGO
    assert (await bench.two.stat(path)).written == LONG_AGO
    await closed(file)
    assert (await bench.two.stat(path)).written > LONG_AGO


async def the_close_of_a_read_handle_moves_nothing(bench: Bench) -> None:
    path = await aged(bench, "file")
    file = await opened(bench.one, path)
    await file.read(0, 4)
    await closed(file)
    assert (await bench.two.stat(path)).written == LONG_AGO


async def a_time_that_was_set_through_the_handle_stays(bench: Bench) -> None:
    path = await aged(bench, "file")
    file = await opened(bench.one, path)
    await file.write(0, b"new")
    time = LONG_AGO + 10**9
    assert (await file.set_basic(fscc.encode_basic_information(None, None, time, None))).written == time
    await closed(file)
    assert (await bench.two.stat(path)).written == time


async def cutting_shows_in_the_time_at_once(bench: Bench) -> None:
    path = await aged(bench, "file")
    file = await opened(bench.one, path)
    await file.set_size(1)
    assert (await bench.two.stat(path)).written > LONG_AGO
    await closed(file)


# -- leases -----------------------------------------------------------------------------------------------------------


async def who_is_alone_gets_a_whole_lease(bench: Bench) -> None:
    path = await bench.make("file")
    one = Leased(bench.one, path)
    file = await one.open()
    assert one.lease.state == ALL
    again = await one.open(SHARED, Access.READ)
    assert one.lease.state == ALL
    await closed(file)
    await closed(again)
    assert not one.breaks


async def another_open_waits_for_what_it_takes_away(bench: Bench) -> None:
    path = await bench.make("file")
    one, two = Leased(bench.one, path), Leased(bench.two, path)
    file = await one.open()
    _, other = await both(one.agree, two.open)
    assert one.breaks == [(ALL, SHARED)] and (one.lease.state, two.lease.state) == (SHARED, SHARED)
    await closed(file)
    await closed(other)  # type: ignore[arg-type]


async def a_look_breaks_nothing(bench: Bench) -> None:
    path = await bench.make("file")
    one = Leased(bench.one, path)
    file = await one.open()
    assert (await bench.two.stat(path)).size == 4
    assert not one.breaks
    await closed(file)


async def a_write_breaks_what_others_have_read_and_does_not_wait(bench: Bench) -> None:
    path = await bench.make("file")
    one = Leased(bench.one, path)
    file = await one.open(SHARED, Access.READ)
    assert one.lease.state == SHARED
    writer = await opened(bench.two, path)
    await writer.write(0, b"news")
    with trio.fail_after(PATIENCE):
        await eventually(lambda: one.breaks == [(SHARED, NONE)])
    await one.agree()
    await closed(writer)
    await closed(file)


async def what_a_client_opens_without_its_lease_breaks_it(bench: Bench) -> None:
    path = await bench.make("file")
    one = Leased(bench.one, path)
    file = await one.open()
    _, _ = await both(one.agree, lambda: bench.one.set_size(path, 1))
    await eventually(lambda: len(one.breaks) == 2)
    assert [left for _, left in one.breaks] == [SHARED, NONE]
    await one.agree()
    await closed(file)


async def names_are_changed_without_a_word_to_who_has_a_lease(bench: Bench) -> None:
    path, other = await bench.make("file"), await bench.make("other")
    one = Leased(bench.one, path)
    file = await one.open(SHARED, Access.READ)
    await bench.two.rename(path, bench.path("new"), replace=False)
    await bench.two.rename(other, bench.path("new"), replace=True)
    assert not one.breaks and one.lease.state == SHARED
    assert bytes(await file.read(0, 4)) == b"data"
    await closed(file)


async def a_lease_belongs_to_one_file(bench: Bench) -> None:
    path, other = await bench.make("file"), await bench.make("other")
    one = Leased(bench.one, path)
    file = await one.open()
    one.path = other
    assert await status_of(one.open()) == NtStatus.INVALID_PARAMETER
    await closed(file)
    assert await status_of(one.open()) == NtStatus.SUCCESS


CHECKS: tuple[Callable[[Bench], Awaitable[None]], ...] = (
    a_new_file_is_there_with_what_was_written,
    names_are_taken_once,
    folders_are_folders,
    a_listing_tells_what_stat_tells,
    what_is_removed_while_it_is_open_keeps_its_name_until_the_last_close,
    the_deletion_of_one_name_leaves_the_other,
    a_name_goes_although_another_one_of_the_file_is_open,
    hard_links_are_counted,
    a_rename_takes_the_place_of_a_file_only_if_it_may,
    a_file_that_its_client_has_open_is_not_replaced,
    a_file_that_is_open_can_get_another_name,
    a_folder_with_an_open_file_keeps_its_name,
    an_open_that_shares_nothing_bears_no_other,
    what_is_read_only_is_neither_written_nor_deleted,
    what_is_read_only_is_replaced_all_the_same,
    an_overwriting_open_cuts_the_file,
    sizes_are_set_and_holes_are_zeros,
    the_close_of_a_written_handle_moves_the_time,
    the_close_of_a_read_handle_moves_nothing,
    a_time_that_was_set_through_the_handle_stays,
    cutting_shows_in_the_time_at_once,
    who_is_alone_gets_a_whole_lease,
    another_open_waits_for_what_it_takes_away,
    a_look_breaks_nothing,
    a_write_breaks_what_others_have_read_and_does_not_wait,
    what_a_client_opens_without_its_lease_breaks_it,
    names_are_changed_without_a_word_to_who_has_a_lease,
    a_lease_belongs_to_one_file,
)
