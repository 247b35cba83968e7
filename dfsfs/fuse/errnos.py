"""The errnos that each call may fail with, and the ones that replace all others.

Servers have many statuses, and programs misunderstand an errno that a call is not documented to give: Python's copyfile
ends a copy as if it were complete when read(2) gives EAGAIN, glibc ends a listing without an error when getdents(2)
gives ENOENT, `rm -f` and `mkdir -p` take ENOENT and EEXIST for success, `realpath` takes EINVAL for "no link", and HTTP
servers take ECONNRESET for the end of the client. So each request of the kernel has a set of errnos: those in the
ERRORS sections of its system calls (open, creat, read, write, fsync, close, stat, truncate, utimensat, chmod, rename
and so on in section 2 of the manual), with these differences:

    EAGAIN, EWOULDBLOCK             in none but setlk and flock, of which they are the answer that somebody else has the
                                    lock: nothing else here is non-blocking
    EINTR                           in none: the end of a request that was interrupted does not come from here
    EFAULT, ENOMEM, EMFILE          in none: these are about the program itself. A server's EMFILE becomes ENFILE, also
                                    of lookup, which open(2) begins with, and which takes a handle on the server, too
    EIO, and that a server can't    in all: no program takes these for success, and a person who reads the message
    be reached                      should learn that it is the network
    ENOSYS                          in none: the kernel would never ask again, for any file
    EACCES                          also of data: a byte range that another client has locked, a file that another
                                    client has opened without sharing since the connection was lost
    ESTALE                          in all: the kernel looks names up again, once; of a handle it is the truth

An error becomes an errno in `errno_for` and nowhere else. What dfsfs decides itself (PosixError) has the errno of a
local file system; what a server says goes through `_OF_STATUS` first.

Pure.
"""

from __future__ import annotations

import errno as _errno
from typing import TYPE_CHECKING

from dfsfs.errors import DfsfsError, PosixError
from dfsfs.ntstatus import NtStatus

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MAX_NAME_BYTES = 255
"""Bytes that a name may have on the file systems of most servers other than Windows."""
DIRECTORY_SUFFIX = 40
"""Bytes by which the name is longer under which Samba 4.22 makes a directory, before it renames that."""
_RESERVED = frozenset('"*:<>?\\|') | {chr(code) for code in range(0x20)}
"""Characters that are sent as others, of three bytes in UTF-8: see vfs/names/mapping.py."""


def _set(text: str) -> frozenset[int]:
    return frozenset(int(getattr(_errno, name)) for name in text.split())


_ALWAYS = _set("EIO EHOSTUNREACH EHOSTDOWN ENETUNREACH ETIMEDOUT EREMOTEIO EKEYEXPIRED ESTALE EACCES")
_NAME = _ALWAYS | _set("ENOENT ENOTDIR ELOOP ENAMETOOLONG EILSEQ EPERM EBUSY ENXIO EREMOTE EUSERS ECONNREFUSED")
"""Errnos of calls that find their file by a name, and may enter a DFS link on the way."""
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
    "getlk": _DATA | _set("EINVAL"),
    "setlk": _DATA | _set("EINVAL EAGAIN ENOLCK"),
    "setlkw": _DATA | _set("EINVAL EDEADLK ENOLCK"),
    "flock": _DATA | _set("EINVAL EAGAIN ENOLCK"),
    "flockw": _DATA | _set("EINVAL ENOLCK"),
    "statx": _NAME,
    "lseek": _DATA | _set("EINVAL ENXIO EOVERFLOW"),
    "fallocate": _WRITTEN | _set("EINVAL ENODEV EOPNOTSUPP EPERM ETXTBSY"),
    "copy_file_range": _WRITTEN | _set("EINVAL EISDIR EOPNOTSUPP EOVERFLOW EPERM ETXTBSY EXDEV"),
}
"""By the name of the handler. close(2) calls flush; truncate, utimensat, chmod and chown call setattr; fcntl(2) calls
getlk, setlk and setlkw; flock(2) calls flock and flockw. pyfuse3 has no handlers for the last nine."""

BY_NAME = frozenset(call for call, allowed in ALLOWED.items() if allowed >= _NAME)
"""The calls that find their file by its name; the others have it open."""

NAMES: Mapping[str, tuple[int, ...]] = {
    **dict.fromkeys(("lookup", "mkdir", "mknod", "symlink", "unlink", "rmdir", "create"), (1,)),
    "link": (2,),
    "rename": (1, 3),
}
"""Indexes of the arguments of a handler that are names in a directory."""

_MAKING = frozenset({"create", "mkdir", "mknod", "symlink", "link", "rename"})
"""The calls that make a new name."""

_STAND_INS: tuple[tuple[frozenset[int], tuple[int, ...]], ...] = (
    # Errnos, and what replaces them: the first one that the call may give. EIO if it may give none.
    (_set("ENOENT EBADF"), (_errno.ESTALE,)),
    (_set("ENXIO EREMOTE EUSERS ECONNREFUSED ECONNRESET ECONNABORTED EPIPE ENOTCONN"), (_errno.EHOSTUNREACH,)),
    (_set("EPERM EBUSY ETXTBSY EAGAIN"), (_errno.EBUSY, _errno.EACCES)),
    (_set("EMFILE ENFILE"), (_errno.ENFILE, _errno.EREMOTEIO)),
    (_set("ENOSPC EDQUOT EFBIG"), (_errno.ENOSPC,)),
    (_set("EOPNOTSUPP ENOSYS"), (_errno.EOPNOTSUPP,)),
    (_set("EINVAL"), (_errno.ENODATA,)),  # getxattr: there is no attribute of a name that none can have
)

_Statuses = dict[int, int]


def _all(names: str, code: int) -> _Statuses:
    return dict.fromkeys((NtStatus[name] for name in names.split()), code)


_ELSEWHERE = {
    # EEXIST makes `mkdir -p` go on, ENODATA programs that copy attributes: only where the status is about that.
    **_all("OBJECTID_EXISTS REPARSE_ATTRIBUTE_CONFLICT DIRECTORY_IS_A_REPARSE_POINT", _errno.EIO),
    **_all("END_OF_FILE NOT_A_REPARSE_POINT PIPE_EMPTY OBJECTID_NOT_FOUND", _errno.EIO),
    # The handle is the mount's, and not a descriptor of the program.
    **_all("INVALID_HANDLE FILE_CLOSED HANDLE_NO_LONGER_VALID", _errno.ESTALE),
    **_all("PORT_DISCONNECTED PIPE_DISCONNECTED PIPE_CLOSING PIPE_BROKEN", _errno.EIO),
    # The server refuses a request of dfsfs. EINVAL would mean "no symbolic link" for readlink, "into itself" for
    # rename, "can't be synced" for fsync.
    **_all("INVALID_PARAMETER OBJECT_TYPE_MISMATCH OBJECT_PATH_SYNTAX_BAD INVALID_USER_BUFFER", _errno.EIO),
    **_all("RANGE_NOT_LOCKED INVALID_LOCK_RANGE", _errno.EIO),
    **_all("IO_REPARSE_TAG_INVALID IO_REPARSE_TAG_MISMATCH IO_REPARSE_DATA_INVALID", _errno.EIO),
    **_all("EA_LIST_INCONSISTENT INVALID_EA_NAME INVALID_ACL INVALID_SID INVALID_SECURITY_DESCR", _errno.EIO),
}
"""Statuses that say nothing about the file or value that a program has named, although their errno would."""

_BUSY = _all("RETRY TOO_MANY_COMMANDS DEVICE_BUSY", _errno.EIO)
"""The server is too busy: EBUSY of a name, EIO of an open file."""
_PENDING = _all("DELETE_PENDING", _errno.EBUSY)
"""The file is removed when its last handle is closed. Until then its name can neither be opened nor made anew."""
_UNSUPPORTED = _all(
    "NOT_IMPLEMENTED INVALID_INFO_CLASS INVALID_DEVICE_REQUEST NOT_SUPPORTED CTL_FILE_NOT_SUPPORTED INVALID_LEVEL",
    _errno.EPERM,
)
"""The server does not have such a thing. link(2) and similar calls fail with EPERM then."""
_VALUE = _all(
    "INVALID_PARAMETER INVALID_EA_NAME EA_LIST_INCONSISTENT INVALID_ACL INVALID_SID INVALID_SECURITY_DESCR",
    _errno.EINVAL,
)
"""The server refuses the value that the program has given."""
_TOO_FAR = _all("INVALID_PARAMETER", _errno.EFBIG)
"""Of a WRITE, or a range to allocate, only the offset can be wrong: it is beyond what the server's file system has."""
_NOT_THE_END = _all("BAD_NETWORK_NAME", _errno.EHOSTUNREACH)
"""A share is gone. ENXIO of lseek(2) says that no data comes any more: a copy that ends there is taken for whole."""
_NO_HANDLES = _all("TOO_MANY_OPENED_FILES INSUFFICIENT_RESOURCES INSUFF_SERVER_RESOURCES", _errno.ENFILE)
"""The server has no handles left."""


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
    if call in ("write", "flush", "fsync", "release", "fallocate"):
        found |= _TOO_FAR
    if call == "lseek":
        found |= _NOT_THE_END
    return found


_OF_STATUS: Mapping[str, _Statuses] = {call: _of_status(call) for call in ALLOWED}
"""By call, the statuses whose errno is not the one in ntstatus.py."""


def errno_for(call: str, error: DfsfsError, names: Iterable[bytes] = ()) -> int:
    """The errno that a program gets for an error in a call (a key of ALLOWED). `names`: the names that it was given."""
    if isinstance(error, PosixError):
        code = error.errno
    elif error.status == NtStatus.OBJECT_NAME_INVALID:
        code = _of_bad_name(call, names)
    else:
        code = _OF_STATUS[call].get(error.status, error.errno)
    return code if code in ALLOWED[call] else _stand_in(call, code)


def _of_bad_name(call: str, names: Iterable[bytes]) -> int:
    """The errno for a name that the server refuses. Samba refuses a name in the same way if it is too long."""
    # Samba 4.22 makes a directory under a temporary name first, which is the name with a suffix.
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
