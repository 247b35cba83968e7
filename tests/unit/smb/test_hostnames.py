"""From the names in referrals to those of DNS and Kerberos."""

from __future__ import annotations

import pytest

from dfsfs.smb.auth.hostnames import HostNames, matches_any

NAMES = HostNames(
    {"FS9": "10.0.0.9", "FS8.CORP.TEST": "10.0.0.8", "2001:DB8::9": "10.0.0.6"},
    suffixes=("contoso.test", "corp.test"),
    controllers_of={"CONTOSO": ("dc1.contoso.test", "dc2.x.test"), "CONTOSO.TEST": ("dc1.contoso.test",)},
    found_addresses={"DC1.CONTOSO.TEST": "10.0.0.1"},
)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("fs1.contoso.test", [("fs1.contoso.test",) * 2]),
        ("FS1", [("FS1.contoso.test",) * 2, ("FS1.corp.test",) * 2, ("FS1", "FS1")]),
        ("fs9", [("fs9.contoso.test", "10.0.0.9"), ("fs9.corp.test", "10.0.0.9"), ("fs9", "10.0.0.9")]),
        ("fs8.corp.test", [("fs8.corp.test", "10.0.0.8")]),
        ("10.0.0.7", [("10.0.0.7", "10.0.0.7")]),
        ("fe80::1", [("fe80::1", "fe80::1")]),
        ("[fe80::1%eth0]", [("[fe80::1%eth0]", "fe80::1%eth0")]),
        ("FE80--1s4.IPv6-Literal.net", [("FE80--1s4.IPv6-Literal.net", "fe80::1%4")]),
        ("[2001:db8::9]", [("[2001:db8::9]", "10.0.0.6")]),
        ("contoso", [("dc1.contoso.test", "10.0.0.1"), ("dc2.x.test", "dc2.x.test")]),
        ("Contoso.Test", [("dc1.contoso.test", "10.0.0.1")]),
    ],
)
def test_candidates(host: str, expected: list[tuple[str, str]]) -> None:
    assert list(NAMES.candidates(host)) == expected


def test_one_address_for_all() -> None:
    assert HostNames(address="127.0.0.1").candidates("fs1") == (("fs1", "127.0.0.1"),)


@pytest.mark.parametrize(
    ("patterns", "names", "expected"),
    [
        (("*.contoso.test",), ("FS1", "FS1.Contoso.Test"), True),
        (("*.contoso.test",), ("contoso.test.evil.test",), False),
        (("*.contoso.test",), ("contoso.test",), False),
        (("fs1",), ("FS1", "fs1.contoso.test"), True),
        (("fs1",), ("fs1.contoso.test",), False),
        (("fs?", "10.0.0.*"), ("10.0.0.66",), True),
        (("fs?", "10.0.0.*"), ("10.0.1.66",), False),
        ((), ("fs1",), False),
    ],
)
def test_hosts_of_a_list(patterns: tuple[str, ...], names: tuple[str, ...], expected: bool) -> None:
    assert matches_any(patterns, *names) is expected
