"""Mounting a FUSE file system: mount(2) as root, fusermount3 for others. Both end with a descriptor of the device.

A mount point /dev/fd/N is a descriptor of /dev/fuse that somebody else has mounted and handed in, as libfuse takes it:
then nothing is mounted here, and nothing unmounted. So a process without any rights can serve a mount.
"""

from __future__ import annotations

import array
import ctypes
import errno
import os
import socket
import stat
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dfsfs.errors import PosixError

if TYPE_CHECKING:
    from collections.abc import Collection

DEVICE = "/dev/fuse"
_DEVICE_NUMBER = os.makedev(10, 229)
"""Its number on every Linux (FUSE_MINOR of linux/miscdevice.h)."""
FUSERMOUNT = "fusermount3"
PATIENCE = 30.0
"""Seconds that fusermount3 may take."""
_HANDED_IN = os.path.join("/dev", "fd", "")
_FLAGS = {"ro": 1, "nosuid": 2, "nodev": 4, "noexec": 8, "sync": 16}
"""Options that are flags of mount(2) (sys/mount.h)."""
_DEFAULTS = frozenset({"rw", "suid", "dev", "exec", "async"})
_OPTIONS = frozenset({"allow_other", "default_permissions"})
"""Options that the kernel's FUSE has."""


@dataclass(frozen=True, slots=True)
class MountSpec:
    """What is mounted. `source` and `subtype` are what /proc/mounts shows; `words` are options without a value."""

    mountpoint: str
    source: str
    subtype: str
    words: frozenset[str]


def find_handed_in(mountpoint: str) -> int | None:
    """The descriptor that a mount point /dev/fd/N names; None if it is a path."""
    number = mountpoint.removeprefix(_HANDED_IN)
    return int(number) if number != mountpoint and number.isascii() and number.isdecimal() else None


def open_device(spec: MountSpec) -> int:
    """Mounts, and returns the descriptor on which the kernel's requests are read. It does not block.

    Raises:
        PosixError: it can't be mounted; its text says why.
    """
    handed_in = find_handed_in(spec.mountpoint)
    try:
        if handed_in is not None:
            device = _duplicate(handed_in)
        else:
            _require_directory(spec.mountpoint)
            device = _mount(spec) if os.geteuid() == 0 else _run_fusermount(spec)
        os.set_blocking(device, False)
    except OSError as error:
        reason = error.strerror or str(error)
        raise PosixError(error.errno or errno.EIO, f"FUSE can't mount on {spec.mountpoint}: {reason}") from None
    return device


def _duplicate(handed_in: int) -> int:
    """A descriptor of our own. Raises: OSError: EBADF, EINVAL."""
    try:
        device = os.dup(handed_in)
    except OverflowError:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF)) from None
    about = os.fstat(device)
    if not stat.S_ISCHR(about.st_mode) or about.st_rdev != _DEVICE_NUMBER:
        os.close(device)
        raise OSError(errno.EINVAL, f"the descriptor is not of {DEVICE}")
    return device


def _require_directory(mountpoint: str) -> None:
    """FUSE would take a file, too, for a file system whose root is one.

    Raises:
        OSError: with EINVAL, since this is about no error of FUSE's.
    """
    try:
        mode = os.stat(mountpoint).st_mode
    except FileNotFoundError:
        raise OSError(errno.EINVAL, "there is no such directory") from None
    if not stat.S_ISDIR(mode):
        raise OSError(errno.EINVAL, "it is not a directory")


def _mount(spec: MountSpec) -> int:
    """mount(2). Where a container has root, but no right to mount, its fusermount3 is tried.

    Raises:
        OSError: no.
    """
    try:
        device = os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise OSError(error.errno, f"{DEVICE} can't be opened: {error.strerror}") from None
    try:
        words = [f"fd={device}", f"rootmode={stat.S_IFDIR:o}", f"user_id={os.getuid()}", f"group_id={os.getgid()}"]
        data = ",".join([*words, *sorted(_kernel_words(spec.words))])
        flags = sum(_FLAGS.get(word, 0) for word in spec.words)
        libc = ctypes.CDLL(None, use_errno=True)
        paths = (os.fsencode(spec.source), os.fsencode(spec.mountpoint), f"fuse.{spec.subtype}".encode())
        if libc.mount(*paths, ctypes.c_ulong(flags), data.encode()) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))
    except OSError as error:
        os.close(device)
        if error.errno != errno.EPERM:
            raise
    else:
        return device
    try:
        return _run_fusermount(spec)
    except OSError as error:
        raise OSError(errno.EPERM, f"mount(2): {os.strerror(errno.EPERM)}; {error.strerror}") from None


def _kernel_words(words: Collection[str]) -> set[str]:
    """The options of the kernel's FUSE. For allow_root that is allow_other, and the session refuses others."""
    known = {"allow_other" if word == "allow_root" else word for word in words}
    return known & _OPTIONS


def _run_fusermount(spec: MountSpec) -> int:
    """fusermount3, which hands the descriptor over through a socket.

    Raises:
        OSError: no. Its text is what fusermount3 has said.
    """
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            words = [*sorted(_kernel_words(spec.words) | (spec.words & (_FLAGS.keys() | _DEFAULTS)))]
            options = ",".join([*words, f"fsname={_escape(spec.source)}", f"subtype={_escape(spec.subtype)}"])
            result = _run([FUSERMOUNT, "-o", options, "--", spec.mountpoint], theirs.fileno())
        if result.returncode != 0:
            lines = result.stderr.decode(errors="replace").splitlines()
            raise OSError(errno.EPERM, "; ".join(lines) or f"{FUSERMOUNT} ended with {result.returncode}")
        return _receive_descriptor(ours)


def _run(words: list[str], receiver: int) -> subprocess.CompletedProcess[bytes]:
    """Runs fusermount3, which sends to `receiver`. Raises: OSError, with a text that names it."""
    environment = {**os.environ, "_FUSE_COMMFD": str(receiver)}
    try:
        return subprocess.run(
            words, env=environment, pass_fds=[receiver], capture_output=True, timeout=PATIENCE, check=False
        )
    except FileNotFoundError:
        text = f"there is no {FUSERMOUNT}, which mounts for other users than root"
        raise OSError(errno.EPERM, text) from None
    except OSError as error:
        raise OSError(error.errno, f"{FUSERMOUNT} can't be run: {error.strerror}") from None
    except subprocess.TimeoutExpired:
        raise OSError(errno.ETIMEDOUT, f"{FUSERMOUNT} has not ended after {PATIENCE:g} seconds") from None


def _receive_descriptor(receiver: socket.socket) -> int:
    descriptors = array.array("i")
    receiver.settimeout(PATIENCE)
    _, parts, _, _ = receiver.recvmsg(1, socket.CMSG_SPACE(descriptors.itemsize), socket.MSG_CMSG_CLOEXEC)
    for level, kind, data in parts:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS and len(data) >= descriptors.itemsize:
            descriptors.frombytes(data[: descriptors.itemsize])
            return descriptors[0]
    raise OSError(errno.EIO, f"{FUSERMOUNT} has handed over no descriptor")


def _escape(text: str) -> str:
    """A text as the value of an option of fusermount3, for which a backslash makes the next byte an ordinary one."""
    return text.replace("\\", "\\\\").replace(",", "\\,")
