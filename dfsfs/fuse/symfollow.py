"""nosymfollow: the kernel follows no symbolic link of a mount; readlink(2) and lstat(2) still show them.

libfuse 3.14 does not know the option, and mount(8) leaves it to the file system's program. It is a flag of the mount
and not of the file system, so it can be set after mounting, by mount_setattr(2) (Linux 5.14), which leaves the other
flags alone. Every lookup waits until the main loop answers FUSE_INIT. So if the flag is set before, no link has been
followed.
"""

from __future__ import annotations

import ctypes
import errno
import os

from dfsfs.errors import PosixError

_MOUNT_SETATTR = 442
"""The number of the system call, the same on all architectures (asm-generic/unistd.h)."""
_AT_EMPTY_PATH = 0x1000
_ATTR_NOSYMFOLLOW = 0x00200000


class _MountAttr(ctypes.Structure):
    """struct mount_attr (mount_setattr(2))."""

    _fields_ = (
        ("attr_set", ctypes.c_uint64),
        ("attr_clr", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    )


def follow_no_symlinks(root: int) -> None:
    """Sets the flag on a mount. `root`: a descriptor of its root (O_PATH). The file system gets no request.

    Raises:
        PosixError: the kernel is too old (ENOSYS, EINVAL), or this takes root (EPERM).
    """
    wanted = _MountAttr(attr_set=_ATTR_NOSYMFOLLOW)
    libc = ctypes.CDLL(None, use_errno=True)
    done = libc.syscall(
        ctypes.c_long(_MOUNT_SETATTR),
        ctypes.c_int(root),
        ctypes.c_char_p(b""),
        ctypes.c_uint(_AT_EMPTY_PATH),
        ctypes.byref(wanted),
        ctypes.c_size_t(ctypes.sizeof(wanted)),
    )
    if done == 0:
        return
    code = ctypes.get_errno()
    reason = "only root can" if code == errno.EPERM else f"the kernel does not (Linux 5.14): {os.strerror(code)}"
    raise PosixError(code, f"option 'nosymfollow': {reason}")
