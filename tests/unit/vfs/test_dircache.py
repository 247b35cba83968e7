"""What a listing says of the names in its folder, and when it is worth making one."""

from __future__ import annotations

import errno
import os

import pytest
import trio

from dfsfs.smb.wire.fscc import DirEntry, FileStat
from dfsfs.unc import UncPath
from dfsfs.vfs.names.attrcache import Lifetimes
from dfsfs.vfs.names.dircache import DIRECTORY_SIZE, DirCache, Origin
from dfsfs.vfs.names.direntries import EntryPage
from dfsfs.vfs.names.inodetable import ROOT, Inode
from dfsfs.vfs.names.lookuprate import LOOKUPS_MIN
from dfsfs.vfs.names.mapping import AttributeChanges
from tests.unit.vfs.world import ACTIMEO, World, fails, refuse

NAMES = [f"file{index}" for index in range(20)]


def full(world: World, folder: str = "") -> World:
    for name in NAMES:
        world.root.add_file(f"{folder}{name}", name.encode())
    return world


async def seen(world: World, name: str, parent: int = ROOT) -> int:
    """Looks a name up and lets it go again; its size."""
    shown = await world.fs.lookup(parent, name.encode())
    world.fs.forget(shown.ino, 1)
    return shown.size


async def test_a_listing_answers_for_its_names_and_for_all_others(autojump_clock: object) -> None:
    world = full(World())
    await world.listing()
    world.clear()
    for name in NAMES:
        assert await seen(world, name) == len(name)
        await fails(errno.ENOENT, world.fs.lookup(ROOT, f"no {name}".encode()))
    assert world.sent() == []
    await seen(world, NAMES[0].upper())
    assert world.sent() == [f"stat {NAMES[0].upper()}"], "only the server knows whether that is the same name"
    world.clear()
    await trio.sleep(ACTIMEO)
    await seen(world, NAMES[0])
    assert world.sent() == [f"stat {NAMES[0]}"]
    world.fs.check_invariants()


async def test_a_folder_is_listed_when_many_of_its_names_are_asked_for(autojump_clock: object) -> None:
    world = full(World())
    for name in NAMES:
        await seen(world, name)
    assert world.sent() == [*(f"stat {name}" for name in NAMES[:LOOKUPS_MIN]), "list "]
    await trio.sleep(ACTIMEO)
    world.clear()
    for name in NAMES[:LOOKUPS_MIN]:
        await trio.sleep(ACTIMEO / LOOKUPS_MIN)
        await seen(world, name)
    assert "list " not in world.sent(), "not so many at once"


async def test_what_is_made_changed_and_removed_here_is_seen_at_once(autojump_clock: object) -> None:
    world = full(World())
    await world.listing()
    result, made = await world.fs.create(ROOT, b"new", 0o644, os.O_WRONLY)
    await world.fs.write(result.handle, 0, b"12345")
    await world.fs.release(result.handle)
    world.fs.forget(made.ino, 1)
    assert await seen(world, "new") == 5
    await world.fs.unlink(ROOT, b"file1")
    await fails(errno.ENOENT, world.fs.lookup(ROOT, b"file1"))
    await world.fs.rename(ROOT, b"file2", ROOT, b"other", 0)
    await fails(errno.ENOENT, world.fs.lookup(ROOT, b"file2"))
    assert await seen(world, "other") == len("file2")
    ino = (await world.fs.lookup(ROOT, b"file3")).ino
    await world.fs.setattr(ino, AttributeChanges(size=1))
    world.fs.forget(ino, 1)
    assert await seen(world, "file3") == 1
    folder = (await world.fs.mkdir(ROOT, b"folder")).ino
    await fails(errno.ENOENT, world.fs.lookup(folder, b"x"))
    world.clear()
    assert await seen(world, "file4") == len("file4")
    assert world.sent() == [], "the others are known as before"
    world.fs.check_invariants()


async def test_a_listing_that_was_overtaken_by_a_change_is_not_kept(autojump_clock: object) -> None:
    world = full(World())
    handle = await world.fs.opendir(ROOT)
    entries = world.fs.readdir(handle, 0)
    for _ in range(3):
        await anext(entries)
    await world.fs.unlink(ROOT, b"file1")
    async for _ in entries:
        pass
    await world.fs.releasedir(handle)
    await fails(errno.ENOENT, world.fs.lookup(ROOT, b"file1"))


async def test_a_folder_that_can_not_be_listed_is_asked_name_by_name(autojump_clock: object) -> None:
    world = full(World())
    world.root.before = lambda verb, _: refuse(verb, "list")
    for name in NAMES:
        await seen(world, name)
    assert world.sent().count("list ") == 3, "less often each time that it was in vain"
    assert sum(call.startswith("stat") for call in world.sent()) == len(NAMES)


async def test_a_spelling_that_a_listing_knows_can_be_made_the_name(autojump_clock: object) -> None:
    """It is another name of the file, for all that the server says to the question; a rename from one name of a file
    to another does nothing.
    """
    world = full(World())
    for name in NAMES[: LOOKUPS_MIN + 1]:
        await seen(world, name)
    old, new = NAMES[-1], NAMES[-1].upper()
    held = [await world.fs.lookup(ROOT, name.encode()) for name in (new, old)]
    assert held[0].ino == held[1].ino
    await world.fs.rename(ROOT, old.encode(), ROOT, new.encode(), 0)
    for shown in held:
        world.fs.forget(shown.ino, 1)
    listed = await world.listing()
    assert new in listed and old not in listed
    world.fs.check_invariants()


async def test_without_lifetimes_nothing_is_listed_for_the_sake_of_names(autojump_clock: object) -> None:
    world = full(World())
    world.fs.set_lifetimes(Lifetimes(0.0, 0.0))
    for name in NAMES:
        await seen(world, name)
    assert "list " not in world.sent()


STAT = FileStat(1, 1, 1, 1, 0, 0, 0, 1, 1, 0)
SHARE = UncPath(("fs1", "data"))


def entries(count: int, prefix: str = "") -> list[DirEntry]:
    return [DirEntry(f"{prefix}{index}", STAT) for index in range(count)]


def test_views_are_bounded_and_the_oldest_page_goes_first() -> None:
    origin = Origin(SHARE, 0, 0.0)
    size = EntryPage(entries(4), origin).size
    views = DirCache(lifetime=1, limit=2 * (DIRECTORY_SIZE + size))
    folders = [Inode(ino, f"folder{ino}", is_directory=True) for ino in range(4)]
    for folder in folders:
        views.add(folder, entries(4), origin)
    assert [folder.cached_directory is not None for folder in folders] == [False, False, True, True]
    assert views.get(folders[3], 0.9) is folders[3].cached_directory
    assert views.get(folders[3], 1.0) is None
    assert folders[3].cached_directory is None
    views.add_pages(folders[0], [EntryPage(entries(4, prefix), origin) for prefix in "abc"])
    cached = views.get(folders[0], 0.5)
    assert cached is not None and not cached.complete and folders[0].cached_directory is None
    assert [cached.find(name) is not None for name in ("a1", "b1", "c1")] == [False, True, True]
    assert not cached.lacks("d1"), "it is not complete"


def test_each_page_is_believed_for_a_lifetime() -> None:
    views, folder = DirCache(lifetime=1), Inode(7, "folder", is_directory=True)
    views.add_pages(
        folder, [EntryPage(entries(4, prefix), Origin(SHARE, 0, time)) for prefix, time in (("a", 0.0), ("b", 0.6))]
    )
    cached = views.get(folder, 0.9)
    assert cached is not None and cached.lacks("c") and not cached.lacks("B1")
    assert views.get(folder, 1.1) is cached and not cached.lacks("c")
    assert (cached.find("a1"), cached.find("b1")) == (None, (DirEntry("b1", STAT), Origin(SHARE, 0, 0.6)))
    assert views.get(folder, 1.6) is None


def test_what_is_dropped_is_not_held_by_who_counts() -> None:
    views, folder, origin = DirCache(lifetime=1), Inode(7, "folder", is_directory=True), Origin(SHARE, 0, 0.0)
    first = views.begin(folder, 0)
    views.use_rate(folder).begin(first, 0.0, 1.0)
    views.add_page(folder, first, EntryPage(entries(4), origin))
    views.add(folder, entries(3), origin)
    assert len(first) == 0 and not first.complete
    views.add_page(folder, first, EntryPage(entries(5), origin))
    assert len(views.get(folder, 0.5) or ()) == 3, "a later listing is cached"


def test_views_that_are_too_old_go_when_others_come() -> None:
    views = DirCache(lifetime=1)
    folders = [Inode(ino, f"folder{ino}", is_directory=True) for ino in range(3)]
    for folder, time in zip(folders, (0.0, 0.5, 1.2), strict=True):
        views.add(folder, (), Origin(SHARE, 0, time))
    assert [folder.cached_directory is not None for folder in folders] == [False, True, True]


async def test_that_a_name_is_not_there_is_believed_as_long_as_the_listing_that_says_so(autojump_clock: object) -> None:
    world = full(World())
    await fails(errno.ENOENT, world.fs.lookup(ROOT, b"nothing"))
    assert world.fs.negative_timeout(ROOT) == ACTIMEO
    await world.listing()
    await trio.sleep(ACTIMEO / 4)
    await fails(errno.ENOENT, world.fs.lookup(ROOT, b"nothing"))
    assert world.fs.negative_timeout(ROOT) == pytest.approx(ACTIMEO * 3 / 4)
    assert world.fs.negative_timeout(12345) == 0


async def test_a_listing_is_kept_though_names_are_made_meanwhile_but_for_those(autojump_clock: object) -> None:
    world = full(World())
    folder = world.fs._lookup.table.root

    def make_one(verb: str, path: UncPath) -> None:
        if verb == "list":
            with world.fs._lookup.table.changing_name(folder, "new"):
                pass

    world.root.before = make_one
    for name in NAMES[: LOOKUPS_MIN + 2]:
        await seen(world, name)
    world.clear()
    for name in NAMES:
        await seen(world, name)
    await fails(errno.ENOENT, world.fs.lookup(ROOT, b"nothing"))
    assert world.sent() == []
    await fails(errno.ENOENT, world.fs.lookup(ROOT, b"NEW"))
    assert world.sent() == ["stat NEW"]
