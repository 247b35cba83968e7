"""The commands of `dfsfs` in a domain: controllers, several namespace servers, Kerberos, many users."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from tests.ad.mounts import DFSFS, PUBLIC, does, mounted, on_client
from tests.support.lab.domain import config
from tests.support.lab.topology import ALICE, BOB

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.lab.domain.lab import DomainLab

pytestmark = [pytest.mark.domain, pytest.mark.mount]

LOGIN = f"username={ALICE.name},domain={config.NETBIOS}"


def run(domain: DomainLab, *words: str | Path, code: int = 0) -> Any:
    """What a command says with --json, on the client."""
    done = on_client(domain, DFSFS, *map(str, words), "--json", environment={"PASSWD": ALICE.password})
    assert done.returncode == code, done.stdout + done.stderr
    return json.loads(done.stdout)


def test_the_domains_of_a_mount(domain: DomainLab) -> None:
    with mounted(domain, options=LOGIN, password=ALICE.password) as mount:
        found = run(domain, "domain", "show", "--mount", mount)
        ours = found["found"]
        assert (ours["name"], ours["netbios"], ours["site"]) == (config.DOMAIN, config.NETBIOS, config.BERLIN)
        assert set(ours["controllers"]) == {f"{name}.{config.DOMAIN}" for name in config.CONTROLLERS}
        (one,) = [row for row in found["domains"] if row["name"].lower() == config.DOMAIN]
        assert one["hint"] in one["controllers"]
        assert run(domain, "domain", "flush", "--mount", mount)["flushed"] >= 1
        again = run(domain, "domain", "show", "--mount", mount)
        assert [row["name"] for row in again["domains"]] == [config.DOMAIN]
        assert os.listdir(mount / "docs")


def test_servers_of_a_namespace_that_differ(domain: DomainLab) -> None:
    same = run(domain, "explain", f"{PUBLIC}/docs", "--all-roots", "-o", LOGIN)
    assert [row["host"] for row in same["all_roots"]["roots"]] == ["fs1.contoso.test", "fs2.contoso.test"]
    assert same["all_roots"]["differ"] is False
    link = domain.hosts["fs2"].share_path("public") / "docs"
    before = os.readlink(link)
    link.unlink()
    link.symlink_to("msdfs:fs2.contoso.test\\docs")
    try:
        found = run(domain, "explain", f"{PUBLIC}/docs", "--all-roots", "-o", LOGIN)
        assert found["all_roots"]["differ"] is True
        one, two = (row["targets"] for row in found["all_roots"]["roots"])
        assert (len(one), two) == (2, ["//fs2.contoso.test/docs"])
        checked = run(domain, "check", PUBLIC, "-o", LOGIN, code=3)
        (problem,) = [text for text in checked["problems"] if "differ" in text]
        assert problem.startswith(f"{PUBLIC}/docs: the servers of the namespace differ: fs1.contoso.test says ")
    finally:
        link.unlink()
        link.symlink_to(before)


def test_tree_shows_what_the_namespace_names(domain: DomainLab) -> None:
    links = {link["path"]: link["targets"] for link in run(domain, "tree", PUBLIC, "-o", LOGIN)["links"]}
    assert links[f"{PUBLIC}/short"] == ["//FS2/docs"]
    assert links[f"{PUBLIC}/inter"] == [f"//{config.DOMAIN}/public/dir"]
    assert links[f"{PUBLIC}/dir/one"] == ["//fs1.contoso.test/one"]


@pytest.mark.usefixtures("tickets")
def test_status_of_a_mount_for_many_users(domain: DomainLab) -> None:
    options = f"sec=krb5,multiuser,keytab={domain.keytab},principal=svc-mount"
    with mounted(domain, options=options) as mount:
        for user in (ALICE, BOB):
            does(user, "cat", str(mount / "docs" / "hello.txt"))
        (report,) = run(domain, "status", mount)
        assert report["mount"]["multiuser"] is True
        users = {link["uid"] for link in report["links"] if link["path"].endswith("/docs")}
        assert users == {ALICE.uid, BOB.uid}
        spns = {session["spn"] for session in report["sessions"] if session["uid"] == ALICE.uid}
        assert "cifs/fs1.contoso.test" in spns
        (found,) = run(domain, "drain", "fs1", "--mount", mount)
        moved = [link for link in found["links"] if link["path"].endswith("/docs")]
        assert {(link["from"], link["to"]) for link in moved} == {
            ("//fs1.contoso.test/docs", "//fs2.contoso.test/docs")
        }
        assert len(moved) == 2, "one for each user"
        assert does(ALICE, "getfattr", "--only-values", "-n", "user.dfsfs.target", str(mount / "docs"))
