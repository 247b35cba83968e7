"""What one user of many is refused, or told to be missing, and what becomes of it for the others."""

from __future__ import annotations

import errno
import itertools
from contextlib import suppress
from typing import TYPE_CHECKING

import trio
from hypothesis import given
from hypothesis import strategies as st

from dfsfs.caller import Caller, current_caller, override_caller
from dfsfs.errors import DfsfsError, SmbError
from dfsfs.ntstatus import NtStatus
from dfsfs.vfs.names.inodetable import ROOT
from tests.unit.vfs.world import World, fails

if TYPE_CHECKING:
    from dfsfs.unc import UncPath

ALICE, BOB, CAROL = Caller(1, 1), Caller(2, 1), Caller(3, 1)
MISSING, DENIED = NtStatus.OBJECT_NAME_NOT_FOUND, NtStatus.ACCESS_DENIED


class Company:
    """A share with the folder `hers`, whose server says something of its own about it to some users."""

    def __init__(self) -> None:
        self.world = World(many_users=True)
        self.fs = self.world.fs
        self.world.root.add_folder("hers")
        self.world.root.add_file("hers/file", b"hers")
        self.told: dict[int, NtStatus] = {}
        self.asked: list[int] = []
        self.world.root.before = self.answer

    def answer(self, verb: str, path: UncPath) -> None:
        if "hers" in path.components:
            self.asked.append(current_caller().uid)
            if current_caller().uid in self.told:
                raise SmbError(self.told[current_caller().uid], f"{verb} as the test wants it")

    async def look(self, who: Caller, path: str = "hers") -> int:
        """The number of what has a path."""
        with override_caller(who):
            return await self.world.ino(path)


async def test_who_is_refused_leaves_the_name_to_those_who_have_it(autojump_clock: object) -> None:
    for status in (DENIED, NtStatus.LOGON_FAILURE, NtStatus.SHARING_VIOLATION, NtStatus.IO_TIMEOUT):
        company = Company()
        company.told = {BOB.uid: status}
        with override_caller(BOB):
            await fails(SmbError(status, "").errno, company.fs.lookup(ROOT, b"hers"))
        ino = await company.look(ALICE)
        assert await company.look(BOB) == ino, "the kernel has one entry for all"
        assert company.world.fs.lookup_known(ROOT, b"hers") is None
        with override_caller(BOB):
            assert company.fs.is_others(ROOT, b"hers")
            await fails(SmbError(status, "").errno, company.fs.getattr(ino))
            await fails(SmbError(status, "").errno, company.fs.opendir(ino))
        company.fs.check_invariants()


async def test_who_is_alone_hears_the_truth(autojump_clock: object) -> None:
    company = Company()
    await company.look(BOB)
    await trio.sleep(2)
    for status in (DENIED, MISSING):
        company.told = {BOB.uid: status}
        with override_caller(BOB):
            await fails(SmbError(status, "").errno, company.fs.lookup(ROOT, b"hers"))
            assert not company.fs.is_others(ROOT, b"hers")


async def test_absence_is_of_who_was_told_so(autojump_clock: object) -> None:
    company = Company()
    ino = await company.look(ALICE)
    await trio.sleep(1000)
    company.told = {BOB.uid: MISSING}
    assert await company.look(BOB) == ino
    with override_caller(BOB):
        await fails(errno.ENOENT, company.fs.getattr(ino))
        await fails(errno.ENOENT, company.fs.opendir(ino))
        await fails(errno.ENOENT, company.fs.rmdir(ROOT, b"hers"))
    assert company.asked.count(ALICE.uid) > 1
    with override_caller(ALICE):
        assert (await company.fs.getattr(ino)).ino == ino
        assert await company.look(ALICE, "hers/file")
    company.fs.check_invariants()


async def test_what_nobody_is_told_of_any_more_is_gone(autojump_clock: object) -> None:
    company = Company()
    for who in (ALICE, CAROL):
        ino = await company.look(who)
    company.told = dict.fromkeys((ALICE.uid, BOB.uid, CAROL.uid), MISSING)
    with override_caller(BOB):
        await fails(errno.ENOENT, company.fs.lookup(ROOT, b"hers"))
        assert not company.fs.is_others(ROOT, b"hers")
    assert {ALICE.uid, CAROL.uid} <= set(company.asked), "within actimeo as well: bob may want to make it"
    with override_caller(ALICE):
        await fails(errno.ESTALE, company.fs.getattr(ino))


async def test_a_witness_who_cannot_be_asked(autojump_clock: object) -> None:
    """Counts where the server has been seen to hide something."""
    for hides, answer in itertools.product((False, True), (DENIED, MISSING)):
        company = Company()
        company.world.root.add_folder("more")
        if hides:
            await company.look(ALICE)
            company.told = {BOB.uid: MISSING}
            await company.look(BOB)
        with override_caller(ALICE):
            ino = (await company.fs.lookup(ROOT, b"more")).ino

        def without_alice(verb: str, path: UncPath, answer: NtStatus = answer) -> None:
            if "more" in path.components and current_caller().uid == BOB.uid:
                raise SmbError(answer, "")
            if current_caller().uid == ALICE.uid:
                raise SmbError(NtStatus.CONNECTION_DISCONNECTED, "has no session")

        company.world.root.before = without_alice
        with override_caller(BOB):
            if hides or answer == DENIED:
                assert (await company.fs.lookup(ROOT, b"more")).ino == ino
            else:
                await fails(errno.ENOENT, company.fs.lookup(ROOT, b"more"))


async def test_a_change_overtakes_an_absence_also_while_a_witness_is_asked(autojump_clock: object) -> None:
    company = Company()
    await company.look(ALICE)
    company.told = dict.fromkeys((ALICE.uid, BOB.uid), MISSING)
    lookup = company.fs._lookup

    def answer(verb: str, path: UncPath) -> None:
        if current_caller().uid == ALICE.uid and company.told:
            company.told.clear()
            with lookup.attributes.changing_name(lookup.table.root, "hers"):
                pass  # somebody here has made it again in the meantime
            raise SmbError(MISSING, "")
        company.answer(verb, path)

    company.world.root.before = answer
    assert await company.look(BOB) == await company.look(ALICE)
    assert not company.told


async def test_the_kernel_is_told_a_size_that_is_true(autojump_clock: object) -> None:
    """It cuts what it has of a file to what it is told, whoever asks."""
    company = Company()
    ino = await company.look(ALICE, "hers/file")
    inode = company.fs._lookup.get_inode(ino)
    found = company.world.root.find("hers/file")
    assert found is not None
    found.data += b", and longer"
    company.fs._lookup.table.invalidate(inode)  # as after a change that was made here
    company.told = {BOB.uid: DENIED}
    folder = inode.parent
    assert folder is not None
    with override_caller(BOB):
        assert (await company.fs.lookup(folder.ino, b"file")).size == len(b"hers, and longer")
        await fails(errno.EACCES, company.fs.getattr(ino))


@given(
    st.lists(
        st.tuples(st.sampled_from((ALICE, BOB, CAROL)), st.sampled_from(("look", MISSING, DENIED, "sees", "time"))),
        max_size=12,
    )
)
def test_nobody_takes_away_what_another_one_may_see(steps: list[tuple[Caller, object]]) -> None:
    """Whatever users do and servers tell them: who was told of the folder, and is told so when asked, has it still."""

    async def run() -> None:
        company = Company()
        has: dict[int, int] = {}
        for who, step in steps:
            if step == "time":
                await trio.sleep(2)
            elif step == "sees":
                company.told.pop(who.uid, None)
            elif isinstance(step, NtStatus):
                company.told[who.uid] = step
                has.pop(who.uid, None)
            with suppress(DfsfsError):
                ino = await company.look(who)
                if who.uid not in company.told:
                    has[who.uid] = ino
            assert len(set(has.values())) <= 1
            for uid, ino in has.items():
                with override_caller(Caller(uid, 1)):
                    assert (await company.fs.getattr(ino)).ino == ino
            company.fs.check_invariants()

    trio.run(run, clock=trio.testing.MockClock(autojump_threshold=0))
