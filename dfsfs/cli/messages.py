"""How a command ends: exit codes, and one line for each failure, with what went wrong and what to do about it.

Pure. What the errors of dfsfs mean is in errormessages.py; here is what else may go wrong, and which exit code that is.
The errors and their statuses are imported when there is one: most commands ask no server.
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dfsfs.cli.exitcodes import MOUNT_FAILURE, SYSTEM_ERROR, USAGE
from dfsfs.config.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from dfsfs.config.model import MountConfig
    from dfsfs.errors import DfsfsError


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a command ends: its exit code and, if it failed, the reason in one line."""

    code: int
    text: str = ""


class MountError(Exception):
    """A mount that can't be; found out by the command itself."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.verdict = Verdict(code, text)


_REFUSALS: Mapping[int, tuple[int, str]] = {
    errno.EPERM: (USAGE, "only root, and users who may run fusermount3, can mount"),
    errno.EACCES: (USAGE, "only root, and users who may run fusermount3, can mount"),
    errno.ENOTDIR: (MOUNT_FAILURE, "mount the folder that it is in"),
    errno.ENODEV: (SYSTEM_ERROR, "load the kernel module: modprobe fuse"),
    errno.ENOENT: (SYSTEM_ERROR, "load the kernel module: modprobe fuse"),
}


def describe_error(error: DfsfsError, config: MountConfig) -> str:
    """See errormessages.explained."""
    from dfsfs import errormessages

    return errormessages.describe_error(error, config)


def describe(error: BaseException, config: MountConfig) -> Verdict:
    """The exit code and the line for an exception that ended a mount before it was ready."""
    from dfsfs.errors import DfsfsError

    leaf = _choose_most_telling(error)
    if isinstance(leaf, MountError):
        return leaf.verdict
    if isinstance(leaf, ConfigError):
        return Verdict(USAGE, str(leaf))
    if isinstance(leaf, DfsfsError):
        return _describe_own(leaf, config)
    if isinstance(leaf, OSError):
        code = USAGE if isinstance(leaf, PermissionError) else SYSTEM_ERROR
        name = f"{leaf.filename}: " if leaf.filename else ""
        return Verdict(code, f"{name}{leaf.strerror or leaf}")
    return Verdict(SYSTEM_ERROR, f"dfsfs failed in a way that it should not ({type(leaf).__name__}: {leaf})")


def _describe_own(error: DfsfsError, config: MountConfig) -> Verdict:
    from dfsfs.errors import PosixError

    text = describe_error(error, config)
    if type(error) is PosixError:
        code, advice = _REFUSALS.get(error.errno, (MOUNT_FAILURE, ""))
        return Verdict(code, f"{text}; {advice}" if advice else text)
    return Verdict(MOUNT_FAILURE, text)


def _choose_most_telling(error: BaseException) -> BaseException:
    """The exception of a group that says most: an error of dfsfs, then one of the system, then whatever is first."""
    from dfsfs.errors import DfsfsError

    leaves = list(_leaves(error))
    for kind in (MountError, ConfigError, DfsfsError, OSError):
        for leaf in leaves:
            if isinstance(leaf, kind):
                return leaf
    return leaves[0]


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error


def cannot_read(what: str, error: OSError) -> MountError:
    """For a file that a user has named."""
    return MountError(USAGE, f"{what} can't be read: {error.strerror or os.strerror(error.errno or errno.EIO)}")
