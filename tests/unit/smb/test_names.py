"""From the names in referrals to those of DNS and Kerberos."""

from __future__ import annotations

import pytest

from dfsfs.smb.names import HostNames

NAMES = HostNames(
    {"FS9": "10.0.0.9", "FS8.CORP.TEST": "10.0.0.8"},
    suffixes=("contoso.test", "corp.test"),
    stand_ins={"CONTOSO": ("dc1.contoso.test", "dc2.x.test"), "CONTOSO.TEST": ("dc1.contoso.test",)},
    learnt={"DC1.CONTOSO.TEST": "10.0.0.1"},
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
        ("contoso", [("dc1.contoso.test", "10.0.0.1"), ("dc2.x.test", "dc2.x.test")]),
        ("Contoso.Test", [("dc1.contoso.test", "10.0.0.1")]),
    ],
)
def test_candidates(host: str, expected: list[tuple[str, str]]) -> None:
    assert list(NAMES.candidates(host)) == expected


def test_one_address_for_all() -> None:
    assert HostNames(address="127.0.0.1").candidates("fs1") == (("fs1", "127.0.0.1"),)
