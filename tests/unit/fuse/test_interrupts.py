"""Whose wait ends when a signal comes, and when that is found out."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from dfsfs.fuse import interrupts
from dfsfs.fuse.abi.requests import InHeader
from dfsfs.fuse.interrupts import (
    GONE_AFTER,
    LOCK_WAITS,
    PAGE_FAULT,
    PAUSE,
    SHARE,
    Interrupts,
    Signals,
    Wait,
    _is_reading,
    find_ended,
)
from dfsfs.fuse.requests import Request
from tests.kernel.mounts import wait_until

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

T = TypeVar("T")
LONG = 10.0
CALLS = ("lookup", "read", "write", "flush", "setlkw", "flockw", PAGE_FAULT)
ENDLESS = (*("CHLD", "CONT", "URG", "WINCH"), *("STOP", "TSTP", "TTIN", "TTOU"))
"""signal(7): ignored, or stopping a program, if it says nothing."""
SIGNALS = st.integers(0, 2**64 - 1)
calls = st.sampled_from(CALLS)
numbers = st.integers(1, 64)


def bit(number: int) -> int:
    return 1 << (number - 1)


def signals(
    *pending: int, blocked: Iterable[int] = (), ignored: Iterable[int] = (), caught: Iterable[int] = ()
) -> Signals:
    return Signals(*(sum({bit(number) for number in each}) for each in (pending, blocked, ignored, caught)))


# -- what ends a wait -------------------------------------------------------------------------------------------------


@given(calls, SIGNALS, SIGNALS)
def test_no_signal_ends_nothing(call: str, blocked: int, caught: int) -> None:
    assert not Signals(0, blocked, 0, caught).end_wait(call)


@given(calls, SIGNALS, SIGNALS)
def test_who_is_killed_waits_for_nothing(call: str, pending: int, blocked: int) -> None:
    """SIGKILL can't be ignored or caught; that it could be blocked, nobody believes."""
    assert Signals(pending | bit(signal.SIGKILL), blocked, 0, 0).end_wait(call)


@given(calls, SIGNALS, SIGNALS)
def test_what_is_blocked_or_ignored_ends_nothing(call: str, pending: int, caught: int) -> None:
    pending &= ~bit(signal.SIGKILL)
    assert not Signals(pending, pending, 0, caught).end_wait(call)
    assert not Signals(pending, 0, pending, caught & ~pending).end_wait(call)


@given(calls, numbers)
def test_a_signal_without_a_handler_ends_a_wait_if_it_ends_the_program(call: str, number: int) -> None:
    harmless = {signal.Signals[f"SIG{name}"] for name in ENDLESS}
    assert signals(number).end_wait(call) is (number not in harmless)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGSEGV, signal.SIGALRM, *range(34, 65)])
def test_what_ends_a_program(number: int) -> None:
    """Real-time signals, too."""
    assert all(signals(number).end_wait(call) for call in CALLS)


@given(calls, numbers)
def test_a_handled_signal_ends_waits_for_locks_and_sigint_all_but_page_faults(call: str, number: int) -> None:
    expected = call in LOCK_WAITS or (number == signal.SIGINT and call != PAGE_FAULT)
    if number != signal.SIGKILL:
        assert signals(number, caught=[number]).end_wait(call) is expected


@given(calls, SIGNALS, SIGNALS, SIGNALS, SIGNALS, numbers)
def test_one_more_signal_never_makes_a_program_wait(
    call: str, pending: int, blocked: int, ignored: int, caught: int, number: int
) -> None:
    before = Signals(pending, blocked, ignored, caught).end_wait(call)
    assert Signals(pending | bit(number), blocked, ignored, caught).end_wait(call) >= before


@given(SIGNALS, SIGNALS, SIGNALS, SIGNALS, SIGNALS)
def test_what_proc_says_is_read(own: int, shared: int, blocked: int, ignored: int, caught: int) -> None:
    values = {"SigPnd": own, "ShdPnd": shared, "SigBlk": blocked, "SigIgn": ignored, "SigCgt": caught}
    text = "Name:\tSigPnd: 1\nState:\tS (sleeping)\nSigQ:\t1/31175\n"
    text += "".join(f"{name}:\t{value:016x}\n" for name, value in values.items()) + "CapInh:\t0000000000000000\n"
    assert Signals.parse(text.encode()) == Signals(own | shared, blocked, ignored, caught)


@pytest.mark.parametrize("text", ["", "SigPnd:\t0\nShdPnd:\t0\nSigBlk:\t0\nSigIgn:\t0\n", "SigPnd:\tgreen\n", "SigPnd"])
def test_what_is_no_status_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"no signals|invalid literal"):
        Signals.parse(text.encode())


# -- real threads -----------------------------------------------------------------------------------------------------


def ended(*waits: Wait) -> list[Wait]:
    return find_ended(waits)[0]


def stopped_program(text: str, *words: str) -> subprocess.Popen[bytes]:
    """A program that has said `ready` and is stopped, so that signals stay pending."""
    process = subprocess.Popen(
        [sys.executable, "-c", f"import os, signal, sys; {text}", *words], stdout=subprocess.PIPE
    )
    assert process.stdout is not None and process.stdout.readline() == b"ready\n"
    stop(process)
    return process


def stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGSTOP)
    wait_until(lambda: b"T (stopped)" in Path(f"/proc/{process.pid}/status").read_bytes(), "it is stopped")


@pytest.mark.parametrize(
    ("text", "number", "expected"),
    [
        ("", signal.SIGTERM, True),
        ("", signal.SIGCHLD, False),
        ("signal.signal(signal.SIGINT, signal.SIG_IGN)", signal.SIGINT, False),
        ("signal.pthread_sigmask(signal.SIG_BLOCK, [15])", signal.SIGTERM, False),
        ("signal.signal(signal.SIGTERM, print)", signal.SIGTERM, False),
    ],
)
def test_the_signals_of_a_program(text: str, number: int, expected: bool) -> None:
    with stopped_program(f"{text}; print('ready', flush=True); signal.pause()".lstrip("; ")) as process:
        try:
            wait = Wait(process.pid, "lookup")
            assert ended(wait) == []
            process.send_signal(number)
            assert ended(wait) == [wait] * expected
        finally:
            process.kill()


@pytest.mark.parametrize("call", ["read", "write", "flush", "lookup"])
def test_a_program_that_handles_sigint_is_let_go_in_any_call_but_a_page_fault(call: str) -> None:
    """It sleeps in a call that reads nothing: so if it waits for a page, it is for a fault."""
    with stopped_program("print('ready', flush=True); signal.pause()") as process:
        try:
            process.send_signal(signal.SIGINT)
            wait = Wait(process.pid, call)
            assert ended(wait) == [wait] * (call != "read")
        finally:
            process.kill()


def test_a_program_that_reads_and_handles_sigint_is_let_go() -> None:
    pipe, end = os.pipe()
    words = [sys.executable, "-c", "import os; print('ready', flush=True); os.read(0, 1)"]
    with subprocess.Popen(words, stdin=pipe, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None and process.stdout.readline() == b"ready\n"
            wait_until(lambda: _is_reading(process.pid), "it reads")
            stop(process)
            wait = Wait(process.pid, "read")
            assert ended(wait) == []
            process.send_signal(signal.SIGINT)
            assert ended(wait) == [wait]
        finally:
            process.kill()
            os.close(pipe)
            os.close(end)


def test_a_thread_that_is_gone() -> None:
    """Its page may be one that it wanted for others, so it is read for a while; nothing else of it is waited for."""
    with subprocess.Popen(["true"]) as process:
        pass
    young, old = Wait(process.pid, "read"), Wait(process.pid, "read", is_old=True)
    others = [Wait(process.pid, call, is_old=True) for call in ("write", "lookup", "flush")]
    assert ended(young, old, *others) == [old]
    told = [Wait(process.pid, call, is_told=True) for call in ("read", "write", "setlkw")]
    assert ended(*told) == told


def test_who_can_not_be_seen_is_let_go_if_a_signal_has_come() -> None:
    assert ended(Wait(0, "lookup", is_told=True), Wait(0, "lookup")) == [Wait(0, "lookup", is_told=True)]


# -- when it is found out ---------------------------------------------------------------------------------------------


class AtOnce:
    """Threads for a clock that jumps: while there is nothing to do but to wait for a thread, it would."""

    takes = 0.0
    """Seconds for the work."""

    def __init__(self, each: int, total: int) -> None: ...

    async def run(self, uid: int, work: Callable[[], T], patience: float) -> T:
        await trio.sleep(self.takes)
        if uid == SLOW:
            await trio.sleep(patience)
            raise trio.TooSlowError
        return work()


SLOW = 66
"""A user whose threads are never free."""


class World:
    """Requests, and the threads that wait for them. `until[thread]`: when it stops waiting."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.under_way: dict[trio.CancelScope, Request] = {}
        self.watcher: trio.Event | None = None
        self.until: dict[int, float] = {}
        self.looks: list[Wait] = []
        self.seconds = 0.0
        """Of the processor's, for each look."""
        monkeypatch.setattr(interrupts, "Threads", AtOnce)
        monkeypatch.setattr(interrupts, "find_ended", self._find_ended)
        self.interrupts = Interrupts(self)

    def _find_ended(self, waits: list[Wait]) -> tuple[list[Wait], float]:
        self.looks += waits
        now = trio.current_time()
        return [wait for wait in waits if now >= self.until.get(wait.thread, LONG * 2)], self.seconds

    async def ended(
        self,
        thread: int,
        *,
        at: float | None = None,
        told: float | None = None,
        call: str = "lookup",
        user: int = 0,
        answer: float = LONG,
    ) -> float | None:
        """When the request of a thread is ended, which gets a signal `at` a time and of which the kernel speaks when it
        is `told`; None if it is answered, after `answer` seconds.
        """
        if at is not None:
            self.until[thread] = at
        scope, unique = trio.move_on_after(answer), 2 * thread
        self.under_way[scope] = Request(call, (), InHeader(40, 1, unique, 1, user, user, thread, 0, 0))
        if self.watcher is not None:
            self.watcher.set()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._tell, unique, told)
            with scope:
                await trio.sleep_forever()
            nursery.cancel_scope.cancel()
        return trio.current_time() if self.under_way.pop(scope, None) is None else None

    async def _tell(self, unique: int, told: float | None) -> None:
        if told is not None:
            await trio.sleep(told)
            self.interrupts.notice(unique)

    async def all_of(self, *work: Callable[[], Awaitable[float | None]], after: float = 0.0) -> list[float | None]:
        found: list[float | None] = [None] * len(work)

        async def one(index: int) -> None:
            found[index] = await work[index]()

        async with trio.open_nursery() as watch:
            watch.start_soon(self.interrupts.serve)
            await trio.sleep(after)
            async with trio.open_nursery() as nursery:
                for index in range(len(work)):
                    nursery.start_soon(one, index)
            watch.cancel_scope.cancel()
        assert self.watcher is None
        return found


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock) -> World:
    return World(monkeypatch)


async def test_what_the_kernel_says_is_acted_on_at_once(world: World) -> None:
    assert await world.all_of(lambda: world.ended(7, at=0.32, told=0.32)) == [pytest.approx(0.32)]
    assert world.looks[-1] == Wait(7, "lookup", is_told=True)


async def test_a_request_that_goes_on_is_looked_at_again(world: World) -> None:
    """A timer, and then Ctrl-C, of which the kernel does not speak."""
    (end,) = await world.all_of(lambda: world.ended(7, told=0.3, at=2.0))
    assert end is not None and 2.0 <= end <= 2.0 + 2 * PAUSE
    assert world.looks.count(Wait(7, "lookup", is_told=True)) == 1
    assert 30 <= len(world.looks) <= 2.1 / PAUSE + 2


async def test_what_the_kernel_does_not_say_is_found(world: World) -> None:
    """Pages, and what is closed by who exits."""
    ends = await world.all_of(
        *(partial(world.ended, thread, at=1.0, call=call) for thread, call in enumerate(CALLS, 1))
    )
    assert all(end is not None and 1.0 <= end <= 1.0 + 2 * PAUSE for end in ends)


async def test_what_nobody_waits_for_is_left_alone(world: World) -> None:
    """The kernel's own writes, those of maps, and the release of what is closed."""
    work = [partial(world.ended, 0, at=0.0, call="write")]
    work += [partial(world.ended, 7, at=0.0, call=call) for call in ("release", "releasedir")]
    assert await world.all_of(*work) == [None] * 3
    assert not world.looks


async def test_what_is_answered_soon_costs_no_look(world: World) -> None:
    async def short() -> None:
        for _ in range(100):
            await world.ended(7, answer=0.9 * PAUSE)

    assert await world.all_of(short) == [None]
    assert not world.looks


async def test_what_is_answered_meanwhile_is_not_ended(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a thread looks."""
    monkeypatch.setattr(AtOnce, "takes", 0.02)
    work = (lambda: world.ended(7, at=0.31, answer=0.315)), (lambda: world.ended(8, answer=0.4))
    assert await world.all_of(*work) == [None, None]
    assert world.looks.count(Wait(7, "lookup")) == 6, "the last one has found it"
    assert not world.under_way
    world.interrupts.notice(4711)  # of what is answered already
    assert await world.all_of(lambda: world.ended(8, answer=0.3)) == [None]


async def test_a_request_is_ended_at_its_deadline(world: World) -> None:
    """Not one that runs in the same scope after it."""
    first, second = (Request("lookup", (), None, 2.0) for _ in range(2))
    scope = trio.CancelScope()
    async with trio.open_nursery() as watch:
        watch.start_soon(world.interrupts.serve)
        world.under_way[scope] = first
        await trio.sleep(1.9)
        world.under_way[scope] = second
        with scope:
            await trio.sleep(LONG)
        assert 3.9 <= trio.current_time() <= 3.9 + 3 * PAUSE
        assert world.under_way.pop(scope) is second, "it has timed out, and nobody has given it up"
        watch.cancel_scope.cancel()


async def test_a_sleeper_is_woken_by_the_first_request(world: World) -> None:
    (end,) = await world.all_of(lambda: world.ended(7, at=500.0), after=500.0)
    assert end is not None and end <= 500.0 + 3 * PAUSE
    assert len(world.looks) <= 3


async def test_many_reads_of_one_thread_are_one_look(world: World) -> None:
    ends = await world.all_of(*(partial(world.ended, 7, at=0.9, call="read") for _ in range(64)))
    assert None not in ends
    assert len(world.looks) <= 1.0 / PAUSE + 1


async def test_a_read_gets_old(world: World) -> None:
    await world.all_of(lambda: world.ended(7, call="read", answer=2 * GONE_AFTER))
    young = [wait for wait in world.looks if not wait.is_old]
    assert len(young) == pytest.approx(GONE_AFTER / PAUSE, abs=2) and len(world.looks) > len(young)


async def test_a_user_whose_threads_are_stuck_is_waited_for_but_keeps_no_signal_from_others_for_long(
    world: World,
) -> None:
    stuck, other = await world.all_of(
        lambda: world.ended(7, at=0.0, user=SLOW), lambda: world.ended(8, at=3.0, told=3.0, user=1000)
    )
    assert stuck is None
    assert other is not None and other <= 3.0 + interrupts.PATIENCE + 2 * PAUSE


async def test_looking_takes_a_small_share_of_the_processor(world: World) -> None:
    world.seconds = 0.02
    assert await world.all_of(lambda: world.ended(7)) == [None]
    assert len(world.looks) == pytest.approx(LONG / (SHARE * world.seconds), abs=2)


async def test_two_hundred_signals_at_once(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    threads = range(1, 201)
    begun = time.process_time()
    ends = await world.all_of(*(partial(world.ended, thread, at=1.0, told=1.0) for thread in threads))
    with capsys.disabled():
        print(f"\n200 signals: {time.process_time() - begun:.3f} s", end="")
    assert all(end == pytest.approx(1.0) for end in ends)
    told = [wait for wait in world.looks if wait.is_told]
    assert len(told) <= 2 * 200, "each is looked at once, and not again for each of the others"
