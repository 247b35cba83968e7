"""Where our domain is looked for."""

from __future__ import annotations

import pytest

from dfsfs.errors import DfsfsError
from dfsfs.namespace.discovery import Discovery, DomainSettings
from dfsfs.smb.names import HostNames
from dfsfs.telemetry import Telemetry


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
    assert names.stand_ins == {}


def test_suffixes_are_known_before_any_domain_is() -> None:
    names = HostNames()
    Discovery(DomainSettings(suffixes=("a.test",), domains=("b.test", "a.test")), names, Telemetry())
    assert names.suffixes == ("a.test", "b.test")
