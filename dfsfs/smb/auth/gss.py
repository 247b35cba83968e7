"""NTLM and Kerberos as the client's side of a GSS exchange. The only module that uses spnego and gssapi.

An authenticator may compute for long, or wait for a KDC, so its steps have to run in a thread: `Connection.exchange`
does that. So does the import of this module, as the libraries take 70 ms: `smb/pool.py`. The mechanism is decided by
the credentials and never changed: after a failure of Kerberos NTLM is not tried, since an attacker in between could
provoke that.

Tokens are sent without SPNEGO, which Windows and Samba both accept: so there is no negotiation of mechanisms that could
be downgraded.

No text of an exception contains a token or a password.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Protocol

import gssapi
import spnego
from spnego.exceptions import SpnegoError

from dfsfs.errors import SmbError, TicketError, WireError
from dfsfs.ntstatus import NtStatus
from dfsfs.smb.auth import ticketcaches
from dfsfs.smb.auth.credentials import SERVICE, Credentials, KerberosCredentials, Login
from dfsfs.smb.auth.identity import as_user

if TYPE_CHECKING:
    from collections.abc import Sequence

_UNKNOWN_SERVER = "Server .*not found in Kerberos database"
"""The message of the Kerberos library if the KDC does not know the SPN; a regular expression."""
_NO_KDC = "Cannot (contact|find|resolve)"
"""How its messages begin if no KDC answers, or none is known; a regular expression."""


class Authenticator(Protocol):
    """One side of a GSS exchange."""

    @property
    def mutual(self) -> bool:
        """Whether the server is authenticated, once the exchange is complete."""

    def step(self, token: bytes | None) -> bytes | None:
        """The next token to send, or None. `token`: the server's, None for the first step.

        Raises:
            SmbError: LOGON_FAILURE, the exchange failed.
            TicketError: Kerberos has no ticket for the server.
            WireError: the server's token is malformed.
        """

    @property
    def session_key(self) -> bytes:
        """The key that both sides have once the exchange is complete; empty before."""


class NtlmAuthenticator:
    """NTLM with a user name and password. Never tries Kerberos."""

    mutual = False

    def __init__(self, credentials: Credentials, host: str) -> None:
        self._what = f"logging in to {host} as {credentials.principal}"
        self._is_begun = False
        try:
            self._context: Any = spnego.client(
                credentials.principal,
                credentials.password.reveal(),
                hostname=host,
                service=SERVICE,
                protocol="ntlm",
                options=spnego.NegotiateOptions.use_ntlm,
            )
        except SpnegoError as error:
            raise self._make_refusal(error) from None

    def step(self, token: bytes | None) -> bytes | None:
        # The server's first token lists its mechanisms; NTLM does not need it.
        incoming, self._is_begun = (token if self._is_begun else None), True
        try:
            answer: bytes | None = self._context.step(incoming)
        except SpnegoError as error:
            raise self._make_refusal(error) from None
        except Exception as error:
            # pyspnego checks little of what a server sends: KeyError, OverflowError, struct.error and more were seen.
            raise WireError(f"{self._what}: the server's token makes no sense ({type(error).__name__})") from None
        return answer

    @property
    def session_key(self) -> bytes:
        return bytes(self._context.session_key)

    def _make_refusal(self, error: Exception) -> SmbError:
        # The text of the original error is left out: it may quote tokens.
        return SmbError(NtStatus.LOGON_FAILURE, f"{self._what} ({type(error).__name__})")


class KerberosAuthenticator:
    """Kerberos with the tickets of a cache, the key of a keytab, or a password. The server is authenticated, too.

    `domains`: the third parts of the server's SPN to try in this order, as long as the KDC does not know the SPN:
    cifs/HOST/DOMAIN, which only a controller of that domain has (MS-ADTS 2.2.21; a computer may register SPNs of two
    parts only, 3.1.1.5.3.1.1.4), or empty for cifs/HOST.
    """

    def __init__(self, credentials: KerberosCredentials, host: str, domains: Sequence[str] = ("",)) -> None:
        self._credentials = credentials
        self._host = host
        self._domains = domains
        self._context: Any = None
        self._copy: ticketcaches.CacheCopy | None = None
        """The cache that the context reads, which has to exist as long as the context."""

    @property
    def mutual(self) -> bool:
        """Whether the server has proved that it knows the key of its SPN."""
        return self._context is not None and bool(self._context.complete)

    def step(self, token: bytes | None) -> bytes | None:
        """Raises: TicketError: there is no ticket for the server; SmbError: it refuses it, or does not prove itself."""
        try:
            with as_user(self._credentials.account):
                if self._context is None:
                    token = None  # the server's first token lists its mechanisms
                    answer: bytes | None = self._make_first_token()
                else:
                    answer = self._context.step(token)
        except SpnegoError as error:
            if token is not None:
                # It refuses the ticket, which may have expired by its clock, or fails to authenticate itself.
                what = f"logging in to {self._host} with Kerberos ({_reason(error)})"
                raise SmbError(NtStatus.LOGON_FAILURE, what) from None
            raise self._make_ticket_error(_reason(error)) from None
        except Exception as error:
            # The Kerberos libraries have exceptions of their own, and they are not part of pyspnego's interface.
            raise self._make_ticket_error(_reason(error)) from None
        return answer

    def _make_first_token(self) -> bytes | None:
        """The first token, for the first of the server's names that the KDC knows."""
        context = self._make_context()
        for last, domain in zip(range(len(self._domains))[::-1], self._domains, strict=True):
            try:
                _set_server_name(context, self._host, domain)
                token: bytes | None = context.step(None)
            except SpnegoError as error:
                if not last or not re.search(_UNKNOWN_SERVER, _reason(error)):
                    raise
                context = context.new_context()
            else:
                break
        self._context = context
        return token

    def _make_context(self) -> Any:
        who = self._credentials
        source: Any
        if who.keytab:
            source = spnego.KerberosKeytab(who.keytab, who.name or None)
        elif who.password:
            return spnego.client(who.name, who.password.reveal(), hostname=self._host, **_KERBEROS)
        elif who.ccache:
            self._copy = ticketcaches.copy_cache(who)
            source = spnego.KerberosCCache(self._copy.name if self._copy else who.ccache, who.name or None)
        else:
            source = spnego.CredentialCache(who.name or None)
        return spnego.client(source, hostname=self._host, **_KERBEROS)

    @property
    def session_key(self) -> bytes:
        if not self.mutual:
            return b""
        with as_user(self._credentials.account):
            return bytes(self._context.session_key)

    def _make_ticket_error(self, reason: str) -> TicketError:
        kdc_unreachable = re.search(_NO_KDC, reason) is not None
        spn = "/".join(filter(None, (SERVICE, self._host, self._domains[-1])))
        return TicketError(spn, self._credentials.source, reason, kdc_unreachable=kdc_unreachable)


def _set_server_name(context: Any, host: str, domain: str) -> None:
    """Has a context that has made no step yet ask for a ticket for cifs/HOST/DOMAIN.

    pyspnego makes SPNs of two parts only, and has no interface for another one. The realm of a domain is its name in
    capital letters, as always in Active Directory.
    """
    if domain:
        name = gssapi.Name(f"{SERVICE}/{host}/{domain}@{domain.upper()}", gssapi.NameType.kerberos_principal)
        context._context = gssapi.SecurityContext(
            name=name,
            creds=context._credential,
            usage="initiate",
            mech=gssapi.MechType.kerberos,
            flags=int(context._context_req),
        )


class PreparedAuthenticator:
    """An authenticator whose first token is made before the exchange."""

    def __init__(self, inner: Authenticator) -> None:
        self._inner = inner
        self._first: list[bytes | None] = []

    def make_first_token(self) -> None:
        """Makes the first token. Errors as in `step`."""
        self._first.append(self._inner.step(None))

    def step(self, token: bytes | None) -> bytes | None:
        return self._first.pop() if self._first else self._inner.step(token)

    @property
    def mutual(self) -> bool:
        return self._inner.mutual

    @property
    def session_key(self) -> bytes:
        return self._inner.session_key


_KERBEROS: dict[str, Any] = {
    "service": SERVICE,
    "protocol": "kerberos",
    "context_req": spnego.ContextReq.mutual_auth | spnego.ContextReq.integrity,
}


def _reason(error: BaseException) -> str:
    """The message of the Kerberos library, without those of pyspnego and GSSAPI around it."""
    base = getattr(error, "base_error", None) or error
    text = str(base).replace("\n", " ")
    parts = re.search(r"Major \(\d+\): (.+?),? Minor \(\d+\): (.+)$", text)
    if parts:
        text = parts[1] if parts[2] == "Success" else parts[2]
    text = re.sub(r"^b'(.*)'$", r"\1", text)
    return re.sub(r" -\d{6,}$", "", text).strip() or type(base).__name__


def make_authenticator(login: Login, host: str, domains: Sequence[str] = ("",)) -> Authenticator:
    """The client's side of a login at `host`, which for Kerberos has to be the name in its SPN.

    `domains`: see KerberosAuthenticator.
    """
    if isinstance(login, KerberosCredentials):
        return KerberosAuthenticator(login, host, domains)
    return NtlmAuthenticator(login, host)
