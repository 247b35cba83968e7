"""Runs one thread as another user of this machine for a short time: to read what only that user may.

Linux keeps the ids of a process per thread; only the C library makes all threads change them together. So the system
calls are made here directly. Within `as_user` the thread has the effective user, group and groups of the user, and the
kernel checks access to files, keys and sockets (KCM looks at them) accordingly. Its real user stays root, since the
real user of a thread may send signals to its process.

If the ids of a thread can't be restored, the thread would be used for others as the wrong user. So the process ends.
"""

from __future__ import annotations

import ctypes
import errno
import logging
import os
import resource
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

_SYSCALLS = {
    "x86_64": (117, 119, 116),
    "aarch64": (147, 149, 159),
    "riscv64": (147, 149, 159),
    "s390x": (208, 210, 206),
}
"""The numbers of the system calls setresuid, setresgid and setgroups by machine."""
_UNCHANGED = ctypes.c_uint32(-1)
UNUSED_UID = 0x7FFFFFF0
"""A user id that no account has."""

_PR_SET_DUMPABLE = 4
"""An operation of prctl(2)."""

log = logging.getLogger("dfsfs.smb")

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Account:
    """A user of this machine."""

    uid: int
    gid: int


@contextmanager
def as_user(account: Account | None) -> Iterator[None]:
    """Runs the block as `account` in this thread. None, or the user of this process: changes nothing.

    Raises:
        PermissionError: this process is not root.
        OSError: ENOSYS, the machine is of a kind for which the numbers of the system calls are not known here.
    """
    if account is None or account.uid == os.geteuid():
        yield
        return
    with _restoring_ids():
        _set_thread_ids(account.uid, account.gid, [account.gid])
        yield


@contextmanager
def as_real_user(uid: int) -> Iterator[None]:
    """Runs the block with `uid` as real and effective user of this thread. Only for UNUSED_UID: see the module's text.

    Raises:
        OSError: as for `as_user`.
    """
    with _restoring_ids():
        _set_user(uid, uid)
        yield


@contextmanager
def _restoring_ids() -> Iterator[None]:
    """Restores the thread's present ids at the end of the block, also after a partial change."""
    before = _ids()
    try:
        yield
    finally:
        if _ids() != before:
            _restore(before)


_Ids = tuple[tuple[int, int, int], tuple[int, int, int], list[int]]
"""Users and groups of a thread, each real, effective and saved, and its supplementary groups."""


def _ids() -> _Ids:
    return os.getresuid(), os.getresgid(), os.getgroups()


def _restore(before: _Ids) -> None:
    """Restores the thread's ids; ends the process if that fails, see the module's text."""
    (real, user, _), (_, group, _), groups = before
    try:
        _set_user(real, user)
        _set_thread_ids(user, group, groups)
    except OSError as error:
        log.critical("a thread that acted as user %d can't be itself again (%s): dfsfs ends", os.geteuid(), error)
        os._exit(os.EX_SOFTWARE)


def forbid_core_dumps() -> None:
    """Forbids core dumps of this process, whose memory has passwords and keys.

    Of root's processes not even where images go to a program (core(5)), which a limit of 0 does not stop. That is not
    for those of others: their files in /proc would be root's from then on (PR_SET_DUMPABLE in prctl(2)), also for who
    owns them.
    """
    global _undumpable
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    _undumpable = os.geteuid() == 0
    _restore_undumpable()


def _restore_undumpable() -> None:
    """Clears PR_SET_DUMPABLE again, which the kernel sets to fs.suid_dumpable whenever a thread's ids change."""
    if _undumpable:
        _libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


_undumpable = False


def _syscall_numbers() -> tuple[int, int, int]:
    calls = _SYSCALLS.get(os.uname().machine)
    if calls is None:
        raise OSError(errno.ENOSYS, f"acting as another user is not known for {os.uname().machine}")
    return calls


def _syscall(number: int, *arguments: Any) -> None:
    if _libc.syscall(ctypes.c_long(number), *arguments) != 0:
        failure = ctypes.get_errno()
        raise OSError(failure, f"acting as another user: {os.strerror(failure)}")


def _set_user(real: int, effective: int) -> None:
    try:
        setresuid, _, _ = _syscall_numbers()
        _syscall(setresuid, ctypes.c_uint32(real), ctypes.c_uint32(effective), _UNCHANGED)
    finally:
        _restore_undumpable()


def _set_thread_ids(uid: int, gid: int, groups: list[int]) -> None:
    """Sets effective user, group and groups. From root the user comes last, back to root first: only root may set the
    groups.
    """
    setresuid, setresgid, setgroups = _syscall_numbers()
    array = (ctypes.c_uint32 * len(groups))(*groups)
    steps: list[tuple[int, tuple[Any, ...]]] = [
        (setgroups, (ctypes.c_size_t(len(groups)), array)),
        (setresgid, (_UNCHANGED, ctypes.c_uint32(gid), _UNCHANGED)),
    ]
    user: tuple[int, tuple[Any, ...]] = (setresuid, (_UNCHANGED, ctypes.c_uint32(uid), _UNCHANGED))
    try:
        for number, arguments in [*steps, user] if uid != 0 else [user, *steps]:
            _syscall(number, *arguments)
    finally:
        _restore_undumpable()
