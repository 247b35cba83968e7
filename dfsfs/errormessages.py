"""One line for users about an error: what it means, and what to do about it.

Mounts, commands and reports all take their sentences from here, so that `dfsfs check` says of a server what mount.dfsfs
would say. The exceptions of the layers below say what a server answered and in which step. Pure.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from dfsfs.errors import (
    ConnectError,
    ConnectionLost,
    DfsfsError,
    LoginNotAllowed,
    MutualAuthenticationRequired,
    NamespaceLoop,
    SecurityError,
    SmbError,
    TicketError,
    WireError,
)
from dfsfs.ntstatus import NtStatus, status_name
from dfsfs.statusmessages import STATUS_MESSAGES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dfsfs.config.model import MountConfig

_CONNECTING: Mapping[int, str] = {
    NtStatus.BAD_NETWORK_PATH: "check the spelling and DNS, or give its address with option ip= or hosts=",
    NtStatus.CONNECTION_REFUSED: "check that a file server runs there, and option port=",
    NtStatus.IO_TIMEOUT: "check that the server is up, and that no firewall drops the connection",
    NtStatus.HOST_UNREACHABLE: "check that the server is up and this computer's network",
    NtStatus.NETWORK_UNREACHABLE: "check this computer's network",
    NtStatus.CONNECTION_RESET: "check that a file server with SMB 2.1 or later runs there, and options vers= and port=",
}


def describe_error(error: DfsfsError, config: MountConfig) -> str:
    """The line for an error of requests that were made with such a configuration."""
    match error:
        case SmbError():
            return _answer(error, config)
        case ConnectError():
            advice = _CONNECTING.get(error.status, "check that the server is up")
            detail = str(error).removeprefix(f"{error.host}: ")
            if error.status == NtStatus.CONNECTION_REFUSED:
                detail = "connection refused"
            return f"can't connect to {error.host}:{config.transport.port}: {detail}; {advice}"
        case ConnectionLost():
            return f"the connection was lost: {error}; check the network and the server, and try again"
        case TicketError():
            return f"logging in with Kerberos: {error}; {_ticket_advice(error)}"
        case MutualAuthenticationRequired():
            return f"{error}; use sec=krb5, or the option nohardened if you trust the network"
        case LoginNotAllowed():
            return f"{error}; add the host to login_hosts= if it may have what you log in with"
        case SecurityError():
            return f"{error}; nothing of what the server says can be trusted, so it is given up"
        case WireError():
            return f"a server's answer makes no sense: {error}; check that it is a file server"
        case NamespaceLoop():
            return f"{error}; its administrator has to put the links right, unless dfs_max_hops= is too low"
        case _:
            return str(error)


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
    if error.status not in STATUS_MESSAGES:
        return f"{error.what}: the server refuses with {name}"
    meaning, advice = STATUS_MESSAGES[error.status]
    if error.status == NtStatus.PATH_NOT_COVERED and config.use_dfs:
        advice = "its administrator has to look at that link"
    user = f"'{config.credentials.principal}'" if config.credentials.is_named else f"of {config.credentials.principal}"
    text = f"{meaning} ({name}); {advice}".replace("{host}", config.unc.host).replace("{user}", user)
    return f"{error.what}: {text}"
