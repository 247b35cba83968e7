"""Logins: credentials for NTLM and Kerberos, and a holder for passwords that does not print them. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dfsfs.smb.auth.identity import Account
    from dfsfs.smb.auth.ticketcaches import RootDirectory


SERVICE = "cifs"
"""The first part of a file server's SPN."""


class Secret:
    """A text that shows as `***` wherever it is printed, logged or formatted."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The text itself."""
        return self._text

    def __bool__(self) -> bool:
        return bool(self._text)

    def __repr__(self) -> str:
        return "***"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return "***"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __reduce__(self) -> str:
        raise TypeError("a Secret is not to be stored")


@dataclass(frozen=True, slots=True)
class Credentials:
    """A user's name, password and domain for NTLM. An empty user name stands for an anonymous session (sec=none)."""

    username: str
    password: Secret
    domain: str = ""
    password2: Secret = field(default_factory=lambda: Secret(""))
    """The password to try if a server refuses `password`; empty: none."""

    is_named = True

    @property
    def is_anonymous(self) -> bool:
        return not self.username

    @property
    def other(self) -> Credentials | None:
        """The same with the two passwords swapped, if there is a second one."""
        return replace(self, password=self.password2, password2=self.password) if self.password2 else None

    @property
    def principal(self) -> str:
        """The name for messages and for NTLM: `DOMAIN\\user`, or `user` where no domain is known."""
        return f"{self.domain}\\{self.username}" if self.domain else self.username


@dataclass(frozen=True, slots=True)
class KerberosCredentials:
    """A Kerberos login. Tickets come from `keytab`, `password`, `ccache` or the default cache: the first that is set.

    `name`: the principal, `alice@REALM`; empty: the first one of the cache or keytab. `account`: the user of this
    machine as whom caches are read, None: the user that this process runs as. `root`: the root directory for the paths
    of caches, None: that of this process.
    """

    name: str = ""
    ccache: str = ""
    keytab: str = ""
    password: Secret = field(default_factory=lambda: Secret(""))
    account: Account | None = None
    root: RootDirectory | None = None

    @property
    def principal(self) -> str:
        """The name for messages, or the source of tickets if the name is not known."""
        return self.name or self.source

    @property
    def is_named(self) -> bool:
        """Whether the name of the principal is known."""
        return bool(self.name)

    @property
    def has_cache(self) -> bool:
        """Whether tickets come from a cache, which was filled by another program."""
        return not self.keytab and not self.password

    @property
    def source(self) -> str:
        """The source of tickets, for messages."""
        if self.keytab:
            return f"keytab {self.keytab}"
        if self.password:
            return f"the password of {self.name}"
        if self.ccache:
            return f"ticket cache {self.ccache}"
        return "the default ticket cache" if self.account is None else f"the ticket cache of user {self.account.uid}"


Login = Credentials | KerberosCredentials
"""The login of a user: NTLM or Kerberos. There is no fallback from one to the other."""
