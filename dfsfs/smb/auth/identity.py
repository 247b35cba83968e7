"""Acting as another user of this machine, for one thread and a short time: to read what only that user may.

Linux keeps the ids of a process per thread; only the C library makes all threads change them together. So the system
calls are made here directly. While a thread acts as somebody, its effective user, group and groups are theirs, and the
kernel treats its files, its keys and its sockets (KCM asks for them) accordingly. Its real user stays root: who has a
thread's real user id may send signals to its process.

A thread that can't be itself again is used by whoever comes next, as somebody else. So the process ends then.
"""

from __future__ import annotations

import ctypes
import errno
import logging
import os
import platform
import resource
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

_CALLS = {"x86_64": (117, 119, 116), "aarch64": (147, 149, 159), "riscv64": (147, 149, 159), "s390x": (208, 210, 206)}
"""setresuid, setresgid and setgroups by machine."""
_UNCHANGED = ctypes.c_uint32(-1)
NOBODY_HAS = 0x7FFFFFF0
"""A user id that nobody has."""

_PR_SET_DUMPABLE = 4

log = logging.getLogger("dfsfs.smb")

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Account:
    """A user of this machine."""

    uid: int
    gid: int


@contextmanager
def as_user(account: Account | None) -> Iterator[None]:
    """Lets this thread act as `account` for the length of the block; None, or who we are anyway: changes nothing.

    Raises:
        PermissionError: this process is not root.
        OSError: ENOSYS, the machine is of a kind for which the numbers of the system calls are not known here.
    """
    if account is None or account.uid == os.geteuid():
        yield
        return
    with _itself_again():
        _become(account.uid, account.gid, [account.gid])
        yield


@contextmanager
def really_as(uid: int) -> Iterator[None]:
    """Lets this thread have `uid` as its real and effective user, for a number that nobody has: see above.

    Raises:
        OSError: as for `as_user`.
    """
    with _itself_again():
        _set_user(uid, uid)
        yield


@contextmanager
def _itself_again() -> Iterator[None]:
    """Gives this thread the ids back that it has now, however far it comes in becoming somebody else."""
    before = _ids()
    try:
        yield
    finally:
        if _ids() != before:
            _restore(before)


_Ids = tuple[tuple[int, int, int], tuple[int, int, int], list[int]]
"""Users and groups of a thread, each real, effective and saved, and its other groups."""


def _ids() -> _Ids:
    return os.getresuid(), os.getresgid(), os.getgroups()


def _restore(before: _Ids) -> None:
    """Ends the process if that can't be done: see the module's text."""
    (real, user, _), (_, group, _), groups = before
    try:
        _set_user(real, user)
        _become(user, group, groups)
    except OSError as error:
        log.critical("a thread that acted as user %d can't be itself again (%s): dfsfs ends", os.geteuid(), error)
        os._exit(os.EX_SOFTWARE)


def forbid_core_dumps() -> None:
    """From now on this process leaves no image of its memory behind: there are passwords and keys in it.

    Of root's processes not even where images go to a program (core(5)), which a limit of 0 does not stop. That is not
    for those of others: their files in /proc would be root's from then on (PR_SET_DUMPABLE in prctl(2)), also for who
    owns them.
    """
    global _undumpable
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    _undumpable = os.geteuid() == 0
    _stay_undumpable()


def _stay_undumpable() -> None:
    """The kernel makes of PR_SET_DUMPABLE what fs.suid_dumpable says whenever a thread's ids change."""
    if _undumpable:
        _libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


_undumpable = False


def _numbers() -> tuple[int, int, int]:
    calls = _CALLS.get(platform.machine())
    if calls is None:
        raise OSError(errno.ENOSYS, f"acting as another user is not known for {platform.machine()}")
    return calls


def _call(number: int, *arguments: Any) -> None:
    if _libc.syscall(ctypes.c_long(number), *arguments) != 0:
        failure = ctypes.get_errno()
        raise OSError(failure, f"acting as another user: {os.strerror(failure)}")


def _set_user(real: int, effective: int) -> None:
    try:
        setresuid, _, _ = _numbers()
        _call(setresuid, ctypes.c_uint32(real), ctypes.c_uint32(effective), _UNCHANGED)
    finally:
        _stay_undumpable()


def _become(uid: int, gid: int, groups: list[int]) -> None:
    """The user last on the way down and first on the way up: only root may change groups."""
    setresuid, setresgid, setgroups = _numbers()
    array = (ctypes.c_uint32 * len(groups))(*groups)
    steps: list[tuple[int, tuple[Any, ...]]] = [
        (setgroups, (ctypes.c_size_t(len(groups)), array)),
        (setresgid, (_UNCHANGED, ctypes.c_uint32(gid), _UNCHANGED)),
    ]
    user: tuple[int, tuple[Any, ...]] = (setresuid, (_UNCHANGED, ctypes.c_uint32(uid), _UNCHANGED))
    try:
        for number, arguments in [*steps, user] if uid != 0 else [user, *steps]:
            _call(number, *arguments)
    finally:
        _stay_undumpable()
