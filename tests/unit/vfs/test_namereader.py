"""What a name costs does not depend on how many there are beside it: listings that are read for the sake of names.

Time is virtual, and passes as on a server nearby: so it is counted what is asked, and not measured.
"""

from __future__ import annotations

import errno
import os
import random
from typing import TYPE_CHECKING

import trio

from dfsfs.errors import SmbError
from dfsfs.ntstatus import NtStatus
from dfsfs.unc import UncPath
from dfsfs.vfs.names.inodetable import ROOT
from dfsfs.vfs.names.lookuprate import AT_ONCE, LOOKUPS_MIN
from tests.unit.vfs.world import ACTIMEO, World, fails, refuse

if TYPE_CHECKING:
    from collections.abc import Iterable

QUESTION, PROGRAM = 0.0006, 0.00005
"""Seconds that a name takes that is asked for, and what a program does for each name."""
PAGE = 500
"""Entries of a page."""
LARGE = 8 * PAGE
"""More than are listed at once."""


def crowd(count: int, *, page_seconds: float = 8e-6 * PAGE) -> World:
    """A world whose root has so many files, each of as many bytes as its number has digits."""
    world = World()
    for number in range(count):
        world.root.add_file(f"f{number}", str(number).encode())
    world.root.batch = PAGE
    world.root.seconds = {"stat": QUESTION, "list": page_seconds, "list more": page_seconds}
    return world


async def look_at(world: World, numbers: Iterable[int], seconds: float = PROGRAM) -> None:
    """A program that looks at files, and takes so long with each."""
    for number in numbers:
        shown = await world.fs.lookup(ROOT, f"f{number}".encode())
        world.fs.forget(shown.ino, 1)
        assert shown.size == len(str(number))
        await trio.sleep(seconds)


def count(world: World, verb: str) -> int:
    return sum(sent.split(" /")[0].rsplit(" ", 1)[0] == verb for sent in world.sent())


async def requests(number: int, order: random.Random | None = None) -> float:
    """Requests for each name of a directory with so many, in the order of its listing or in another one."""
    world = crowd(number)
    numbers = list(range(number))
    if order is not None:
        order.shuffle(numbers)
    await look_at(world, numbers)
    world.fs.check_invariants()
    await world.fs.close()
    return len(world.sent()) / number


async def test_in_the_order_of_the_listing_a_name_costs_the_same_in_a_directory_of_any_size(
    autojump_clock: object,
) -> None:
    small = await requests(PAGE)
    assert await requests(LARGE) <= 1.3 * small
    assert await requests(3 * LARGE) <= 1.3 * small


async def test_in_any_order_as_long_as_the_listing_comes_in_time(autojump_clock: object) -> None:
    assert await requests(LARGE, random.Random(1)) < 0.05


async def test_only_what_is_believed_is_held(autojump_clock: object) -> None:
    world = crowd(2 * LARGE)
    await look_at(world, range(LARGE + 1), 10 * PROGRAM)
    cached = world.fs._lookup.table.root.listing
    assert cached is not None and cached.cached is not None
    assert len(cached.cached) <= 5 * PAGE
    assert count(world, "list") <= 3 and count(world, "list more") <= 2 * LARGE // PAGE
    await world.fs.close()


async def test_a_program_that_takes_its_time_gets_the_names_of_each_page_as_long_as_that_is_believed(
    autojump_clock: object,
) -> None:
    world = crowd(2 * LARGE)
    await look_at(world, range(LARGE), ACTIMEO / (PAGE // 2))
    assert count(world, "list") < 15, "not from the start again and again"
    assert count(world, "stat") < LARGE * 0.7, "half a page, then name by name to its end, then the next one"
    world.clear()
    await trio.sleep(10 * ACTIMEO)
    await look_at(world, range(LARGE, LARGE + PAGE))
    world.clear()
    await look_at(world, range(LARGE + PAGE, LARGE + 3 * PAGE))
    assert len(world.sent()) < 20, "it was idle, and goes on with the next page"
    await world.fs.close()


async def test_a_large_directory_is_not_listed_for_names_in_no_order(autojump_clock: object) -> None:
    page_seconds = PAGE * 0.001
    world = crowd(2 * LARGE, page_seconds=page_seconds)
    numbers = random.Random(1).sample(range(2 * LARGE), 3000)
    await look_at(world, numbers)
    asked, listed = count(world, "stat"), count(world, "list") + count(world, "list more")
    assert asked > 0.9 * len(numbers), "few of them are in what was listed"
    await look_at(world, numbers)
    again = count(world, "list") + count(world, "list more") - listed
    assert again < listed, "it was in vain"
    await world.fs.close()


async def test_names_that_are_not_there_do_not_lead_a_program_astray(autojump_clock: object) -> None:
    """As of one that looks for a second file beside each."""
    world = crowd(LARGE)
    for number in range(LARGE // 4):
        await look_at(world, [number])
        await fails(errno.ENOENT, world.fs.lookup(ROOT, f"g{number}".encode()))
    assert count(world, "stat") <= LARGE // 4 + LOOKUPS_MIN
    assert count(world, "list") == 1
    await world.fs.close()


async def test_a_listing_that_came_to_its_end_says_what_is_not_there(autojump_clock: object) -> None:
    world = crowd(PAGE)
    await look_at(world, range(10))
    world.clear()
    await fails(errno.ENOENT, world.fs.lookup(ROOT, b"nothing"))
    assert world.sent() == []
    await world.fs.lookup(ROOT, b"F1")
    assert world.sent() == ["stat F1"], "only the server knows whether that is the same name"


async def test_what_is_changed_here_while_a_directory_is_read_is_seen_at_once(autojump_clock: object) -> None:
    """Also what comes later in the listing, and was changed before it was listed."""
    world = crowd(LARGE)
    await look_at(world, range(100))
    behind, ahead = 50, LARGE - 50
    for number in (behind, ahead):
        await world.fs.unlink(ROOT, f"f{number}".encode())
        await world.fs.rename(ROOT, f"f{number + 1}".encode(), ROOT, f"g{number}".encode(), 0)
        result, made = await world.fs.create(ROOT, f"new{number}".encode(), 0o644, os.O_WRONLY)
        await world.fs.write(result.handle, 0, b"123456")
        await world.fs.release(result.handle)
        world.fs.forget(made.ino, 1)
    await look_at(world, range(100, ahead))
    for number in (behind, ahead):
        for gone in (number, number + 1):
            await fails(errno.ENOENT, world.fs.lookup(ROOT, f"f{gone}".encode()))
        for name, size in ((f"g{number}", len(str(number + 1))), (f"new{number}", 6)):
            shown = await world.fs.lookup(ROOT, name.encode())
            world.fs.forget(shown.ino, 1)
            assert shown.size == size
    world.fs.check_invariants()
    await world.fs.close()


async def test_one_that_changes_the_directory_while_a_page_is_on_its_way(autojump_clock: object) -> None:
    """The page was asked for before the change, and comes after it."""
    world = crowd(LARGE)
    await look_at(world, range(AT_ONCE))
    listing = world.fs._lookup.table.root.listing
    assert listing is not None and listing.cached is not None
    following = listing.cached.taken - 1
    """The folder has a link as well."""
    await look_at(world, range(AT_ONCE, following))
    world.clear()

    async def remove() -> None:
        await trio.sleep(world.root.seconds["list more"] / 4)
        await world.fs.unlink(ROOT, f"f{following + 1}".encode())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(remove)
        nursery.start_soon(look_at, world, [following])
    assert count(world, "list more") == 1 and listing.cached.find(f"f{following + 1}") is not None
    await fails(errno.ENOENT, world.fs.lookup(ROOT, f"f{following + 1}".encode()))
    await world.fs.close()


async def test_many_programs_at_a_time(autojump_clock: object) -> None:
    """Each goes its own way through a part of the directory: the answers are right, and none waits for long."""
    world = crowd(LARGE)
    async with trio.open_nursery() as nursery:
        for start in range(0, LARGE, LARGE // 8):
            nursery.start_soon(look_at, world, range(start, start + LARGE // 8))
    assert trio.current_time() < LARGE // 8 * (PROGRAM + QUESTION) * 1.3
    world.fs.check_invariants()
    await world.fs.close()


async def test_any_error_leads_back_to_single_names(autojump_clock: object) -> None:
    world = crowd(LARGE)
    await look_at(world, range(PAGE))
    world.root.before = lambda verb, _: refuse(verb, "list more")
    await look_at(world, range(PAGE, LARGE, 7))
    assert not world.fs._lookup.directory_renames.open_directories

    def end(verb: str, path: UncPath) -> None:
        if verb == "list more":
            raise SmbError(NtStatus.IO_TIMEOUT, "as the test wants it")

    world.root.before = end
    await look_at(world, range(0, LARGE, 17))
    await world.fs.close()


async def test_a_directory_that_moves_to_another_target_is_not_read_on_there(autojump_clock: object) -> None:
    world = World()
    replica = world.namespace.add_share("//fs2/data")
    world.namespace.links[UncPath.parse("//dfs/ns/link")].append(replica.share)
    for number in range(2 * AT_ONCE):
        world.data.add_file(f"f{number}", b"1")
        replica.add_file(f"f{2 * AT_ONCE - 1 - number}", b"22")
    folder = await world.ino("link")
    await world.fs.releasedir(await world.fs.opendir(folder))
    for number in range(AT_ONCE + 500):
        if number == 100:
            world.namespace.stop("//fs1/data")
            await trio.sleep(ACTIMEO)
        shown = await world.fs.lookup(folder, f"f{number}".encode())
        world.fs.forget(shown.ino, 1)
        assert shown.size == (1 if number < 100 else 2)
    await world.fs.close()


async def test_a_target_that_fails_at_the_first_page(autojump_clock: object) -> None:
    world = World()
    replica = world.namespace.add_share("//fs2/data")
    world.namespace.links[UncPath.parse("//dfs/ns/link")].append(replica.share)
    for store in (world.data, replica):
        for number in range(100):
            store.add_file(f"f{number}", b"1")
    folder = await world.ino("link")
    await world.fs.releasedir(await world.fs.opendir(folder))
    world.data.before = lambda verb, _: world.namespace.stop("//fs1/data") if verb == "list" else None
    for number in range(100):
        shown = await world.fs.lookup(folder, f"f{number}".encode())
        world.fs.forget(shown.ino, 1)
    assert len(replica.calls) < 20, "it is listed at the other one"
    await world.fs.close()


async def test_a_directory_that_is_not_read_on_is_closed(autojump_clock: object) -> None:
    world = crowd(LARGE)
    opened = world.fs._lookup.directory_renames.open_directories
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.fs.serve)
        await look_at(world, range(100))
        assert len(opened) == 1
        await trio.sleep(3 * ACTIMEO)
        assert not opened and world.fs.statistics().open_directories == 0
        nursery.cancel_scope.cancel()


async def test_a_directory_is_closed_when_it_is_removed(autojump_clock: object) -> None:
    world = World()
    world.root.add_folder("d")
    for number in range(2 * AT_ONCE):
        world.root.add_file(f"d/f{number}")
    folder = await world.ino("d")
    for number in range(100):
        shown = await world.fs.lookup(folder, f"f{number}".encode())
        world.fs.forget(shown.ino, 1)
    assert world.fs._lookup.directory_renames.open_directories
    for number in range(2 * AT_ONCE):
        world.root.remove(f"d/f{number}")
    await world.fs.rmdir(ROOT, b"d")
    assert not world.fs._lookup.directory_renames.open_directories
    await fails(errno.ENOENT, world.fs.lookup(ROOT, b"d"))


async def test_a_look_up_that_is_given_up_leaves_nothing_open(autojump_clock: object) -> None:
    world = crowd(LARGE, page_seconds=1.0)
    await look_at(world, range(LOOKUPS_MIN))
    with trio.move_on_after(0.5) as given_up:
        await look_at(world, [LOOKUPS_MIN])
    assert given_up.cancelled_caught
    assert not world.fs._lookup.directory_renames.open_directories
    await look_at(world, range(LOOKUPS_MIN))
    await world.fs.close()
