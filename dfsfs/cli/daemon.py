"""Going to the background, and not before the mount is there.

    parent                                   child (its own session)
      fork ------------------------------------> serve(on_ready)
      waits on a pipe, for a bounded time          ... connects, mounts ...
      <--- one line of JSON: [code, text] -------- on_ready: code 0, stdio to /dev/null; serves until unmounted
      exits with that code                         or a failure: its code and text; ends

End of file without a line means that the child died. If the parent gives up (timeout, SIGINT, SIGTERM, SIGHUP), it ends
the child with SIGTERM, and with SIGKILL if that takes too long; if the parent is gone when the child is ready, the child
ends itself. So there is a mount if, and only if, the parent has returned 0.

The child is forked before anything is running in this process that a fork would break: no threads, no event loop.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from typing import TYPE_CHECKING

from dfsfs.cli.messages import INTERRUPTED, MOUNT_FAILURE, SUCCESS, SYSTEM_ERROR, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

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
