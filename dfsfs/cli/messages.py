"""What the commands say when a mount fails: one line for each failure, with what went wrong and what to do about it.

Pure. The exceptions of the layers below say what a server answered and in which step; here is what that means for
someone who wants a mount. Statuses without an entry are shown by their name.
"""

from __future__ import annotations

import errno
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dfsfs.config import ConfigError
from dfsfs.errors import (
    ConnectError,
    ConnectionLost,
    DfsfsError,
    LoginNotAllowed,
    NamespaceLoop,
    PosixError,
    SecurityError,
    SmbError,
    TicketError,
    UnprovenServer,
    WireError,
)
from dfsfs.ntstatus import NtStatus, status_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from dfsfs.config.model import MountConfig

SUCCESS = 0
USAGE = ConfigError.exit_code
"""Also: not permitted. This and the next are the exit codes of mount(8)."""
SYSTEM_ERROR = 2
INTERRUPTED = 8
MOUNT_FAILURE = 32


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


_CHECK_LOGIN = "check username=, domain=, and password= or the credentials file"
_ASK_ADMINISTRATOR = "ask the administrator of that account"

_LOGIN: Mapping[int, tuple[str, str]] = {
    NtStatus.LOGON_FAILURE: (
        "the server does not know user {user}, or the password is wrong",
        _CHECK_LOGIN,
    ),
    NtStatus.WRONG_PASSWORD: ("the password of user {user} is wrong", _CHECK_LOGIN),
    NtStatus.NO_SUCH_USER: ("there is no user {user}", _CHECK_LOGIN),
    NtStatus.ACCOUNT_DISABLED: ("the account of user {user} is disabled", _ASK_ADMINISTRATOR),
    NtStatus.ACCOUNT_LOCKED_OUT: ("the account of user {user} is locked", _ASK_ADMINISTRATOR),
    NtStatus.ACCOUNT_RESTRICTION: ("the account of user {user} may not log in like this", _ASK_ADMINISTRATOR),
    NtStatus.INVALID_LOGON_HOURS: ("user {user} may not log in at this time of day", _ASK_ADMINISTRATOR),
    NtStatus.INVALID_WORKSTATION: ("user {user} may not log in from this computer", _ASK_ADMINISTRATOR),
    NtStatus.LOGON_TYPE_NOT_GRANTED: ("user {user} may not log in over the network", _ASK_ADMINISTRATOR),
    NtStatus.PASSWORD_EXPIRED: ("the password of user {user} has expired", "change it and try again"),
    NtStatus.PASSWORD_MUST_CHANGE: ("the password of user {user} has to be changed", "change it and try again"),
    NtStatus.NO_LOGON_SERVERS: (
        "the server reaches no domain controller to check user {user}",
        "check domain=, or try again later",
    ),
    NtStatus.TRUSTED_RELATIONSHIP_FAILURE: (
        "the server's own account in the domain is broken",
        "its administrator has to repair that",
    ),
}

_NO_FOLDER = ("there is no such folder", "check the path after the share's name")
_NO_SHARE = (
    "the server has no share or namespace of that name",
    "check the spelling; `smbclient -L {host} -U USER` lists what there is",
)
_NO_NAMESPACE = (
    "the server knows no DFS namespace or link of that name",
    "check the spelling, or use the option nodfs if it is a plain share",
)

_ANSWERS: Mapping[int, tuple[str, str]] = {
    **_LOGIN,
    NtStatus.ACCESS_DENIED: ("user {user} has no permission", "mount as another user, or have the permission granted"),
    NtStatus.NETWORK_ACCESS_DENIED: ("user {user} has no permission", "mount as another user"),
    NtStatus.BAD_NETWORK_NAME: _NO_SHARE,
    NtStatus.OBJECT_NAME_NOT_FOUND: _NO_FOLDER,
    NtStatus.OBJECT_PATH_NOT_FOUND: _NO_FOLDER,
    NtStatus.NO_SUCH_FILE: _NO_FOLDER,
    NtStatus.OBJECT_NAME_INVALID: _NO_FOLDER,
    NtStatus.NOT_A_DIRECTORY: ("that is not a folder", "mount the folder that it is in"),
    NtStatus.NOT_FOUND: _NO_NAMESPACE,
    NtStatus.NO_SUCH_DEVICE: _NO_NAMESPACE,
    NtStatus.DFS_UNAVAILABLE: ("DFS is not running on the server", "start it, or use the option nodfs"),
    NtStatus.PATH_NOT_COVERED: (
        "the path leads to other servers through DFS",
        "mount without the option nodfs",
    ),
    NtStatus.NOT_SUPPORTED: ("the server does not do that", "check option vers="),
    NtStatus.TOO_MANY_SESSIONS: ("the server takes no more sessions", "try again later"),
    NtStatus.REQUEST_NOT_ACCEPTED: ("the share takes no more users", "try again later"),
    NtStatus.INSUFFICIENT_RESOURCES: ("the server is out of memory", "try again later"),
    NtStatus.SHARING_PAUSED: ("the share is paused", "try again later"),
}
"""What a status means in the step in which it came, and what to do."""

_CONNECTING: Mapping[int, str] = {
    NtStatus.BAD_NETWORK_PATH: "check the spelling and DNS, or give its address with option ip= or hosts=",
    NtStatus.CONNECTION_REFUSED: "check that a file server runs there, and option port=",
    NtStatus.IO_TIMEOUT: "check that the server is up, and that no firewall drops the connection",
    NtStatus.HOST_UNREACHABLE: "check that the server is up and this computer's network",
    NtStatus.NETWORK_UNREACHABLE: "check this computer's network",
    NtStatus.CONNECTION_RESET: "check that a file server with SMB 2.1 or later runs there, and options vers= and port=",
}

_REFUSALS: Mapping[int, tuple[int, str]] = {
    errno.EPERM: (USAGE, "only root, or who may use fusermount3, can mount"),
    errno.EACCES: (USAGE, "only root, or who may use fusermount3, can mount"),
    errno.ENOTDIR: (MOUNT_FAILURE, "mount the folder that it is in"),
    errno.ENODEV: (SYSTEM_ERROR, "load the kernel module: modprobe fuse"),
    errno.ENOENT: (SYSTEM_ERROR, "load the kernel module: modprobe fuse"),
}


def describe(error: BaseException, config: MountConfig) -> Verdict:
    """The exit code and the line for an exception that ended a mount before it was ready."""
    leaf = _most_telling(error)
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
    match error:
        case SmbError():
            text = _answer(error, config)
        case ConnectError():
            advice = _CONNECTING.get(error.status, "check that the server is up")
            detail = str(error).removeprefix(f"{error.host}: ")
            if error.status == NtStatus.CONNECTION_REFUSED:
                detail = "connection refused"
            text = f"can't connect to {error.host}:{config.transport.port}: {detail}; {advice}"
        case ConnectionLost():
            text = f"the connection was lost: {error}; check the network and the server, and try again"
        case TicketError():
            text = f"logging in with Kerberos: {error}; {_ticket_advice(error)}"
        case UnprovenServer():
            text = f"{error}; use sec=krb5, or the option nohardened if you trust the network"
        case LoginNotAllowed():
            text = f"{error}; add the host to login_hosts= if it may have what you log in with"
        case SecurityError():
            text = f"{error}; nothing of what the server says can be trusted, so the mount is given up"
        case WireError():
            text = f"a server's answer makes no sense: {error}; check that it is a file server"
        case NamespaceLoop():
            text = f"{error}; its administrator has to put the links right, unless dfs_max_hops= is too low"
        case PosixError():
            code, advice = _REFUSALS.get(error.errno, (MOUNT_FAILURE, ""))
            return Verdict(code, f"{error}; {advice}" if advice else str(error))
        case _:
            text = str(error)
    return Verdict(MOUNT_FAILURE, text)


_TICKET_ADVICE = (
    ("No credentials cache found|No Kerberos credentials|Matching credential not found", "get a ticket with kinit"),
    ("xpired", "get a new ticket with kinit"),
    ("not found in Kerberos database", "check the name of the server; an address or an alias has no tickets"),
    ("Clock skew", "set the clock of this computer: it differs by more than 5 minutes from that of the domain"),
    ("Cannot (contact|find|resolve)|no answer", "check DNS, /etc/krb5.conf, and that a domain controller is up"),
    ("[Pp]reauthentication failed|Password incorrect|password", "check the user and the password, or the keytab"),
    ("[Kk]eytab|Key table", "check keytab= and principal="),
)


def _ticket_advice(error: TicketError) -> str:
    if error.is_unknown_controller:
        return "it is taken for a controller of that domain and does not prove it; nohardened takes it all the same"
    found = (advice for pattern, advice in _TICKET_ADVICE if re.search(pattern, error.reason))
    return next(found, "see klist and kinit")


def _answer(error: SmbError, config: MountConfig) -> str:
    name = status_name(error.status)
    if error.status not in _ANSWERS:
        return f"{error.what}: the server refuses with {name}"
    meaning, advice = _ANSWERS[error.status]
    user = f"'{config.credentials.principal}'" if config.credentials.is_named else f"of {config.credentials.principal}"
    text = f"{meaning} ({name}); {advice}".replace("{host}", config.unc.host).replace("{user}", user)
    return f"{error.what}: {text}"


def _most_telling(error: BaseException) -> BaseException:
    """The exception of a group that says most: an error of dfsfs, then one of the system, then whatever is first."""
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
