"""Who the mount is, and a holder for its password that does not give it away by accident. Pure."""

from __future__ import annotations

from dataclasses import dataclass


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

    @property
    def is_anonymous(self) -> bool:
        return not self.username

    @property
    def principal(self) -> str:
        """The name for messages and for NTLM: `DOMAIN\\user`, or `user` where no domain is known."""
        return f"{self.domain}\\{self.username}" if self.domain else self.username
