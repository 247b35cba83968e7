"""What both ways of `dfsfs cp` have in common: the file that a copy is in until it is complete, and how far it is."""

from __future__ import annotations

import errno
import hashlib
import os
import signal
import stat as posix
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dfsfs.cli.output import is_watched
from dfsfs.control.places import is_ours

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Report = Callable[[int], None]
    """Called with the bytes that are copied so far."""

STEP = 16 * 1024 * 1024
"""Bytes that are copied at once: as many as a server takes in one request."""
SHOWN_FROM = 64 * 1024 * 1024
"""Bytes of a file from which on a terminal sees how far its copy is."""
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that ask a program to end."""


class CopyError(Exception):
    """A file could not be copied; the text names it."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line asks for."""

    resume: bool = False
    preserve: bool = False
    quiet: bool = False


def part_name(name: str, version: str) -> str:
    """What a copy is called while it is not complete: the same for the same version of a source, so that it can go on.
    `version` is whatever tells one version from another.
    """
    return (
        f".{name[:200]}.{hashlib.blake2b(version.encode('utf-8', 'surrogateescape'), digest_size=6).hexdigest()}.part"
    )


def place_to_go_on(there: int, size: int) -> int:
    """Where to go on with a part of `there` bytes of a file of `size`. What was last written may not have arrived
    whole. A part that is longer than its source is nothing of it.
    """
    return 0 if there > size else max(0, there - STEP) // STEP * STEP


def open_part(part: Path, size: int, *, resume: bool) -> tuple[int, int]:
    """A descriptor of a file to gather a copy of `size` bytes in, and the place to go on at; 0 in a new one.

    Raises:
        CopyError: what is there may be another user's.
        OSError: as open(2) says it.
    """
    left = _open_left(part) if resume else None
    if left is None:
        return make_part(part), 0
    begin = place_to_go_on(os.fstat(left).st_size, size)
    if begin == 0:
        os.ftruncate(left, 0)
    return left, begin


def make_part(part: Path) -> int:
    """A descriptor of a new file to write to. Its name can be guessed, so what is there may be a link of another
    user: it is removed, and never written to. Raises OSError.
    """
    with suppress(FileNotFoundError):
        os.unlink(part)
    return os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)


def refusal(part: object) -> CopyError:
    """For what is at a part's name and is none of ours."""
    return CopyError(f"{part} is not what an interrupted copy leaves; remove it, or copy without --continue")


def _open_left(part: Path) -> int | None:
    """A descriptor of what an interrupted copy has left; None if there is nothing.

    Raises:
        CopyError: it may be another user's.
        OSError: as open(2) says it.
    """
    try:
        # Or else a pipe would wait for its other end.
        found = os.open(part, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise refusal(part) from None
        raise
    about = os.fstat(found)
    # On a mount of ours st_uid is what its options say, and the server alone knows whose a file is.
    owned = about.st_uid == os.geteuid() or is_ours(about.st_dev)
    if not posix.S_ISREG(about.st_mode) or about.st_nlink != 1 or not owned:
        os.close(found)
        raise refusal(part)
    return found


@contextmanager
def show_progress(name: str, size: int, options: Options) -> Iterator[Report]:
    """Shows how far the copy of a file is, on a terminal and from SHOWN_FROM on. Gives the function to report to."""
    if options.quiet or size < SHOWN_FROM or not is_watched():
        yield lambda done: None
        return
    from dfsfs.cli.progress import of_bytes  # takes long to import, and only a terminal needs it

    with of_bytes(name, size) as report:
        yield report


def signals_to_heed() -> list[signal.Signals]:
    """The signals that end this program: not those that it was started to ignore, as by nohup(1)."""
    return [number for number in ENDING if signal.getsignal(number) is not signal.SIG_IGN]


@contextmanager
def interrupt_on_signals() -> Iterator[None]:
    """All signals that ask a program to end raise KeyboardInterrupt, so that it can say what it leaves."""
    before = {number: signal.signal(number, signal.default_int_handler) for number in signals_to_heed()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
