"""What a status of a server means, in words, and what to do about it: the one table for logs, messages and reports.

The text of an error has the meaning without names (`SmbError`); errormessages.py fills in user and server, and adds the
advice. Pure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dfsfs.ntstatus import NtStatus, status_name

if TYPE_CHECKING:
    from collections.abc import Mapping

_CHECK_LOGIN = "check username=, domain=, and password= or the credentials file"
_ASK_ADMINISTRATOR = "ask the administrator of that account"
_LATER = "try again later"
_LOOK_AT_SERVER = "its administrator has to look at the server"

_LOGIN: Mapping[int, tuple[str, str]] = {
    NtStatus.LOGON_FAILURE: (
        "the server does not know user {user}, or the password is wrong",
        _CHECK_LOGIN,
    ),
    NtStatus.WRONG_PASSWORD: ("the password of user {user} is wrong", _CHECK_LOGIN),
    NtStatus.NO_SUCH_USER: ("there is no user {user}", _CHECK_LOGIN),
    NtStatus.ACCOUNT_DISABLED: ("the account of user {user} is disabled", _ASK_ADMINISTRATOR),
    NtStatus.ACCOUNT_EXPIRED: ("the account of user {user} has expired", _ASK_ADMINISTRATOR),
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

_NOTHING_THERE = ("there is no such file or folder", "check the path after the share's name")
_NO_SHARE = (
    "the server has no share or namespace of that name",
    "check the spelling; `smbclient -L {host} -U USER` lists what there is",
)
_NO_NAMESPACE = (
    "the server knows no DFS namespace or link of that name",
    "check the spelling, or use the option nodfs if it is a plain share",
)

STATUS_MESSAGES: Mapping[int, tuple[str, str]] = {
    **_LOGIN,
    NtStatus.ACCESS_DENIED: ("user {user} has no permission", "log in as another user, or have the permission granted"),
    NtStatus.NETWORK_ACCESS_DENIED: ("user {user} has no permission", "log in as another user"),
    NtStatus.BAD_NETWORK_NAME: _NO_SHARE,
    NtStatus.OBJECT_NAME_NOT_FOUND: _NOTHING_THERE,
    NtStatus.OBJECT_PATH_NOT_FOUND: _NOTHING_THERE,
    NtStatus.NO_SUCH_FILE: _NOTHING_THERE,
    NtStatus.OBJECT_NAME_INVALID: ("the server takes no such name", "check the path after the share's name"),
    NtStatus.OBJECT_NAME_COLLISION: ("there is something of that name already", "choose another name"),
    NtStatus.NOT_A_DIRECTORY: ("that is not a folder", "name the folder that it is in"),
    NtStatus.FILE_IS_A_DIRECTORY: ("that is a folder", "name a file"),
    NtStatus.SHARING_VIOLATION: ("somebody else has it open", _LATER),
    NtStatus.DELETE_PENDING: ("it is being removed", _LATER),
    NtStatus.DISK_FULL: ("the server's disk is full", "make room there"),
    NtStatus.DISK_QUOTA_EXCEEDED: ("user {user} has used up the room there", "make room there"),
    NtStatus.MEDIA_WRITE_PROTECTED: ("the share is read only", "choose another one"),
    NtStatus.NOT_FOUND: _NO_NAMESPACE,
    NtStatus.NO_SUCH_DEVICE: _NO_NAMESPACE,
    NtStatus.DFS_UNAVAILABLE: ("DFS is not running on the server", "start it, or use the option nodfs"),
    NtStatus.PATH_NOT_COVERED: (
        "the path leads to other servers through DFS",
        "leave out the option nodfs",
    ),
    NtStatus.NOT_SUPPORTED: ("the server does not do that", "check option vers="),
    NtStatus.TOO_MANY_SESSIONS: ("the server takes no more sessions", _LATER),
    NtStatus.REQUEST_NOT_ACCEPTED: ("the share takes no more users", _LATER),
    NtStatus.INSUFFICIENT_RESOURCES: ("the server is out of memory", _LATER),
    NtStatus.SHARING_PAUSED: ("the share is paused", _LATER),
    NtStatus.IO_TIMEOUT: ("the server does not answer", "check that it is up"),
    NtStatus.CONNECTION_REFUSED: ("the server takes no connection", "check that it is up"),
    NtStatus.CONNECTION_RESET: ("the server ended the connection", _LATER),
    NtStatus.CONNECTION_DISCONNECTED: ("the connection ended", _LATER),
    NtStatus.HOST_UNREACHABLE: ("the server can't be reached", "check that it is up and this computer's network"),
    NtStatus.NETWORK_UNREACHABLE: ("the server's network can't be reached", "check this computer's network"),
    NtStatus.BAD_NETWORK_PATH: ("the server is not known, or can't be reached", "check the spelling and DNS"),
    NtStatus.INVALID_NETWORK_RESPONSE: ("the server's answer makes no sense", _LOOK_AT_SERVER),
    NtStatus.IO_REPARSE_TAG_NOT_HANDLED: ("the server does not follow what lies there", _LOOK_AT_SERVER),
    NtStatus.NETWORK_NAME_DELETED: ("the share was taken away", _LATER),
    NtStatus.USER_SESSION_DELETED: ("the server ended the session", _LATER),
    NtStatus.NETWORK_SESSION_EXPIRED: ("the session has expired", _LATER),
}
"""What a status means, and the advice for it. `{user}` stands for the login, `{host}` for the server."""

_DESCRIPTIONS: Mapping[int, str] = {
    status: f"{meaning.replace('user {user}', 'the user')} ({status_name(status)})"
    for status, (meaning, _) in STATUS_MESSAGES.items()
}


def describe_status(status: int) -> str:
    """A status in words, with its name behind them: `there is no such file or folder (STATUS_NO_SUCH_FILE)`."""
    return _DESCRIPTIONS.get(status) or f"the server refuses ({status_name(status)})"
