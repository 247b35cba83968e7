"""Whose word is taken for a domain's: fs1, with an account like that of every member, would like to serve SYSVOL."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.ad.mounts import DFSFS, PUBLIC, mount_command, mounted, on_client
from tests.support.fakes import forger
from tests.support.lab.domain import config
from tests.support.lab.smbconf import section

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.lab.domain.lab import DomainLab

pytestmark = [pytest.mark.domain, pytest.mark.mount]

EVIL = f"fs1.{config.DOMAIN}"
SYSVOL = f"//{config.DOMAIN}/SYSVOL"


@contextlib.contextmanager
def forging(domain: DomainLab, host: str, netbios: str = config.NETBIOS) -> Iterator[None]:
    """Somebody on a host answers LDAP pings there: fs1 is the controller to take."""
    place = (config.ADDRESSES[host], "389", config.DOMAIN, EVIL, netbios)
    words = domain.hosts[host].entered(sys.executable, "-I", "-S", forger.__file__, *place)
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def evil(domain: DomainLab) -> Iterator[None]:
    """fs1 has a SYSVOL of its own."""
    host = domain.hosts["fs1"]
    before = host.smb_conf.read_text()
    host.stop()
    host.smb_conf.write_text(before + "\n" + section("sysvol", (("path", str(host.share_path("one"))),)))
    host.start()
    yield
    host.stop()
    host.smb_conf.write_text(before)
    host.start()


@pytest.mark.usefixtures("alice", "evil")
def test_a_forged_answer_to_a_ping_makes_no_controller(domain: DomainLab) -> None:
    """What is sent to dc1 goes to the client itself, which stands for somebody in between; dc2 is the next one."""
    between = f"hosts=dc1.{config.DOMAIN}:{config.ADDRESSES['client']}"
    options = f"sec=krb5,dc=dc1.{config.DOMAIN}:dc2.{config.DOMAIN},{between}"
    with forging(domain, "client"), mounted(domain, SYSVOL, options) as mount:
        assert os.listdir(mount) == [config.DOMAIN]


@pytest.mark.usefixtures("alice", "evil")
def test_who_is_taken_for_a_controller_has_to_be_one(domain: DomainLab) -> None:
    """Here dc= says what a forged SRV record would say."""
    options = f"sec=krb5,dc={EVIL}"
    realm = f"[realms]\n{config.REALM} = {{\nkdc = {config.ADDRESSES['dc1']}\n}}\n"
    known = domain.state / "known-kdc.conf"
    known.write_text(config.krb5_conf(f"FILE:{domain.state}/tickets/%{{uid}}") + realm)
    environment = {"KRB5_CONFIG": str(known)}
    with forging(domain, "fs1"):
        refused = mount_command(domain, SYSVOL, domain.mounts / "m", options, environment=environment)
        assert refused.returncode == 32 and refused.stderr.count("\n") == 1
        assert f"cifs/{EVIL}/{config.DOMAIN}" in refused.stderr and "nohardened" in refused.stderr
        options += ",nohardened"
        asked = mount_command(domain, SYSVOL, domain.mounts / "m", options, environment=environment)
        # Logged in to, and believed. That smbd has no domain to give is not what anybody should rely on.
        assert f"DFS referral for //{config.DOMAIN} from {EVIL}" in asked.stderr


@pytest.mark.usefixtures("alice")
def test_tickets_for_controllers_name_the_domain(domain: DomainLab) -> None:
    with mounted(domain, SYSVOL), mounted(domain, PUBLIC, name="m2") as mount:
        os.listdir(mount / "docs")
        tickets = on_client(domain, "klist").stdout
    assert f"cifs/dc1.{config.DOMAIN}/{config.DOMAIN}@" in tickets
    assert f"cifs/dc1.{config.DOMAIN}@" not in tickets
    assert f"cifs/fs1.{config.DOMAIN}@" in tickets, "a file server is none"


@pytest.mark.usefixtures("alice")
def test_a_controller_by_its_own_name(domain: DomainLab) -> None:
    with mounted(domain, f"//dc2.{config.DOMAIN}/NETLOGON"):
        assert f"cifs/dc2.{config.DOMAIN}/{config.DOMAIN}@" in on_client(domain, "klist").stdout


@pytest.mark.usefixtures("alice")
def test_a_forged_netbios_name_is_no_alias_for_a_server(domain: DomainLab) -> None:
    options = f"sec=krb5,dc=dc1.{config.DOMAIN}:dc2.{config.DOMAIN}"
    between = f"hosts=dc1.{config.DOMAIN}:{config.ADDRESSES['client']}"
    with forging(domain, "client", netbios=f"fs2.{config.DOMAIN}"):
        shown = on_client(domain, DFSFS, "explain", f"//fs2.{config.DOMAIN}/docs", "-o", f"{options},{between}").stdout
    assert f"//fs2.{config.DOMAIN}/docs" in shown and "the domain is contoso.test" in shown
    assert "contoso.test or" not in shown
