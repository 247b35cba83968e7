"""Secure negotiate: checks under signature that NEGOTIATE was not changed on the way (MS-SMB2 3.2.5.5, 3.2.5.14.12).

NEGOTIATE is not signed, so an attacker in between can make two peers that speak SMB 3.1.1 agree on 2.1, which has no
encryption. With 3.1.1 the hash of the negotiation detects that. Up to 3.0.2 the client repeats what it offered, and the
server what it chose (FSCTL_VALIDATE_NEGOTIATE_INFO). A server that received another offer ends the connection.

A server may not implement this FSCTL, and says so under signature. With dialect 2.1 that is accepted: every server that
speaks a newer dialect implements it, so no downgrade has taken place. With 3.0 and 3.0.2 it is an error.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dfsfs.errors import ConnectionLost, SecurityError, WireError
from dfsfs.ntstatus import NtStatus
from dfsfs.smb.connection.handshake import check_validate_negotiate, encode_validate_negotiate
from dfsfs.smb.wire import messages
from dfsfs.smb.wire.constants import CtlCode, Dialect

if TYPE_CHECKING:
    from dfsfs.smb.connection.calls import Response, Route
    from dfsfs.smb.connection.connection import Connection
    from dfsfs.smb.connection.handshake import Negotiated

UNKNOWN_FSCTL = frozenset(
    {
        NtStatus.FILE_CLOSED,
        NtStatus.FS_DRIVER_REQUIRED,
        NtStatus.INVALID_DEVICE_REQUEST,
        NtStatus.NOT_SUPPORTED,
    }
)
"""Statuses for an FSCTL that a server does not implement; FILE_CLOSED if it looks up the FileId first."""
_MAX_OUTPUT = 64
"""MaxOutputResponse in bytes; VALIDATE_NEGOTIATE_INFO has 24."""


async def validate_negotiate(connection: Connection, route: Route) -> None:
    """Has the server confirm the negotiation, unless the dialect is 3.1.1. `route`: of a tree on the new session. If
    the server does not confirm it, the connection is closed.

    Raises:
        SecurityError: the negotiation was changed on the way, or the server does not say.
        ConnectionLost: the server has ended the connection, as it does when it sees a change itself.
        WireError: the answer makes no sense.
    """
    negotiated = connection.negotiated
    if negotiated.dialect is Dialect.SMB_3_1_1:
        return
    question = messages.encode_ioctl(
        CtlCode.FSCTL_VALIDATE_NEGOTIATE_INFO, encode_validate_negotiate(negotiated), _MAX_OUTPUT
    )
    try:
        (response,) = await connection.call([question], route)
        check_confirmation(negotiated, response)
    except ConnectionLost as error:
        if error.status not in (NtStatus.CONNECTION_DISCONNECTED, NtStatus.CONNECTION_RESET):
            raise
        detail = (
            "the server has ended the connection when it was to confirm how that was negotiated: "
            "it may have been changed on the way (downgrade attack)"
        )
        raise ConnectionLost(connection.host, error.status, detail) from error
    except (SecurityError, WireError):
        connection.close()
        raise


def check_confirmation(negotiated: Negotiated, response: Response) -> None:
    """`response` is the server's answer, whose signature is valid. Errors as in `validate_negotiate`."""
    if response.status == NtStatus.SUCCESS:
        check_validate_negotiate(negotiated, bytes(messages.decode_ioctl(response.message, _MAX_OUTPUT)))
    elif negotiated.dialect is not Dialect.SMB_2_1 or response.status not in UNKNOWN_FSCTL:
        raise SecurityError(f"{negotiated.offer.host} does not confirm how the connection was negotiated")
