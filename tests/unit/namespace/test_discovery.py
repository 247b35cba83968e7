"""Where our domain is looked for."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import trio

from dfsfs.errors import DfsfsError
from dfsfs.namespace import discovery
from dfsfs.namespace.discovery import Discovery, DomainSettings
from dfsfs.namespace.reachability import Reachability
from dfsfs.smb.auth.hostnames import HostNames
from dfsfs.telemetry import Telemetry
from tests.support.fakes.forger import Lie, forged

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from dfsfs.namespace.cldap import Netlogon
    from dfsfs.namespace.domaininfo import DomainInfo


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (DomainSettings(), ()),
        (DomainSettings(host="fs1"), ()),
        (DomainSettings(host="Contoso.Test"), ("contoso.test",)),
        (DomainSettings(host="CONTOSO", realm="CONTOSO.TEST"), ("contoso.test",)),
        (DomainSettings(host="CONTOSO", domains=("corp.test",), suffixes=("a.test.",)), ("corp.test", "a.test")),
        (DomainSettings(host="x.test", realm="X.TEST", suffixes=("x.test",)), ("x.test",)),
        (DomainSettings(host="10.0.0.1", realm="CONTOSO.TEST"), ()),
        (DomainSettings(host="[fe80::1]", realm="CONTOSO.TEST"), ()),
        (DomainSettings(host="10.0.0.1", domains=("contoso.test",)), ("contoso.test",)),
        (DomainSettings(host="fs1", realm="LOCAL"), ()),
    ],
)
def test_candidates(settings: DomainSettings, expected: tuple[str, ...]) -> None:
    assert settings.candidates == expected


async def test_without_anything_to_go_by_nobody_is_asked() -> None:
    discovery = Discovery(DomainSettings(host="fs1"), HostNames(), Telemetry())
    assert not discovery.is_possible
    with pytest.raises(DfsfsError, match="name a domain controller"):
        await discovery.find()


async def test_controllers_that_answer_no_ping_are_used_in_their_order() -> None:
    """As behind a firewall that lets no datagrams through; here nobody listens."""
    names = HostNames({"DC1": "127.0.0.1", "DC2": "127.0.0.1"})
    discovery = Discovery(DomainSettings(controllers=("dc1", "dc2")), names, Telemetry())
    found = await discovery.find()
    assert found.controllers == ("dc1", "dc2") and found.name == ""
    assert names.controllers_of == {}


def test_suffixes_are_known_before_any_domain_is() -> None:
    names = HostNames()
    Discovery(DomainSettings(suffixes=("a.test",), domains=("b.test", "a.test")), names, Telemetry())
    assert names.suffixes == ("a.test", "b.test")


# -- somebody on the way ----------------------------------------------------------------------------------------------


@asynccontextmanager
async def forger(lie: Lie, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """Every controller is at 127.0.0.1, and is somebody who lies."""

    async def answer() -> None:
        while True:
            question, sender = await sock.recvfrom(4096)
            await sock.sendto(forged(question, lie), sender)

    with trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM) as sock:
        await sock.bind(("127.0.0.1", 0))
        monkeypatch.setattr(discovery, "LDAP_PORT", sock.getsockname()[1])
        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer)
            yield
            nursery.cancel_scope.cancel()


HERE = {"DC1.CONTOSO.TEST": "127.0.0.1", "DC1": "127.0.0.1"}


@pytest.mark.parametrize("netbios", ["CONTOSO", "bank.example", "FS1.CONTOSO.TEST"])
async def test_an_answer_brings_in_no_host_and_no_name_of_the_attackers(
    netbios: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = HostNames(HERE)
    settings = DomainSettings(host="contoso.test", controllers=("dc1.contoso.test",))
    async with forger(Lie("contoso.test", "evil.contoso.test", netbios), monkeypatch):
        found = await Discovery(settings, names, Telemetry()).find()
    assert found.name == "contoso.test" and found.controllers == ("dc1.contoso.test",)
    assert names.candidates("contoso.test") == (("dc1.contoso.test", "127.0.0.1"),)
    assert set(names.controllers_of) == {"CONTOSO.TEST", *(["CONTOSO"] if netbios == "CONTOSO" else [])}
    assert names.candidates("bank.example") == (("bank.example", "bank.example"),)


@pytest.mark.parametrize("domain", ["evil.test", "test", "contoso.test.evil.test"])
async def test_an_answer_makes_no_domain_ours(domain: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Short names would be looked for in it, and its KDCs be asked."""
    names = HostNames(HERE)
    async with forger(Lie(domain, "dc1.contoso.test", "CONTOSO"), monkeypatch):
        found = await Discovery(DomainSettings(controllers=("dc1.contoso.test",)), names, Telemetry()).find()
    assert found.name == "" and names.suffixes == () and set(names.controllers_of) == {"CONTOSO"}


async def test_a_short_name_of_dc_is_one_in_our_domain_and_in_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    names = HostNames(HERE)
    settings = DomainSettings(host="CONTOSO", controllers=("dc1",), suffixes=("contoso.test",))
    async with forger(Lie("contoso.test", "dc1.evil.test", "CONTOSO"), monkeypatch):
        await Discovery(settings, names, Telemetry()).find()
    assert names.candidates("CONTOSO") == (("dc1.contoso.test", "127.0.0.1"), ("dc1", "127.0.0.1"))


async def test_who_asks_for_a_ticket_begins_with_a_controller_that_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without that the Kerberos library waits for the one that hangs."""
    hosts = ("dc1.contoso.test", "dc2.contoso.test")
    silent: set[str] = set()
    ping = discovery.ping

    async def maybe(domain: str, address: str, source: str | None = None) -> tuple[Netlogon, str]:
        if address in silent:
            await trio.sleep_forever()
        return await ping(domain, "127.0.0.1", source)

    monkeypatch.setattr(discovery, "ping", maybe)
    names = HostNames({"DC1.CONTOSO.TEST": "127.0.0.1", "DC2.CONTOSO.TEST": "127.0.0.2"})
    reachability = Reachability(trio.current_time)
    looker = Discovery(DomainSettings(host="contoso.test", controllers=hosts), names, Telemetry(), reachability)
    told: list[DomainInfo] = []
    looker.on_found = told.append
    async with forger(Lie("contoso.test", "dc1.contoso.test", "CONTOSO"), monkeypatch):
        assert (await looker.find()).controllers == hosts
        silent.add("127.0.0.1")
        await looker.find_live_controller()
        assert looker.found is not None and looker.found.controllers == hosts[::-1]
        assert [found.controllers for found in told] == [hosts, hosts[::-1]] and names.finder is looker
        assert reachability.is_suspect(hosts[0]) and not reachability.is_suspect(hosts[1])
        silent.add("127.0.0.2")
        await looker.find_live_controller()
        assert looker.found.controllers == hosts[::-1], "nobody answers, so nothing is known"
