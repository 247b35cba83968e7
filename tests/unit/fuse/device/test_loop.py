"""DeviceLoop with a synthetic kernel: which task reads, which waits, and that each request is answered once."""

from __future__ import annotations

import errno
from contextlib import closing
from contextvars import ContextVar
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing
from pyfuse3 import FUSEError

from dfsfs.errors import PosixError
from dfsfs.fuse.abi.constants import InitFlag, Opcode
from dfsfs.fuse.device.capabilities import FLAGS
from dfsfs.fuse.device.dispatcher import HANDLERS
from dfsfs.fuse.device.loop import FAIRNESS, MAX_TASKS, SPARE_TASKS
from tests.support.fuselayout import decode, encode
from tests.unit.fuse.device.synthetic import OFFERED, Session, serving

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


def entry_number(answer: tuple[int, bytes]) -> int:
    error, body = answer
    assert error == 0
    return decode("fuse_entry_out", body)["nodeid"]


# -- the beginning -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("minor", "offered"),
    [(31, 0x07FFFFFB), (36, 0x7FFFFFFB | 3 << 32), (39, 0x7FFFFFFB | 0x1F << 32), (45, OFFERED), (60, OFFERED)],
)
async def test_kernels_of_each_age(minor: int, offered: int) -> None:
    with closing(Session()) as session:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(session.run)
            init, lookup = session.kernel.init(7, minor, offered), session.kernel.lookup(b"name")
            await session.kernel.settle()
            fields = decode("fuse_init_out", session.kernel.answer(init)[1])
            assert (fields["major"], fields["minor"]) == (7, 45)
            assert fields["flags"] == FLAGS & offered
            assert session.loop.negotiated is not None
            assert session.loop.negotiated.minor == min(minor, 45)
            assert session.loop.negotiated.flags == FLAGS & offered
            assert bool(fields["flags"] & InitFlag.HANDLE_KILLPRIV_V2) == (minor >= 36)
            assert session.operations.initialized == [0]
            assert entry_number(session.kernel.answer(lookup)) == 4
            session.kernel.end()


@pytest.mark.parametrize(("major", "minor"), [(7, 30), (6, 45)])
async def test_a_kernel_that_is_too_old(major: int, minor: int) -> None:
    with closing(Session()) as session:
        init = session.kernel.init(major, minor)
        with pytest.raises(ExceptionGroup) as caught:
            await session.run()
        error: Exception = caught.value
        while isinstance(error, ExceptionGroup):
            (error,) = error.exceptions
        assert isinstance(error, PosixError) and error.errno == errno.EPROTO
        assert f"speaks FUSE {major}.{minor}" in str(error)
        assert session.kernel.answer(init) == (errno.EPROTO, b"")
        assert not session.operations.initialized


async def test_a_newer_major_version_asks_again() -> None:
    with closing(Session()) as session:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(session.run)
            first = session.kernel.init(8, 3)
            await session.kernel.settle()
            fields = decode("fuse_init_out", session.kernel.answer(first)[1])
            assert (fields["major"], fields["minor"], fields["flags"]) == (7, 45, 0)
            assert session.loop.negotiated is None and not session.operations.initialized
            again = session.kernel.init(7, 45)
            await session.kernel.settle()
            assert decode("fuse_init_out", session.kernel.answer(again)[1])["flags"] == FLAGS
            assert session.operations.initialized == [0]
            session.kernel.end()


# -- who reads, and who waits ------------------------------------------------------------------------------------------


async def test_what_needs_no_waiting_is_answered_in_its_order_by_one_task() -> None:
    async with serving() as session:
        asked = [session.kernel.lookup(b"x" * (1 + number)) for number in range(100)]
        await session.kernel.settle()
        assert session.kernel.order[-100:] == asked
        assert [entry_number(session.kernel.answer(unique)) for unique in asked] == list(range(1, 101))
        assert len(set(session.operations.tasks)) == 1
        assert session.tasks == 1


async def test_who_waits_keeps_nobody_waiting() -> None:
    async with serving() as session:
        session.operations.hold(b"slow")
        slow, quick = session.kernel.lookup(b"slow"), session.kernel.lookup(b"quick")
        await session.kernel.settle()
        assert session.kernel.has_answered(quick) and not session.kernel.has_answered(slow)
        session.operations.release(b"slow")
        await session.kernel.settle()
        assert entry_number(session.kernel.answer(slow)) == 4


async def test_what_a_handler_has_set_is_not_the_next_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who asks, for example (dfsfs/caller.py): the task that leads next begins while a handler waits."""
    setting, seen = ContextVar("setting", default=b""), []
    async with serving() as session:
        lookup = session.operations.lookup

        async def look_up(parent: int, name: bytes, context: Any) -> Any:
            seen.append(setting.get())
            token = setting.set(name)
            try:
                return await lookup(parent, name, context)
            finally:
                setting.reset(token)

        monkeypatch.setattr(session.operations, "lookup", look_up)
        names = [b"%d" % number for number in range(SPARE_TASKS + 5)]
        session.operations.hold(*names)
        for name in names:
            session.kernel.lookup(name)
            await session.kernel.settle()
        assert seen == [b""] * len(names)
        session.operations.release(*names)


async def test_the_scope_of_a_task_is_only_offered_to_its_own_request() -> None:
    """A handler that has waited, and calls another one, would take that of the task that leads by then."""
    async with serving() as session:
        session.operations.hold(b"slow")
        for name in (b"quick", b"slow", b"quick"):
            session.kernel.lookup(name)
            await session.kernel.settle()
            assert session.operations.task_scope is None  # type: ignore[attr-defined]
        session.operations.release(b"slow")


async def test_a_request_that_is_ended_takes_no_other_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests of one task run in one scope, until one of them is cancelled."""
    async with serving() as session:
        operations, kernel, scopes = session.operations, session.kernel, list[trio.CancelScope]()
        lookup = operations.lookup

        async def look_up(parent: int, name: bytes, context: Any) -> Any:
            scope: trio.CancelScope = operations.task_scope  # type: ignore[attr-defined]
            scopes.append(scope)
            assert not scope.cancel_called
            try:
                return await lookup(parent, name, context)
            except trio.Cancelled:
                if scope.cancel_called:
                    raise FUSEError(errno.EINTR) from None
                raise

        monkeypatch.setattr(operations, "lookup", look_up)
        for _ in range(3):
            operations.hold(b"slow", b"other")
            slow, other = kernel.lookup(b"slow"), kernel.lookup(b"other")
            await kernel.settle()
            scopes[-2].cancel()
            await kernel.settle()
            assert kernel.answer(slow) == (errno.EINTR, b"") and not kernel.has_answered(other)
            quick = kernel.lookup(b"quick")
            operations.release(b"slow", b"other")
            await kernel.settle()
            assert entry_number(kernel.answer(other)) == entry_number(kernel.answer(quick)) == 5
        assert session.tasks <= 3


async def test_a_signal_that_no_handler_has_noticed_ends_the_request_with_eintr(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It came with the answer to the first question of a handler: the second one is cancelled in nobody's scope."""
    async with serving() as session:
        operations, kernel, scopes = session.operations, session.kernel, list[trio.CancelScope]()
        lookup = operations.lookup

        async def look_up(parent: int, name: bytes, context: Any) -> Any:
            scopes.append(operations.task_scope)  # type: ignore[attr-defined]
            return await lookup(parent, name, context)

        monkeypatch.setattr(operations, "lookup", look_up)
        operations.hold(b"slow")
        slow = kernel.lookup(b"slow")
        await kernel.settle()
        scopes[0].cancel()
        await kernel.settle()
        assert kernel.answer(slow) == (errno.EINTR, b"")
        quick = kernel.lookup(b"quick")
        await kernel.settle()
        assert entry_number(kernel.answer(quick)) == 5


async def test_many_at_once() -> None:
    async with serving() as session:
        session.operations.hold(*range(50))
        asked = [session.kernel.read(number) for number in range(50)]
        await session.kernel.settle()
        assert session.operations.under_way == 50
        for number in reversed(range(50)):
            session.operations.release(number)
            await session.kernel.settle()
            assert session.kernel.answer(asked[number]) == (0, b"%d" % number)
        assert session.kernel.order[-50:] == asked[::-1]


async def test_the_task_that_got_idle_last_leads_next() -> None:
    async with serving() as session:
        operations, kernel = session.operations, session.kernel
        operations.hold("no such key", *range(6))
        for number in range(3):
            kernel.read(number)
        await kernel.settle()
        first, second, third = operations.tasks
        for number in (1, 0, 2):
            operations.release(number)
            await kernel.settle()
        operations.tasks.clear()
        for number in (3, 4, 5):
            kernel.read(number)
        await kernel.settle()
        leader, *others = operations.tasks
        assert leader not in (first, second, third)
        assert others == [third, first]
        for number in (3, 4, 5):
            operations.release(number)


async def test_tasks_without_a_request_are_few() -> None:
    async with serving() as session:
        session.operations.hold(*range(60))
        for number in range(60):
            session.kernel.read(number)
        await session.kernel.settle()
        assert session.tasks == 61
        session.operations.release(*range(60))
        await session.kernel.settle()
        assert session.tasks == SPARE_TASKS + 1


async def test_more_than_can_be_handled_at_a_time() -> None:
    """They wait in the kernel, and are read as soon as one is answered."""
    more = MAX_TASKS + 5
    async with serving() as session:
        operations, kernel = session.operations, session.kernel
        operations.hold(*range(more))
        asked = [kernel.read(number) for number in range(more)]
        await kernel.settle()
        assert operations.under_way == MAX_TASKS == len(operations.handled)
        for number in range(5):
            operations.release(number)
            await kernel.settle()
            assert len(operations.handled) == MAX_TASKS + 1 + number
        operations.release(*range(5, more))
        await kernel.settle()
        assert operations.most_under_way == MAX_TASKS
        assert [kernel.answer(unique) for unique in asked] == [(0, b"%d" % number) for number in range(more)]
        last = kernel.lookup(b"after")
        await kernel.settle()
        assert entry_number(kernel.answer(last)) == 5


async def test_who_waits_for_a_lock_does_not_count() -> None:
    more = MAX_TASKS + 5
    session = Session()
    with closing(session):
        operations, kernel = session.operations, session.kernel
        async with trio.open_nursery() as nursery:
            nursery.start_soon(session.run)
            kernel.init()
            operations.hold(*range(more))
            asked = [kernel.ask(Opcode.SETLKW, encode("fuse_lk_in", owner=number)) for number in range(more)]
            await kernel.settle()
            assert operations.under_way == more
            lookup = kernel.lookup(b"name")
            await kernel.settle()
            assert entry_number(kernel.answer(lookup)) == 4
            operations.release(7)
            await kernel.settle()
            assert kernel.answer(asked[7]) == (0, b"")
            kernel.end()
        # The rest does not keep the mount from ending.
        assert [kernel.answer(unique)[0] for unique in asked if unique != asked[7]] == [errno.ECONNABORTED] * (more - 1)


async def test_other_tasks_get_their_turn() -> None:
    async with serving() as session:
        seen = [0]

        async def look() -> None:
            while True:
                seen.append(len(session.operations.handled))
                await trio.lowlevel.checkpoint()

        asked = [session.kernel.lookup(b"name") for _ in range(10 * FAIRNESS)]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(look)
            while len(session.operations.handled) < len(asked):
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
        # In one pass of the scheduler the loop may come last, and in the next one first.
        assert FAIRNESS <= max(after - before for before, after in pairwise(seen)) <= 2 * FAIRNESS


async def test_data_of_a_write_is_not_the_next_requests() -> None:
    async with serving() as session:
        session.operations.hold(*range(3))
        for number in range(3):
            data = bytes([number]) * 5000
            session.kernel.ask(Opcode.WRITE, encode("fuse_write_in", fh=1, offset=number, size=5000) + data)
        await session.kernel.settle()
        session.operations.release(*range(3))
        await session.kernel.settle()
        assert sorted(session.operations.written) == [bytes([number]) * 5000 for number in range(3)]


# -- what has no answer, or another one --------------------------------------------------------------------------------


async def test_interrupts_and_what_is_forgotten_have_no_answer() -> None:
    async with serving() as session:
        kernel = session.kernel
        before = len(kernel.order)
        kernel.ask(Opcode.INTERRUPT, encode("fuse_interrupt_in", unique=42), nodeid=0)
        kernel.ask(Opcode.FORGET, encode("fuse_forget_in", nlookup=3), nodeid=9)
        nodes = b"".join(encode("fuse_forget_one", nodeid=number, nlookup=1) for number in (5, 6))
        kernel.ask(Opcode.BATCH_FORGET, encode("fuse_batch_forget_in", count=2) + nodes, nodeid=0)
        await kernel.settle()
        assert session.interrupted == [(42, 0)]
        assert session.operations.forgotten == [(9, 3), (5, 1), (6, 1)]
        assert len(kernel.order) == before


WAITS = {
    Opcode.READ: encode("fuse_read_in", fh=7, offset=5, size=100),
    Opcode.SETLKW: encode("fuse_lk_in", fh=7, owner=5, **{"lk.end": 9}),
}


@pytest.mark.parametrize("opcode", [opcode for opcode in WAITS if opcode in HANDLERS])
async def test_an_interrupt_right_behind_its_request_finds_that_under_way(opcode: Opcode) -> None:
    """The kernel has both ready if the signal came before the request was read, and says it once."""
    async with serving() as session:
        session.operations.hold(5)
        unique = session.kernel.ask(opcode, WAITS[opcode])
        session.kernel.ask(Opcode.INTERRUPT, encode("fuse_interrupt_in", unique=unique), nodeid=0)
        await session.kernel.settle()
        assert session.interrupted == [(unique, 1)]
        session.operations.release(5)


async def test_the_mounts_end_is_answered() -> None:
    async with serving() as session:
        unique = session.kernel.ask(Opcode.DESTROY)
        await session.kernel.settle()
        assert session.kernel.answer(unique) == (0, b"")


@pytest.mark.parametrize(
    ("opcode", "body", "code"),
    [
        (9999, b"", errno.ENOSYS),
        (int(Opcode.BMAP), bytes(16), errno.ENOSYS),
        (int(Opcode.LOOKUP), b"missing\0", errno.ENOENT),
        (int(Opcode.IOCTL), bytes(32), errno.ENOTTY),
    ],
)
async def test_errors(opcode: int, body: bytes, code: int) -> None:
    async with serving() as session:
        unique = session.kernel.ask(opcode, body)
        await session.kernel.settle()
        assert session.kernel.answer(unique) == (code, b"")


@pytest.mark.logs("can't be read", "failed in an unexpected way")
@pytest.mark.parametrize(
    ("opcode", "body"),
    [
        (Opcode.LOOKUP, b"no end"),
        (Opcode.READ, bytes(39)),
        (Opcode.WRITE, encode("fuse_write_in", size=11) + bytes(10)),
        (Opcode.WRITE, bytes(3)),
        (Opcode.LOOKUP, b"broken\0"),
    ],
)
async def test_what_can_not_be_read_or_handled_is_eio(opcode: Opcode, body: bytes) -> None:
    async with serving() as session:
        unique, after = session.kernel.ask(opcode, body), session.kernel.lookup(b"name")
        await session.kernel.settle()
        assert session.kernel.answer(unique) == (errno.EIO, b"")
        assert entry_number(session.kernel.answer(after)) == 4


@pytest.mark.logs("can't be read")
@pytest.mark.parametrize(
    "raw",
    [
        b"short",
        encode("fuse_in_header", len=41, opcode=1, unique=99),
        encode("fuse_in_header", len=40, opcode=int(Opcode.INTERRUPT), unique=99),
        encode("fuse_in_header", len=40, opcode=int(Opcode.FORGET), unique=99),
        encode("fuse_in_header", len=40, opcode=int(Opcode.BATCH_FORGET), unique=99),
    ],
)
async def test_what_can_not_be_read_at_all_is_left_alone(raw: bytes) -> None:
    async with serving() as session:
        session.kernel.send(raw)
        after = session.kernel.lookup(b"name")
        await session.kernel.settle()
        assert entry_number(session.kernel.answer(after)) == 4
        assert not session.kernel.has_answered(99)
        assert not session.operations.forgotten and not session.interrupted


async def test_with_allow_root_others_may_use_what_is_open() -> None:
    async with serving(only_user=1000) as session:
        kernel = session.kernel
        asked = [kernel.lookup(b"name", uid=uid) for uid in (0, 1000, 1001)]
        read = kernel.ask(Opcode.READ, encode("fuse_read_in", offset=5, size=10), uid=1001)
        await kernel.settle()
        assert [kernel.answer(unique)[0] for unique in (*asked, read)] == [0, 0, errno.EACCES, 0]


# -- the end -----------------------------------------------------------------------------------------------------------


async def test_the_end_waits_for_what_is_under_way() -> None:
    async with serving() as session:
        session.operations.hold(1, 2)
        asked = [session.kernel.read(number) for number in (1, 2)]
        await session.kernel.settle()
        session.kernel.end()
        await session.kernel.settle()
        assert not session.has_ended.is_set()
        session.operations.release(2)
        await session.kernel.settle()
        assert not session.has_ended.is_set()
        session.operations.release(1)
        await session.kernel.settle()
        assert session.has_ended.is_set()
        assert [session.kernel.answer(unique)[0] for unique in asked] == [0, 0]


async def stop_while_it_sleeps(session: Session) -> None:
    await session.kernel.settle()
    session.loop.stop()


async def stop_while_one_waits(session: Session) -> None:
    session.operations.hold(b"slow")
    slow = session.kernel.lookup(b"slow")
    await session.kernel.settle()
    session.loop.stop()
    unread = session.kernel.lookup(b"unread")
    await session.kernel.settle()
    assert not session.has_ended.is_set()
    session.operations.release(b"slow")
    await session.kernel.settle()
    assert entry_number(session.kernel.answer(slow)) == 4
    assert not session.kernel.has_answered(unread)


async def stop_with_idle_tasks(session: Session) -> None:
    session.operations.hold(*range(20))
    for number in range(20):
        session.kernel.read(number)
    await session.kernel.settle()
    session.operations.release(*range(20))
    await session.kernel.settle()
    assert session.tasks == SPARE_TASKS + 1
    session.loop.stop()
    session.loop.stop()


@pytest.mark.parametrize("scene", [stop_while_it_sleeps, stop_while_one_waits, stop_with_idle_tasks])
async def test_stop(scene: Callable[[Session], Awaitable[None]]) -> None:
    async with serving() as session:
        await scene(session)
        await session.kernel.settle()
        assert session.has_ended.is_set()


async def test_stop_while_a_request_is_polled_for() -> None:
    async with serving() as session:
        session.kernel.lookup(b"name")
        while not session.operations.handled:
            await trio.lowlevel.checkpoint()
        session.loop.stop()
        await session.kernel.settle()
        assert session.has_ended.is_set()


@pytest.mark.parametrize("steps", range(0, 40, 3))
async def test_cancellation_leaves_no_task_and_no_request_without_an_answer(steps: int) -> None:
    """At any time: while tasks wait, are idle, lead and are about to. Whoever has the device open besides, as it was
    handed in, would else wait for ever.
    """
    with closing(Session()) as session:
        operations, kernel = session.operations, session.kernel
        operations.hold(*range(100, 112))
        kernel.init()
        asked = {}
        for number in range(12):
            asked[number] = kernel.read(number)
            asked[100 + number] = kernel.read(100 + number)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(session.run)
            for step in range(steps):
                await trio.lowlevel.checkpoint()
                if 15 <= step < 27 and (100 + step - 15) in operations.held and (100 + step - 15) in operations.handled:
                    operations.release(100 + step - 15)
            nursery.cancel_scope.cancel()
        assert operations.under_way == 0
        assert session.tasks == 0
        kernel.collect()
        begun = {asked[number] for number in operations.handled if isinstance(number, int)}
        assert begun == kernel.replies.keys() - {2}, "the answer to FUSE_INIT is there, too"
        assert all(len(answers) == 1 for answers in kernel.replies.values())
        errors = {answers[0][0] for answers in kernel.replies.values()}
        assert errors <= {0, errno.ECONNABORTED}
