"""DFS links in the file system: how they look, how they are entered, and that nothing harms them."""

from __future__ import annotations

import errno
import os
import stat as posix
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

from dfsfs.errors import SmbError
from dfsfs.ntstatus import NtStatus
from dfsfs.unc import UncPath
from dfsfs.vfs.names.inodetable import ROOT
from dfsfs.vfs.names.mapping import AttributeChanges
from dfsfs.vfs.names.offline import OFFLINE_SECONDS, PATIENCE, SWEEP_INTERVAL
from tests.unit.vfs.world import ACTIMEO, World, fails

if TYPE_CHECKING:
    from dfsfs.vfs.names.inode import Inode

CHANGING = ("unlink", "rmdir", "rename", "set_basic", "set_size", "open", "mkdir")


@pytest.mark.parametrize("marked", [True, False])
async def test_a_link_is_a_folder_and_looking_at_it_does_not_touch_its_target(
    marked: bool, autojump_clock: object
) -> None:
    world = World()
    world.root.mark_links = marked
    for _ in range(2):
        assert posix.S_ISDIR((await world.listing())["link"].mode)
        shown = await world.walk("link")
        assert (posix.S_IMODE(shown.mode), shown.nlink) == (0o755, 2)
        assert (await world.fs.getattr(shown.ino)).ino == shown.ino
        await trio.sleep(ACTIMEO + 0.1)
    assert world.data.calls == []
    world.fs.check_invariants()


async def test_a_link_shows_the_times_of_its_listing_until_it_is_entered(autojump_clock: object) -> None:
    world = World()
    link = world.root.find("link")
    assert link is not None
    listed = (await world.listing())["link"]
    assert listed.mtime_ns == link.created
    world.data.root.written = 10**18
    await world.listing("link")
    shown = await world.fs.getattr(await world.ino("link"))
    assert (shown.mtime_ns, shown.ino) == (10**18, listed.ino)


async def test_a_listing_is_all_that_ls_needs_for_links_it_knows_already(autojump_clock: object) -> None:
    world = World()
    ino = (await world.listing())["link"].ino
    await world.fs.lookup(ROOT, b"link")  # the kernel keeps it
    await trio.sleep(ACTIMEO + 0.1)
    assert world.fs.timeouts(ino) == (ACTIMEO, 0.0)
    await world.listing()
    assert world.fs.timeouts(ino) == (ACTIMEO, ACTIMEO)


async def test_everything_works_below_a_link(autojump_clock: object) -> None:
    world = World()
    world.data.add_file("f", b"123")
    assert (await world.walk("link/f")).size == 3
    link = await world.ino("link")
    await world.fs.mkdir(link, b"d")
    await world.fs.rename(link, b"f", await world.ino("link/d"), b"g", 0)
    assert world.data.names() == ["d"]
    assert world.data.names("d") == ["g"]
    assert list(await world.listing("link")) == ["d"]
    world.fs.check_invariants()


async def test_a_dead_link_is_seen_but_not_entered(autojump_clock: object) -> None:
    world = World()
    world.namespace.stop("//fs1/data")
    shown = await world.walk("link")
    assert "link" in await world.listing()
    for action in (
        world.fs.opendir(shown.ino),
        world.fs.lookup(shown.ino, b"f"),
        world.fs.create(shown.ino, b"f", 0o644, os.O_WRONLY),
        world.fs.mkdir(shown.ino, b"d"),
    ):
        await fails(errno.EHOSTUNREACH, action)
    world.namespace.start("//fs1/data")
    await world.listing("link")


async def test_no_verb_reaches_a_link_itself(autojump_clock: object) -> None:
    world = World()
    world.root.add_file("f")
    world.root.add_folder("d")
    link = await world.ino("link")
    world.clear()
    for code, action in (
        (errno.EBUSY, world.fs.unlink(ROOT, b"link")),
        (errno.EBUSY, world.fs.rmdir(ROOT, b"link")),
        (errno.EBUSY, world.fs.rename(ROOT, b"link", ROOT, b"x", 0)),
        (errno.EBUSY, world.fs.rename(ROOT, b"f", ROOT, b"link", 0)),
        (errno.EBUSY, world.fs.rename(ROOT, b"d", ROOT, b"link", 0)),
        (errno.EBUSY, world.fs.setattr(link, AttributeChanges(mode=0o700))),
        (errno.EBUSY, world.fs.setattr(link, AttributeChanges(mtime_ns=1))),
        (errno.EISDIR, world.fs.setattr(link, AttributeChanges(size=0))),
        (errno.EISDIR, world.fs.open(link, os.O_RDONLY)),
    ):
        await fails(code, action)
    assert not [call for call in world.sent() if call.split()[0] in CHANGING]
    await fails(errno.EEXIST, world.fs.mkdir(ROOT, b"link"))
    await fails(errno.EEXIST, world.fs.mknod(ROOT, b"link", 0o644))
    await fails(errno.EISDIR, world.fs.create(ROOT, b"link", 0o644, os.O_WRONLY))
    assert world.root.names() == ["d", "f", "link"]


async def test_a_link_made_a_moment_ago_is_not_harmed_by_what_was_known_before(autojump_clock: object) -> None:
    world = World()
    for name in ("a", "b", "c"):
        world.root.add_folder(name)
        await world.walk(name)
        world.root.remove(name)
        world.root.add_link(name)
        world.namespace.add_link(f"//dfs/ns/{name}", "//fs1/data")
    await fails(errno.EBUSY, world.fs.rmdir(ROOT, b"a"))
    await fails(errno.EBUSY, world.fs.rename(ROOT, b"b", ROOT, b"x", 0))
    assert world.root.names() == ["a", "b", "c", "link"]
    assert list(await world.listing("c")) == [], "entering what has become a link enters the link"
    world.fs.check_invariants()


async def test_the_inside_of_a_link_can_be_changed_once_it_is_entered(autojump_clock: object) -> None:
    world = World()
    await world.listing("link")
    await world.fs.setattr(await world.ino("link"), AttributeChanges(mtime_ns=10**18))
    assert world.data.root.written == 10**18
    await fails(errno.EBUSY, world.fs.rename(ROOT, b"link", ROOT, b"x", 0))


async def test_a_rename_across_a_link_is_another_file_system(autojump_clock: object) -> None:
    world = World()
    world.root.add_file("f")
    link = await world.ino("link")
    await fails(errno.EXDEV, world.fs.rename(ROOT, b"f", link, b"f", 0))
    assert world.sent() == ["stat link"]


async def test_a_folder_above_that_has_become_a_link(autojump_clock: object) -> None:
    world = World()
    world.root.add_folder("d")
    world.root.add_file("d/f", b"old")
    before = await world.walk("d/f")
    world.root.remove("d")
    world.root.add_link("d")
    world.namespace.add_link("//dfs/ns/d", "//fs1/data")
    world.data.add_file("f", b"inside")
    await trio.sleep(ACTIMEO + 0.1)
    await fails(errno.ESTALE, world.fs.getattr(before.ino))
    after = await world.walk("d/f")
    assert after.size == 6 and after.ino != before.ino
    world.fs.check_invariants()


async def test_a_folder_that_has_become_a_link_is_looked_at_without_touching_its_target(
    autojump_clock: object,
) -> None:
    world = World("sub")
    world.root.add_folder("sub")
    world.root.add_folder("sub/d")
    before = await world.walk("d")
    world.root.remove("sub/d")
    world.root.add_link("sub/d")
    world.namespace.add_link("//dfs/ns/sub/d", "//fs1/data")
    await trio.sleep(ACTIMEO + 0.1)
    assert (await world.fs.getattr(before.ino)).ino == before.ino
    assert world.data.calls == []
    assert (await world.walk("d")).ino == before.ino
    world.namespace.stop("//fs1/data")
    await fails(errno.EHOSTUNREACH, world.fs.opendir(before.ino))
    world.namespace.start("//fs1/data")
    await world.listing("d")
    world.fs.check_invariants()


async def test_a_bound_link_whose_target_fails_shows_what_it_showed(autojump_clock: object) -> None:
    world = World()
    world.data.root.written = 10**18
    await world.listing("link")
    ino = await world.ino("link")
    assert (await world.walk("link")).mtime_ns == (await world.fs.getattr(ino)).mtime_ns == 10**18
    await trio.sleep(ACTIMEO + 0.1)

    def fail(verb: str, path: UncPath) -> None:
        raise SmbError(NtStatus.ACCESS_DENIED, "as the test wants it")

    world.data.before = fail
    assert (await world.fs.getattr(ino)).mtime_ns == 10**18


async def test_without_dfs_links_are_folders_that_can_not_be_entered_or_removed(autojump_clock: object) -> None:
    world = World(follow_links=False)
    world.namespace.follow_links = False
    assert posix.S_ISDIR((await world.listing())["link"].mode)
    handle = await world.fs.opendir(ROOT)
    async for _ in world.fs.readdir(handle, 0):
        pass
    await fails(errno.EBUSY, world.fs.rmdir(ROOT, b"link"))
    await trio.sleep(ACTIMEO + 0.1)
    await fails(errno.EREMOTE, world.fs.rmdir(ROOT, b"link"))
    await fails(errno.EREMOTE, world.walk("link"))


async def test_the_mounted_folder_itself_is_looked_at_after_it_became_the_inside_of_a_link(
    autojump_clock: object,
) -> None:
    world = World("a")
    world.root.add_link("a")
    world.namespace.add_link("//dfs/ns/a", "//fs1/data")
    world.data.root.written = 10**18
    assert (await world.fs.getattr(ROOT)).mtime_ns == 10**18


async def test_the_mounted_folder_itself_becomes_the_inside_of_a_link(autojump_clock: object) -> None:
    world = World("a", "b")
    world.root.add_folder("a")
    world.root.add_folder("a/b")
    await world.listing()
    world.root.remove("a")
    world.root.add_link("a")
    world.namespace.add_link("//dfs/ns/a", "//fs1/data")
    world.data.add_folder("b")
    world.data.add_file("b/f", b"1")
    assert list(await world.listing()) == ["f"]
    assert (await world.walk("f")).size == 1


async def test_a_link_that_was_taken_out_of_the_namespace(autojump_clock: object) -> None:
    world = World()
    link = await world.walk("link")
    world.root.remove("link")
    world.root.add_folder("link")
    await trio.sleep(ACTIMEO + 0.1)
    folder = await world.walk("link")
    assert folder.ino != link.ino
    await fails(errno.ESTALE, world.fs.opendir(link.ino))
    await world.fs.rmdir(ROOT, b"link")


async def test_a_live_link_works_while_the_namespace_server_is_down(autojump_clock: object) -> None:
    world = World()
    world.root.add_folder("way")
    world.root.add_folder("other")
    world.root.add_link("way/to")
    world.namespace.add_link("//dfs/ns/way/to", "//fs1/data")
    world.data.add_file("f", b"1")
    file = await world.ino("way/to/f")
    way, other = await world.ino("way"), await world.ino("other")
    await world.fs.getattr(ROOT)
    world.namespace.stop("//dfs/ns")
    for _ in range(3):
        await trio.sleep(ACTIMEO + 0.1)
        assert (await world.fs.getattr(ROOT)).ino == ROOT
        assert (await world.fs.getattr(way)).ino == way
        assert await world.ino("way/to/f") == file
        await fails(errno.EHOSTUNREACH, world.fs.getattr(other))
    runs = world.namespace.runs
    await trio.sleep(ACTIMEO + 0.1)
    await world.walk("way/to/f")
    assert world.namespace.runs == runs + 1, "nobody asks the dead server for the way"
    world.namespace.stop("//fs1/data")
    await trio.sleep(ACTIMEO + 0.1)
    await fails(errno.EHOSTUNREACH, world.walk("way/to/f"))


async def way_to_a_link(world: World) -> dict[str, int]:
    """A link behind a folder is entered, and the kernel forgets all of it. The numbers by path."""
    world.root.add_folder("way")
    world.root.add_link("way/to")
    world.namespace.add_link("//dfs/ns/way/to", "//fs1/data")
    world.data.add_file("f", b"1")
    before = world.fs.statistics().inodes.lookups
    await world.fs.getattr(ROOT)
    numbers = {path: await world.ino(path) for path in ("way", "way/to", "way/to/f")}
    for ino in numbers.values():
        world.fs.forget(ino, 1)
    assert world.fs.statistics().inodes.lookups == before
    return numbers


@pytest.mark.parametrize("fault", ["stop", "hang"])
async def test_a_link_in_use_answers_for_itself_after_the_kernel_has_forgotten_it(
    fault: str, autojump_clock: object
) -> None:
    world = World()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.fs.serve)
        numbers = await way_to_a_link(world)
        await trio.sleep(ACTIMEO + 0.1)
        getattr(world.namespace, fault)("//dfs/ns")
        waited = []
        for _ in range(20):
            begun = trio.current_time()
            for path, ino in numbers.items():
                assert await world.ino(path) == ino, "the same numbers as before"
                assert (await world.fs.getattr(ino)).ino == ino
                world.fs.forget(ino, 1)
            assert (await world.fs.getattr(ROOT)).ino == ROOT
            waited.append(trio.current_time() - begun)
            await trio.sleep(ACTIMEO + 0.1)
        assert max(waited) <= PATIENCE + 0.01 and sum(waited) <= 2 * PATIENCE + 0.01, waited
        world.fs.check_invariants()
        nursery.cancel_scope.cancel()


async def test_what_was_asked_in_the_background_counts_when_it_is_answered(autojump_clock: object) -> None:
    world = World()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.fs.serve)
        await way_to_a_link(world)
        way = world.root.find("way")
        assert way is not None
        await trio.sleep(ACTIMEO + 0.1)
        world.namespace.hang("//dfs/ns")
        before = await world.walk("way")
        way.written = 10**18
        world.namespace.hung.clear()
        for _ in range(4):
            await trio.sleep(OFFLINE_SECONDS)
            after = await world.walk("way")
        assert (before.ino, after.mtime_ns) == (after.ino, 10**18) and before.mtime_ns != 10**18
        nursery.cancel_scope.cancel()


async def test_names_that_lead_to_no_link_in_use_are_the_servers_to_tell(autojump_clock: object) -> None:
    world = World()
    world.root.add_folder("other")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.fs.serve)
        await way_to_a_link(world)
        world.namespace.hang("//dfs/ns")
        for path in ("other", "missing", "way/missing"):
            await fails(errno.ETIMEDOUT, world.walk(path))
        nursery.cancel_scope.cancel()


async def test_what_keeps_a_link_ends_with_its_target(autojump_clock: object) -> None:
    world = World()
    await way_to_a_link(world)
    assert world.fs.statistics().inodes.inodes > 1
    world.namespace.stop("//fs1/data")
    await trio.sleep(SWEEP_INTERVAL)
    world.namespace.add_share("//fs2/data")
    world.root.add_link("second")
    world.namespace.add_link("//dfs/ns/second", "//fs2/data")
    await world.listing("second")
    world.namespace.stop("//fs2/data")
    assert world.fs.statistics().inodes.inodes == 2, "the root, and the link entered last"
    world.fs.check_invariants()


async def test_inode_numbers_survive_a_failover(autojump_clock: object) -> None:
    world = World()
    replica = world.namespace.add_share("//fs2/data")
    world.namespace.links[UncPath.parse("//dfs/ns/link")].append(replica.share)
    for store in (world.data, replica):
        store.add_file("f", b"1")
    replica.add_file("g")
    file, link = await world.ino("link/f"), await world.ino("link")
    world.namespace.stop("//fs1/data")
    await trio.sleep(ACTIMEO + 0.1)
    assert (await world.ino("link"), await world.ino("link/f")) == (link, file)
    assert sorted(await world.listing("link")) == ["f", "g"]
    world.fs.check_invariants()


async def test_a_listing_goes_on_at_another_target_without_a_name_twice(autojump_clock: object) -> None:
    world = World()
    replica = world.namespace.add_share("//fs2/data")
    world.namespace.links[UncPath.parse("//dfs/ns/link")].append(replica.share)
    for number in range(120):
        world.data.add_file(f"f{number}")
        replica.add_file(f"f{119 - number}")
    handle = await world.fs.opendir(await world.ino("link"))
    names = []
    async for name, _, _ in world.entries_of(handle):
        names.append(name)
        if len(names) == 30:
            world.namespace.stop("//fs1/data")
    assert len(names) == 122 == len(set(names))
    await world.fs.releasedir(handle)


async def test_an_answer_that_is_shared_is_believed_by_nobody_if_it_was_overtaken(autojump_clock: object) -> None:
    """Two ask for a folder on the way to a link in use, the second one after it was renamed away and back: the answer
    to the first, that nothing has the name, was true in between.
    """
    world = World()
    lookup, found = world.fs._lookup, []
    answered, ask = trio.Event(), lookup.run_in

    async def run_in(parent: Inode, name: str, operation: Any) -> Any:
        if not answered.is_set():
            await answered.wait()
            raise SmbError(NtStatus.OBJECT_NAME_NOT_FOUND, "as the test wants it")
        return await ask(parent, name, operation)

    async def look_up() -> None:
        found.append((await world.fs.lookup(ROOT, b"way")).ino)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.fs.serve)
        numbers = await way_to_a_link(world)
        await trio.sleep(ACTIMEO + 0.1)
        lookup.run_in = run_in  # type: ignore[assignment]
        nursery.start_soon(look_up)
        await trio.testing.wait_all_tasks_blocked()
        with lookup.attributes.changing_name(lookup.table.root, "way"):
            pass
        nursery.start_soon(look_up)
        await trio.testing.wait_all_tasks_blocked()
        answered.set()
        await trio.testing.wait_all_tasks_blocked()
        assert found == [numbers["way"]] * 2
        nursery.cancel_scope.cancel()


async def test_a_root_that_two_requests_find_to_be_a_link_keeps_what_was_found_in_between() -> None:
    """The second one was sent before the first one's answer made the mount's root a link."""
    world = World("becomes")
    world.data.add_file("f", b"1")
    world.namespace.add_link("//dfs/ns/becomes", "//fs1/data")
    router, root = world.fs._lookup.router, world.fs._lookup.table.root
    prefix = UncPath.parse("//dfs/ns/becomes")
    assert router._convert_to_link(root, prefix)
    found = await world.fs.lookup(ROOT, b"f")
    assert router._convert_to_link(root, prefix)
    assert not world.fs._lookup.get_inode(found.ino).detached
