"""What is believed of an answer that anybody on the way can have written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfsfs.namespace.cldap import Netlogon
from dfsfs.namespace.hearsay import Pong, controllers_of, domain_of, netbios_of, site_of
from dfsfs.smb.auth.hostnames import is_address

NAMED = ("dc1.contoso.test", "DC2.contoso.test")


def pong(asked: str, host: str = "", domain: str = "", netbios: str = "CONTOSO", site: str = "Berlin") -> Pong:
    return Pong(asked, Netlogon(domain, domain, host, netbios, "DC", "Berlin", site, is_closest=True))


@pytest.mark.parametrize(
    ("asked", "says", "expected"),
    [
        ("dc2.contoso.test", "dc2.contoso.test", ["dc2.contoso.test", "dc1.contoso.test"]),
        ("dc1.contoso.test", "evil.contoso.test", ["dc1.contoso.test", "dc2.contoso.test"]),
        ("dc1.contoso.test", "", ["dc1.contoso.test", "dc2.contoso.test"]),
        ("dc1.contoso.test", "dc2.contoso.test", ["dc1.contoso.test", "dc2.contoso.test"]),
        ("10.0.0.1", "dc2.CONTOSO.test", ["dc2.contoso.test", "dc1.contoso.test"]),
        ("10.0.0.1", "evil.contoso.test", ["10.0.0.1", "dc1.contoso.test", "dc2.contoso.test"]),
    ],
)
def test_no_controller_comes_from_an_answer(asked: str, says: str, expected: list[str]) -> None:
    named = (asked, *NAMED) if is_address(asked) else NAMED
    assert [host.lower() for host in controllers_of([pong(asked, says)], named)] == expected


names = st.sampled_from([*NAMED, "dc1", "evil.contoso.test", "10.0.0.1", "10.0.0.2", "", "Dc1.Contoso.Test", "fe80::1"])


@given(st.lists(names.filter(bool), unique_by=str.lower, min_size=1), st.data())
def test_only_what_was_named_is_ever_a_controller(named: list[str], data: st.DataObject) -> None:
    asked = data.draw(st.lists(st.sampled_from(named), max_size=3))
    pongs = [pong(host, data.draw(names)) for host in asked]
    found = controllers_of(pongs, named)
    assert set(found) <= set(named), "nothing new"
    assert {host for host in named if not is_address(host)} <= set(found), "and no name is lost"
    assert len(set(found)) == len(found)


@pytest.mark.parametrize(
    ("asked", "asked_for", "known", "says", "expected"),
    [
        ("dc1.contoso.test", "contoso.test", (), "contoso.test", "contoso.test"),
        ("dc1.contoso.test", "", (), "Contoso.Test", "contoso.test"),
        ("dc1.contoso.test", "", (), "evil.test", ""),
        ("dc1.contoso.test", "", (), "test", ""),
        ("dc1.contoso.test", "", ("corp.test",), "CORP.test", "corp.test"),
        ("10.0.0.1", "", ("corp.test",), "corp.test", "corp.test"),
        ("10.0.0.1", "", (), "0.0.1", ""),
        ("10.0.0.1", "", (), "contoso.test", ""),
        ("dc1", "", (), "contoso.test", ""),
        ("dc1", "", (), "", ""),
    ],
)
def test_a_domain_has_a_name_that_was_given(
    asked: str, asked_for: str, known: tuple[str, ...], says: str, expected: str
) -> None:
    assert domain_of(pong(asked, domain=says), asked_for, known) == expected


@pytest.mark.parametrize("name", ["bank.example", "CONTOSO.TEST", ".", "", "A" * 16, "A B", "a\x1b[2J", "a\\b", "1:2"])
def test_what_is_no_netbios_name_of_a_domain(name: str) -> None:
    assert netbios_of(pong("dc1.contoso.test", netbios=name)) == ""


@pytest.mark.parametrize("name", ["CONTOSO", "A", "X-1_y", "MÜNCHEN"])
def test_netbios_names(name: str) -> None:
    assert netbios_of(pong("dc1.contoso.test", netbios=name)) == name


@pytest.mark.parametrize(
    ("said", "expected"),
    [("Berlin", "Berlin"), ("", ""), ("x\n", ""), ("a.b", ""), ("ä" * 40, ""), ("B" * 63, "B" * 63)],
)
def test_sites(said: str, expected: str) -> None:
    assert site_of(pong("dc1.contoso.test", site=said)) == expected
