"""Finds our domain and its controllers without being a member of it: DNS, then one datagram to each of a few of them.

Which domain that is, the mount says: by the name of the namespace (`//contoso.test/public`, `//CONTOSO/public`), or by
domain=, dns_suffix= or the realm of krb5.conf. A domain is one if DNS has controllers for it (SRV records of
_ldap._tcp.dc._msdcs, MS-ADTS 6.3.2.3). The controllers are asked in the order of RFC 2782, in a race, and the one
that answers first is the one to begin with; it also says in which site this computer is (cldap.py), and if it is in
another one itself, those of our site are asked as well. So a controller that is down costs ATTEMPT_DELAY seconds.
domaininfo.py decides what is taken from such an answer.

Addresses of hosts of our domain, and of no others, are found by DNS here as well where the system's resolver says
nothing yet (`find_addresses`).

dc= names the controllers instead of DNS. If none answers a datagram, as behind many firewalls, they are used in their
order: then a login finds out which one is there.

Nothing here logs in, and only what was found last is kept.
"""

from __future__ import annotations

import logging
import random
import socket
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import trio

from dfsfs.errors import ConnectError, DfsfsError, WireError
from dfsfs.namespace.cldap import Netlogon, decode_ping_reply, encode_ping
from dfsfs.namespace.domaininfo import DomainInfo, PingReply, controllers_of, domain_of, netbios_of, site_of
from dfsfs.namespace.reachability import Reachability
from dfsfs.ntstatus import NtStatus
from dfsfs.racing import race
from dfsfs.smb.auth.hostnames import is_address
from dfsfs.telemetry import DomainFound
from dfsfs.threads import import_in_thread
from dfsfs.unc import fold_name

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dfsfs.namespace.dnsclient import DnsClient
    from dfsfs.smb.auth.hostnames import HostNames
    from dfsfs.telemetry import Telemetry

log = logging.getLogger("dfsfs.namespace")

LDAP_PORT = 389
"""The UDP port of LDAP pings."""
PING_TIMEOUT = 1.0
"""Seconds that a controller has to answer a ping."""
MAX_CONTROLLERS = 8
"""How many controllers are asked; a company may have hundreds."""
MAX_DATAGRAM = 4096
"""Bytes of an answer to a ping that are read."""


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
        self.found: DomainInfo | None = None
        self.on_found: Callable[[DomainInfo], None] = lambda found: None
        """Called when something was found that differs from before."""
        self._dns: DnsClient | None = None
        """None until DNS is asked for the first time: mounts of a single server never do, and dnspython takes 30 ms."""
        names.suffixes = tuple(dict.fromkeys((*settings.suffixes, *settings.domains)))

    @property
    def is_possible(self) -> bool:
        """Whether anything is known to look for."""
        return bool(self._settings.controllers or self._settings.candidates)

    async def find(self) -> DomainInfo:
        """Looks for the domain and its controllers, now.

        Raises:
            DfsfsError: there is none, as far as can be told.
        """
        return self._adopt(await (self._find_by_name() if self._settings.controllers else self._find_in_dns()))

    def _adopt(self, found: DomainInfo) -> DomainInfo:
        addresses = (
            self._names.found_addresses.get(fold_name(host), host) for host in found.controllers[:MAX_CONTROLLERS]
        )
        found = replace(found, addresses=tuple(addresses))
        if found != self.found:
            self.on_found(found)
            self._telemetry.publish(DomainFound(found.name, found.netbios, found.site, found.controllers))
        self.found = found
        if found.name:
            self._names.finder = self
            self._names.suffixes = tuple(dict.fromkeys((*self._names.suffixes, found.name)))
            self._names.add_controllers(found.name, found.controllers)
        for name in filter(None, (found.name, found.netbios)):
            self._names.controllers_of[fold_name(name)] = found.controllers[:MAX_CONTROLLERS]
        return found

    async def _find_by_name(self) -> DomainInfo:
        """The domain of the controllers that dc= names."""
        named = self._settings.controllers
        replies = await self._ping("", named)
        if not replies:
            return DomainInfo("", "", "", named)
        domain = domain_of(replies[0], "", self._settings.candidates)
        if domain and is_address(replies[0].host):
            dns = await self._get_dns()
            named = (*named, *await dns.find_service_hosts(f"_ldap._tcp.dc._msdcs.{domain}"))
        return _make_domain_info(domain, replies[0], replies, named)

    async def _find_in_dns(self) -> DomainInfo:
        """The first domain that DNS knows; rather one that has the name that is mounted."""
        others: DomainInfo | None = None
        for domain in self._settings.candidates:
            hosts = await (await self._get_dns()).find_service_hosts(f"_ldap._tcp.dc._msdcs.{domain}")
            if not hosts:
                continue
            found = await self._query_controllers(domain, hosts)
            if fold_name(self._settings.host) in (fold_name(found.name), fold_name(found.netbios)):
                return found
            others = others or found
        if others is None:
            tried = ", ".join(self._settings.candidates) or "no name to look for"
            raise DfsfsError(
                f"no domain is found in DNS ({tried}); name a domain controller with dc=", NtStatus.NO_SUCH_DOMAIN
            )
        return others

    async def _query_controllers(self, domain: str, hosts: Sequence[str]) -> DomainInfo:
        replies = await self._ping(domain, hosts)
        if not replies:
            return DomainInfo(domain, "", "", tuple(hosts))
        first = replies[0]
        if not first.netlogon.is_closest and (site := site_of(first)):
            near = await (await self._get_dns()).find_service_hosts(f"_ldap._tcp.{site}._sites.dc._msdcs.{domain}")
            hosts = tuple(dict.fromkeys((*near, *hosts)))
            replies = [*(await self._ping(domain, near)), first]
        return _make_domain_info(domain, first, replies, hosts)

    async def _ping(self, domain: str, hosts: Sequence[str]) -> list[PingReply]:
        """The answer of whichever controller answers first; none if none does."""
        finish = await race(hosts[:MAX_CONTROLLERS], partial(self._ping_one, domain), lambda error: True)
        for _, reply in finish.winners:
            for late in finish.late:
                self._reachability.note_silence(late)
            self._reachability.note_answer(reply.host)
            return [reply]
        return []

    async def _ping_one(self, domain: str, host: str) -> PingReply:
        configured = self._names.configured_address(host)
        dns = None if configured else await self._get_dns()  # not within the time that the controller has
        try:
            with trio.fail_after(PING_TIMEOUT):
                found = () if dns is None else await dns.find_addresses(host)
                place = configured or next(iter(found), host)
                answer, address = await ping(domain, place, self._settings.source)
            if domain and fold_name(answer.domain) != fold_name(domain):
                raise WireError(f"it answers for the domain {answer.domain}")
        except (OSError, WireError, UnicodeError, trio.TooSlowError) as error:
            log.info("controller %s: %s", host, error or "no answer")
            raise ConnectError(host, NtStatus.IO_TIMEOUT, str(error) or "no answer to an LDAP ping") from error
        self._names.found_addresses[fold_name(host)] = address
        return PingReply(host, answer)

    # -- the HostFinder of hostnames.py --------------------------------------------------------------------------------

    async def find_live_controller(self) -> None:
        """Looks which of the known controllers answers now, and puts that one before the others."""
        known = self.found
        if known is None or len(known.controllers) < 2:
            return
        for reply in await self._ping(known.name, self._reachability.order_hosts(known.controllers)):
            if self.found is known and reply.host != known.controllers[0]:
                others = (host for host in known.controllers if host != reply.host)
                self._adopt(replace(known, controllers=(reply.host, *others)))

    @property
    def expects_slow_resolver(self) -> bool:
        """Whether the name server that the system's resolver asks first is not the one that answers."""
        return self._dns is not None and self._dns.prefers_another

    async def find_addresses(self, host: str) -> Sequence[str]:
        """Addresses of a host of our domain; of others the system knows best."""
        name = fold_name(host).rstrip(".")
        ours = any(name.endswith(f".{fold_name(suffix)}") for suffix in self._names.suffixes)
        return await (await self._get_dns()).find_addresses(host) if ours else ()

    async def _get_dns(self) -> DnsClient:
        if self._dns is None:
            client = await import_in_thread(_load_dns_client)
            self._dns = self._dns or client()  # another task may have been as fast
        return self._dns


def _load_dns_client() -> type[DnsClient]:
    from dfsfs.namespace.dnsclient import DnsClient

    return DnsClient


def _make_domain_info(domain: str, first: PingReply, replies: Sequence[PingReply], named: Sequence[str]) -> DomainInfo:
    return DomainInfo(domain, netbios_of(first), site_of(first), controllers_of(replies, named))


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
        return decode_ping_reply(await sock.recv(MAX_DATAGRAM), message_id), str(target[0])
