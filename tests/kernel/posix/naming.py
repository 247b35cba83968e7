"""Cases of the calls that make, rename and remove names."""

from __future__ import annotations

import os
import stat as posix
from functools import partial
from typing import TYPE_CHECKING, Any

from tests.kernel.posix.harness import LONG, case, denied, make, outcome, path_errors, shown

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# -- rename -----------------------------------------------------------------------------------------------------------

path_errors("rename", lambda path: os.rename(path, path.with_name("new")))
path_errors("rename to", lambda path: _renamed_to(path), last=False)
denied("rename", lambda top: os.rename(top / "folder" / "a", top / "folder" / "b"), "folder/a/")


def _renamed_to(path: Path) -> None:
    source = next(parent for parent in path.parents if parent.name.startswith("case-")) / "source"
    source.touch()
    os.rename(source, path)


_OVER = ("file", "other", "empty/", "empty-too/", "full/", "full-too/", "link")

for _old in ("file", "empty/", "full/", "link", "nothing"):
    for _new in (*_OVER, "link-to-folder", "new", "new/"):

        @case("rename", f"{_old} to {_new}")
        def _(top: Path, old: str = _old, new: str = _new) -> Any:
            make(top, "file", "other", "empty/", "empty-too/", "full/", "full/x", "full-too/", "full-too/x")
            (top / "link").symlink_to("file")
            (top / "link-to-folder").symlink_to("empty")
            result = outcome(lambda: os.rename(f"{top}/{old}", f"{top}/{new}"))
            return result, {name: shown(top / name) for name in sorted(os.listdir(top))}


@case("rename", "EINVAL: a folder below itself")
def _(top: Path) -> Any:
    make(top, "a/b/")
    return outcome(lambda: os.rename(top / "a", top / "a" / "b" / "c"))


@case("rename", "EINVAL or EBUSY: of . and ..")
def _(top: Path) -> Any:
    make(top, "a/b/")
    return [outcome(partial(os.rename, f"{top}/a/{dots}", top / "c")) for dots in (".", "..")]


@case("rename", "of two names of one file, both stay")
def _(top: Path) -> Any:
    make(top, "a")
    os.link(top / "a", top / "b")
    os.rename(top / "a", top / "b")
    return sorted(os.listdir(top))


@case("rename", "over a file that is open: its data can still be read")
def _(top: Path) -> Any:
    make(top, "old", "new")
    with (top / "new").open() as file:
        os.rename(top / "old", top / "new")
        return file.read(), os.fstat(file.fileno()).st_nlink, (top / "new").read_text(), os.listdir(top)


@case("rename", "of an open file: the handle goes with it")
def _(top: Path) -> Any:
    make(top, "old")
    with (top / "old").open("r+") as file:
        os.rename(top / "old", top / "new")
        file.write("NEW")
        file.flush()
        return (top / "new").read_text(), os.listdir(top)


@case("rename", "of a folder with open files in it")
def _(top: Path) -> Any:
    make(top, "old/deep/", "old/deep/file")
    with (top / "old" / "deep" / "file").open("r+") as file:
        os.rename(top / "old", top / "new")
        file.write("NEW")
        file.flush()
        return (top / "new" / "deep" / "file").read_text()


# -- unlink and rmdir -------------------------------------------------------------------------------------------------

path_errors("unlink", lambda path: os.unlink(path))
path_errors("rmdir", lambda path: os.rmdir(path))
denied("unlink", lambda top: os.unlink(top / "folder" / "file"), "folder/file")
denied("rmdir", lambda top: os.rmdir(top / "folder" / "sub"), "folder/sub/")

for _call, _function in (("unlink", os.unlink), ("rmdir", os.rmdir)):
    for _what in (
        "file",
        "empty/",
        "full/",
        "link",
        "link-to-folder",
        "link-to-folder/",
        "empty/.",
        "empty/..",
        "file/",
    ):

        @case(_call, f"of {_what}")
        def _(top: Path, function: Callable[..., None] = _function, what: str = _what) -> Any:
            make(top, "file", "empty/", "full/", "full/x")
            (top / "link").symlink_to("file")
            (top / "link-to-folder").symlink_to("empty")
            return outcome(lambda: function(f"{top}/{what}")), sorted(os.listdir(top))


@case("unlink", "of an open file: its data stays until the last close")
def _(top: Path) -> Any:
    make(top, "file")
    with (top / "file").open("r+") as file:
        os.unlink(top / "file")
        file.write("FILE")
        file.flush()
        file.seek(0)
        return file.read(), os.fstat(file.fileno()).st_nlink, os.listdir(top)


@case("unlink", "of an open file, whose name is given to another one")
def _(top: Path) -> Any:
    make(top, "file")
    with (top / "file").open() as file:
        os.unlink(top / "file")
        (top / "file").write_text("another")
        return file.read(), (top / "file").read_text(), os.listdir(top)


@case("unlink", "of one of two names")
def _(top: Path) -> Any:
    make(top, "a")
    os.link(top / "a", top / "b")
    os.unlink(top / "a")
    return shown(top / "b"), (top / "b").read_text()


@case("rmdir", "of a folder that a process is in")
def _(top: Path) -> Any:
    make(top, "a/")
    folder = os.open(top / "a", os.O_RDONLY)
    os.rmdir(top / "a")
    result = os.listdir(folder), outcome(lambda: os.mkdir("x", dir_fd=folder))
    os.close(folder)
    return result


# -- mkdir, mknod, symlink, link --------------------------------------------------------------------------------------

path_errors("mkdir", lambda path: os.mkdir(path), last=False)
path_errors("mkfifo", lambda path: os.mkfifo(path), last=False)
path_errors("symlink", lambda path: os.symlink("target", path), last=False)
path_errors("link", lambda path: os.link(path, path.with_name("new")))
path_errors("link to", lambda path: _linked_to(path), last=False)
denied("mkdir", lambda top: os.mkdir(top / "folder" / "new"))
denied("symlink", lambda top: os.symlink("x", top / "folder" / "new"))
denied("link", lambda top: os.link(top / "file", top / "folder" / "new"), "file")


def _linked_to(path: Path) -> None:
    source = next(parent for parent in path.parents if parent.name.startswith("case-")) / "source"
    source.touch()
    os.link(source, path)


for _call, _act in {
    "mkdir": lambda path: os.mkdir(path),
    "symlink": lambda path: os.symlink("x", path),
    "mkfifo": lambda path: os.mkfifo(path),
    "mknod of a file": lambda path: os.mknod(path, posix.S_IFREG | 0o644),
}.items():
    for _what in ("file", "folder", "folder/", "link", "dangling", "new", "new/", LONG):

        @case(_call, f"{_what[:20]}")
        def _(top: Path, act: Callable[[str], None] = _act, what: str = _what) -> Any:
            make(top, "file", "folder/")
            (top / "link").symlink_to("file")
            (top / "dangling").symlink_to("nothing")
            result = outcome(lambda: act(f"{top}/{what}"))
            return result, {name: shown(top / name) for name in sorted(os.listdir(top))}


for _what in ("file", "folder", "link", "dangling"):
    for _new in ("file", "folder", "new", "link"):

        @case("link", f"{_what} to {_new}")
        def _(top: Path, old: str = _what, new: str = _new) -> Any:
            make(top, "file", "folder/")
            (top / "link").symlink_to("file")
            (top / "dangling").symlink_to("nothing")
            result = outcome(lambda: os.link(top / old, top / new, follow_symlinks=False))
            return result, {name: shown(top / name) for name in sorted(os.listdir(top))}


@case("mkdir", "the new folder is empty and has . and ..")
def _(top: Path) -> Any:
    make(top, "a/")
    same = os.stat(top / "a" / "..").st_ino == os.stat(top).st_ino
    return os.listdir(top / "a"), same, os.stat(top / "a" / ".").st_ino == os.stat(top / "a").st_ino


@case("symlink", "targets of all kinds are kept")
def _(top: Path) -> Any:
    targets = ["a", "/a", "../a", "./a", "a//b", "a/", ".", "..", "ü", "a b", "\\", "x" * 1000]
    for index, target in enumerate(targets):
        os.symlink(target, top / str(index))
    return [os.readlink(top / str(index)) for index in range(len(targets))]


@case("symlink", "ENOENT: an empty target")
def _(top: Path) -> Any:
    return outcome(lambda: os.symlink("", top / "link"))


@case("readlink", "EINVAL: of what is no link")
def _(top: Path) -> Any:
    make(top, "file", "folder/")
    return [outcome(partial(os.readlink, top / name)) for name in ("file", "folder")]


path_errors("readlink", lambda path: os.readlink(path))
