"""The errors that each call may end with, and what stands in for all others.

A server's statuses are many, and an errno that a call is not documented to give is one that programs take for something
else: Python's copyfile ends a copy as if it were whole when read(2) says EAGAIN, glibc ends a listing without an error
when getdents(2) says ENOENT, `rm -f` and `mkdir -p` take ENOENT and EEXIST for success, `realpath` takes EINVAL for "no
link", and who serves files by HTTP takes ECONNRESET for the client's end. So each request of the kernel has a set: what
the ERRORS sections of its system calls have (open, creat, read, write, fsync, close, stat, truncate, utimensat, chmod,
rename and so on in section 2 of the manual), with these differences:

    EAGAIN, EWOULDBLOCK, EINTR      in none: nothing here is non-blocking, and nothing is interrupted
    EFAULT, ENOMEM, EMFILE          in none: these are about the program itself. ENFILE stands for EMFILE of a server,
                                    also where a name is looked up, which open(2) begins with and takes a handle, too
    EIO, and that a server can't    in all. No program takes these for success, and who looks at the message should
    be reached                      learn that it is the network
    ENOSYS                          in none: the kernel would never ask again, for any file
    EACCES                          also of data: a byte range that another client has locked, a file that somebody has
                                    opened for himself since the connection was lost
    ESTALE                          the kernel looks names up again by itself, once, and of a handle it is the truth

`errno_for` is the one place where an error becomes an errno. What dfsfs decides by itself (PosixError) has the errno of
a local file system; what a server says goes through `_OF_STATUS` first.

Pure code.
"""

from __future__ import annotations

import errno as _errno
from typing import TYPE_CHECKING

from dfsfs.errors import DfsfsError, PosixError
from dfsfs.ntstatus import NtStatus

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MAX_NAME_BYTES = 255
"""Bytes of a name on the file systems below most servers that are no Windows."""
DIRECTORY_SUFFIX = 40
"""Bytes by which the names are longer under which Samba 4.22 makes directories before it renames them."""
_RESERVED = frozenset('"*:<>?\\|') | {chr(code) for code in range(0x20)}
"""Characters that are sent as others, of three bytes in UTF-8: see vfs/names/mapping.py."""


def _set(text: str) -> frozenset[int]:
    return frozenset(int(getattr(_errno, name)) for name in text.split())


_ALWAYS = _set("EIO EHOSTUNREACH EHOSTDOWN ENETUNREACH ETIMEDOUT EREMOTEIO EKEYEXPIRED ESTALE EACCES")
_NAME = _ALWAYS | _set("ENOENT ENOTDIR ELOOP ENAMETOOLONG EILSEQ EPERM EBUSY ENXIO EREMOTE EUSERS ECONNREFUSED")
"""Whatever finds its file by a name, and may enter a DFS link on the way."""
_CHANGE = _NAME | _set("EROFS ENOSPC EDQUOT")
_NEW_NAME = _CHANGE | _set("EEXIST")
_XATTR = _NAME | _set("EOPNOTSUPP ENODATA ERANGE E2BIG")
_XATTR_CHANGE = _CHANGE | _set("EOPNOTSUPP ENODATA ERANGE E2BIG EINVAL")
_OPEN = _CHANGE | _set("EISDIR ENFILE ENODEV EFBIG EOVERFLOW ETXTBSY EOPNOTSUPP")
_DATA = _ALWAYS | _set("EBADF")
_WRITTEN = _DATA | _set("ENOSPC EDQUOT EFBIG")

ALLOWED: Mapping[str, frozenset[int]] = {
    "lookup": _NAME | _set("ENFILE"),
    "getattr": _NAME,
    "setattr": _CHANGE | _set("EISDIR EFBIG ETXTBSY EINVAL EBADF"),
    "readlink": _NAME | _set("EINVAL"),
    "statfs": _NAME,
    "opendir": _NAME | _set("ENFILE"),
    "readdir": _DATA | _set("ENOTDIR"),
    "fsyncdir": _WRITTEN,
    "mkdir": _NEW_NAME | _set("EMLINK"),
    "mknod": _NEW_NAME | _set("EINVAL"),
    "symlink": _NEW_NAME,
    "link": _NEW_NAME | _set("EMLINK EXDEV"),
    "unlink": _CHANGE | _set("EISDIR"),
    "rmdir": _CHANGE | _set("ENOTEMPTY EINVAL"),
    "rename": _NEW_NAME | _set("EISDIR ENOTEMPTY EMLINK EXDEV EINVAL"),
    "open": _OPEN,
    "create": _OPEN | _set("EEXIST"),
    "read": _DATA,
    "write": _WRITTEN | _set("EPERM"),
    "flush": _WRITTEN,
    "fsync": _WRITTEN,
    "release": _WRITTEN,
    "releasedir": _DATA,
    "getxattr": _XATTR,
    "listxattr": _XATTR,
    "setxattr": _XATTR_CHANGE | _set("EXDEV EEXIST"),
    "removexattr": _XATTR_CHANGE,
}
"""By the name of the handler. The kernel asks flush for close(2), setattr for truncate, utimensat, chmod and chown."""

BY_NAME = frozenset(call for call, allowed in ALLOWED.items() if allowed >= _NAME)
"""The calls that find their file by its name; the others have it open."""

NAMES: Mapping[str, tuple[int, ...]] = {
    **dict.fromkeys(("lookup", "mkdir", "mknod", "symlink", "unlink", "rmdir", "create"), (1,)),
    "link": (2,),
    "rename": (1, 3),
}
"""Which arguments of a handler are names in a folder."""

_MAKING = frozenset({"create", "mkdir", "mknod", "symlink", "link", "rename"})
"""The calls that need a name for themselves."""

_STAND_INS: tuple[tuple[frozenset[int], tuple[int, ...]], ...] = (
    # What it is, and the first of these that the call may give; EIO if it may give none of them.
    (_set("ENOENT EBADF"), (_errno.ESTALE,)),
    (_set("ENXIO EREMOTE EUSERS ECONNREFUSED ECONNRESET ECONNABORTED EPIPE ENOTCONN"), (_errno.EHOSTUNREACH,)),
    (_set("EPERM EBUSY ETXTBSY EAGAIN"), (_errno.EBUSY, _errno.EACCES)),
    (_set("EMFILE ENFILE"), (_errno.ENFILE, _errno.EREMOTEIO)),
    (_set("ENOSPC EDQUOT EFBIG"), (_errno.ENOSPC,)),
    (_set("EOPNOTSUPP ENOSYS"), (_errno.EOPNOTSUPP,)),
    (_set("EINVAL"), (_errno.ENODATA,)),  # there is no attribute with a name that none can have
)

_Statuses = dict[int, int]


def _all(names: str, code: int) -> _Statuses:
    return dict.fromkeys((NtStatus[name] for name in names.split()), code)


_ELSEWHERE = {
    # "There already" makes `mkdir -p` go on, "no such attribute" who copies attributes: only where it is about that.
    **_all("OBJECTID_EXISTS REPARSE_ATTRIBUTE_CONFLICT DIRECTORY_IS_A_REPARSE_POINT", _errno.EIO),
    **_all("END_OF_FILE NOT_A_REPARSE_POINT PIPE_EMPTY OBJECTID_NOT_FOUND", _errno.EIO),
    # The handle is the mount's, and not the program's descriptor.
    **_all("INVALID_HANDLE FILE_CLOSED HANDLE_NO_LONGER_VALID", _errno.ESTALE),
    **_all("PORT_DISCONNECTED PIPE_DISCONNECTED PIPE_CLOSING PIPE_BROKEN", _errno.EIO),
    # The server does not take a request of ours. EINVAL would say "no symbolic link" for readlink, "into itself" for
    # rename, "can't be synced" for fsync.
    **_all("INVALID_PARAMETER OBJECT_TYPE_MISMATCH OBJECT_PATH_SYNTAX_BAD INVALID_USER_BUFFER", _errno.EIO),
    **_all("RANGE_NOT_LOCKED INVALID_LOCK_RANGE", _errno.EIO),
    **_all("IO_REPARSE_TAG_INVALID IO_REPARSE_TAG_MISMATCH IO_REPARSE_DATA_INVALID", _errno.EIO),
    **_all("EA_LIST_INCONSISTENT INVALID_EA_NAME INVALID_ACL INVALID_SID INVALID_SECURITY_DESCR", _errno.EIO),
}
"""What says nothing of the file or value that a program has named, although its errno would."""

_BUSY = _all("RETRY TOO_MANY_COMMANDS DEVICE_BUSY", _errno.EIO)
"""The server does not get round to it: EBUSY for a name, no right of the program's for what is open."""
_PENDING = _all("DELETE_PENDING", _errno.EBUSY)
"""The file goes when its last handle is closed. Until then its name leads nowhere, and is taken."""
_UNSUPPORTED = _all(
    "NOT_IMPLEMENTED INVALID_INFO_CLASS INVALID_DEVICE_REQUEST NOT_SUPPORTED CTL_FILE_NOT_SUPPORTED INVALID_LEVEL",
    _errno.EPERM,
)
"""What link(2) and its like say of a file system that does not have such a thing."""
_VALUE = _all(
    "INVALID_PARAMETER INVALID_EA_NAME EA_LIST_INCONSISTENT INVALID_ACL INVALID_SID INVALID_SECURITY_DESCR",
    _errno.EINVAL,
)
"""The program has given a value, and that is what the server does not take."""
_TOO_FAR = _all("INVALID_PARAMETER", _errno.EFBIG)
"""All that is new in a WRITE is where it goes: beyond what the server's file system has."""


_NO_HANDLES = _all("TOO_MANY_OPENED_FILES INSUFFICIENT_RESOURCES INSUFF_SERVER_RESOURCES", _errno.ENFILE)
"""What servers say that have no more handles."""


def _of_status(call: str) -> _Statuses:
    found = {**_ELSEWHERE}
    if call in ("lookup", "opendir", "open", "create"):
        found |= _NO_HANDLES
    if call not in BY_NAME:
        found |= _BUSY
    if call in _MAKING:
        found |= _PENDING
    if call in ("link", "symlink", "mknod", "mkdir", "rename", "setattr"):
        found |= _UNSUPPORTED
    if call in ("setattr", "setxattr", "removexattr"):
        found |= _VALUE
    if call in ("write", "flush", "fsync", "release"):
        found |= _TOO_FAR
    return found


_OF_STATUS: Mapping[str, _Statuses] = {call: _of_status(call) for call in ALLOWED}
"""Where the errno of ntstatus.py is not the one for a call."""


def errno_for(call: str, error: DfsfsError, names: Iterable[bytes] = ()) -> int:
    """The errno that a program gets for an error in a call (a key of ALLOWED). `names`: what it was to find or make."""
    if isinstance(error, PosixError):
        code = error.errno
    elif error.status == NtStatus.OBJECT_NAME_INVALID:
        code = _of_bad_name(call, names)
    else:
        code = _OF_STATUS[call].get(error.status, error.errno)
    return code if code in ALLOWED[call] else _stand_in(call, code)


def _of_bad_name(call: str, names: Iterable[bytes]) -> int:
    """The server can't have such a name. Samba says the same of one that its file system has no room for."""
    # Samba 4.22 makes a directory under a name of its own first, that one's with something behind it.
    room = MAX_NAME_BYTES - (DIRECTORY_SUFFIX if call == "mkdir" else 0)
    if any(_bytes_on_disk(name) > room for name in names):
        return _errno.ENAMETOOLONG
    if call in _MAKING:
        return _errno.EILSEQ
    return _errno.ENOENT if call in NAMES else _errno.EIO


def _bytes_on_disk(name: bytes) -> int:
    text = name.decode("utf-8", "replace")
    return len(name) + 2 * sum(char in _RESERVED for char in text) + 2 * text.endswith((" ", "."))


def _stand_in(call: str, code: int) -> int:
    allowed = ALLOWED[call]
    for kind, others in _STAND_INS:
        if code in kind:
            return next((other for other in others if other in allowed), _errno.EIO)
    return _errno.EIO
