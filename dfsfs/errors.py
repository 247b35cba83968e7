"""What can go wrong, said once: the exceptions, and the table that says what may be done about a status.

An exception says *what* happened: a status that a server sent, a connection that failed, bytes that make no sense. Its
`disposition` says what may be done about it, and only `namespace/failover.py` acts on that. Its `errno` is what a
program sees, and only `fuse/boundary.py` hands it out.

The statuses that move a client on to the next target are those that MS-DFSC section 6 names for Windows (footnotes on
3.1.4.1 and 3.1.5.2). ACCESS_DENIED or LOGON_FAILURE from one replica is an answer, not an outage, and never moves it.

Nothing here logs, retries or knows a connection.
"""

from __future__ import annotations

import errno as _errno
from enum import Enum, auto

from dfsfs.meanings import said
from dfsfs.ntstatus import NtStatus, errno_of


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


UNABLE_STATUSES = frozenset(
    {
        # It finds nobody who can check the user, or its own place in the domain is broken.
        NtStatus.CANT_ACCESS_DOMAIN_INFO,
        NtStatus.DOMAIN_CONTROLLER_NOT_FOUND,
        NtStatus.DOMAIN_TRUST_INCONSISTENT,
        NtStatus.DS_BUSY,
        NtStatus.DS_UNAVAILABLE,
        NtStatus.INVALID_DOMAIN_ROLE,
        NtStatus.INVALID_DOMAIN_STATE,
        NtStatus.INVALID_SERVER_STATE,
        NtStatus.LOGON_SERVER_CONFLICT,
        NtStatus.NETLOGON_NOT_STARTED,
        NtStatus.NO_LOGON_SERVERS,
        NtStatus.NO_SUCH_DOMAIN,
        NtStatus.NO_TRUST_LSA_SECRET,
        NtStatus.NO_TRUST_SAM_ACCOUNT,
        NtStatus.RPC_SERVER_TOO_BUSY,
        NtStatus.RPC_SERVER_UNAVAILABLE,
        NtStatus.SYNCHRONIZATION_REQUIRED,
        NtStatus.TIME_DIFFERENCE_AT_DC,
        NtStatus.TRUST_FAILURE,
        NtStatus.TRUSTED_DOMAIN_FAILURE,
        NtStatus.TRUSTED_RELATIONSHIP_FAILURE,
        # It has no room for one more.
        NtStatus.CONNECTION_COUNT_LIMIT,
        NtStatus.INSUFF_SERVER_RESOURCES,
        NtStatus.INSUFFICIENT_RESOURCES,
        NtStatus.LICENSE_QUOTA_EXCEEDED,
        NtStatus.NO_MEMORY,
        NtStatus.REMOTE_SESSION_LIMIT,
        NtStatus.REQUEST_NOT_ACCEPTED,
        NtStatus.TOO_MANY_SESSIONS,
        # It, or the disk of the share, is going down, or broken.
        NtStatus.DEVICE_NOT_READY,
        NtStatus.INTERNAL_DB_CORRUPTION,
        NtStatus.INTERNAL_DB_ERROR,
        NtStatus.INTERNAL_ERROR,
        NtStatus.REDIRECTOR_NOT_STARTED,
        NtStatus.SERVER_DISABLED,
        NtStatus.SERVER_SHUTDOWN_IN_PROGRESS,
        NtStatus.SERVER_UNAVAILABLE,
        NtStatus.SHARE_UNAVAILABLE,
        NtStatus.SHUTDOWN_IN_PROGRESS,
        NtStatus.SYSTEM_SHUTDOWN,
        NtStatus.VOLUME_DISMOUNTED,
    }
)
"""Answers to a session setup or tree connect that are about the server and not about the user: it can't, while another
one perhaps can. As answers to anything else they are about a file, and some of these mean something else there."""

LOGIN_STATUSES = frozenset(
    {
        NtStatus.LOGON_FAILURE,
        NtStatus.NO_LOGON_SERVERS,
        NtStatus.WRONG_PASSWORD,
        NtStatus.NO_SUCH_USER,
        NtStatus.ACCOUNT_DISABLED,
        NtStatus.ACCOUNT_LOCKED_OUT,
        NtStatus.ACCOUNT_RESTRICTION,
        NtStatus.PASSWORD_EXPIRED,
        NtStatus.PASSWORD_MUST_CHANGE,
    }
)
"""Answers to a login that are about the user."""


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

    @property
    def is_about_login(self) -> bool:
        """Whether it says that a user can't log in, and nothing of what was asked for, or of that server alone."""
        return self.status in LOGIN_STATUSES and self.disposition is Disposition.RETURN


class WireError(DfsfsError):
    """A peer's bytes don't follow the protocol. The one error that a decoder of messages raises, whatever the bytes;
    what is stored in files has ContentError.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message, NtStatus.INVALID_NETWORK_RESPONSE)


class ContentError(DfsfsError):
    """What somebody has stored on a server makes no sense: the data of a reparse point, an extended attribute, a
    security descriptor, a size. It says something of that one file and nothing of the server, so it is the answer, and
    no other target is asked.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message, NtStatus.FILE_CORRUPT_ERROR)


class EndlessAnswer(DfsfsError):
    """A server goes on answering one question beyond every bound (smb/tree/bounds.py), or without saying anything new.
    What has come so far was an answer; another target, or another connection, would only be asked the same.
    """


class SmbError(DfsfsError):
    """A server answered a request with a failure status.

    `what` names the request and its object for people: `open of //fs1/data/a.txt`.
    """

    def __init__(self, status: int, what: str) -> None:
        super().__init__(f"{what}: {said(status)}", status)
        self.what = what


class SetupRefused(SmbError):
    """A server refuses a session setup or a tree connect; see UNABLE_STATUSES."""

    @property
    def is_unable(self) -> bool:
        """Whether the server can't, and not the user may not."""
        return self.status in UNABLE_STATUSES

    @property
    def disposition(self) -> Disposition:
        return Disposition.NEXT_TARGET if self.is_unable else super().disposition


class LoginRefused(SetupRefused):
    """A server refuses a session, whatever share it was for."""


class TicketError(DfsfsError):
    """There is no Kerberos ticket for a server. `spn` is the server's name in Kerberos, `source` where tickets come
    from, `reason` what the Kerberos library or the KDC says; `unreached`: that no KDC answers.
    """

    def __init__(self, spn: str, source: str, reason: str, *, unreached: bool = False) -> None:
        status = NtStatus.NO_LOGON_SERVERS if unreached else NtStatus.LOGON_FAILURE
        super().__init__(f"no Kerberos ticket for {spn} from {source}: {reason}", status)
        self.spn = spn
        self.reason = reason

    @property
    def is_unknown_controller(self) -> bool:
        """Whether the KDC knows no controller of a domain by that name."""
        return self.spn.count("/") == 2 and "Server" in self.reason and "not found" in self.reason


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


class UnprovenServer(PosixError):
    """A share that is only to be had from a server that has proved who it is, and this one has not."""

    def __init__(self, share: object) -> None:
        text = f"{share} is only used if its server proves who it is, which takes Kerberos"
        super().__init__(_errno.EACCES, text)


class LoginNotAllowed(PosixError):
    """A server that none of the hosts that logins may go to is: the option login_hosts=. Nothing was sent to it."""

    def __init__(self, host: str) -> None:
        super().__init__(_errno.EACCES, f"{host} gets no login, as login_hosts= does not list it")
        self.status = NtStatus.ACCESS_DENIED

    @property
    def disposition(self) -> Disposition:
        return Disposition.NEXT_TARGET


class ForeignCaller(PosixError):
    """A process that does not live on this computer as we know it, so that the number of its user says nothing. It is
    about the process: others with that number may log in.
    """

    def __init__(self, pid: int, uid: int, reason: str) -> None:
        super().__init__(_errno.EACCES, f"process {pid} of user {uid} can't log in: {reason}")


class NamespaceLoop(PosixError):
    """A DFS path leads back to itself, or through more than the permitted number of namespaces."""

    def __init__(self, message: str) -> None:
        super().__init__(_errno.ELOOP, message)
