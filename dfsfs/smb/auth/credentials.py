"""Who logs in and with what, and a holder for passwords that does not give them away by accident. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dfsfs.smb.auth.identity import Account
    from dfsfs.smb.auth.ticketcaches import RootFolder


class Secret:
    """A text that shows as `***` wherever it is printed, logged or formatted."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The text itself, for the one place that needs it."""
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
    """What to try if a server does not want `password`; empty: nothing."""

    is_named = True

    @property
    def is_anonymous(self) -> bool:
        return not self.username

    @property
    def other(self) -> Credentials | None:
        """The same with the second password as the first, if there is one."""
        return replace(self, password=self.password2, password2=self.password) if self.password2 else None

    @property
    def principal(self) -> str:
        """The name for messages and for NTLM: `DOMAIN\\user`, or `user` where no domain is known."""
        return f"{self.domain}\\{self.username}" if self.domain else self.username


@dataclass(frozen=True, slots=True)
class KerberosCredentials:
    """A user of Kerberos. Tickets come from `keytab`, `password`, `ccache` or the default cache: the first that is
    there.

    `name` is a principal, `alice@REALM`; empty: the one that the cache or the keytab begins with. `account` is the
    user of this machine as whom caches are read, None: as whom this process runs. `root` is where the paths of caches
    begin, None: where those of this process do.
    """

    name: str = ""
    ccache: str = ""
    keytab: str = ""
    password: Secret = field(default_factory=lambda: Secret(""))
    account: Account | None = None
    root: RootFolder | None = None

    @property
    def principal(self) -> str:
        """The name for messages, or where tickets come from if none is known."""
        return self.name or self.source

    @property
    def is_named(self) -> bool:
        """Whether the name is known, and not only where tickets come from."""
        return bool(self.name)

    @property
    def has_cache(self) -> bool:
        """Whether tickets come from a cache, which somebody has filled."""
        return not self.keytab and not self.password

    @property
    def source(self) -> str:
        """Where tickets come from, for messages."""
        if self.keytab:
            return f"keytab {self.keytab}"
        if self.password:
            return f"the password of {self.name}"
        if self.ccache:
            return f"ticket cache {self.ccache}"
        return "the default ticket cache" if self.account is None else f"the ticket cache of user {self.account.uid}"


Login = Credentials | KerberosCredentials
"""What a user logs in with: NTLM or Kerberos, and never one for the other."""
