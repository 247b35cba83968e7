"""From the name of a server, as referrals and users write it, to the name that DNS and Kerberos know.

A referral may name a server by its short name (`FS1`), by its full one, or by an address; and a domain (`contoso.test`,
`CONTOSO`) stands for any of its controllers. Kerberos knows servers by their full names only: there is no SPN for a
short name that DNS would not resolve, nor for a domain.

Pure but for what is learnt: `suffixes`, `stand_ins` and `learnt` grow when a domain has been found.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dfsfs.unc import fold_name

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(slots=True)
class HostNames:
    """What is known of names of servers."""

    hosts: Mapping[str, str] = field(default_factory=dict)
    """Fixed addresses by folded name: the option hosts=."""
    address: str | None = None
    """One address for every name."""
    suffixes: tuple[str, ...] = ()
    """What may follow a short name in DNS, in the order to try: `contoso.test`."""
    learnt: dict[str, str] = field(default_factory=dict)
    """Addresses of controllers that have answered, by folded name: what DNS would say, but it need not be asked."""
    stand_ins: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """The controllers that stand for domains, in the order to try them, by the folded name of the domain."""

    def candidates(self, host: str) -> tuple[tuple[str, str], ...]:
        """The full names that `host` may stand for, each with what to look up: a name or an address. The likely
        first.
        """
        names = self.stand_ins.get(fold_name(host)) or self._names(host)
        return tuple((name, self._address(name, host)) for name in names)

    def _names(self, host: str) -> tuple[str, ...]:
        if "." in host or is_address(host):
            return (host,)
        return (*(f"{host}.{suffix}" for suffix in self.suffixes), host)

    def fixed(self, host: str) -> str | None:
        """The address that the options give a server, if they do."""
        return self.address or self.hosts.get(fold_name(host))

    def _address(self, name: str, host: str) -> str:
        return self.fixed(name) or self.fixed(host) or self.learnt.get(fold_name(name)) or name


def is_address(host: str) -> bool:
    """Whether a server is named by its IP address."""
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True
