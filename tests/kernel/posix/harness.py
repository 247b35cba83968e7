"""What a case is: a small program in an empty folder, whose outcome on a mount has to be that on a local file system.

They ask what third-party suites of POSIX conformance ask: each call, each errno that it can have, and what has to be
true afterwards. A case returns whatever can be compared; an OSError counts by its errno.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat as posix
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Case = Callable[[Path], Any]

CASES: dict[tuple[str, str], Case] = {}
"""By call and by what is asked."""

LONG = "x" * 255
TOO_LONG = "x" * 256
NO_PLACE = "nothing/below"
NOBODY = 65534


def case(call: str, about: str) -> Callable[[Case], Case]:
    def add(function: Case) -> Case:
        assert (call, about) not in CASES
        CASES[call, about] = function
        return function

    return add


def outcome(action: Callable[[], Any]) -> Any:
    """What an action returns, or the name of its errno."""
    try:
        return action()
    except OSError as error:
        return errno.errorcode[error.errno or 0]


def make(top: Path, *names: str) -> None:
    """Makes files, and folders of names that end with a slash."""
    for name in names:
        (top / name).mkdir(parents=True) if name.endswith("/") else (top / name).write_text(name)


def shown(path: Path, *, follow: bool = False) -> tuple[int, ...]:
    stat = path.stat() if follow else path.lstat()
    kind = posix.S_IFMT(stat.st_mode)
    return (kind,) if kind == posix.S_IFDIR else (kind, stat.st_size, stat.st_nlink)


def as_nobody(action: Callable[[], Any]) -> Any:
    """The outcome of an action for a user without rights, in a process of its own."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        with contextlib.suppress(BaseException):
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
            os.write(writer, repr(outcome(action)).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as result:
        text = result.read()
    os.waitpid(child, 0)
    return text


def path_errors(call: str, act: Callable[[Path], Any], *, last: bool = True) -> None:
    """The errors that every call has that takes a path. `act` gets it; `last`: a missing last component is one."""

    def add(about: str, prepare: Callable[[Path], Path]) -> None:
        CASES[call, about] = lambda top: outcome(lambda: act(prepare(top)))

    def below_file(top: Path) -> Path:
        make(top, "file")
        return top / "file" / "x"

    def through_loop(top: Path) -> Path:
        (top / "loop").symlink_to("loop")
        return top / "loop" / "x"

    if last:
        add("ENOENT: no such name", lambda top: top / "nothing")
    add("ENOENT: no such folder", lambda top: top / NO_PLACE)
    add("ENOTDIR: a file on the way", below_file)
    add("ELOOP: a loop of links on the way", through_loop)
    add("ENAMETOOLONG: a component", lambda top: top / TOO_LONG)
    add("ENAMETOOLONG: a component on the way", lambda top: top / TOO_LONG / "x")
    add("ENAMETOOLONG: the path", lambda top: top / "/".join(["x"] * 3000))


def denied(call: str, act: Callable[[Path], Any], *names: str) -> None:
    """What somebody without rights gets."""

    def run(top: Path) -> Any:
        make(top, "folder/", *names)
        return as_nobody(lambda: act(top))

    CASES[call, "EACCES or EPERM: no right"] = run
