"""Where log messages go: to stderr in front, to syslog in the background, to nowhere where there is no syslog."""

from __future__ import annotations

import logging
import logging.handlers
import os
import sys

SYSLOG = "/dev/log"


def log_to_stderr(*, level: int) -> None:
    """For a mount in front, and in the background for the time until it is ready."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    _use(handler, level)


def log_to_syslog(*, level: int, address: str = SYSLOG) -> None:
    """For a mount in the background."""
    handler: logging.Handler = logging.NullHandler()
    try:
        handler = logging.handlers.SysLogHandler(address, logging.handlers.SysLogHandler.LOG_DAEMON)
        handler.setFormatter(logging.Formatter(f"mount.dfsfs[{os.getpid()}]: %(message)s"))
    except OSError:
        pass  # no syslog here, as in most containers
    _use(handler, level)


def _use(handler: logging.Handler, level: int) -> None:
    logger = logging.getLogger("dfsfs")
    logger.setLevel(level)
    logger.propagate = False
    logger.addHandler(handler)
    # What goes wrong in writing a log must not fill stderr with tracebacks.
    logging.raiseExceptions = False
