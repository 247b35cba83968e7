"""What leaves a handler."""

from __future__ import annotations

import errno
import logging

import pytest
import trio
import trio.testing
from pyfuse3 import FUSEError

from dfsfs.errors import PosixError, SmbError
from dfsfs.firstfew import FirstFew
from dfsfs.fuse import boundary
from dfsfs.fuse.boundary import release_handler, request_handler
from dfsfs.fuse.requests import Request
from dfsfs.meters import Meters
from dfsfs.ntstatus import NtStatus

pytestmark = pytest.mark.logs("was given up after")


class Handlers:
    deadline = 30.0

    def __init__(self) -> None:
        self.meters = Meters()
        self.under_way: dict[trio.CancelScope, Request] = {}
        self.watcher: trio.Event | None = None
        self.task_scope: trio.CancelScope | None = None

    @request_handler
    async def rename(self, error: BaseException | None, value: int = 0) -> int:
        if error is not None:
            raise error
        return value

    @request_handler
    async def read(self) -> None:
        await trio.sleep_forever()

    @request_handler
    async def write(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            await trio.sleep_forever()

    @release_handler
    async def release(self, error: BaseException | None) -> None:
        if error is not None:
            raise error


async def test_a_result_passes() -> None:
    assert await Handlers().rename(None, value=7) == 7
    await Handlers().release(None)


@pytest.mark.parametrize(
    ("error", "code", "logged"),
    [
        (FUSEError(errno.ENOSYS), errno.ENOSYS, False),
        (PosixError(errno.EXDEV, "x"), errno.EXDEV, False),
        (SmbError(NtStatus.ACCESS_DENIED, "x"), errno.EACCES, False),
        (KeyError("x"), errno.EIO, True),
        (ExceptionGroup("x", [ValueError("x")]), errno.EIO, True),
    ],
)
async def test_every_error_is_an_errno(
    error: Exception, code: int, logged: bool, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(FUSEError) as caught:
        await Handlers().rename(error)
    assert caught.value.errno == code
    assert bool(caplog.records) is logged
    await Handlers().release(error)


async def test_requests_are_measured(autojump_clock: trio.testing.MockClock) -> None:
    handlers = Handlers()
    await handlers.rename(None)
    with pytest.raises(FUSEError):
        await handlers.rename(PosixError(errno.EXDEV, "x"))
    with pytest.raises(FUSEError):
        await handlers.read()
    done, hung = handlers.meters.get_latencies("rename"), handlers.meters.get_latencies("read")
    assert (done.count, done.failures, hung.count, hung.failures) == (2, 1, 1, 1)
    assert handlers.meters.errors == {"EXDEV": 1, "ETIMEDOUT": 1}


async def test_a_status_that_nobody_knows_is_named_once(caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(3):
        with pytest.raises(FUSEError) as caught:
            await Handlers().rename(SmbError(0xC0FFEE01, "open of //fs1/data/x"))
        assert caught.value.errno == errno.EIO
    (record,) = caplog.records
    assert "0xc0ffee01" in record.getMessage() and "//fs1/data/x" in record.getMessage()


async def test_a_handler_ends_at_its_deadline(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    started = trio.current_time()
    with pytest.raises(FUSEError) as caught:
        await Handlers().read()
    assert caught.value.errno == errno.ETIMEDOUT
    assert trio.current_time() - started == Handlers.deadline
    assert "read was given up" in caplog.text


async def test_the_end_of_the_mount_passes(autojump_clock: trio.testing.MockClock) -> None:
    with trio.move_on_after(1) as scope:
        await Handlers().read()
    assert scope.cancelled_caught


async def test_what_is_no_exception_passes(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR), pytest.raises(KeyboardInterrupt):
        await Handlers().rename(KeyboardInterrupt())
    assert not caplog.records


async def test_a_server_can_not_fill_the_log_with_statuses_that_nobody_knows(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(boundary, "_unknown", FirstFew(boundary.UNKNOWN_MAX))
    for number in range(3 * boundary.UNKNOWN_MAX):
        for _ in range(2):
            with pytest.raises(FUSEError):
                await Handlers().rename(SmbError(0xC7770000 + number, "x"))
    assert caplog.text.count("does not know") == boundary.UNKNOWN_MAX


async def test_what_nobody_waits_for_any_more_ends_when_it_is_taken_out(autojump_clock: trio.testing.MockClock) -> None:
    handlers = Handlers()
    ended: list[int] = []

    async def read() -> None:
        with pytest.raises(FUSEError) as caught:
            await handlers.read()
        ended.append(caught.value.errno)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        nursery.start_soon(read)
        await trio.testing.wait_all_tasks_blocked()
        assert list(handlers.under_way.values()) == [Request("read", (), None, 30.0)] * 2
        scope, _ = handlers.under_way.popitem()
        scope.cancel()
        await trio.testing.wait_all_tasks_blocked()
        assert ended == [errno.EINTR]
    assert ended == [errno.EINTR, errno.ETIMEDOUT]
    assert not handlers.under_way
    await handlers.rename(None)
    assert not handlers.under_way


# -- in the scope of the task -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", ["read", "write"])
@pytest.mark.parametrize(("is_taken_out", "code"), [(True, errno.EINTR), (False, errno.ETIMEDOUT)])
async def test_a_handler_ends_with_the_scope_of_its_task(call: str, is_taken_out: bool, code: int) -> None:
    handlers = Handlers()
    async with trio.open_nursery() as nursery:
        with trio.CancelScope() as scope:
            handlers.task_scope = scope

            async def end() -> None:
                await trio.testing.wait_all_tasks_blocked()
                if is_taken_out:
                    del handlers.under_way[scope]
                scope.cancel()

            nursery.start_soon(end)
            with pytest.raises(FUSEError) as caught:
                await getattr(handlers, call)()
            assert caught.value.errno == code
            assert not handlers.under_way and not handlers.task_scope
    assert not scope.cancelled_caught


async def test_only_one_handler_takes_the_scope_of_the_task() -> None:
    handlers = Handlers()
    with trio.CancelScope() as scope:
        handlers.task_scope = scope
        await handlers.rename(None)
        with trio.move_on_after(0.0) as outer:
            await handlers.read()
        assert outer.cancelled_caught
        assert not scope.cancel_called


async def test_the_end_of_the_mount_passes_through_the_scope_of_the_task() -> None:
    handlers = Handlers()
    with trio.move_on_after(0.01) as outer:
        with trio.CancelScope() as scope:
            handlers.task_scope = scope
            await handlers.read()
    assert outer.cancelled_caught
    assert not scope.cancelled_caught
    assert not handlers.under_way
