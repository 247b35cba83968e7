"""Cases of open(2)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from tests.kernel.posix.harness import case, denied, make, outcome, path_errors, shown

if TYPE_CHECKING:
    from pathlib import Path

# -- open -------------------------------------------------------------------------------------------------------------


def _open(path: Path, flags: int, mode: int = 0o644) -> str:
    file = os.open(path, flags, mode)
    os.close(file)
    return "opened"


path_errors("open", lambda path: _open(path, os.O_RDONLY))
path_errors("open with O_CREAT", lambda path: _open(path, os.O_RDWR | os.O_CREAT), last=False)
denied("open", lambda top: _open(top / "file", os.O_WRONLY), "file")
denied("open with O_CREAT", lambda top: _open(top / "folder" / "new", os.O_WRONLY | os.O_CREAT))

for _name, _flags in {
    "O_RDONLY": os.O_RDONLY,
    "O_WRONLY": os.O_WRONLY,
    "O_RDWR": os.O_RDWR,
    "O_CREAT": os.O_RDWR | os.O_CREAT,
    "O_CREAT of O_RDONLY": os.O_CREAT,
    "O_EXCL": os.O_RDWR | os.O_CREAT | os.O_EXCL,
    "O_TRUNC": os.O_RDWR | os.O_TRUNC,
    "O_TRUNC of O_RDONLY": os.O_RDONLY | os.O_TRUNC,
    "O_CREAT and O_TRUNC": os.O_WRONLY | os.O_CREAT | os.O_TRUNC,
    "O_APPEND": os.O_WRONLY | os.O_APPEND,
    "O_SYNC": os.O_WRONLY | os.O_SYNC,
    "O_DSYNC": os.O_WRONLY | os.O_DSYNC,
    "O_DIRECTORY": os.O_RDONLY | os.O_DIRECTORY,
    "O_DIRECTORY and O_CREAT": os.O_RDONLY | os.O_DIRECTORY | os.O_CREAT,
    "O_NOFOLLOW": os.O_RDONLY | os.O_NOFOLLOW,
    "O_PATH": os.O_PATH,
    "O_NOATIME": os.O_RDONLY | os.O_NOATIME,
    "O_TMPFILE": os.O_RDWR | os.O_TMPFILE,
}.items():
    for _what in ("file", "folder/", "link", "dangling", "link-to-folder", "new"):

        @case("open", f"{_name} of {_what}")
        def _(top: Path, flags: int = _flags, what: str = _what) -> Any:
            make(top, "file", "folder/")
            (top / "link").symlink_to("file")
            (top / "dangling").symlink_to("made")
            (top / "link-to-folder").symlink_to("folder")
            result = outcome(lambda: _open(top / what, flags))
            return result, sorted(os.listdir(top)), shown(top / "file")


@case("open", "O_APPEND writes at the end, wherever the position is")
def _(top: Path) -> Any:
    make(top, "file")
    file = os.open(top / "file", os.O_RDWR | os.O_APPEND)
    os.lseek(file, 0, os.SEEK_SET)
    os.write(file, b"more")
    os.pwrite(file, b"even more", 1)
    os.close(file)
    return (top / "file").read_text()


@case("open", "two handles have positions of their own, and see each other's writes")
def _(top: Path) -> Any:
    make(top, "file")
    one, two = os.open(top / "file", os.O_RDWR), os.open(top / "file", os.O_RDWR)
    os.write(one, b"FI")
    result = os.read(two, 3), os.read(one, 10), os.fstat(two).st_size
    os.close(one)
    os.close(two)
    return result


@case("open", "a handle that only reads can't write, and the other way round")
def _(top: Path) -> Any:
    make(top, "file")
    reader, writer = os.open(top / "file", os.O_RDONLY), os.open(top / "file", os.O_WRONLY)
    result = (
        outcome(lambda: os.write(reader, b"x")),
        outcome(lambda: os.read(writer, 1)),
        outcome(lambda: os.ftruncate(reader, 0)),
    )
    os.close(reader)
    os.close(writer)
    return result
