"""Finding the domain, and logging in to it with Kerberos: what an administrator types, and what comes of it."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest

from tests.ad.mounts import DFSFS, PUBLIC, mount_command, mounted, on_client
from tests.conftest import LONG
from tests.support.lab import content
from tests.support.lab.domain import config
from tests.support.lab.topology import ALICE, BOB

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.lab.domain.lab import DomainLab

pytestmark = [pytest.mark.domain, pytest.mark.mount]

FAKETIME = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1"


@pytest.mark.usefixtures("alice")
@pytest.mark.parametrize(
    "unc",
    [
        "//contoso.test/public",
        "//CONTOSO/public",
        "//Contoso.Test/Public",
        "//fs1.contoso.test/public",
        "//FS2/public",
    ],
)
def test_every_name_of_the_namespace_leads_to_it(domain: DomainLab, unc: str) -> None:
    with mounted(domain, unc) as mount:
        assert (mount / "docs" / "hello.txt").read_bytes() == content.HELLO
        assert (mount / "short" / "hello.txt").read_bytes() == content.HELLO, "a target by its short name"
        assert (mount / "inter" / "one" / "hello.txt").read_bytes() == content.small_hello("one")


@pytest.mark.usefixtures("alice")
@pytest.mark.parametrize("unc", ["//contoso.test/SYSVOL", "//CONTOSO/sysvol", "//dc2.contoso.test/sysvol"])
def test_c099_sysvol(domain: DomainLab, unc: str) -> None:
    with mounted(domain, unc) as mount:
        assert os.listdir(mount) == ["contoso.test"]


@pytest.mark.usefixtures("alice")
def test_a_root_whose_referral_names_itself(domain: DomainLab) -> None:
    """There is no SPN for the name of a domain: it is reached at a controller."""
    with mounted(domain, "//contoso.test/single") as mount:
        assert (mount / "here.txt").read_text() == "on a controller\n"
        assert (mount / "docs" / "hello.txt").read_bytes() == content.HELLO


@pytest.mark.usefixtures("alice")
def test_netlogon_by_the_netbios_name(domain: DomainLab) -> None:
    with mounted(domain, "//CONTOSO/NETLOGON") as mount:
        assert os.listdir(mount) == []


@pytest.mark.usefixtures("alice")
def test_c029_both_spellings_are_one_domain_and_the_site_is_found(domain: DomainLab) -> None:
    shown = on_client(domain, DFSFS, "explain", "//CONTOSO/public/docs", "-o", "sec=krb5").stdout
    assert "the domain is contoso.test or CONTOSO, with the controllers dc1.contoso.test" in shown
    assert "this computer is in the site Berlin" in shown
    shown = on_client(domain, DFSFS, "explain", PUBLIC, "-o", "sec=krb5", host="client2").stdout
    assert "with the controllers dc2.contoso.test" in shown
    assert "this computer is in the site Paris" in shown


@pytest.mark.usefixtures("alice")
def test_sysvol_comes_from_the_clients_own_site(domain: DomainLab) -> None:
    for host, controller in (("client", "dc1"), ("client2", "dc2")):
        shown = on_client(domain, DFSFS, "explain", "//contoso.test/SYSVOL", "-o", "sec=krb5", host=host).stdout
        assert f"* //{controller}.contoso.test/" in shown


@pytest.mark.usefixtures("alice")
def test_a_domain_that_only_an_option_names(domain: DomainLab) -> None:
    """A short name says nothing of where to look; here krb5.conf says nothing either."""
    bare = domain.state / "bare.conf"
    bare.write_text(config.krb5_conf(f"FILE:{domain.state}/tickets/%{{uid}}").replace("default_realm", "#"))
    known = {"KRB5_CONFIG": str(bare)}
    for option in ("dns_suffix=contoso.test", "domain=contoso.test", "dc=dc1.contoso.test"):
        with mounted(domain, "//CONTOSO/public", f"sec=krb5,{option}", environment=known) as mount:
            assert (mount / "docs" / "hello.txt").read_bytes() == content.HELLO
    refused = mount_command(domain, "//CONTOSO/public", domain.mounts / "m", "sec=krb5", environment=known)
    assert refused.returncode == 32 and "CONTOSO" in refused.stderr


# -- who logs in, and with what ---------------------------------------------------------------------------------------


def test_ntlm_is_a_choice_and_never_what_is_left_of_kerberos(domain: DomainLab) -> None:
    options = f"username={ALICE.name},domain={config.NETBIOS}"
    with mounted(domain, options=f"{options},sec=ntlmssp", password=ALICE.password) as mount:
        assert (mount / "docs" / "hello.txt").read_bytes() == content.HELLO
    refused = mount_command(domain, PUBLIC, domain.mounts / "m", "sec=krb5,cruid=carol")
    assert refused.returncode == 32
    assert "cifs/dc" in refused.stderr and "kinit" in refused.stderr


def test_a_password_gets_its_own_ticket(domain: DomainLab) -> None:
    who = f"sec=krb5,username={ALICE.name}@{config.REALM}"
    with mounted(domain, options=who, password=ALICE.password) as mount:
        assert (mount / "docs" / "hello.txt").read_bytes() == content.HELLO
    refused = mount_command(domain, PUBLIC, domain.mounts / "m", who, password="wrong")
    assert refused.returncode == 32
    assert "check the user and the password" in refused.stderr and "wrong" not in refused.stderr


def test_a_keytab_is_enough_with_nobody_logged_in(domain: DomainLab) -> None:
    domain.logout(0)
    with mounted(domain, options=f"sec=krb5,keytab={domain.keytab},principal=svc-mount") as mount:
        assert (mount / "docs" / "hello.txt").read_bytes() == content.HELLO
    with mounted(domain, environment={"KRB5_KTNAME": str(domain.keytab)}) as mount:
        assert (mount / "docs" / "hello.txt").read_bytes() == content.HELLO, "the computer's keytab"


def test_tickets_of_somebody_else(domain: DomainLab) -> None:
    domain.login(BOB)
    try:
        with mounted(domain, options="sec=krb5,cruid=bob") as mount:
            (mount / "docs" / "whose").write_text("")
            assert (domain.hosts["fs1"].share_path("docs") / "whose").stat().st_uid == BOB.uid
            (mount / "docs" / "whose").unlink()
    finally:
        domain.logout(BOB.uid)


@pytest.mark.parametrize("kind", ["FILE:{}/one", "DIR:{}/collection", "KEYRING:user:dfsfs-test"])
def test_kinds_of_ticket_caches(domain: DomainLab, tmp_path: Path, kind: str) -> None:
    cache = kind.format(tmp_path)
    if kind.startswith("DIR"):
        (tmp_path / "collection").mkdir(mode=0o700)
    domain.login(ALICE, uid=0, cache=cache)
    with mounted(domain, options=f"sec=krb5,ccache={cache}") as mount:
        assert (mount / "docs" / "hello.txt").read_bytes() == content.HELLO
    on_client(domain, "kdestroy", "-c", cache)


# -- what goes wrong --------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("alice")
@pytest.mark.parametrize(
    ("unc", "said"),
    [
        ("//10.99.0.11/docs", ("cifs/10.99.0.11", "Server not found in Kerberos database", "has no tickets")),
        ("//nosuch.contoso.test/docs", ("nosuch.contoso.test", "address", "DNS")),
        ("//contoso.test/nosuch", ("contoso.test/nosuch",)),
    ],
)
def test_wrong_names(domain: DomainLab, unc: str, said: tuple[str, ...]) -> None:
    refused = mount_command(domain, unc, domain.mounts / "m", "sec=krb5")
    assert refused.returncode == 32 and refused.stderr.count("\n") == 1
    for words in said:
        assert words in refused.stderr


@pytest.mark.usefixtures("alice")
def test_a_clock_that_is_wrong_by_ten_minutes(domain: DomainLab) -> None:
    wrong = {"LD_PRELOAD": FAKETIME, "FAKETIME": "+10m", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    refused = on_client(domain, DFSFS, "explain", PUBLIC, "-o", "sec=krb5", environment=wrong)
    assert refused.returncode == 32
    assert "Clock skew too great" in refused.stderr and "set the clock" in refused.stderr


def test_sysvol_wants_a_server_that_proves_who_it_is(domain: DomainLab) -> None:
    who, place = f"username={ALICE.name},domain={config.NETBIOS}", "//contoso.test/SYSVOL"
    refused = mount_command(domain, place, domain.mounts / "m", who, password=ALICE.password)
    assert refused.returncode == 32
    assert "sec=krb5" in refused.stderr and "nohardened" in refused.stderr
    with mounted(domain, place, f"{who},nohardened", password=ALICE.password) as mount:
        assert os.listdir(mount) == ["contoso.test"]


# -- servers that are down --------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("alice")
@pytest.mark.parametrize("how", ["kill", "cut"] if LONG else ["kill"])
def test_a_controller_that_is_down_costs_one_bounded_wait(domain: DomainLab, how: str) -> None:
    first = domain.hosts["dc1"]
    (first.kill if how == "kill" else first.cut)()
    try:
        started = time.monotonic()
        with mounted(domain) as mount:
            took = time.monotonic() - started
            assert (mount / "docs" / "hello.txt").read_bytes() == content.HELLO
            assert took < 30, "DNS, one controller, and what the members themselves wait for it"
    finally:
        (first.start if how == "kill" else first.heal)()
        for member in domain.members:
            member.wait_ready()


@pytest.mark.usefixtures("alice")
def test_f13_a_controller_dies_in_use(domain: DomainLab) -> None:
    with mounted(domain, "//contoso.test/SYSVOL") as mount:
        assert os.listdir(mount) == ["contoso.test"]
        domain.hosts["dc1"].kill()
        try:
            assert os.listdir(mount / "contoso.test") != []
        finally:
            domain.hosts["dc1"].start()
            for member in domain.members:
                member.wait_ready()


@pytest.mark.usefixtures("alice")
def test_f14_a_member_dies_in_use(domain: DomainLab) -> None:
    with mounted(domain) as mount:
        assert (mount / "docs" / "hello.txt").read_bytes() == content.HELLO
        domain.hosts["fs1"].kill()
        try:
            assert (mount / "docs" / "folder" / "inside.txt").read_bytes() == content.INSIDE
            assert (mount / "readme.txt").read_text()
        finally:
            domain.hosts["fs1"].start()
