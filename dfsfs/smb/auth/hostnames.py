"""HostNames: from names of servers in referrals and options to names in DNS and Kerberos.

A referral may name a server by its short name (`FS1`), by its full one, or by an address; and a domain (`contoso.test`,
`CONTOSO`) stands for any of its controllers. Kerberos knows servers by full names only: there is no SPN for a short
name that DNS would not resolve, nor for a domain.

Pure; `suffixes`, `controllers_of`, `found_addresses`, `domains` and `finder` are set by the discovery of the domain.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Protocol

from dfsfs.unc import fold_name, parse_address

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


class HostFinder(Protocol):
    """Finds controllers of our domain, and addresses besides the system's resolver, which may wait for a name server
    that is down.
    """

    async def find_live_controller(self) -> None:
        """To be called before a ticket is requested: finds a controller that answers, and has the Kerberos library ask
        it first. The library waits 10 seconds for a KDC that accepts its connection and does not answer.
        """

    @property
    def expects_slow_resolver(self) -> bool:
        """Whether the name server that the system's resolver asks first is known not to answer."""

    async def find_addresses(self, host: str) -> Sequence[str]:
        """IP addresses of a host; none if it is not in our domain."""


@dataclass(slots=True)
class HostNames:
    """See the module's text."""

    hosts: Mapping[str, str] = field(default_factory=dict)
    """Fixed addresses by folded name: the option hosts=."""
    address: str | None = None
    """One address for every name."""
    suffixes: tuple[str, ...] = ()
    """Domains that are appended to short names, in the order to try: `contoso.test`."""
    found_addresses: dict[str, str] = field(default_factory=dict)
    """Addresses of controllers that have answered, by folded name."""
    controllers_of: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Controllers of domains, in the order to try, by the folded name of the domain."""
    domains: dict[str, str] = field(default_factory=dict)
    """The name in DNS of the domain of each host that is taken for a controller, by its folded full name."""
    finder: HostFinder | None = None

    def candidates(self, host: str) -> tuple[tuple[str, str], ...]:
        """The full names that `host` may stand for, the likely ones first, each with the name or address to look up."""
        return tuple(dict(each for names in self.find_servers(host) for each in names).items())

    def find_servers(self, host: str) -> tuple[tuple[tuple[str, str], ...], ...]:
        """The servers that `host` stands for: the controllers of a domain, or one. Each is a list of candidates."""
        servers = self.controllers_of.get(fold_name(host)) or (host,)
        return tuple(
            tuple((name, self._address_of(name, each, host)) for name in self._qualify(each)) for each in servers
        )

    def add_controllers(self, domain: str, hosts: Iterable[str]) -> None:
        """Takes hosts for controllers of a domain: Kerberos then demands the SPN of a controller."""
        for host in hosts:
            if not is_address(host):
                for name in self._qualify(host):
                    self.domains[fold_name(name)] = domain

    def domain_of(self, name: str) -> str:
        """The domain of which the host with this full name is taken for a controller; empty if none."""
        return self.domains.get(fold_name(name), "")

    def _qualify(self, host: str) -> tuple[str, ...]:
        if "." in host or is_address(host):
            return (host,)
        return (*(f"{host}.{suffix}" for suffix in self.suffixes), host)

    def configured_address(self, host: str) -> str | None:
        """The address of a server in the options, if any."""
        return self.address or self.hosts.get(fold_name(parse_address(host) or host))

    def _address_of(self, *names: str) -> str:
        """The name or address to look up for the first of some names of one host."""
        fixed = next(filter(None, map(self.configured_address, names)), None)
        found_addresses = next(filter(None, (self.found_addresses.get(fold_name(name)) for name in names)), None)
        return fixed or found_addresses or parse_address(names[0]) or names[0]


def select_allowed(
    patterns: Sequence[str], host: str, candidates: Sequence[tuple[str, str]]
) -> Sequence[tuple[str, str]]:
    """The candidates of which the name, or that of the host, matches one of the patterns; all if there are none."""
    return [each for each in candidates if matches_any(patterns, host, each[0])] if patterns else candidates


def matches_any(patterns: Sequence[str], *names: str) -> bool:
    """Whether one of the names matches one of the patterns, with * and ?, ignoring case."""
    return any(fnmatchcase(fold_name(name), fold_name(pattern)) for pattern in patterns for name in names)


def is_address(host: str) -> bool:
    """Whether `host` is an IP address."""
    return parse_address(host) is not None
