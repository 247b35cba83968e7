"""From the name of a server, as referrals and users write it, to the name that DNS and Kerberos know.

A referral may name a server by its short name (`FS1`), by its full one, or by an address; and a domain (`contoso.test`,
`CONTOSO`) stands for any of its controllers. Kerberos knows servers by their full names only: there is no SPN for a
short name that DNS would not resolve, nor for a domain.

Pure but for what is learnt: `suffixes`, `stand_ins`, `learnt` and `finder` come when a domain has been found.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Protocol

from dfsfs.unc import address_in, fold_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


class HostFinder(Protocol):
    """Somebody who knows our domain, and finds addresses besides the system's resolver, which may wait for a name
    server that is down.
    """

    async def look(self) -> None:
        """Before a ticket is asked for: finds out which controller answers, so that one that hangs is not asked first.
        The Kerberos library waits for 10 seconds for a KDC that takes its connection and says nothing.
        """

    @property
    def is_ahead(self) -> bool:
        """Whether it knows that the system's resolver will begin with a name server that says nothing."""

    async def addresses(self, host: str) -> Sequence[str]:
        """IP addresses of a host; none if it is not for this one to say."""


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
    domains: dict[str, str] = field(default_factory=dict)
    """The domain, by its name in DNS, of each host that is taken for a controller, by the folded full name of that."""
    finder: HostFinder | None = None

    def candidates(self, host: str) -> tuple[tuple[str, str], ...]:
        """The full names that `host` may stand for, each with what to look up: a name or an address. The likely
        first.
        """
        return tuple(dict(each for names in self.stand_ins_for(host) for each in names).items())

    def stand_ins_for(self, host: str) -> tuple[tuple[tuple[str, str], ...], ...]:
        """The servers that `host` stands for: controllers if it is a domain, else one. Each by its candidates."""
        servers = self.stand_ins.get(fold_name(host)) or (host,)
        return tuple(tuple((name, self._address(name, each, host)) for name in self._names(each)) for each in servers)

    def note_controllers(self, domain: str, hosts: Iterable[str]) -> None:
        """These hosts are taken for controllers of a domain, and have to prove that they are."""
        for host in hosts:
            if not is_address(host):
                for name in self._names(host):
                    self.domains[fold_name(name)] = domain

    def domain_of(self, name: str) -> str:
        """The domain that a host, by its full name, is taken for a controller of; empty if it is none."""
        return self.domains.get(fold_name(name), "")

    def _names(self, host: str) -> tuple[str, ...]:
        if "." in host or is_address(host):
            return (host,)
        return (*(f"{host}.{suffix}" for suffix in self.suffixes), host)

    def fixed(self, host: str) -> str | None:
        """The address that the options give a server, if they do."""
        return self.address or self.hosts.get(fold_name(address_in(host) or host))

    def _address(self, *names: str) -> str:
        """What to look up for the first of some names, which are all of one host."""
        fixed = next(filter(None, map(self.fixed, names)), None)
        learnt = next(filter(None, (self.learnt.get(fold_name(name)) for name in names)), None)
        return fixed or learnt or address_in(names[0]) or names[0]


def listed(patterns: Sequence[str], host: str, candidates: Sequence[tuple[str, str]]) -> Sequence[tuple[str, str]]:
    """Those of the candidates for a host that match a list of patterns by their name or the host's; all without one."""
    return [each for each in candidates if is_listed(patterns, host, each[0])] if patterns else candidates


def is_listed(patterns: Sequence[str], *names: str) -> bool:
    """Whether one of the names of a host matches one of some patterns, with * and ?, in whatever case."""
    return any(fnmatchcase(fold_name(name), fold_name(pattern)) for pattern in patterns for name in names)


def is_address(host: str) -> bool:
    """Whether a server is named by its IP address."""
    return address_in(host) is not None
