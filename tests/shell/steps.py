"""The operations as steps of the POSIX model: see model.py."""

from __future__ import annotations

import errno
import os
import stat as posix
from typing import TYPE_CHECKING, Any

from tests.shell.model import File, Model, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    Steps = Generator[None, None, Any]


def _stat(model: Model, number: int) -> tuple[Any, ...]:
    file = model.files[number]
    size = len(file.data) if file.kind != posix.S_IFDIR else 0
    return (shown(number), file.kind, size, file.links if file.kind != posix.S_IFDIR else 2)


def stat_steps(path: str) -> Callable[[Model], Steps]:
    def steps(model: Model) -> Steps:
        number = model.find(path)
        yield
        return _stat(model, number)

    return steps


def fstat_steps(fd: str) -> Callable[[Model], Steps]:
    def steps(model: Model) -> Steps:
        yield
        return _stat(model, model.open[fd][0])

    return steps


def open_steps(path: str, flags: int, fd: str) -> Callable[[Model], Steps]:
    def steps(model: Model) -> Steps:
        _folder, _name = model.parent(path)
        if flags & os.O_CREAT and not model.has(path):
            number = model.add(path, File(posix.S_IFREG))
        else:
            if flags & os.O_CREAT and flags & os.O_EXCL:
                raise OSError(errno.EEXIST, path)
            number = model.find(path)
            kind = model.files[number].kind
            if kind == posix.S_IFLNK or (kind == posix.S_IFDIR and flags & os.O_ACCMODE):
                raise OSError(errno.ELOOP if kind == posix.S_IFLNK else errno.EISDIR, path)
            yield
            if flags & os.O_TRUNC:
                model.files[number].data = b""
        model.open[fd] = (number, bool(flags & os.O_APPEND))
        return "opened"

    return steps


def write_steps(fd: str, data: bytes, offset: int | None) -> Callable[[Model], Steps]:
    def steps(model: Model) -> Steps:
        yield
        number, appends = model.open[fd]
        file = model.files[number]
        at = len(file.data) if appends or offset is None else offset
        file.data = file.data[:at].ljust(at, b"\0") + data + file.data[at + len(data) :]
        return len(data)

    return steps


def read_steps(fd: str) -> Callable[[Model], Steps]:
    def steps(model: Model) -> Steps:
        yield
        return model.files[model.open[fd][0]].data

    return steps


def truncate_steps(size: int, *, fd: str = "", path: str = "") -> Callable[[Model], Steps]:
    def steps(model: Model) -> Steps:
        number = model.open[fd][0] if fd else model.find(path)
        yield
        file = model.files[number]
        file.data = file.data[:size].ljust(size, b"\0")
        return None

    return steps


def zero_steps(fd: str, offset: int, length: int) -> Callable[[Model], Steps]:
    """A hole is punched, or a range zeroed, inside of a file."""

    def steps(model: Model) -> Steps:
        yield
        file = model.files[model.open[fd][0]]
        size = len(file.data)
        zeroed = file.data[:offset].ljust(offset, b"\0") + bytes(length) + file.data[offset + length :]
        file.data = zeroed[:size]
        return None

    return steps


def allocate_steps(fd: str, end: int) -> Callable[[Model], Steps]:
    def steps(model: Model) -> Steps:
        yield
        file = model.files[model.open[fd][0]]
        file.data = file.data.ljust(end, b"\0")
        return None

    return steps


def copy_steps(fd_in: str, fd_out: str, offset_out: int, length: int) -> Callable[[Model], Steps]:
    """From the beginning of a file."""

    def steps(model: Model) -> Steps:
        yield
        data, file = model.files[model.open[fd_in][0]].data[:length], model.files[model.open[fd_out][0]]
        file.data = file.data[:offset_out].ljust(offset_out, b"\0") + data + file.data[offset_out + len(data) :]
        return len(data)

    return steps


def hole_steps(fd: str) -> Callable[[Model], Steps]:
    """The first hole of a file that is smaller than a cluster is its end; an empty one has no first byte."""

    def steps(model: Model) -> Steps:
        yield
        size = len(model.files[model.open[fd][0]].data)
        if not size:
            raise OSError(errno.ENXIO, fd)
        return size

    return steps


def nothing_steps(path: str = "") -> Callable[[Model], Steps]:
    """An operation that changes nothing that the model has."""

    def steps(model: Model) -> Steps:
        model.find(path)
        yield
        return None

    return steps


def close_steps(fd: str) -> Callable[[Model], Steps]:
    def steps(model: Model) -> Steps:
        yield
        if fd not in model.open:
            raise OSError(errno.EBADF, fd)
        del model.open[fd]
        return None

    return steps


def unlink_steps(path: str, *, folder: bool = False) -> Callable[[Model], Steps]:
    def steps(model: Model) -> Steps:
        yield
        file = model.files[model.find(path)]
        if (file.entries is not None) != folder:
            raise OSError(errno.ENOTDIR if folder else errno.EISDIR, path)
        if file.entries:
            raise OSError(errno.ENOTEMPTY, path)
        model.drop(path)
        return None

    return steps


def rename_steps(old: str, new: str, *, replaces: bool = True) -> Callable[[Model], Steps]:
    def steps(model: Model) -> Steps:
        yield
        number = model.find(old)
        if model.has(new):
            if not replaces:
                raise OSError(errno.EEXIST, new)
            victim = model.find(new)
            if victim == number:
                return None
            is_folder, inside = model.files[number].entries is not None, model.files[victim].entries
            if is_folder != (inside is not None):
                raise OSError(errno.ENOTDIR if is_folder else errno.EISDIR, new)
            if inside:
                raise OSError(errno.ENOTEMPTY, new)
            model.drop(new)
        folder, name = model.parent(old)
        del model.entries(folder)[name]
        parent, name = model.parent(new)
        model.entries(parent)[name] = number
        return None

    return steps


def make_steps(path: str, file: Callable[[], File]) -> Callable[[Model], Steps]:
    def steps(model: Model) -> Steps:
        yield
        if model.has(path):
            raise OSError(errno.EEXIST, path)
        model.add(path, file())
        return None

    return steps


def link_steps(path: str, new: str) -> Callable[[Model], Steps]:
    def steps(model: Model) -> Steps:
        number = model.find(path)
        yield
        if model.has(new):
            raise OSError(errno.EEXIST, new)
        if not model.files[number].links:
            raise OSError(errno.ENOENT, path)
        parent, name = model.parent(new)
        model.entries(parent)[name] = number
        model.files[number].links += 1
        return None

    return steps


def list_steps(path: str) -> Callable[[Model], Steps]:
    def steps(model: Model) -> Steps:
        number = model.find(path)
        yield
        return {name: shown(found) for name, found in model.entries(number).items()}

    return steps
