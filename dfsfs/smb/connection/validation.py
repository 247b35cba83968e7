"""Whether the negotiation of a connection went unchanged, asked again under signature (MS-SMB2 3.2.5.5, 3.2.5.14.12).

NEGOTIATE is not signed, so whoever is between can have two that speak SMB 3.1.1 agree on 2.1, which has no encryption.
3.1.1 itself shows that by the hash of the negotiation; up to 3.0.2 the client repeats what it had offered, and the
server what it had chosen (FSCTL_VALIDATE_NEGOTIATE_INFO). A server that had chosen otherwise ends the connection.

A server may not know the question, and says so under signature. With 2.1 that is an answer: every server that speaks
anything newer knows it, so there was nothing to talk it out of. With 3.0 and 3.0.2 it is none.
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
"""What servers say to an FSCTL that they don't know; FILE_CLOSED if they look for its file first, and it has none."""
_ROOM = 64
"""Bytes of output that are asked for; an answer has 24."""


async def validate_negotiate(connection: Connection, route: Route) -> None:
    """Has the server confirm how the connection was negotiated, unless the dialect's own keys do. `route` is that of a
    tree on the new session. If the server does not confirm it, the connection is closed.

    Raises:
        SecurityError: the negotiation was changed on the way, or the server does not say.
        ConnectionLost: the server has ended the connection, as it does when it sees a change itself.
        WireError: the answer makes no sense.
    """
    negotiated = connection.negotiated
    if negotiated.dialect is Dialect.SMB_3_1_1:
        return
    question = messages.encode_ioctl(
        CtlCode.FSCTL_VALIDATE_NEGOTIATE_INFO, encode_validate_negotiate(negotiated), _ROOM
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
        check_validate_negotiate(negotiated, bytes(messages.decode_ioctl(response.message, _ROOM)))
    elif negotiated.dialect is not Dialect.SMB_2_1 or response.status not in UNKNOWN_FSCTL:
        raise SecurityError(f"{negotiated.offer.host} does not confirm how the connection was negotiated")
