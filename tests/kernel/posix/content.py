"""Cases of the calls on the content and the attributes of files, and on folders."""

from __future__ import annotations

import os
import stat as posix
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from tests.kernel.posix.harness import NOBODY, as_nobody, case, denied, make, outcome, path_errors, shown

if TYPE_CHECKING:
    from pathlib import Path

# -- truncate ---------------------------------------------------------------------------------------------------------

path_errors("truncate", lambda path: os.truncate(path, 0))
denied("truncate", lambda top: os.truncate(top / "file", 0), "file")

for _size in (0, 3, 4, 100, 5000, 2**20 + 1):

    @case("truncate", f"to {_size} bytes")
    def _(top: Path, size: int = _size) -> Any:
        make(top, "file")
        os.truncate(top / "file", size)
        return (top / "file").read_bytes(), shown(top / "file")


@case("truncate", "EISDIR: a folder")
def _(top: Path) -> Any:
    make(top, "folder/")
    return outcome(lambda: os.truncate(top / "folder", 0))


@case("truncate", "EINVAL: a negative size")
def _(top: Path) -> Any:
    make(top, "file")
    return outcome(lambda: os.truncate(top / "file", -1))


@case("truncate", "what is cut off does not come back")
def _(top: Path) -> Any:
    (top / "file").write_bytes(b"x" * 10_000)
    os.truncate(top / "file", 100)
    os.truncate(top / "file", 10_000)
    return (top / "file").read_bytes()


@case("truncate", "of an open file")
def _(top: Path) -> Any:
    make(top, "file")
    with (top / "file").open("r+b", buffering=0) as file:
        os.truncate(top / "file", 2)
        file.seek(8)
        file.write(b"x")
        return (top / "file").read_bytes(), os.fstat(file.fileno()).st_size


@case("ftruncate", "up and down")
def _(top: Path) -> Any:
    with (top / "file").open("w+b", buffering=0) as file:
        file.write(b"0123456789")
        os.ftruncate(file.fileno(), 5)
        os.ftruncate(file.fileno(), 8)
        return os.pread(file.fileno(), 100, 0)


# -- times ------------------------------------------------------------------------------------------------------------

path_errors("utimensat", lambda path: os.utime(path, (1, 1)))
denied("utimensat", lambda top: os.utime(top / "file", (1, 1)), "file")

for _what in ("file", "folder"):

    @case("utimensat", f"times of a {_what} to 100 ns")
    def _(top: Path, what: str = _what) -> Any:
        make(top, "file", "folder/")
        found = []
        for moment in (0, 100, 10**9 + 123_456_700, 2**31 * 10**9, 4 * 10**18):
            os.utime(top / what, ns=(moment, moment + 100))
            found.append(os.stat(top / what).st_mtime_ns)
        return found


@case("utimensat", "times that are no multiple of 100 ns")
def _(top: Path) -> Any:
    make(top, "file")
    os.utime(top / "file", ns=(10**9 + 123_456_789, 10**9 + 123_456_789))
    return os.stat(top / "file").st_mtime_ns


@case("utimensat", "of a symbolic link itself")
def _(top: Path) -> Any:
    make(top, "file")
    (top / "link").symlink_to("file")
    os.utime(top / "link", (5, 5), follow_symlinks=False)
    return (top / "link").lstat().st_mtime, (top / "file").stat().st_mtime > 5


@case("utimensat", "the present")
def _(top: Path) -> Any:
    make(top, "file")
    os.utime(top / "file", (1, 1))
    os.utime(top / "file")
    return abs((top / "file").stat().st_mtime - time.time()) < 60


@case("times", "a write, a new name and a removal change the times that they should")
def _(top: Path) -> Any:
    make(top, "folder/", "folder/a")
    changed = []
    for action in (
        lambda: (top / "folder" / "b").touch(),
        lambda: (top / "folder" / "b").unlink(),
        lambda: (top / "folder" / "sub").mkdir(),
        lambda: (top / "folder" / "sub").rmdir(),
        lambda: (top / "folder" / "a").rename(top / "folder" / "c"),
    ):
        os.utime(top / "folder", (1, 1))
        action()
        changed.append(os.stat(top / "folder").st_mtime > 1)
    os.utime(top / "folder" / "c", (1, 1))
    (top / "folder" / "c").write_text("x")
    return changed, os.stat(top / "folder" / "c").st_mtime > 1


# -- chmod, chown, access ---------------------------------------------------------------------------------------------

path_errors("chmod", lambda path: os.chmod(path, 0o755))
path_errors("chown", lambda path: os.chown(path, 0, 0))
denied("chmod", lambda top: os.chmod(top / "file", 0o777), "file")
denied("chown", lambda top: os.chown(top / "file", NOBODY, NOBODY), "file")


@case("chmod", "the owner's write bit of a file")
def _(top: Path) -> Any:
    make(top, "file")
    found = []
    for mode in (0o444, 0o644, 0o555, 0o755):
        os.chmod(top / "file", mode)
        found.append(bool(os.stat(top / "file").st_mode & posix.S_IWUSR))
    return found


@case("chmod", "every bit of a file")
def _(top: Path) -> Any:
    make(top, "file")
    os.chmod(top / "file", 0o640)
    return posix.S_IMODE(os.stat(top / "file").st_mode)


@case("chown", "another owner")
def _(top: Path) -> Any:
    make(top, "file")
    os.chown(top / "file", 1, 1)
    return os.stat(top / "file").st_uid


@case("access", "of somebody without rights")
def _(top: Path) -> Any:
    make(top, "file")
    os.chmod(top, 0o755)
    return as_nobody(lambda: [os.access(top / "file", mode) for mode in (os.R_OK, os.W_OK)])


# -- reading and writing ----------------------------------------------------------------------------------------------


@case("write", "beyond the end leaves a hole of zeros")
def _(top: Path) -> Any:
    with (top / "file").open("w+b", buffering=0) as file:
        os.pwrite(file.fileno(), b"x", 100_000)
        return os.pread(file.fileno(), 200_000, 0)


@case("write", "EFBIG or EINVAL: at the largest offset")
def _(top: Path) -> Any:
    with (top / "file").open("w+b", buffering=0) as file:
        return outcome(lambda: os.pwrite(file.fileno(), b"x", 2**63 - 1))


@case("read", "EISDIR: a folder")
def _(top: Path) -> Any:
    folder = os.open(top, os.O_RDONLY)
    result = outcome(lambda: os.read(folder, 10))
    os.close(folder)
    return result


@case("fallocate", "space in advance")
def _(top: Path) -> Any:
    with (top / "file").open("w+b", buffering=0) as file:
        return outcome(lambda: os.posix_fallocate(file.fileno(), 0, 10_000)), os.fstat(file.fileno()).st_size


@case("lseek", "SEEK_DATA and SEEK_HOLE")
def _(top: Path) -> Any:
    with (top / "file").open("w+b", buffering=0) as file:
        os.pwrite(file.fileno(), b"x", 1_000_000)
        return [os.lseek(file.fileno(), 0, how) for how in (os.SEEK_DATA, os.SEEK_HOLE)]


@case("copy_file_range", "in one file system")
def _(top: Path) -> Any:
    make(top, "a")
    with (top / "a").open("rb") as source, (top / "b").open("wb") as target:
        count = os.copy_file_range(source.fileno(), target.fileno(), 10)
    return count, (top / "b").read_text()


@case("fsync", "of files and folders")
def _(top: Path) -> Any:
    make(top, "file")
    results = []
    for path in (top / "file", top):
        file = os.open(path, os.O_RDONLY)
        results.append((outcome(partial(os.fsync, file)), outcome(partial(os.fdatasync, file))))
        os.close(file)
    return results


# -- folders ----------------------------------------------------------------------------------------------------------

path_errors("opendir", lambda path: os.listdir(path))


@case("readdir", "a name that was made after opendir is seen after rewinddir")
def _(top: Path) -> Any:
    make(top, "a")
    folder = os.open(top, os.O_RDONLY)
    before = os.listdir(folder)
    make(top, "b")
    after = sorted(os.listdir(folder))  # rewinds
    os.close(folder)
    return before, after


@case("readdir", "removal while listing leaves nothing")
def _(top: Path) -> Any:
    for index in range(500):
        (top / f"file-{index}").touch()
    with os.scandir(top) as entries:
        for entry in entries:
            os.unlink(entry.path)
    return os.listdir(top)


@case("stat", "what a folder, a file and a link are")
def _(top: Path) -> Any:
    make(top, "file", "folder/")
    (top / "link").symlink_to("file")
    by_listing = {entry.name: entry.is_dir(follow_symlinks=False) for entry in os.scandir(top)}
    return [shown(top / name) for name in ("file", "folder", "link")], sorted(by_listing.items())


path_errors("stat", lambda path: os.stat(path))
path_errors("statvfs", lambda path: os.statvfs(path))
