"""Going to the background, and not before the mount is there.

    parent                                   child (its own session)
      fork ------------------------------------> serve(on_ready)
      waits on a pipe, for a bounded time          ... connects, mounts ...
      <--- a line of JSON: [code, text] ---------- on_ready: stdio to /dev/null; code 0; serves until unmounted
      returns that                                 or a failure: its code and text; ends

End of file without a line means that the child died. If the parent gives up (timeout, SIGINT, SIGTERM, SIGHUP), it ends
the child with SIGTERM, and with SIGKILL if that takes too long; if the parent is gone when the child is ready, the
child ends itself. So a mount stays if, and only if, the parent has returned success.

The child is forked before anything is running in this process that a fork would break: no threads, no event loop.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import select
import signal
import time
from typing import TYPE_CHECKING, NoReturn

from dfsfs.cli.exitcodes import INTERRUPTED, MOUNT_FAILURE, SUCCESS, SYSTEM_ERROR
from dfsfs.cli.messages import Verdict
from dfsfs.cli.output import flush

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Serve = Callable[[Callable[[], None]], Verdict]
    """Gets a function to call as soon as it is ready, and returns when it has ended."""

log = logging.getLogger("dfsfs.cli")

GRACE = 12.0
"""Seconds between SIGTERM and SIGKILL. Taking a busy mount down may need 10."""
_POLL = 0.02
"""Seconds between two looks at a child that is to end."""
_MAX_LINE = 64 * 1024
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run_in_background(serve: Serve, *, timeout: float, grace: float = GRACE) -> Verdict:
    """Runs `serve` in a child process; returns as soon as that is ready or has failed. Times in seconds."""
    reader, writer = os.pipe()
    # What is left in these buffers would come out twice.
    flush()
    with _interrupt_on_signals():
        # Until the `try` below: Python drops what a handler raises in callbacks of a fork (the locks of logging).
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        child = os.fork()
        if child == 0:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            os.close(reader)
            _live(serve, writer)
        try:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            os.close(writer)
            verdict = _receive(reader, time.monotonic() + timeout)
            if verdict == Verdict(SUCCESS):
                return verdict
            status = _wait(child, grace)
            return verdict or Verdict(SYSTEM_ERROR, f"the background process {_fate(status)}")
        except TimeoutError:
            _end(child, grace)
            hint = "options timeout= and failover_timeout= say how long servers may take"
            return Verdict(MOUNT_FAILURE, f"given up after {timeout:g} seconds; {hint}")
        except KeyboardInterrupt:
            _end(child, grace)
            return Verdict(INTERRUPTED, "interrupted")
        finally:
            os.close(reader)


# -- the parent -------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _interrupt_on_signals() -> Iterator[None]:
    """All signals that ask a program to end raise KeyboardInterrupt, so that the child can be ended first."""
    before = {number: signal.signal(number, signal.default_int_handler) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _receive(reader: int, deadline: float) -> Verdict | None:
    """The child's line; None if it ended without one.

    Raises:
        TimeoutError: it has said nothing until `deadline` (of the monotonic clock).
    """
    line = b""
    poll = select.poll()
    poll.register(reader, select.POLLIN)
    while not line.endswith(b"\n"):
        if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            raise TimeoutError
        data = os.read(reader, _MAX_LINE)
        if not data:
            return None
        line += data
    code, text = json.loads(line)
    return Verdict(code, text)


def _end(child: int, grace: float) -> None:
    """Ends a child that may be in the middle of mounting."""
    os.kill(child, signal.SIGTERM)
    _wait(child, grace)


def _wait(child: int, grace: float) -> int:
    """Waits for a child that is about to end, and kills it if that takes too long. Its status, as of waitpid(2)."""
    deadline = time.monotonic() + grace
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return status
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
            return os.waitpid(child, 0)[1]
        time.sleep(_POLL)


def _fate(status: int) -> str:
    code = os.waitstatus_to_exitcode(status)
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code} and gave no reason"


# -- the child --------------------------------------------------------------------------------------------------------


def _live(serve: Serve, writer: int) -> NoReturn:
    """All that the child does. Nothing of the parent's program may run after it, so it ends in _exit."""
    code = SYSTEM_ERROR
    try:
        code = _serve(serve, writer)
    except BaseException:
        log.exception("the background process failed")
    finally:
        with contextlib.suppress(Exception):
            logging.shutdown()
        os._exit(code)


def _serve(serve: Serve, writer: int) -> int:
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    os.setsid()
    os.chdir("/")
    os.umask(0o022)
    _close_all_but(writer)
    _to_null(0)
    announced = False

    def on_ready() -> None:
        nonlocal announced
        announced = True
        _to_null(1, 2)
        try:
            _send(writer, Verdict(SUCCESS))
        except OSError:
            log.warning("the program that asked for the mount has ended, so it is taken down")
            os.kill(os.getpid(), signal.SIGTERM)

    verdict = serve(on_ready)
    if not announced:
        if verdict.code == SUCCESS:
            verdict = Verdict(MOUNT_FAILURE, "ended before the mount was ready")
        _send(writer, verdict)
    elif verdict.text:
        log.error("%s", verdict.text)
    return verdict.code


def _send(writer: int, verdict: Verdict) -> None:
    os.write(writer, json.dumps([verdict.code, verdict.text[: _MAX_LINE // 8]]).encode() + b"\n")
    os.close(writer)


def _to_null(*descriptors: int) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in descriptors:
        os.dup2(null, descriptor)
    if null not in descriptors:
        os.close(null)


def _close_all_but(kept: int) -> None:
    """Closes what was inherited: a daemon must not hold on to the locks, pipes and sockets of the program that started
    it.
    """
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2 and int(name) != kept:
            with contextlib.suppress(OSError):  # the listing's own descriptor is gone by now
                os.close(int(name))
