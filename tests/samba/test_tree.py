"""Operations on paths of a real server: names, folders, attributes, DFS shares, referrals, shares that refuse."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import trio

from dfsfs.dfsc import wire as dfsc_wire
from dfsfs.errors import Disposition, SmbError
from dfsfs.ntstatus import NtStatus
from dfsfs.smb.connection.settings import TransportSettings
from dfsfs.smb.wire import fscc
from dfsfs.smb.wire.constants import Access, Command, CreateDisposition, CreateOptions, CtlCode, FileAttributes
from dfsfs.unc import UncPath
from tests.samba.clients import (
    PLAIN,
    SEALED,
    SPOKEN,
    eventually_closed,
    idle,
    nobody_has_open,
    open_pool,
    open_raw,
    paused,
    scratch_folder,
    share_of,
)
from tests.support.fakes.proxy import Proxy, messages
from tests.support.lab import content

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dfsfs.smb.tree.tree import Tree
    from dfsfs.smb.wire.fscc import DirEntry, FileStat
    from tests.support.lab.samba import Lab

pytestmark = [pytest.mark.lab, pytest.mark.every_samba]

every_way = pytest.mark.parametrize("spoken", SPOKEN)
PATH_FLAG = 0x10000000
"""SMB2_FLAGS_DFS_OPERATIONS (MS-SMB2 2.2.1)."""
MANY = 2500
"""Files of a folder whose listing takes several round trips."""


async def names_in(tree: Tree, path: UncPath) -> list[str]:
    return [entry.name for entry in await entries_of(tree, path)]


async def entries_of(tree: Tree, path: UncPath) -> list[DirEntry]:
    return [entry async for batch in tree.list(path) for entry in batch]


async def expect(status: NtStatus, awaitable: object) -> SmbError:
    with pytest.raises(SmbError) as error:
        await awaitable  # type: ignore[misc]
    assert error.value.status == status
    return error.value


# -- files and folders ------------------------------------------------------------------------------------------------


@every_way
async def test_stat_says_what_lies_on_the_disk(lab: Lab, spoken: str) -> None:
    async with open_pool(lab, SPOKEN[spoken]) as pool:
        tree = await pool.connect_tree(share_of(lab, "fs1", "data"))
        hello = await tree.stat(tree.share.join(["hello.txt"]))
        local = (lab.host("fs1").share_path("data") / "hello.txt").stat()
        assert (hello.size, hello.is_directory, hello.links) == (len(content.HELLO), False, 1)
        assert hello.written == local.st_mtime_ns == content.MODIFIED * 10**9
        assert hello.file_id == local.st_ino
        assert (await tree.stat(tree.share)).is_directory
        shouted = content.UMLAUTS.upper().replace("SS", "ß")  # a server's upper case of ß is ß
        assert (await tree.stat(tree.share.join(["FOLDER", shouted]))).size == len("Grüße\n".encode())


@every_way
async def test_making_renaming_and_removing(lab: Lab, spoken: str) -> None:
    with scratch_folder(lab) as scratch:
        async with open_pool(lab, SPOKEN[spoken]) as pool:
            tree = await pool.connect_tree(scratch.share)
            here = scratch.path
            assert (await tree.make_directory(here.join(["d"]))).is_directory
            await expect(NtStatus.OBJECT_NAME_COLLISION, tree.make_directory(here.join(["d"])))
            file = scratch.file("f", b"content")
            await tree.rename(file, here.join(["d", "g"]), replace=False)
            assert (scratch.local / "d" / "g").read_bytes() == b"content"
            await expect(NtStatus.DIRECTORY_NOT_EMPTY, tree.remove_directory(here.join(["d"])))
            await expect(NtStatus.NOT_A_DIRECTORY, tree.remove_directory(here.join(["d", "g"])))
            await tree.rename(here.join(["d"]), here.join(["Ordner ü"]), replace=False)
            await tree.remove_file(here.join(["Ordner ü", "g"]))
            await tree.remove_directory(here.join(["Ordner ü"]))
            assert os.listdir(scratch.local) == []


@every_way
async def test_a_taken_name_is_given_away_only_if_that_is_wanted(lab: Lab, spoken: str) -> None:
    with scratch_folder(lab) as scratch:
        old, new = scratch.file("old", b"old"), scratch.file("new", b"new")
        async with open_pool(lab, SPOKEN[spoken]) as pool:
            tree = await pool.connect_tree(scratch.share)
            await expect(NtStatus.OBJECT_NAME_COLLISION, tree.rename(old, new, replace=False))
            assert (scratch.local / "new").read_bytes() == b"new"
            await tree.rename(old, new, replace=True)
        assert os.listdir(scratch.local) == ["new"]
        assert (scratch.local / "new").read_bytes() == b"old"


@every_way
async def test_a_read_only_file_can_be_removed(lab: Lab, spoken: str) -> None:
    with scratch_folder(lab) as scratch:
        path = scratch.file("f", b"x")
        read_only = fscc.encode_basic_information(None, None, None, None, FileAttributes.FILE_ATTRIBUTE_READONLY)
        async with open_pool(lab, SPOKEN[spoken]) as pool:
            tree = await pool.connect_tree(scratch.share)
            await tree.set_basic(path, read_only)
            assert (await tree.stat(path)).attributes & FileAttributes.FILE_ATTRIBUTE_READONLY
            await tree.remove_file(path)
        assert os.listdir(scratch.local) == []


async def test_a_read_only_file_that_cannot_be_removed_stays_read_only(lab: Lab) -> None:
    """Somebody has it open without letting others delete it."""
    with scratch_folder(lab) as scratch:
        path = scratch.file("f", b"x")
        read_only = fscc.encode_basic_information(None, None, None, None, FileAttributes.FILE_ATTRIBUTE_READONLY)
        async with open_pool(lab) as pool:
            tree = await pool.connect_tree(scratch.share)
            await tree.set_basic(path, read_only)
            await open_raw(tree, path, share_access=3)
            with pytest.raises(SmbError):
                await tree.remove_file(path)
            assert (await tree.stat(path)).attributes & FileAttributes.FILE_ATTRIBUTE_READONLY
        assert os.listdir(scratch.local) == ["f"]


@every_way
async def test_a_files_size_without_opening_it(lab: Lab, spoken: str) -> None:
    with scratch_folder(lab) as scratch:
        path = scratch.file("f", b"0123456789")
        async with open_pool(lab, SPOKEN[spoken]) as pool:
            tree = await pool.connect_tree(scratch.share)
            await tree.set_size(path, 3)
            assert (scratch.local / "f").read_bytes() == b"012"
            await tree.set_size(path, 5)
            assert (scratch.local / "f").read_bytes() == b"012\0\0"
            await idle(tree.connection)
            assert await nobody_has_open(tree, path)


async def test_refusals_are_typed_and_name_the_path(lab: Lab) -> None:
    async with open_pool(lab) as pool:
        tree = await pool.connect_tree(share_of(lab, "fs1", "data"))
        share = tree.share
        missing = await expect(NtStatus.OBJECT_NAME_NOT_FOUND, tree.stat(share.join(["missing"])))
        assert "missing" in str(missing) and missing.errno == errno.ENOENT
        await expect(NtStatus.OBJECT_PATH_NOT_FOUND, tree.stat(share.join(["missing", "deeper"])))
        await expect(NtStatus.OBJECT_NAME_NOT_FOUND, tree.remove_file(share.join(["missing"])))
        with pytest.raises(SmbError) as error:
            await names_in(tree, share.join(["hello.txt"]))
        assert error.value.errno == errno.ENOTDIR
        taken = tree.open(share.join(["hello.txt"]), access=Access.READ, disposition=CreateDisposition.FILE_CREATE)
        await expect(NtStatus.OBJECT_NAME_COLLISION, taken)
        folder = tree.open(
            share.join(["folder"]),
            access=Access.READ,
            disposition=CreateDisposition.FILE_OPEN,
            options=CreateOptions.FILE_NON_DIRECTORY_FILE,
        )
        await expect(NtStatus.FILE_IS_A_DIRECTORY, folder)
        await idle(tree.connection)
        assert tree.alive


async def test_the_size_of_the_volume(lab: Lab) -> None:
    async with open_pool(lab) as pool:
        tree = await pool.connect_tree(share_of(lab, "fs1", "data"))
        found = await tree.volume_size()
        local = os.statvfs(lab.host("fs1").share_path("data"))
        assert found.total == local.f_blocks * local.f_frsize
        assert 0 < found.caller_free <= found.total
        assert found.unit > 0 and found.total % found.unit == 0


# -- a file's head ---------------------------------------------------------------------------------------------------


@every_way
async def test_the_head_of_a_file_comes_with_its_open(lab: Lab, spoken: str) -> None:
    with scratch_folder(lab) as scratch:
        paths = {size: scratch.file(f"f{size}", os.urandom(size)) for size in (0, 1, 999, 1000, 1001, 70_000)}
        async with open_pool(lab, SPOKEN[spoken]) as pool:
            tree = await pool.connect_tree(scratch.share)
            for size, path in paths.items():
                content_of = (scratch.local / f"f{size}").read_bytes()
                file = await tree.open(path, access=Access.READ, disposition=CreateDisposition.FILE_OPEN, read=1000)
                assert (file.inline_data, file.stat.size) == (content_of[:1000], size)
                assert bytes(await file.read(0, size + 1)) == content_of
                await file.close()
                fetched = await tree.start_fetch(path, 1000).outcome()
                assert (fetched.inline_data, fetched.stat.size, fetched.alive) == (content_of[:1000], size, False)
                await fetched.close()
            await idle(tree.connection)
            for path in paths.values():
                assert await nobody_has_open(tree, path)


async def test_a_file_of_which_nothing_can_be_read_is_opened_all_the_same(lab: Lab) -> None:
    with scratch_folder(lab) as scratch:
        path = scratch.file("f", b"data")
        async with open_pool(lab) as pool:
            tree = await pool.connect_tree(scratch.share)
            file = await tree.open(path, access=Access.WRITE, disposition=CreateDisposition.FILE_OPEN, read=10)
            assert file.inline_data is None
            await file.write(0, b"D")
            await file.close()
        assert (scratch.local / "f").read_bytes() == b"Data"


async def test_what_can_not_be_fetched_says_why_and_what_is_given_up_is_closed(lab: Lab) -> None:
    with scratch_folder(lab) as scratch:
        path = scratch.file("f", b"data")
        async with open_pool(lab) as pool:
            tree = await pool.connect_tree(scratch.share)
            await expect(NtStatus.OBJECT_NAME_NOT_FOUND, tree.start_fetch(scratch.path.join(["no"]), 10).outcome())
            await expect(NtStatus.FILE_IS_A_DIRECTORY, tree.start_fetch(scratch.path, 10).outcome())
            with paused(lab.host("fs1")):
                tree.start_fetch(path, 10).abandon()
            await eventually_closed(tree, path)


# -- listings ---------------------------------------------------------------------------------------------------------


@every_way
async def test_a_small_folder_is_listed_in_one_round_trip(lab: Lab, spoken: str) -> None:
    with Proxy(f"{lab.net}.79", lab.address("fs1")) as proxy:
        async with open_pool(lab, replace(SPOKEN[spoken], hosts={"FS1": proxy.address})) as pool:
            tree = await pool.connect_tree(UncPath(("fs1", "data")))
            before = proxy.frames
            found = {entry.name: entry.stat for entry in await entries_of(tree, tree.share.join(["folder"]))}
            await idle(tree.connection)
            assert proxy.frames == before + 2, "one to open and read, and the CLOSE that nobody waits for"
        assert set(found) == {"inside.txt", content.UMLAUTS}
        inside = found["inside.txt"]
        assert (inside.size, inside.written) == (len(content.INSIDE), content.MODIFIED * 10**9)


@every_way
async def test_a_large_folder_is_listed_whole_and_each_name_once(lab: Lab, spoken: str) -> None:
    with scratch_folder(lab) as scratch:
        for index in range(MANY):
            (scratch.local / f"a rather long name of a file, number {index}").touch()
        async with open_pool(lab, SPOKEN[spoken]) as pool:
            tree = await pool.connect_tree(scratch.share)
            batches = [batch async for batch in tree.list(scratch.path)]
        assert len(batches) > 1
        names = [entry.name for batch in batches for entry in batch]
        assert sorted(names) == sorted(os.listdir(scratch.local))


async def test_listings_side_by_side(lab: Lab) -> None:
    with scratch_folder(lab) as scratch:
        for index in range(300):
            (scratch.local / f"file {index}").touch()
        expected = sorted(os.listdir(scratch.local))
        async with open_pool(lab, TransportSettings(max_credits=16)) as pool:
            tree = await pool.connect_tree(scratch.share)

            async def look() -> None:
                assert sorted(await names_in(tree, scratch.path)) == expected

            async with trio.open_nursery() as nursery:
                for _ in range(10):
                    nursery.start_soon(look)


async def test_a_listing_given_up_after_its_first_batch_leaves_no_handle(lab: Lab) -> None:
    with scratch_folder(lab) as scratch:
        for index in range(MANY):
            (scratch.local / f"a rather long name of a file, number {index}").touch()
        async with open_pool(lab) as pool:
            tree = await pool.connect_tree(scratch.share)
            listing = tree.list(scratch.path)
            assert await anext(listing)
            assert not await nobody_has_open(tree, scratch.path)
            await listing.aclose()
            await eventually_closed(tree, scratch.path)


async def test_a_listing_cancelled_before_its_first_answer_leaves_no_handle(lab: Lab) -> None:
    with scratch_folder(lab) as scratch:
        async with open_pool(lab) as pool:
            tree = await pool.connect_tree(scratch.share)
            with paused(lab.host("fs1")):
                with trio.move_on_after(0.05) as waited:
                    await names_in(tree, scratch.path)
                assert waited.cancelled_caught
            await eventually_closed(tree, scratch.path)


# -- DFS --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spoken", PLAIN)
async def test_c001_opens_carry_the_dfs_flag_on_a_dfs_share_and_nowhere_else(lab: Lab, spoken: str) -> None:
    for host, share, file, is_dfs in (("ns1", "dfs", "readme.txt", True), ("fs1", "data", "hello.txt", False)):
        frames: list[bytes] = []
        with Recorder(f"{lab.net}.80", lab.address(host), frames) as proxy:
            async with open_pool(lab, replace(PLAIN[spoken], hosts={host.upper(): proxy.address})) as pool:
                tree = await pool.connect_tree(UncPath((host, share)))
                assert tree.is_dfs == is_dfs
                await tree.stat(tree.share.join([file]))
        flags = [int.from_bytes(one[16:20], "little") for one in creates(frames)]
        assert flags and all(bool(one & PATH_FLAG) == is_dfs for one in flags)
        names = [str(one[64 + 56 :], "utf-16-le").rstrip("\0") for one in creates(frames)]
        assert names[0].startswith(f"{host}\\{share}\\{file}" if is_dfs else file)


class Recorder(Proxy):
    """A proxy that keeps what the client sends."""

    def __init__(self, address: str, server: str, frames: list[bytes]) -> None:
        super().__init__(address, server)
        self._frames = frames

    def _seen(self, frame: bytes) -> bytes:
        self._frames.append(frame)
        return super()._seen(frame)


def creates(frames: Iterable[bytes]) -> list[bytes]:
    return [one for frame in frames for one in messages(frame) if one[12:14] == bytes([Command.SMB2_CREATE, 0])]


@every_way
async def test_h21_the_root_lists_its_links_beside_real_files_and_folders(lab: Lab, spoken: str) -> None:
    async with open_pool(lab, SPOKEN[spoken]) as pool:
        tree = await pool.connect_tree(share_of(lab, "ns1", "dfs"))
        found = {entry.name: entry.stat for entry in await entries_of(tree, tree.share)}
        links = {path for path in lab.topology.links if "/" not in path}
        assert links <= set(found)
        assert {name for name, stat in found.items() if stat.is_dfs_link} == links  # H-22
        assert all(found[name].is_directory for name in links)
        assert found["dir"].is_directory and not found["readme.txt"].is_directory


@every_way
async def test_what_lies_behind_a_link_is_not_covered(lab: Lab, spoken: str) -> None:
    async with open_pool(lab, SPOKEN[spoken]) as pool:
        tree = await pool.connect_tree(share_of(lab, "ns1", "dfs"))
        for below in (["link-single"], ["link-single", "hello.txt"], ["dir", "sub", "link", "a", "b"]):
            error = await expect(NtStatus.PATH_NOT_COVERED, tree.stat(tree.share.join(below)))
            assert error.disposition is Disposition.REFER
        assert (await tree.stat(tree.share.join(["dir", "sub"]))).is_directory


@every_way
async def test_a_file_in_a_dfs_root_is_like_any_other(lab: Lab, spoken: str) -> None:
    """Rename takes names relative to the share, also where CREATE does not."""
    async with open_pool(lab, SPOKEN[spoken]) as pool:
        tree = await pool.connect_tree(share_of(lab, "ns1", "dfs"))
        old, new = tree.share.join(["dir", "made here"]), tree.share.join(["dir", "sub", "renamed"])
        await (await tree.open(old, access=Access.WRITE, disposition=CreateDisposition.FILE_CREATE)).close()
        try:
            await tree.rename(old, new, replace=False)
            assert (lab.host("ns1").share_path("dfs") / "dir/sub/renamed").is_file()
        finally:
            path = lab.host("ns1").share_path("dfs")
            for left in (path / "dir/made here", path / "dir/sub/renamed"):
                left.unlink(missing_ok=True)
            for folder in (path / "dir/sub", path / "dir"):
                os.utime(folder, (content.MODIFIED, content.MODIFIED))


@every_way
async def test_c002_referrals_come_as_answers_to_an_ioctl(lab: Lab, spoken: str) -> None:
    link = share_of(lab, "ns1", "dfs").join(["link-multi", "folder"])
    async with open_pool(lab, SPOKEN[spoken]) as pool:
        ipc = await pool.connect_ipc(link.host)
        status, body = await ipc.referral(CtlCode.FSCTL_DFS_GET_REFERRALS, dfsc_wire.encode_request(link.wire), 4096)
    assert status == NtStatus.SUCCESS
    response = dfsc_wire.decode_response(body, link)
    targets = [entry.network_address for entry in response.entries if isinstance(entry, dfsc_wire.ReferralEntry)]
    assert targets == [share_of(lab, "fs1", "data"), share_of(lab, "fs2", "data")]


async def test_c064_c074_what_the_server_says_instead_of_a_referral_comes_up_unchanged(lab: Lab) -> None:
    link = share_of(lab, "ns1", "dfs").join(["link-multi"])
    async with open_pool(lab) as pool:
        ipc = await pool.connect_ipc(link.host)
        question = dfsc_wire.encode_request(link.wire)
        for room in (0, 4, 100):
            assert await ipc.referral(CtlCode.FSCTL_DFS_GET_REFERRALS, question, room) == (
                NtStatus.BUFFER_OVERFLOW,
                b"",
            )
        unknown = dfsc_wire.encode_request(UncPath((link.host, "no-such-namespace")).wire)
        assert await ipc.referral(CtlCode.FSCTL_DFS_GET_REFERRALS, unknown, 4096) == (NtStatus.NOT_FOUND, b"")
        # Samba 4.17 knows no extended request on a stand-alone server.
        status, body = await ipc.referral(
            CtlCode.FSCTL_DFS_GET_REFERRALS_EX, dfsc_wire.encode_request_ex(link.wire, "Site"), 4096
        )
        assert status != NtStatus.SUCCESS and body == b""
        assert ipc.alive


# -- shares that ask for something ------------------------------------------------------------------------------------


@pytest.mark.parametrize("spoken", [name for name in SPOKEN if name != "2.1"])
async def test_a_share_that_wants_encryption_gets_it_on_a_session_that_does_not(lab: Lab, spoken: str) -> None:
    with Proxy(f"{lab.net}.81", lab.address("fs3")) as proxy:
        async with open_pool(lab, replace(SPOKEN[spoken], hosts={"FS3": proxy.address})) as pool:
            tree = await pool.connect_tree(UncPath(("fs3", "secret")))
            assert tree.route.seal
            assert tree.route.session is not None and tree.route.session.encrypt == (spoken in SEALED)
            file = await tree.open(
                tree.share.join(["hello.txt"]), access=Access.READ, disposition=CreateDisposition.FILE_OPEN
            )
            assert bytes(await file.read(0, 100)) == content.small_hello("secret")
            assert set(await names_in(tree, tree.share)) == {"hello.txt", "folder"}
            await file.close()
        assert not {Command.SMB2_CREATE, Command.SMB2_READ, Command.SMB2_QUERY_DIRECTORY, Command.SMB2_CLOSE} & set(
            proxy.requests
        )


async def test_a_share_that_wants_encryption_is_not_to_be_had_without(lab: Lab) -> None:
    async with open_pool(lab, SPOKEN["2.1"]) as pool:
        await expect(NtStatus.ACCESS_DENIED, pool.connect_tree(share_of(lab, "fs3", "secret")))


async def test_h26_a_share_that_denies_is_an_answer_and_no_outage(lab: Lab) -> None:
    async with open_pool(lab) as pool:
        denied = await expect(NtStatus.ACCESS_DENIED, pool.connect_tree(share_of(lab, "fs1", "bobonly")))
        assert denied.disposition is Disposition.RETURN
        unknown = await expect(NtStatus.BAD_NETWORK_NAME, pool.connect_tree(share_of(lab, "fs1", "no-such-share")))
        assert unknown.disposition is Disposition.NEXT_TARGET
        assert lab.host("fs1").connections() == 1
        assert (
            await (await pool.connect_tree(share_of(lab, "fs1", "data"))).stat(share_of(lab, "fs1", "data"))
        ).is_directory


async def test_a_tree_is_gone_once_it_is_disconnected(lab: Lab) -> None:
    async with open_pool(lab) as pool:
        tree = await pool.connect_tree(share_of(lab, "fs1", "data"))
        tree.disconnect()
        tree.disconnect()
        assert not tree.alive and tree.connection.alive
        await expect(NtStatus.NETWORK_NAME_DELETED, tree.stat(tree.share))
        again = await pool.connect_tree(tree.share)
        assert again is not tree and again.connection is tree.connection
        assert (await again.stat(again.share)).is_directory


async def test_a_change_brings_along_what_became_of_its_directories(lab: Lab) -> None:
    """In the same compound, and with the times that a question after it gets."""
    with scratch_folder(lab) as scratch:
        path, read_only = scratch.file("file", b"data"), scratch.file("read only")
        (scratch.local / "read only").chmod(0o444)
        async with open_pool(lab) as pool:
            tree = await pool.connect_tree(scratch.share)
            before = await tree.stat(scratch.path)
            other = scratch.path.join(["other"])
            before_other = await tree.make_directory(other)

            async def judge(seen: list[FileStat | None], *directories: UncPath) -> None:
                known = [before if directory == scratch.path else before_other for directory in directories]
                for said, directory, was in zip(seen, directories, known, strict=True):
                    assert said is not None and said.written > was.written
                    now = await tree.stat(directory)
                    assert said == replace(now, file_id=0, links=1, ea_size=-1)

            moved = other.join(["moved"])
            await judge(await tree.rename(path, moved, replace=False, seen=[scratch.path, other]), scratch.path, other)
            await judge(await tree.remove_file(moved, [other]), other)
            await judge(await tree.remove_directory(other, [scratch.path]), scratch.path)
            await tree.remove_file(read_only, [scratch.path])
            for refused in (
                tree.remove_file(path, [scratch.path]),
                tree.rename(path, moved, replace=False, seen=[scratch.path]),
                tree.remove_directory(other, [scratch.path]),
            ):
                with pytest.raises(SmbError) as caught:
                    await refused
                assert caught.value.status == NtStatus.OBJECT_NAME_NOT_FOUND
            await idle(tree.connection)
        assert list(scratch.local.iterdir()) == []


async def test_a_directory_that_cannot_be_seen_is_no_error(lab: Lab) -> None:
    """Behind it Samba 4.22 opens nothing in the same compound, 4.17 does."""
    with scratch_folder(lab) as scratch:
        path = scratch.file("file", b"data")
        async with open_pool(lab) as pool:
            tree = await pool.connect_tree(scratch.share)
            missing = scratch.path.join(["missing"])
            seen = await tree.remove_file(path, [scratch.path, missing])
            assert seen[0] is not None and seen[0].written == (await tree.stat(scratch.path)).written
            assert seen[1] is None
        assert list(scratch.local.iterdir()) == []


@pytest.mark.parametrize("is_known", [False, True])
async def test_the_other_names_of_a_read_only_file_stay_read_only(lab: Lab, *, is_known: bool) -> None:
    """When one of them is removed: that SMB refuses, so the file loses the attribute for the time of one compound."""
    with scratch_folder(lab) as scratch:
        path, other = scratch.file("file", b"data"), scratch.path.join(["other"])
        async with open_pool(lab) as pool:
            tree = await pool.connect_tree(scratch.share)
            read_only = FileAttributes.FILE_ATTRIBUTE_READONLY | FileAttributes.FILE_ATTRIBUTE_ARCHIVE
            await tree.set_basic(path, fscc.encode_attributes(read_only))
            await tree.link(path, other)
            seen = await tree.remove_file(path, [scratch.path], read_only if is_known else 0)
            assert (seen[0] is not None) == is_known
            assert (await tree.stat(other)).attributes == read_only
            await tree.remove_file(other)
        assert list(scratch.local.iterdir()) == []


async def test_a_hard_link_brings_the_stat_of_its_file_along(lab: Lab) -> None:
    with scratch_folder(lab) as scratch:
        path = scratch.file("file", b"data")
        async with open_pool(lab) as pool:
            tree = await pool.connect_tree(scratch.share)
            stat = await tree.link(path, scratch.path.join(["again"]))
            assert stat.links == 2
            assert stat == await tree.stat(scratch.path.join(["again"]))
