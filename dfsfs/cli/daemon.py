"""Going to the background, and not before the mount is there.

    parent                                   child (its own session)
      fork ------------------------------------> serve(on_ready)
      waits on a pipe, for a bounded time          ... connects, mounts ...
      <--- one line of JSON: [code, text] -------- on_ready: code 0, stdio to /dev/null; serves until unmounted
      exits with that code                         or a failure: its code and text; ends

End of file without a line means that the child died. If the parent gives up (timeout, SIGINT, SIGTERM, SIGHUP), it
ends the child with SIGTERM, and with SIGKILL if that takes too long; if the parent is gone when the child is ready, the
child ends itself. So there is a mount if, and only if, the parent has returned 0.

The child is forked before anything is running in this process that a fork would break: no threads, no event loop.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import select
import signal
import sys
import time
from typing import TYPE_CHECKING, NoReturn

from dfsfs.cli.messages import INTERRUPTED, MOUNT_FAILURE, SUCCESS, SYSTEM_ERROR, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

log = logging.getLogger("dfsfs.cli")

GRACE = 12.0
"""Seconds between SIGTERM and SIGKILL. A mount that is being taken down may take 10."""
_MAX_VERDICT = 64 * 1024
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run_in_background(
    serve: Callable[[Callable[[], None]], Verdict], *, timeout: float, grace: float = GRACE
) -> Verdict:
    """Runs `serve` in a child; returns as soon as that has called what it was given, or has failed.

    `serve` gets a function to call when it is ready, and returns a Verdict when it has ended. `timeout` in seconds.
    """
    reader, writer = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    with _signals_interrupt() as restore_signals:
        child = os.fork()
        if child == 0:
            restore_signals()
            os.close(reader)
            _live(serve, writer)
        os.close(writer)
        try:
            verdict = _receive(reader, time.monotonic() + timeout)
            if verdict is None:
                _end(child, grace)
                return Verdict(
                    MOUNT_FAILURE, f"given up after {timeout:g} seconds; see options timeout= and failover_timeout="
                )
            if verdict.code == SUCCESS and verdict.text == "":
                return verdict
            status = _end(child, grace, term=False)
            return verdict if verdict.text else Verdict(SYSTEM_ERROR, f"the background process {_fate(status)}")
        except KeyboardInterrupt:
            _end(child, grace)
            return Verdict(INTERRUPTED, "interrupted")
        finally:
            os.close(reader)


@contextlib.contextmanager
def _signals_interrupt() -> Iterator[Callable[[], None]]:
    """Signals that would end the parent raise KeyboardInterrupt instead, so that it can end the child first."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in _SIGNALS}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    try:
        yield restore
    finally:
        restore()


def _live(serve: Callable[[Callable[[], None]], Verdict], writer: int) -> NoReturn:
    """The child's life; its exit code only matters to a parent that still waits."""
    code = SYSTEM_ERROR
    try:
        os.setsid()
        os.chdir("/")
        os.umask(0o022)
        verdict = serve(lambda: _ready(writer))
        code = verdict.code
        with contextlib.suppress(OSError):  # after `_ready` nobody listens any more
            _send(writer, verdict)
    except BaseException:
        log.exception("the mount has ended by an unexpected error")
    finally:
        os._exit(code)


def _ready(writer: int) -> None:
    """Tells the parent that the mount is there, and lets go of its terminal."""
    try:
        _send(writer, Verdict(SUCCESS, ""))
    except OSError:
        # The parent has been killed: nobody knows of this mount, so there must be none.
        os.kill(os.getpid(), signal.SIGTERM)
        return
    os.close(writer)
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    if null > 2:
        os.close(null)


def _send(writer: int, verdict: Verdict) -> None:
    os.write(writer, json.dumps([verdict.code, verdict.text]).encode() + b"\n")


def _receive(reader: int, deadline: float) -> Verdict | None:
    """What the child says; an empty failure if it died without a word, None if the time is up."""
    text = b""
    while not text.endswith(b"\n") and len(text) < _MAX_VERDICT:
        if not select.select([reader], [], [], max(0.0, deadline - time.monotonic()))[0]:
            return None
        piece = os.read(reader, _MAX_VERDICT)
        if not piece:
            return Verdict(SYSTEM_ERROR, "")
        text += piece
    code, message = json.loads(text)
    return Verdict(int(code), str(message))


def _end(child: int, grace: float, *, term: bool = True) -> int:
    """Ends the child, waits for it and returns its wait status. Without `term` it is given time to end by itself."""
    if term:
        os.kill(child, signal.SIGTERM)
    deadline = time.monotonic() + grace
    while time.monotonic() < deadline:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return status
        time.sleep(0.02)
    os.kill(child, signal.SIGKILL)
    return os.waitpid(child, 0)[1]


def _fate(status: int) -> str:
    code = os.waitstatus_to_exitcode(status)
    return f"ended by itself with code {code}" if code >= 0 else f"was ended by {signal.Signals(-code).name}"
