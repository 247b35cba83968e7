"""Finds our domain and its controllers without being a member of it: DNS, then one datagram to each of a few of them.

Which domain that is, the mount says: by the name of the namespace (`//contoso.test/public`, `//CONTOSO/public`), or by
domain=, dns_suffix= or the realm of krb5.conf. A domain is one if DNS has controllers for it (SRV records of
_ldap._tcp.dc._msdcs, MS-ADTS 6.3.2.3). The controllers are asked in the order of RFC 2782, in a race, and whoever
answers first is the one to begin with; it also says in which site this computer is (cldap.py), and if it is in another
one itself, those of our site are asked as well. So a controller that is down costs heat.HEAD_START seconds.
How far the word of such an answer goes is the matter of hearsay.py.

The name servers of this computer are asked in a race as well, and the one that has answered first from then on: often
controllers are name servers, too, and the one that is down would cost a time-out for each question. The system's own
resolver begins with it all the same, for seconds; so addresses of hosts of our domain, and of no others, are found here
as well where that says nothing (`addresses`).

dc= names the controllers instead of DNS. If none answers a datagram, as behind many firewalls, they are used in their
order: then a login finds out which one is there.

What this does not do: it logs in nowhere, and keeps nothing but what it found last.
"""

from __future__ import annotations

import logging
import random
import socket
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import dns.asyncresolver
import dns.exception
import dns.nameserver
import dns.resolver
import trio
from dns.rdtypes.IN.SRV import SRV

from dfsfs.errors import ConnectError, DfsfsError, WireError
from dfsfs.namespace.cldap import Netlogon, decode_pong, encode_ping
from dfsfs.namespace.hearsay import FoundDomain, Pong, controllers_of, domain_of, netbios_of, site_of
from dfsfs.namespace.reachability import Reachability
from dfsfs.ntstatus import NtStatus
from dfsfs.racing import race
from dfsfs.smb.auth.hostnames import is_address
from dfsfs.telemetry import DomainFound
from dfsfs.unc import fold_name

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dns.rdataset import Rdataset

    from dfsfs.smb.auth.hostnames import HostNames
    from dfsfs.telemetry import Telemetry

log = logging.getLogger("dfsfs.namespace")

LDAP_PORT = 389
DNS_TIMEOUT = 6.0
"""Seconds for one question to DNS, with all its name servers."""
PING_WAIT = 1.0
"""Seconds that a controller has to answer."""
AT_MOST = 8
"""Controllers that are asked; a company may have hundreds."""
MAX_DATAGRAM = 4096


@dataclass(frozen=True, slots=True)
class DomainSettings:
    """Where to look for our domain. `host`: the first component of what is mounted. Empty where nothing was said."""

    host: str = ""
    domains: tuple[str, ...] = ()
    """Names in DNS that were given as that of the domain."""
    suffixes: tuple[str, ...] = ()
    realm: str = ""
    """The default realm of Kerberos."""
    controllers: tuple[str, ...] = ()
    source: str | None = None

    @property
    def candidates(self) -> tuple[str, ...]:
        """The domains that ours may be, each once, the likeliest first."""
        if is_address(self.host) and not self.domains and not self.suffixes:
            return ()  # neither a domain nor Kerberos is reached by an address
        own = (self.host,) if "." in self.host and not is_address(self.host) else ()
        names = (*own, *self.domains, *self.suffixes, self.realm.lower())
        return tuple(dict.fromkeys(name.strip(".").lower() for name in names if "." in name))


class Discovery:
    """Looks for the domain of one mount, and tells `names` what it stands for."""

    def __init__(
        self, settings: DomainSettings, names: HostNames, telemetry: Telemetry, reachability: Reachability | None = None
    ) -> None:
        self._settings = settings
        self._names = names
        self._telemetry = telemetry
        self._reachability = reachability or Reachability(trio.current_time)
        self.found: FoundDomain | None = None
        self.on_found: Callable[[FoundDomain], None] = lambda found: None
        """Called when something was found that differs from before."""
        self._dns = Dns()
        names.suffixes = tuple(dict.fromkeys((*settings.suffixes, *settings.domains)))

    @property
    def is_possible(self) -> bool:
        """Whether anything is known to look for."""
        return bool(self._settings.controllers or self._settings.candidates)

    async def find(self) -> FoundDomain:
        """Looks for the domain and its controllers, now.

        Raises:
            DfsfsError: there is none, as far as can be told.
        """
        return self._take(await (self._by_name() if self._settings.controllers else self._by_dns()))

    def _take(self, found: FoundDomain) -> FoundDomain:
        addresses = (self._names.learnt.get(fold_name(host), host) for host in found.controllers[:AT_MOST])
        found = replace(found, addresses=tuple(addresses))
        if found != self.found:
            self.on_found(found)
            self._telemetry.publish(DomainFound(found.name, found.netbios, found.site, found.controllers))
        self.found = found
        if found.name:
            self._names.finder = self
            self._names.suffixes = tuple(dict.fromkeys((*self._names.suffixes, found.name)))
            self._names.note_controllers(found.name, found.controllers)
        for name in filter(None, (found.name, found.netbios)):
            self._names.stand_ins[fold_name(name)] = found.controllers[:AT_MOST]
        return found

    async def _by_name(self) -> FoundDomain:
        """The domain of the controllers that dc= names."""
        named = self._settings.controllers
        pongs = await self._ping("", named)
        if not pongs:
            return FoundDomain("", "", "", named)
        domain = domain_of(pongs[0], "", self._settings.candidates)
        if domain and is_address(pongs[0].asked):
            named = (*named, *await self._dns.service_hosts(f"_ldap._tcp.dc._msdcs.{domain}"))
        return _found(domain, pongs[0], pongs, named)

    async def _by_dns(self) -> FoundDomain:
        """The first domain that DNS knows; rather one that has the name that is mounted."""
        others: FoundDomain | None = None
        for domain in self._settings.candidates:
            hosts = await self._dns.service_hosts(f"_ldap._tcp.dc._msdcs.{domain}")
            if not hosts:
                continue
            found = await self._examined(domain, hosts)
            if fold_name(self._settings.host) in (fold_name(found.name), fold_name(found.netbios)):
                return found
            others = others or found
        if others is None:
            tried = ", ".join(self._settings.candidates) or "no name to look for"
            raise DfsfsError(
                f"no domain is found in DNS ({tried}); name a domain controller with dc=", NtStatus.NO_SUCH_DOMAIN
            )
        return others

    async def _examined(self, domain: str, hosts: Sequence[str]) -> FoundDomain:
        pongs = await self._ping(domain, hosts)
        if not pongs:
            return FoundDomain(domain, "", "", tuple(hosts))
        first = pongs[0]
        if not first.said.is_closest and (site := site_of(first)):
            near = await self._dns.service_hosts(f"_ldap._tcp.{site}._sites.dc._msdcs.{domain}")
            hosts = tuple(dict.fromkeys((*near, *hosts)))
            pongs = [*(await self._ping(domain, near)), first]
        return _found(domain, first, pongs, hosts)

    async def _ping(self, domain: str, hosts: Sequence[str]) -> list[Pong]:
        """The answer of whichever controller answers first; none if none does."""
        finish = await race(hosts[:AT_MOST], partial(self._ask, domain), lambda error: True)
        for _, pong in finish.winners:
            for late in finish.late:
                self._reachability.late(late)
            self._reachability.answered(pong.asked)
            return [pong]
        return []

    async def _ask(self, domain: str, host: str) -> Pong:
        try:
            with trio.fail_after(PING_WAIT):
                place = self._names.fixed(host) or next(iter(await self._dns.addresses(host)), host)
                answer, address = await ping(domain, place, self._settings.source)
            if domain and fold_name(answer.domain) != fold_name(domain):
                raise WireError(f"it answers for the domain {answer.domain}")
        except (OSError, WireError, UnicodeError, trio.TooSlowError) as error:
            log.info("controller %s: %s", host, error or "no answer")
            raise ConnectError(host, NtStatus.IO_TIMEOUT, str(error) or "no answer to an LDAP ping") from error
        self._names.learnt[fold_name(host)] = address
        return Pong(host, answer)

    # -- the HostFinder of hostnames.py --------------------------------------------------------------------------------

    async def look(self) -> None:
        """Looks which of the known controllers answers now, and puts that one before the others."""
        known = self.found
        if known is None or len(known.controllers) < 2:
            return
        for pong in await self._ping(known.name, self._reachability.ordered(known.controllers)):
            if self.found is known and pong.asked != known.controllers[0]:
                others = (host for host in known.controllers if host != pong.asked)
                self._take(replace(known, controllers=(pong.asked, *others)))

    @property
    def is_ahead(self) -> bool:
        """Whether the name server that the system's resolver asks first is not the one that answers."""
        return self._dns.prefers_another

    async def addresses(self, host: str) -> Sequence[str]:
        """Addresses of a host of our domain; of others the system knows best."""
        name = fold_name(host).rstrip(".")
        ours = any(name.endswith(f".{fold_name(suffix)}") for suffix in self._names.suffixes)
        return await self._dns.addresses(host) if ours else ()


def _found(domain: str, first: Pong, pongs: Sequence[Pong], named: Sequence[str]) -> FoundDomain:
    return FoundDomain(domain, netbios_of(first), site_of(first), controllers_of(pongs, named))


class Dns:
    """The name servers of this computer, in a race, the one that answered last first."""

    def __init__(self) -> None:
        self._system: dns.asyncresolver.Resolver | None = None
        self._order: list[Server] = []

    @property
    def prefers_another(self) -> bool:
        """Whether the first of the system's name servers is not the one that is asked first here."""
        return self._system is not None and self._order != list(self._system.nameservers)

    async def service_hosts(self, service: str) -> tuple[str, ...]:
        """The hosts of an SRV record, in the order to ask them (RFC 2782); none if there is no such record, or no
        DNS.
        """
        answer = await self._ask(service, "SRV")
        records = answer.processing_order() if answer is not None else []
        names = (str(record.target).rstrip(".") for record in records if isinstance(record, SRV))
        return tuple(dict.fromkeys(filter(None, names)))

    async def addresses(self, host: str) -> tuple[str, ...]:
        """The addresses of a host; none if it has none there."""
        for kind in ("A", "AAAA"):
            answer = await self._ask(host, kind)
            if answer is not None:
                return tuple(map(str, answer))
        return ()

    async def _ask(self, name: str, kind: str) -> Rdataset | None:
        try:
            if self._system is None:
                self._system = dns.asyncresolver.Resolver()
                self._order = list(self._system.nameservers)
        except (dns.exception.DNSException, OSError) as error:
            log.info("no name server is known: %s", error)
            return None
        finish = await race(self._order, partial(_ask_server, self._system.port, name, kind), lambda error: True)
        for server, answer in finish.winners:
            self._order = [server, *(other for other in self._order if other is not server)]
            return answer
        return None


Server = str | dns.nameserver.Nameserver


async def _ask_server(port: int, name: str, kind: str, server: Server) -> Rdataset | None:
    """What one name server says; None: there is no such record.

    Raises:
        ConnectError: it says nothing, or can't say.
    """
    resolver = dns.asyncresolver.Resolver(configure=False)
    resolver.nameservers, resolver.port = [server], port
    try:
        return (await resolver.resolve(name, kind, lifetime=DNS_TIMEOUT, search=False)).rrset
    except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer) as error:
        log.info("DNS has no %s of %s: %s", kind, name, error)
        return None
    except (dns.exception.DNSException, OSError) as error:
        log.info("name server %s has no %s of %s: %s", server, kind, name, error)
        raise ConnectError(str(server), NtStatus.IO_TIMEOUT, str(error)) from error


async def ping(domain: str, address: str, source: str | None = None) -> tuple[Netlogon, str]:
    """Asks one controller: its answer, and its IP address. The caller bounds the time.

    Raises:
        OSError: it has no address, or refuses.
        WireError: what answers is no controller.
    """
    found = await trio.socket.getaddrinfo(address, LDAP_PORT, type=socket.SOCK_DGRAM)
    family, kind, protocol, _, target = found[0]
    message_id = random.SystemRandom().randrange(1, 2**31)
    with trio.socket.socket(family, kind, protocol) as sock:
        if source is not None:
            await sock.bind((source, 0))
        await sock.connect(target)
        await sock.send(encode_ping(domain, message_id))
        return decode_pong(await sock.recv(MAX_DATAGRAM), message_id), str(target[0])
