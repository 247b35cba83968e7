"""What can go wrong, said once: NTSTATUS values, the exceptions, and the two tables that act on them.

An exception says *what* happened: a status that a server sent, a connection that failed, bytes that make no sense. Its
`disposition` says what may be done about it, and only `namespace/failover.py` acts on that. Its `errno` is what a
program sees, and only `fuse/boundary.py` hands it out.

The statuses that move a client on to the next target are those that MS-DFSC section 6 names for Windows (footnotes on
3.1.4.1 and 3.1.5.2). ACCESS_DENIED or LOGON_FAILURE from one replica is an answer, not an outage, and never moves it.

Nothing here logs, retries or knows a connection.
"""

from __future__ import annotations

import errno as _errno
from enum import Enum, IntEnum, auto


class NtStatus(IntEnum):
    """The NTSTATUS values (MS-ERREF 2.3.1) that dfsfs knows by name. A server may send any other 32-bit value."""

    SUCCESS = 0x00000000
    PENDING = 0x00000103
    NOTIFY_CLEANUP = 0x0000010B
    NOTIFY_ENUM_DIR = 0x0000010C
    BUFFER_OVERFLOW = 0x80000005
    NO_MORE_FILES = 0x80000006
    DEVICE_OFF_LINE = 0x80000010
    STOPPED_ON_SYMLINK = 0x8000002D
    UNSUCCESSFUL = 0xC0000001
    NOT_IMPLEMENTED = 0xC0000002
    INVALID_INFO_CLASS = 0xC0000003
    INFO_LENGTH_MISMATCH = 0xC0000004
    INVALID_HANDLE = 0xC0000008
    INVALID_PARAMETER = 0xC000000D
    NO_SUCH_DEVICE = 0xC000000E
    NO_SUCH_FILE = 0xC000000F
    INVALID_DEVICE_REQUEST = 0xC0000010
    END_OF_FILE = 0xC0000011
    MORE_PROCESSING_REQUIRED = 0xC0000016
    NO_MEMORY = 0xC0000017
    ACCESS_DENIED = 0xC0000022
    BUFFER_TOO_SMALL = 0xC0000023
    OBJECT_TYPE_MISMATCH = 0xC0000024
    OBJECT_NAME_INVALID = 0xC0000033
    OBJECT_NAME_NOT_FOUND = 0xC0000034
    OBJECT_NAME_COLLISION = 0xC0000035
    OBJECT_PATH_INVALID = 0xC0000039
    OBJECT_PATH_NOT_FOUND = 0xC000003A
    OBJECT_PATH_SYNTAX_BAD = 0xC000003B
    DATA_ERROR = 0xC000003E
    CRC_ERROR = 0xC000003F
    SHARING_VIOLATION = 0xC0000043
    QUOTA_EXCEEDED = 0xC0000044
    FILE_LOCK_CONFLICT = 0xC0000054
    LOCK_NOT_GRANTED = 0xC0000055
    DELETE_PENDING = 0xC0000056
    NO_LOGON_SERVERS = 0xC000005E
    NO_SUCH_LOGON_SESSION = 0xC000005F
    PRIVILEGE_NOT_HELD = 0xC0000061
    NO_SUCH_USER = 0xC0000064
    WRONG_PASSWORD = 0xC000006A
    LOGON_FAILURE = 0xC000006D
    ACCOUNT_RESTRICTION = 0xC000006E
    INVALID_LOGON_HOURS = 0xC000006F
    INVALID_WORKSTATION = 0xC0000070
    PASSWORD_EXPIRED = 0xC0000071
    ACCOUNT_DISABLED = 0xC0000072
    RANGE_NOT_LOCKED = 0xC000007E
    DISK_FULL = 0xC000007F
    FILE_INVALID = 0xC0000098
    INSUFFICIENT_RESOURCES = 0xC000009A
    MEDIA_WRITE_PROTECTED = 0xC00000A2
    DEVICE_NOT_READY = 0xC00000A3
    IO_TIMEOUT = 0xC00000B5
    FILE_IS_A_DIRECTORY = 0xC00000BA
    NOT_SUPPORTED = 0xC00000BB
    REMOTE_NOT_LISTENING = 0xC00000BC
    DUPLICATE_NAME = 0xC00000BD
    BAD_NETWORK_PATH = 0xC00000BE
    NETWORK_BUSY = 0xC00000BF
    INVALID_NETWORK_RESPONSE = 0xC00000C3
    UNEXPECTED_NETWORK_ERROR = 0xC00000C4
    NETWORK_NAME_DELETED = 0xC00000C9
    NETWORK_ACCESS_DENIED = 0xC00000CA
    BAD_NETWORK_NAME = 0xC00000CC
    TOO_MANY_SESSIONS = 0xC00000CE
    SHARING_PAUSED = 0xC00000CF
    REQUEST_NOT_ACCEPTED = 0xC00000D0
    NOT_SAME_DEVICE = 0xC00000D4
    VIRTUAL_CIRCUIT_CLOSED = 0xC00000D6
    INTERNAL_ERROR = 0xC00000E5
    DIRECTORY_NOT_EMPTY = 0xC0000101
    NOT_A_DIRECTORY = 0xC0000103
    NAME_TOO_LONG = 0xC0000106
    TOO_MANY_OPENED_FILES = 0xC000011F
    CANCELLED = 0xC0000120
    CANNOT_DELETE = 0xC0000121
    FILE_DELETED = 0xC0000123
    FILE_CLOSED = 0xC0000128
    LOGON_TYPE_NOT_GRANTED = 0xC000015B
    UNMAPPABLE_CHARACTER = 0xC0000162
    DISK_OPERATION_FAILED = 0xC000016A
    TRUSTED_RELATIONSHIP_FAILURE = 0xC000018D
    NETLOGON_NOT_STARTED = 0xC0000192
    FS_DRIVER_REQUIRED = 0xC000019C
    USER_SESSION_DELETED = 0xC0000203
    INSUFF_SERVER_RESOURCES = 0xC0000205
    CONNECTION_DISCONNECTED = 0xC000020C
    CONNECTION_RESET = 0xC000020D
    PASSWORD_MUST_CHANGE = 0xC0000224
    NOT_FOUND = 0xC0000225
    RETRY = 0xC000022D
    ACCOUNT_LOCKED_OUT = 0xC0000234
    CONNECTION_REFUSED = 0xC0000236
    NETWORK_UNREACHABLE = 0xC000023C
    HOST_UNREACHABLE = 0xC000023D
    CONNECTION_ABORTED = 0xC0000241
    PATH_NOT_COVERED = 0xC0000257
    TOO_MANY_LINKS = 0xC0000265
    DFS_UNAVAILABLE = 0xC000026D
    VOLUME_DISMOUNTED = 0xC000026E
    NOT_A_REPARSE_POINT = 0xC0000275
    IO_REPARSE_TAG_INVALID = 0xC0000276
    IO_REPARSE_TAG_MISMATCH = 0xC0000277
    IO_REPARSE_TAG_NOT_HANDLED = 0xC0000279
    NETWORK_SESSION_EXPIRED = 0xC000035C
    FILE_SYSTEM_LIMITATION = 0xC0000427
    SERVER_UNAVAILABLE = 0xC0000466


class Disposition(Enum):
    """What `namespace/failover.py` does about a failed operation."""

    RETURN = auto()
    """It is the answer: the program gets it."""
    RETRY = auto()
    """The same request on the same connection, after a short pause."""
    RECONNECT = auto()
    """The connection, session or tree connect is gone: the same target again on a new one, then the next target."""
    NEXT_TARGET = auto()
    """This target can't serve the request: the next one in the referral's order."""
    REFER = auto()
    """The path leads below a DFS link: ask for a referral (MS-DFSC 3.1.5.1)."""
    FATAL = auto()
    """Going on would be unsafe (a forged answer): the program gets it and nothing is tried again."""


UNREACHED = frozenset({Disposition.RETRY, Disposition.RECONNECT, Disposition.NEXT_TARGET})
"""The dispositions that say something of a server's state and nothing of the path: another one may know better."""


NEXT_TARGET_STATUSES = frozenset(
    {
        NtStatus.BAD_NETWORK_NAME,
        NtStatus.BAD_NETWORK_PATH,
        NtStatus.CONNECTION_DISCONNECTED,
        NtStatus.CONNECTION_REFUSED,
        NtStatus.CONNECTION_RESET,
        NtStatus.DEVICE_OFF_LINE,
        NtStatus.DFS_UNAVAILABLE,
        NtStatus.DISK_OPERATION_FAILED,
        NtStatus.DUPLICATE_NAME,
        NtStatus.FS_DRIVER_REQUIRED,
        NtStatus.HOST_UNREACHABLE,
        NtStatus.INSUFFICIENT_RESOURCES,
        NtStatus.INVALID_NETWORK_RESPONSE,
        NtStatus.IO_REPARSE_TAG_NOT_HANDLED,
        NtStatus.IO_TIMEOUT,
        NtStatus.NETLOGON_NOT_STARTED,
        NtStatus.NETWORK_BUSY,
        NtStatus.NETWORK_UNREACHABLE,
        NtStatus.NO_SUCH_DEVICE,
        NtStatus.NO_SUCH_LOGON_SESSION,
        NtStatus.REMOTE_NOT_LISTENING,
        NtStatus.REQUEST_NOT_ACCEPTED,
        NtStatus.SHARING_PAUSED,
        NtStatus.UNEXPECTED_NETWORK_ERROR,
        NtStatus.UNMAPPABLE_CHARACTER,
        NtStatus.VIRTUAL_CIRCUIT_CLOSED,
    }
)
"""The statuses after which Windows clients go to the next target of a DFS link or root (MS-DFSC section 6). The two
that also belong to that list, NETWORK_NAME_DELETED and USER_SESSION_DELETED, end a tree connect or session and not a
server, so the same target gets one more try first: see DISPOSITIONS."""

DISPOSITIONS: dict[int, Disposition] = {
    **dict.fromkeys(NEXT_TARGET_STATUSES, Disposition.NEXT_TARGET),
    NtStatus.NETWORK_NAME_DELETED: Disposition.RECONNECT,
    NtStatus.USER_SESSION_DELETED: Disposition.RECONNECT,
    NtStatus.NETWORK_SESSION_EXPIRED: Disposition.RECONNECT,
    NtStatus.PATH_NOT_COVERED: Disposition.REFER,
    NtStatus.RETRY: Disposition.RETRY,
}
"""Every status that is not the plain answer to a request."""

_ERRNOS: dict[int, int] = {
    NtStatus.BUFFER_OVERFLOW: _errno.EIO,
    NtStatus.DEVICE_OFF_LINE: _errno.EHOSTDOWN,
    NtStatus.STOPPED_ON_SYMLINK: _errno.EOPNOTSUPP,
    NtStatus.NOT_IMPLEMENTED: _errno.EOPNOTSUPP,
    NtStatus.INVALID_INFO_CLASS: _errno.EOPNOTSUPP,
    NtStatus.INFO_LENGTH_MISMATCH: _errno.EIO,
    NtStatus.INVALID_HANDLE: _errno.EBADF,
    NtStatus.INVALID_PARAMETER: _errno.EINVAL,
    NtStatus.NO_SUCH_DEVICE: _errno.ENODEV,
    NtStatus.NO_SUCH_FILE: _errno.ENOENT,
    NtStatus.INVALID_DEVICE_REQUEST: _errno.EOPNOTSUPP,
    NtStatus.NO_MEMORY: _errno.EREMOTEIO,
    NtStatus.ACCESS_DENIED: _errno.EACCES,
    NtStatus.OBJECT_TYPE_MISMATCH: _errno.EINVAL,
    NtStatus.OBJECT_NAME_INVALID: _errno.EINVAL,
    NtStatus.OBJECT_NAME_NOT_FOUND: _errno.ENOENT,
    NtStatus.OBJECT_NAME_COLLISION: _errno.EEXIST,
    NtStatus.OBJECT_PATH_INVALID: _errno.ENOTDIR,
    NtStatus.OBJECT_PATH_NOT_FOUND: _errno.ENOENT,
    NtStatus.OBJECT_PATH_SYNTAX_BAD: _errno.EINVAL,
    NtStatus.SHARING_VIOLATION: _errno.EBUSY,
    NtStatus.QUOTA_EXCEEDED: _errno.EDQUOT,
    NtStatus.FILE_LOCK_CONFLICT: _errno.EAGAIN,
    NtStatus.LOCK_NOT_GRANTED: _errno.EAGAIN,
    NtStatus.DELETE_PENDING: _errno.ENOENT,
    NtStatus.NO_LOGON_SERVERS: _errno.EHOSTUNREACH,
    NtStatus.NO_SUCH_LOGON_SESSION: _errno.EACCES,
    NtStatus.PRIVILEGE_NOT_HELD: _errno.EPERM,
    NtStatus.NO_SUCH_USER: _errno.EACCES,
    NtStatus.WRONG_PASSWORD: _errno.EACCES,
    NtStatus.LOGON_FAILURE: _errno.EACCES,
    NtStatus.ACCOUNT_RESTRICTION: _errno.EACCES,
    NtStatus.INVALID_LOGON_HOURS: _errno.EACCES,
    NtStatus.INVALID_WORKSTATION: _errno.EACCES,
    NtStatus.PASSWORD_EXPIRED: _errno.EKEYEXPIRED,
    NtStatus.PASSWORD_MUST_CHANGE: _errno.EKEYEXPIRED,
    NtStatus.ACCOUNT_DISABLED: _errno.EACCES,
    NtStatus.ACCOUNT_LOCKED_OUT: _errno.EACCES,
    NtStatus.LOGON_TYPE_NOT_GRANTED: _errno.EACCES,
    NtStatus.TRUSTED_RELATIONSHIP_FAILURE: _errno.EACCES,
    NtStatus.RANGE_NOT_LOCKED: _errno.EINVAL,
    NtStatus.DISK_FULL: _errno.ENOSPC,
    NtStatus.FILE_INVALID: _errno.EIO,
    NtStatus.INSUFFICIENT_RESOURCES: _errno.EREMOTEIO,
    NtStatus.INSUFF_SERVER_RESOURCES: _errno.EREMOTEIO,
    NtStatus.MEDIA_WRITE_PROTECTED: _errno.EROFS,
    NtStatus.DEVICE_NOT_READY: _errno.ENODEV,
    NtStatus.IO_TIMEOUT: _errno.ETIMEDOUT,
    NtStatus.FILE_IS_A_DIRECTORY: _errno.EISDIR,
    NtStatus.NOT_SUPPORTED: _errno.EOPNOTSUPP,
    NtStatus.REMOTE_NOT_LISTENING: _errno.EHOSTDOWN,
    NtStatus.DUPLICATE_NAME: _errno.EHOSTUNREACH,
    NtStatus.BAD_NETWORK_PATH: _errno.EHOSTUNREACH,
    NtStatus.NETWORK_BUSY: _errno.EHOSTUNREACH,
    NtStatus.NETWORK_NAME_DELETED: _errno.EHOSTUNREACH,
    NtStatus.NETWORK_ACCESS_DENIED: _errno.EACCES,
    NtStatus.BAD_NETWORK_NAME: _errno.ENXIO,
    NtStatus.TOO_MANY_SESSIONS: _errno.EUSERS,
    NtStatus.SHARING_PAUSED: _errno.EHOSTUNREACH,
    NtStatus.REQUEST_NOT_ACCEPTED: _errno.EHOSTUNREACH,
    NtStatus.NOT_SAME_DEVICE: _errno.EXDEV,
    NtStatus.VIRTUAL_CIRCUIT_CLOSED: _errno.EHOSTUNREACH,
    NtStatus.DIRECTORY_NOT_EMPTY: _errno.ENOTEMPTY,
    NtStatus.NOT_A_DIRECTORY: _errno.ENOTDIR,
    NtStatus.NAME_TOO_LONG: _errno.ENAMETOOLONG,
    NtStatus.TOO_MANY_OPENED_FILES: _errno.EMFILE,
    NtStatus.CANCELLED: _errno.EINTR,
    NtStatus.CANNOT_DELETE: _errno.EACCES,
    NtStatus.FILE_DELETED: _errno.ENOENT,
    NtStatus.FILE_CLOSED: _errno.EBADF,
    NtStatus.FS_DRIVER_REQUIRED: _errno.EOPNOTSUPP,
    NtStatus.USER_SESSION_DELETED: _errno.EHOSTUNREACH,
    NtStatus.NETWORK_SESSION_EXPIRED: _errno.EKEYEXPIRED,
    NtStatus.CONNECTION_DISCONNECTED: _errno.EHOSTUNREACH,
    NtStatus.CONNECTION_RESET: _errno.ECONNRESET,
    NtStatus.CONNECTION_ABORTED: _errno.ECONNABORTED,
    NtStatus.CONNECTION_REFUSED: _errno.ECONNREFUSED,
    NtStatus.NETWORK_UNREACHABLE: _errno.ENETUNREACH,
    NtStatus.HOST_UNREACHABLE: _errno.EHOSTUNREACH,
    NtStatus.NOT_FOUND: _errno.ENOENT,
    NtStatus.PATH_NOT_COVERED: _errno.EREMOTE,
    NtStatus.TOO_MANY_LINKS: _errno.EMLINK,
    NtStatus.DFS_UNAVAILABLE: _errno.EHOSTUNREACH,
    NtStatus.NOT_A_REPARSE_POINT: _errno.ENODATA,
    NtStatus.FILE_SYSTEM_LIMITATION: _errno.EFBIG,
    NtStatus.SERVER_UNAVAILABLE: _errno.EHOSTUNREACH,
}


def errno_of(status: int) -> int:
    """The errno that stands for an NTSTATUS; EIO for any that has no closer one."""
    return _ERRNOS.get(status, _errno.EIO)


def is_failure(status: int) -> bool:
    """Whether a status is a warning or an error (severity 2 or 3); others complete a request (MS-DFSC 3.1.5.3)."""
    return status >= 0x80000000


def status_name(status: int) -> str:
    """`STATUS_ACCESS_DENIED`, or `NTSTATUS 0xc0001234` for a value without a name here."""
    try:
        return f"STATUS_{NtStatus(status).name}"
    except ValueError:
        return f"NTSTATUS 0x{status:08x}"


class DfsfsError(Exception):
    """Base of everything that dfsfs raises on purpose.

    `status` is the NTSTATUS that the failure amounts to, `errno` what a program gets to see, `disposition` what may be
    done about it.
    """

    def __init__(self, message: str, status: int = NtStatus.UNSUCCESSFUL) -> None:
        super().__init__(message)
        self.status = status

    @property
    def errno(self) -> int:
        return errno_of(self.status)

    @property
    def disposition(self) -> Disposition:
        return DISPOSITIONS.get(self.status, Disposition.RETURN)


class WireError(DfsfsError):
    """A peer's bytes don't follow the protocol. The one error that a decoder raises, whatever the bytes."""

    def __init__(self, message: str) -> None:
        super().__init__(message, NtStatus.INVALID_NETWORK_RESPONSE)


class SmbError(DfsfsError):
    """A server answered a request with a failure status.

    `what` names the request and its object for people: `open of //fs1/data/a.txt`.
    """

    def __init__(self, status: int, what: str) -> None:
        super().__init__(f"{what}: {status_name(status)}", status)
        self.what = what


class ConnectError(DfsfsError):
    """A server could not be reached, or did not complete negotiate and session setup in time.

    `status` is one of CONNECTION_REFUSED, IO_TIMEOUT, HOST_UNREACHABLE, NETWORK_UNREACHABLE, BAD_NETWORK_PATH (the
    name has no address) or CONNECTION_RESET. Nothing of the request was sent, so it may be repeated anywhere.
    """

    def __init__(self, host: str, status: int, detail: str) -> None:
        super().__init__(f"{host}: {detail}", status)
        self.host = host

    @property
    def disposition(self) -> Disposition:
        return Disposition.NEXT_TARGET


class ConnectionLost(DfsfsError):
    """A connection that was in use ended or fell silent. A request that was under way may or may not have been
    carried out.
    """

    def __init__(self, host: str, status: int, detail: str) -> None:
        super().__init__(f"{host}: {detail}", status)
        self.host = host

    @property
    def disposition(self) -> Disposition:
        return Disposition.RECONNECT


class SecurityError(DfsfsError):
    """An answer that had to be signed or encrypted was not, or not with the session's key. Ends the connection."""

    def __init__(self, message: str) -> None:
        super().__init__(message, NtStatus.INVALID_NETWORK_RESPONSE)

    @property
    def errno(self) -> int:
        return _errno.EIO

    @property
    def disposition(self) -> Disposition:
        return Disposition.FATAL


class PosixError(DfsfsError):
    """A refusal that dfsfs decides by itself, with the errno a local file system would give."""

    def __init__(self, errno: int, message: str) -> None:
        super().__init__(message)
        self._errno = errno

    @property
    def errno(self) -> int:
        return self._errno

    @property
    def disposition(self) -> Disposition:
        return Disposition.RETURN


class NamespaceLoop(PosixError):
    """A DFS path leads back to itself, or through more than the permitted number of namespaces."""

    def __init__(self, message: str) -> None:
        super().__init__(_errno.ELOOP, message)
