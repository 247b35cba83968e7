"""Questions to DNS: SRV records of domains, and addresses of their hosts.

The name servers of this computer are asked in a race, and the one that has answered first from then on: often
controllers are name servers, too, and the one that is down would cost a time-out for each question. (The system's own
resolver goes on to begin with it, and waits for seconds each time.)
"""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING

import dns.asyncresolver
import dns.exception
import dns.nameserver
import dns.resolver
from dns.rdtypes.IN.SRV import SRV

from dfsfs.errors import ConnectError
from dfsfs.ntstatus import NtStatus
from dfsfs.racing import race

if TYPE_CHECKING:
    from dns.rdataset import Rdataset

log = logging.getLogger("dfsfs.namespace")

DNS_TIMEOUT = 6.0
"""Seconds that one name server has to answer a question."""

Server = str | dns.nameserver.Nameserver


class DnsClient:
    """Questions to the name servers of this computer, in a race; the one that has answered last comes first."""

    def __init__(self) -> None:
        self._system: dns.asyncresolver.Resolver | None = None
        self._order: list[Server] = []

    @property
    def prefers_another(self) -> bool:
        """Whether the first of the system's name servers is not the one that is asked first here."""
        return self._system is not None and self._order != list(self._system.nameservers)

    async def find_service_hosts(self, service: str) -> tuple[str, ...]:
        """The hosts of an SRV record, in the order to ask them (RFC 2782); empty if there is no such record, or no name
        server answers.
        """
        answer = await self._query(service, "SRV")
        records = answer.processing_order() if answer is not None else []
        names = (str(record.target).rstrip(".") for record in records if isinstance(record, SRV))
        return tuple(dict.fromkeys(filter(None, names)))

    async def find_addresses(self, host: str) -> tuple[str, ...]:
        """The addresses of a host; empty if DNS has none, or no name server answers."""
        for kind in ("A", "AAAA"):
            answer = await self._query(host, kind)
            if answer is not None:
                return tuple(map(str, answer))
        return ()

    async def _query(self, name: str, kind: str) -> Rdataset | None:
        try:
            if self._system is None:
                self._system = dns.asyncresolver.Resolver()
                self._order = list(self._system.nameservers)
        except (dns.exception.DNSException, OSError) as error:
            log.info("no name server is known: %s", error)
            return None
        finish = await race(self._order, partial(_query_server, self._system.port, name, kind), lambda error: True)
        for server, answer in finish.winners:
            self._order = [server, *(other for other in self._order if other is not server)]
            return answer
        return None


async def _query_server(port: int, name: str, kind: str, server: Server) -> Rdataset | None:
    """The answer of one name server; None: there is no such record.

    Raises:
        ConnectError: it does not answer, or answers with an error.
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
