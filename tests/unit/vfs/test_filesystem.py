"""The verbs of the file system, without links, faults and kernel."""

from __future__ import annotations

import errno
import os
import stat as posix
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import trio

from dfsfs.errors import SmbError
from dfsfs.ntstatus import NtStatus
from dfsfs.smb.wire.constants import FileAttributes
from dfsfs.vfs.data.deferredclose import PARK_TIME
from dfsfs.vfs.names.hiddennames import get_aside_name
from dfsfs.vfs.names.inodetable import ROOT
from dfsfs.vfs.names.mapping import AttributeChanges
from dfsfs.vfs.names.opendir import ENTRIES_AFTER_SEEK
from tests.support.fakes.memory_tree import MemoryNode, MemoryTree, open_files
from tests.unit.vfs.world import ACTIMEO, World, fails, refuse

if TYPE_CHECKING:
    from dfsfs.unc import UncPath

NO_SUCH_NODE = 12345


async def test_lookup_is_one_request_and_is_remembered(autojump_clock: object) -> None:
    world = World()
    world.root.add_file("a.txt", b"hello")
    shown = await world.walk("a.txt")
    assert (shown.size, shown.uid, shown.gid, posix.S_IMODE(shown.mode)) == (5, 7, 8, 0o644)
    await world.walk("a.txt")
    assert world.sent() == ["stat a.txt"]
    assert world.fs.timeouts(shown.ino) == (ACTIMEO, ACTIMEO)
    await trio.sleep(ACTIMEO + 0.1)
    assert world.fs.timeouts(shown.ino) == (0, 0)
    await world.fs.getattr(shown.ino)
    assert world.sent() == ["stat a.txt"] * 2
    world.fs.check_invariants()


async def test_what_is_not_there_is_asked_for_each_time(autojump_clock: object) -> None:
    world = World()
    for _ in range(2):
        await fails(errno.ENOENT, world.walk("nothing"))
    assert world.sent() == ["stat nothing"] * 2
    await fails(errno.EILSEQ, world.fs.lookup(ROOT, b"\xff"))
    await fails(errno.ENAMETOOLONG, world.fs.lookup(ROOT, b"x" * 300))
    await fails(errno.ESTALE, world.fs.getattr(NO_SUCH_NODE))
    assert len(world.sent()) == 2


async def test_a_file_replaced_on_the_server_is_another_inode(autojump_clock: object) -> None:
    world = World()
    world.root.add_file("a", b"1")
    before = await world.walk("a")
    world.root.remove("a")
    world.root.add_file("a", b"22")
    await trio.sleep(ACTIMEO + 0.1)
    await fails(errno.ESTALE, world.fs.getattr(before.ino))
    after = await world.walk("a")
    assert after.ino != before.ino and after.size == 2
    await fails(errno.ESTALE, world.fs.open(before.ino, os.O_RDONLY))
    world.fs.check_invariants()


async def test_a_file_removed_on_the_server(autojump_clock: object) -> None:
    world = World()
    world.root.add_file("a")
    shown = await world.walk("a")
    world.root.remove("a")
    await trio.sleep(ACTIMEO + 0.1)
    await fails(errno.ENOENT, world.walk("a"))
    await fails(errno.ESTALE, world.fs.getattr(shown.ino))


async def test_listing_gives_attributes_and_fills_the_cache(autojump_clock: object) -> None:
    world = World()
    world.root.add_folder("d")
    for number in range(120):
        world.root.add_file(f"d/f{number:03}", b"x" * number)
    world.root.add_file("d/bad\0name")
    ino = await world.ino("d")
    handle = await world.fs.opendir(ino)
    names, offsets = [], []
    async for name, attributes, offset in world.entries_of(handle):
        names.append(name)
        offsets.append(offset)
        if name == b"f077":
            assert attributes.size == 77
            assert (await world.fs.getattr(attributes.ino)) == attributes
    assert names[:2] == [b".", b".."]
    assert sorted(names[2:]) == [b"f%03d" % number for number in range(120)]
    assert [call for call in world.sent() if "stat" in call] == ["stat d"]
    resumed: list[bytes] = []
    lengths = []
    while resumed != names[61:]:
        at = offsets[60 + len(resumed)]
        answer = [name async for name, _, _ in world.fs.readdir(handle, at)]
        assert answer
        resumed += answer
        lengths.append(len(answer))
    assert lengths == [ENTRIES_AFTER_SEEK, 2 * ENTRIES_AFTER_SEEK, len(names) - 61 - 3 * ENTRIES_AFTER_SEEK], (
        "short after a jump, and longer from there on"
    )
    world.root.add_file("d/later")
    assert b"later" not in [name async for name, _, _ in world.entries_of(handle, offsets[60])]
    assert b"later" in [name async for name, _, _ in world.entries_of(handle)], "rewinddir reads again"
    await world.fs.releasedir(handle)
    await fails(errno.EBADF, anext(world.fs.readdir(handle, 0)))
    world.fs.check_invariants()


async def test_a_listing_lets_go_of_what_was_not_taken(autojump_clock: object) -> None:
    world = World()
    for number in range(10):
        world.root.add_file(f"f{number}")
    assert len(await world.listing()) == 11
    assert world.fs.statistics().inodes.inodes == 1
    assert world.fs.statistics().open_directories == 0


async def test_files_are_written_and_read(autojump_clock: object) -> None:
    world = World()
    opened, shown = await world.fs.create(ROOT, b"new", 0o644, os.O_RDWR)
    assert shown.size == 0
    assert not opened.keep_cache
    assert await world.fs.write(opened.handle, 0, b"hello world") == 11
    assert bytes(await world.fs.read(opened.handle, 6, 100)) == b"world"
    assert bytes(await world.fs.read(opened.handle, 11, 100)) == b""
    assert (await world.fs.getattr(shown.ino)).size == 11
    await world.fs.flush(opened.handle)
    await world.fs.fsync(opened.handle)
    await world.fs.release(opened.handle)
    assert [call for call in world.sent() if call.split()[0] in ("flush", "close")] == ["flush new", "close new"]
    assert not list(open_files(world.root))
    await fails(errno.EBADF, world.fs.read(opened.handle, 0, 1))
    world.fs.check_invariants()


async def test_the_flags_of_open(autojump_clock: object) -> None:
    world = World()
    world.root.add_file("f", b"content").attributes = FileAttributes.FILE_ATTRIBUTE_HIDDEN
    world.root.add_folder("d")
    ino = await world.ino("f")
    reader = await world.fs.open(ino, os.O_RDONLY)
    await fails(errno.EBADF, world.fs.write(reader.handle, 0, b"x"))
    await world.fs.fsync(reader.handle)
    writer = await world.fs.open(ino, os.O_WRONLY)
    await fails(errno.EACCES, world.fs.read(writer.handle, 0, 1))
    await world.fs.fsync(reader.handle)
    await world.fs.open(ino, os.O_WRONLY | os.O_TRUNC)
    assert (await world.fs.getattr(ino)).size == 0
    await fails(errno.EISDIR, world.fs.open(await world.ino("d"), os.O_RDONLY))
    await world.fs.close()
    assert world.fs.statistics().open_files == 0


async def test_create_of_a_name_that_is_taken(autojump_clock: object) -> None:
    world = World()
    world.root.add_file("f", b"content")
    world.root.add_folder("d")
    await fails(errno.EEXIST, world.fs.create(ROOT, b"f", 0o644, os.O_WRONLY | os.O_EXCL))
    _, shown = await world.fs.create(ROOT, b"f", 0o644, os.O_WRONLY)
    assert shown.size == 7
    _, shown = await world.fs.create(ROOT, b"f", 0o644, os.O_WRONLY | os.O_TRUNC)
    assert shown.size == 0
    await fails(errno.EISDIR, world.fs.create(ROOT, b"d", 0o644, os.O_WRONLY))
    await fails(errno.EEXIST, world.fs.mkdir(ROOT, b"d"))
    await fails(errno.EEXIST, world.fs.mknod(ROOT, b"f", 0o644))
    assert (await world.fs.mknod(ROOT, b"n", 0o644)).size == 0
    await fails(errno.ENOTDIR, world.fs.mkdir(shown.ino, b"x"))


async def test_a_file_without_write_permission_can_be_made_and_written(autojump_clock: object) -> None:
    world = World()
    opened, shown = await world.fs.create(ROOT, b"f", 0o444, os.O_WRONLY)
    assert posix.S_IMODE(shown.mode) == 0o444
    await world.fs.write(opened.handle, 0, b"x")
    assert (await world.fs.setattr(shown.ino, AttributeChanges(mode=0o600))).mode & 0o222


async def test_append_goes_to_the_end_that_the_server_has(autojump_clock: object) -> None:
    world = World()
    inode = world.root.add_file("log", b"one\n")
    ino = await world.ino("log")
    inode.data += b"two\n"
    opened = await world.fs.open(ino, os.O_WRONLY | os.O_APPEND)
    await world.fs.write(opened.handle, 4, b"three\n")
    await world.fs.write(opened.handle, 10, b"four\n")
    await world.fs.flush(opened.handle)
    assert bytes(inode.data) == b"one\ntwo\nthree\nfour\n"


async def test_cached_data_is_kept_only_while_the_file_is_the_same(autojump_clock: object) -> None:
    world = World()
    inode = world.root.add_file("f", b"1")
    ino = await world.ino("f")
    assert not (await world.fs.open(ino, os.O_RDONLY)).keep_cache
    assert (await world.fs.open(ino, os.O_RDONLY)).keep_cache
    inode.data[:] = b"2"
    inode.written = world.root.tick()
    assert not (await world.fs.open(ino, os.O_RDONLY)).keep_cache
    assert (await world.fs.open(ino, os.O_RDONLY)).keep_cache


async def test_setattr(autojump_clock: object) -> None:
    world = World()
    inode = world.root.add_file("f", b"12345")
    ino = await world.ino("f")
    shown = await world.fs.setattr(ino, AttributeChanges(atime_ns=10**18 + 150, mtime_ns=10**18 + 199))
    assert (shown.atime_ns, shown.mtime_ns) == (10**18 + 100, 10**18 + 100)
    assert inode.written == 10**18 + 100
    assert world.sent() == ["stat f", "set_basic f"], "what was set is known"
    shown = await world.fs.setattr(ino, AttributeChanges(mode=0o444, uid=0, gid=0))
    assert posix.S_IMODE(shown.mode) == 0o444
    assert inode.attributes & FileAttributes.FILE_ATTRIBUTE_READONLY
    world.clear()
    shown = await world.fs.setattr(ino, AttributeChanges(mode=0o555, uid=99))
    assert (posix.S_IMODE(shown.mode), shown.uid, world.sent()) == (0o444, 7, []), "SMB has no such bits and owners"
    await world.fs.setattr(ino, AttributeChanges(mode=0o644))
    assert (await world.fs.setattr(ino, AttributeChanges(size=2))).size == 2
    assert bytes(inode.data) == b"12"
    await fails(errno.EISDIR, world.fs.setattr(ROOT, AttributeChanges(size=0)))


async def test_times_go_through_the_handle_that_has_written(autojump_clock: object) -> None:
    world = World()
    opened, shown = await world.fs.create(ROOT, b"f", 0o644, os.O_WRONLY)
    await world.fs.write(opened.handle, 0, b"x")
    world.clear()
    await world.fs.setattr(shown.ino, AttributeChanges(mtime_ns=10**18))
    assert world.sent() == ["write f", "set_basic on handle f"]
    await world.fs.setattr(shown.ino, AttributeChanges(size=0))
    assert world.sent()[2:] == ["set_size f"], "what that makes of the file is known here"


async def test_another_spelling_is_asked_for_and_leads_to_the_same_file(autojump_clock: object) -> None:
    world = World()
    world.root.add_file("a.txt", b"hello")
    shown = await world.fs.lookup(ROOT, b"a.txt")
    for _ in range(3):
        assert (await world.fs.lookup(ROOT, b"A.TXT")).ino == shown.ino
    assert world.sent() == ["stat a.txt", "stat A.TXT"]
    assert world.fs.other_spelling(shown.ino, ROOT, b"A.TXT") == b"a.txt"
    assert world.fs.other_spelling(shown.ino, ROOT, b"a.txt") is None
    await world.fs.unlink(ROOT, b"A.TXT")
    await fails(errno.ENOENT, world.fs.lookup(ROOT, b"a.txt"))
    world.fs.check_invariants()


async def test_mkdir_unlink_rmdir(autojump_clock: object) -> None:
    world = World()
    folder = await world.fs.mkdir(ROOT, b"d")
    assert posix.S_ISDIR(folder.mode)
    await world.fs.mknod(folder.ino, b"f", 0o644)
    await fails(errno.ENOTEMPTY, world.fs.rmdir(ROOT, b"d"))
    await fails(errno.EISDIR, world.fs.unlink(ROOT, b"d"))
    await fails(errno.ENOTDIR, world.fs.rmdir(folder.ino, b"f"))
    await world.fs.unlink(folder.ino, b"f")
    await fails(errno.ENOENT, world.fs.unlink(folder.ino, b"f"))
    await world.fs.rmdir(ROOT, b"d")
    assert world.root.names() == ["link"]
    await trio.sleep(ACTIMEO + 0.1)
    await fails(errno.ESTALE, world.fs.mkdir(folder.ino, b"x"))
    world.fs.check_invariants()


async def test_nothing_is_removed_without_a_look_at_it(autojump_clock: object) -> None:
    world = World()
    world.root.add_file("f")
    await world.fs.unlink(ROOT, b"f")
    assert world.sent() == ["stat f", "unlink f"]
    world.root.add_file("g")
    await world.walk("g")
    world.clear()
    await world.fs.unlink(ROOT, b"g")
    assert world.sent() == ["unlink g"], "it has been looked at a moment ago"


async def test_rename(autojump_clock: object) -> None:
    world = World()
    world.root.add_folder("a")
    world.root.add_file("a/f", b"f")
    world.root.add_file("b", b"b")
    world.root.add_folder("empty")
    world.root.add_folder("full")
    world.root.add_file("full/x")
    ino = await world.ino("a/f")
    folder = await world.ino("a")
    await world.fs.rename(ROOT, b"a", ROOT, b"moved", 0)
    assert (await world.fs.getattr(ino)).size == 1
    assert await world.ino("moved/f") == ino
    await fails(errno.ENOENT, world.fs.rename(ROOT, b"a", ROOT, b"c", 0))
    await fails(errno.EEXIST, world.fs.rename(folder, b"f", ROOT, b"b", 1))
    await fails(errno.EINVAL, world.fs.rename(folder, b"f", ROOT, b"b", 2))
    await fails(errno.EINVAL, world.fs.rename(ROOT, b"moved", folder, b"b", 0))
    await fails(errno.ENOTDIR, world.fs.rename(ROOT, b"moved", ROOT, b"b", 0))
    await fails(errno.EISDIR, world.fs.rename(ROOT, b"b", ROOT, b"empty", 0))
    await fails(errno.ENOTEMPTY, world.fs.rename(ROOT, b"moved", ROOT, b"full", 0))
    await world.fs.rename(ROOT, b"moved", ROOT, b"empty", 0)
    await world.fs.rename(folder, b"f", ROOT, b"b", 0)
    assert world.root.names() == ["b", "empty", "full", "link"]
    assert await world.ino("b") == ino
    await world.fs.rename(ROOT, b"b", ROOT, b"B", 0)
    assert "B" in world.root.names()
    world.fs.check_invariants()


async def test_rename_replaces_a_read_only_file(autojump_clock: object) -> None:
    world = World()
    world.root.add_file("new", b"new")
    old = world.root.add_file("old", b"old")
    old.attributes = FileAttributes.FILE_ATTRIBUTE_READONLY
    world.root.before = lambda verb, path: refuse(verb, "rename")
    await fails(errno.EACCES, world.fs.rename(ROOT, b"new", ROOT, b"old", 0))
    assert old.attributes & FileAttributes.FILE_ATTRIBUTE_READONLY, "put back after the failure"
    world.root.before = lambda verb, path: None
    await world.fs.rename(ROOT, b"new", ROOT, b"old", 0)
    found = world.root.find("old")
    assert found is not None and bytes(found.data) == b"new"


async def test_a_rename_that_fails_makes_nobody_elses_file_read_only(autojump_clock: object) -> None:
    """Perhaps it was done, and only the answer lost: then something else has the name."""
    world = World()
    world.root.add_file("new", b"new")
    world.root.add_file("old", b"old").attributes = FileAttributes.FILE_ATTRIBUTE_READONLY
    others: list[MemoryNode] = []

    def replaced(verb: str, path: UncPath) -> None:
        if verb == "rename" and not others:
            world.root.remove("old")
            others.append(world.root.add_file("old", b"another's"))
        refuse(verb, "rename")

    world.root.before = replaced
    await fails(errno.EACCES, world.fs.rename(ROOT, b"new", ROOT, b"old", 0))
    assert others and not others[0].attributes & FileAttributes.FILE_ATTRIBUTE_READONLY and not others[0].opens


@pytest.mark.parametrize("verb", ["open", "set_basic on handle"])
async def test_a_rename_that_fails_says_why_and_not_what_became_of_the_attribute(
    autojump_clock: object, verb: str
) -> None:
    world = World()
    world.root.add_file("new", b"new")
    world.root.add_file("old", b"old").attributes = FileAttributes.FILE_ATTRIBUTE_READONLY

    def failing(found: str, path: UncPath) -> None:
        refuse(found, "rename")
        if found == verb:
            raise SmbError(NtStatus.DISK_FULL, "putting the attribute back")

    world.root.before = failing
    await fails(errno.EACCES, world.fs.rename(ROOT, b"new", ROOT, b"old", 0))
    found = world.root.find("old")
    assert found is not None and not found.opens


async def test_a_removed_file_stays_readable_until_it_is_closed(autojump_clock: object) -> None:
    world = World()
    world.root.add_folder("d")
    world.root.add_file("d/f", b"data")
    folder, ino = await world.ino("d"), await world.ino("d/f")
    opened = await world.fs.open(ino, os.O_RDWR)
    await world.fs.unlink(folder, b"f")
    assert await world.listing("d") == {}
    await fails(errno.ENOENT, world.walk("d/f"))
    (hidden,) = world.root.names("d")
    await fails(errno.ENOENT, world.walk(f"d/{hidden}"))
    await world.fs.mknod(folder, b"f", 0o644)
    assert bytes(await world.fs.read(opened.handle, 0, 10)) == b"data"
    await world.fs.write(opened.handle, 4, b"!")
    shown = await world.fs.getattr(ino)
    assert (shown.size, shown.nlink) == (5, 0)
    await world.fs.release(opened.handle)
    assert world.root.names("d") == ["f"]
    world.fs.forget(ino, 1)
    world.fs.check_invariants()


async def test_a_file_in_use_is_replaced_by_another(autojump_clock: object) -> None:
    world = World()
    world.root.add_file("new", b"new")
    world.root.add_file("old", b"old")
    opened = await world.fs.open(await world.ino("old"), os.O_RDONLY)
    world.root.before = lambda verb, path: refuse(f"{verb} {path.components[-1]}", "rename new")
    await fails(errno.EACCES, world.fs.rename(ROOT, b"new", ROOT, b"old", 0))
    assert world.root.names() == ["link", "new", "old"], "put back after the failure"
    world.root.before = lambda verb, path: None
    await world.fs.rename(ROOT, b"new", ROOT, b"old", 0)
    assert bytes(await world.fs.read(opened.handle, 0, 10)) == b"old"
    await world.fs.release(opened.handle)
    assert world.root.names() == ["link", "old"]


async def test_a_file_that_can_not_be_put_back_is_put_back_by_the_next_listing(
    autojump_clock: object, caplog: pytest.LogCaptureFixture
) -> None:
    world = World()
    world.root.add_file("new", b"new")
    world.root.add_file("old", b"old")
    opened = await world.fs.open(await world.ino("old"), os.O_RDONLY)
    world.root.before = lambda verb, path: refuse(verb if path.below_share != ("old",) else "", "rename")
    await fails(errno.EACCES, world.fs.rename(ROOT, b"new", ROOT, b"old", 0))
    assert "could not be put back" in caplog.text
    (aside,) = set(world.root.names()) - {"link", "new"}
    world.root.before = lambda verb, path: None
    assert bytes(await world.fs.read(opened.handle, 0, 10)) == b"old"
    await world.fs.release(opened.handle)
    assert world.root.names(aside) == [get_aside_name(aside, "old")], (
        "the last close removes nothing that is only set aside"
    )
    await world.listing()
    assert world.root.names() == ["link", "new", "old"]
    found = world.root.find("old")
    assert found is not None and bytes(found.data) == b"old"
    assert list(await world.listing()) == ["link", "new", "old"]


async def test_what_was_removed_by_others_is_forgotten(autojump_clock: object) -> None:
    world = World()
    world.root.add_file("f")
    ino = await world.ino("f")
    world.root.remove("f")
    await fails(errno.ENOENT, world.fs.unlink(ROOT, b"f"))
    await fails(errno.ESTALE, world.fs.open(ino, os.O_RDONLY))
    world.root.add_file("g")
    ino = await world.ino("g")
    world.root.remove("g")
    await fails(errno.ESTALE, world.fs.open(ino, os.O_RDONLY))
    world.root.add_file("h")
    ino = await world.ino("h")
    world.root.remove("h")
    world.root.add_file("h")
    await fails(errno.ESTALE, world.fs.open(ino, os.O_RDONLY))
    world.fs.check_invariants()


async def test_a_file_that_another_client_replaces_at_every_chance_can_be_opened(autojump_clock: object) -> None:
    """The kernel tries an open twice. Between the two the file is replaced again, and other programs have each one
    open. What the first try has opened is what the second one gets.
    """
    world = World()
    world.root.add_file("f", b"0")
    ino = await world.ino("f")
    opened = [await world.fs.open(ino, os.O_RDONLY, 1)]
    for number in range(1, 5):
        replace_file(world, b"%d" % number)
        await fails(errno.ESTALE, world.fs.open(ino, os.O_RDONLY, 2))
        ino = await world.ino("f")
        opened.append(await world.fs.open(ino, os.O_RDONLY, 1))
        replace_file(world, b"more")
        opened.append(await world.fs.open(ino, os.O_RDONLY, 2))
    for index, one in enumerate(opened):
        assert bytes(await world.fs.read(one.handle, 0, 9)) == b"%d" % ((index + 1) // 2)
        await world.fs.release(one.handle)
    world.fs.check_invariants()
    assert not list(open_files(world.root))


def replace_file(world: World, content: bytes) -> None:
    """Another client puts another file in place of `f`."""
    world.root.remove("f")
    world.root.add_file("f", content)


async def test_a_file_that_is_known_to_be_replaced_is_opened_ahead_for_the_second_try(autojump_clock: object) -> None:
    world = World()
    world.root.add_file("f", b"0")
    ino = await world.ino("f")
    opened = [await world.fs.open(ino, os.O_RDONLY, 1)]
    replace_file(world, b"1")
    await trio.sleep(ACTIMEO + 0.1)
    assert await world.ino("f") != ino
    await fails(errno.ESTALE, world.fs.open(ino, os.O_RDONLY, 2))
    found = await world.ino("f")
    opened.append(await world.fs.open(found, os.O_RDONLY, 1))
    replace_file(world, b"more")
    opened.append(await world.fs.open(found, os.O_RDONLY, 2))
    assert [bytes(await world.fs.read(one.handle, 0, 9)) for one in opened] == [b"0", b"1", b"1"]
    for one in opened:
        await world.fs.release(one.handle)
    assert not list(open_files(world.root))
    world.fs.check_invariants()


async def test_no_other_file_is_opened_because_one_was_renamed(autojump_clock: object) -> None:
    """A program opens `f`, which another client has renamed to `g`; by then `g` is another file. The program is told
    to look `f` up again, as often as it asks: it must not get what is `g` now.
    """
    world = World()
    world.root.add_file("f", b"0")
    ino = await world.ino("f")
    opened = await world.fs.open(ino, os.O_RDONLY, 1)
    await MemoryTree(world.root).rename(world.root.share.join(["f"]), world.root.share.join(["g"]), replace=False)
    await trio.sleep(ACTIMEO + 0.1)
    assert (await world.walk("g")).ino == ino
    world.root.remove("g")
    world.root.add_file("g", b"another")
    for _ in range(3):
        await fails(errno.ESTALE, world.fs.open(ino, os.O_RDONLY, 2))
    await world.fs.release(opened.handle)
    for _ in range(3):
        await fails(errno.ESTALE, world.fs.open(ino, os.O_RDONLY, 2))
    world.fs.check_invariants()


@pytest.mark.parametrize("verb", ["query", "set_basic on handle"])
async def test_a_program_closes_the_file_through_whose_handle_another_one_asks(
    autojump_clock: object, verb: str
) -> None:
    """The other one has it open as well, or has its name: nothing is wrong with either."""
    world = World()
    world.root.add_file("f", b"data")
    ino = await world.ino("f")
    opened = await world.fs.open(ino, os.O_RDWR)
    await trio.sleep(ACTIMEO + 0.1)

    def close(what: str, path: UncPath) -> None:
        if what == verb:
            world.root.before = lambda verb, path: None
            table = world.fs._files.table
            file = table.remove_handle(opened.handle)
            assert file is not None
            table.remove_file(file)
            raise SmbError(NtStatus.FILE_CLOSED, what)

    world.root.before = close
    if verb == "query":
        assert (await world.fs.getattr(ino)).size == 4
    else:
        await world.fs.setattr(ino, AttributeChanges(mtime_ns=10**18))
        assert (await world.fs.getattr(ino)).mtime_ns == 10**18
    assert any(call.startswith("stat" if verb == "query" else "set_basic f") for call in world.sent())


async def test_what_a_first_try_has_opened_is_closed_if_there_is_no_second_one(autojump_clock: object) -> None:
    world = World()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.fs.serve)
        world.root.add_file("f", b"0")
        ino = await world.ino("f")
        replace_file(world, b"1")
        await fails(errno.ESTALE, world.fs.open(ino, os.O_RDONLY, 1))
        assert len(list(open_files(world.root))) == 1
        await trio.sleep(PARK_TIME + 0.1)
        assert not list(open_files(world.root))
        replace_file(world, b"2")
        await fails(errno.ESTALE, world.fs.open(ino, os.O_RDONLY, 2))
        await world.ino("f")
        await world.fs.unlink(ROOT, b"f")
        assert not list(open_files(world.root)), "what is parked is in nobody's way"
        nursery.cancel_scope.cancel()
    world.fs.check_invariants()


async def test_where_hiding_is_refused_a_file_in_use_is_removed_all_the_same(autojump_clock: object) -> None:
    world = World()
    world.root.add_file("f", b"data")
    ino = await world.ino("f")
    opened = await world.fs.open(ino, os.O_RDONLY)
    world.root.before = lambda verb, path: refuse(verb, "rename")
    await world.fs.unlink(ROOT, b"f")
    await fails(errno.ENOENT, world.walk("f"))
    assert bytes(await world.fs.read(opened.handle, 0, 10)) == b"data"
    assert (await world.fs.getattr(ino)).size == 4
    await world.fs.release(opened.handle)
    assert world.root.names() == ["link"]
    await trio.sleep(ACTIMEO + 0.1)
    assert (await world.fs.getattr(ino)).nlink == 0


async def test_statfs(autojump_clock: object) -> None:
    world = World()
    assert (await world.fs.statfs(ROOT)).free == 1 << 39
    assert world.sent() == ["statfs "]


async def test_statfs_behind_a_link_is_about_its_share(autojump_clock: object) -> None:
    world = World()
    world.data.add_file("f", b"1")
    link = await world.ino("link")
    world.clear()
    await world.fs.statfs(link)
    assert world.sent() == ["stat ", "statfs "] and not world.root.calls
    assert (await world.fs.getattr(link)).btime_ns == world.data.root.created
    file = await world.ino("link/f")
    world.clear()
    await world.fs.statfs(file)
    assert [verb for verb, _ in world.data.calls] == ["statfs"] and not world.root.calls
    world.namespace.stop("//fs1/data")
    await fails(errno.EHOSTUNREACH, world.fs.statfs(link))
    await fails(errno.EHOSTUNREACH, world.fs.statfs(file))
    assert (await world.fs.statfs(ROOT)).free == 1 << 39
    await fails(errno.ESTALE, world.fs.statfs(12345))


async def test_statfs_of_what_has_no_name_any_more(autojump_clock: object) -> None:
    world = World()
    world.data.add_folder("d")
    world.data.add_file("d/f", b"1")
    ino = await world.ino("link/d/f")
    opened = await world.fs.open(ino, os.O_RDONLY)
    world.data.remove("d/f")
    await trio.sleep(ACTIMEO + 0.1)
    await fails(errno.ENOENT, world.walk("link/d/f"))
    world.clear()
    await world.fs.statfs(ino)
    assert [verb for verb, _ in world.data.calls][-1] == "statfs" and not world.root.calls
    await world.fs.release(opened.handle)


async def test_a_mount_of_a_folder_in_the_namespace(autojump_clock: object) -> None:
    world = World("sub")
    world.root.add_folder("sub")
    world.root.add_file("sub/f", b"1")
    assert (await world.walk("f")).size == 1
    assert (await world.fs.getattr(ROOT)).ino == ROOT
    assert list(await world.listing()) == ["f"]


async def test_names_are_mapped(autojump_clock: object) -> None:
    world = World()
    await world.fs.mknod(ROOT, b"what: a name?.", 0o644)
    assert world.root.names()[-1] == "what\uf022 a name\uf025\uf029"
    assert "what: a name?." in await world.listing()


async def test_a_listing_is_not_believed_for_a_file_with_two_names(autojump_clock: object) -> None:
    """Even if the last that the server said of it, before the second was made, is that it had one."""
    world = World()
    world.root.add_file("first")
    world.root.has_hard_links = True
    await world.fs.link(await world.ino("first"), ROOT, b"second")
    lookup = world.fs._lookup
    inode = lookup.table.child(lookup.table.root, "first")
    assert inode is not None
    assert inode.stat is not None
    lookup.attributes.update(inode, replace(inode.stat, links=1), lookup.table.version)
    await world.listing()
    assert not lookup.attributes.is_fresh(inode)


async def test_a_close_does_not_make_true_what_was_overtaken(autojump_clock: object) -> None:
    """Its answer says sizes and times. How many names the file has, for one, has to be asked for again."""
    world = World()
    world.root.add_file("file")
    ino = await world.ino("file")
    lookup = world.fs._lookup
    inode = lookup.get_inode(ino)
    for overtaken in (False, True):
        opened = await world.fs.open(ino, os.O_WRONLY)
        await world.fs.write(opened.handle, 0, b"data")
        await world.fs.flush(opened.handle)
        await world.fs.getattr(ino)
        if overtaken:
            lookup.table.invalidate(inode)
        await world.fs.release(opened.handle)
        assert lookup.attributes.is_fresh(inode) is not overtaken


async def test_only_replies_to_the_kernel_change_what_it_believes(autojump_clock: object) -> None:
    world = World()
    world.root.add_file("file", b"12345")
    ino = await world.ino("file")
    lookup = world.fs._lookup
    inode = lookup.get_inode(ino)
    assert inode.stat is not None and inode.kernel_size == 5
    lookup.attributes.update(inode, replace(inode.stat, size=7), lookup.table.version)
    assert (lookup.attributes.get(inode).size, inode.kernel_size) == (7, 5)
    assert ((await world.fs.getattr(ino)).size, inode.kernel_size) == (7, 7)
