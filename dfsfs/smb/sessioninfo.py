"""SessionInfo: a description of a session: the server, the user, and how it is protected."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dfsfs.smb.auth.credentials import SERVICE, KerberosCredentials
from dfsfs.smb.wire.constants import Cipher, Dialect, SigningAlgorithm

if TYPE_CHECKING:
    from dfsfs.smb.auth.credentials import Login
    from dfsfs.smb.connection.connection import Connection
    from dfsfs.smb.connection.handshake import Session
    from dfsfs.smb.connection.protocol import ProtocolStatistics
    from dfsfs.smb.tree.tree import Tree

_DIALECTS = {Dialect.SMB_2_1: "2.1", Dialect.SMB_3_0: "3.0", Dialect.SMB_3_0_2: "3.0.2", Dialect.SMB_3_1_1: "3.1.1"}
_SIGNING = {
    SigningAlgorithm.HMAC_SHA256: "HMAC-SHA256",
    SigningAlgorithm.AES_CMAC: "AES-CMAC",
    SigningAlgorithm.AES_GMAC: "AES-GMAC",
}
_CIPHERS = {
    Cipher.AES_128_CCM: "AES-128-CCM",
    Cipher.AES_128_GCM: "AES-128-GCM",
    Cipher.AES_256_CCM: "AES-256-CCM",
    Cipher.AES_256_GCM: "AES-256-GCM",
}


@dataclass(frozen=True, slots=True)
class SessionInfo:
    """A snapshot of one session.

    `host`: the server's name in referrals; `name`: its full name at the login. `encryption`: the cipher, empty if
    messages are only signed. `authentication`: `Kerberos` or `NTLM`; `spn`: that of the ticket with Kerberos. `user`:
    the principal that logged in; `uid`: the user of this computer, None for the mount's own session.
    """

    host: str
    name: str
    address: str
    dialect: str
    signing: str
    encryption: str
    authentication: str
    spn: str
    user: str
    shares: tuple[str, ...]
    statistics: ProtocolStatistics
    uid: int | None = None


def describe(
    host: str, name: str, address: str, connection: Connection, session: Session, login: Login, trees: list[Tree]
) -> SessionInfo:
    """Makes the SessionInfo of a session with these live trees."""
    negotiated, kerberos = connection.negotiated, isinstance(login, KerberosCredentials)
    sealed = session.encrypt or any(tree.route.seal for tree in trees)
    return SessionInfo(
        host=host,
        name=name,
        address=address,
        dialect=_DIALECTS[negotiated.dialect],
        signing=_SIGNING[negotiated.signing],
        encryption=_CIPHERS[negotiated.cipher] if sealed and negotiated.cipher is not None else "",
        authentication="Kerberos" if kerberos else "NTLM",
        spn=f"{SERVICE}/{name}" if kerberos else "",
        user=login.principal,
        shares=tuple(sorted(tree.share.components[1] for tree in trees)),
        statistics=connection.statistics(),
    )
