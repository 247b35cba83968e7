"""A domain-based namespace, mounted by the name of the domain: controllers and root servers are those of the tests, the
files behind the links lie on Samba servers.
"""

from __future__ import annotations

import errno
import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.conformance.company import Company, company
from tests.kernel.mounts import mount_command, mounted
from tests.support.lab import content

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.lab.samba import Lab

pytestmark = [pytest.mark.lab, pytest.mark.mount]

UNC = "//contoso.test/public"


@pytest.fixture
def contoso(lab: Lab, tmp_path: Path) -> Iterator[Company]:
    folder = tmp_path / "company"
    folder.mkdir()
    with company(lab, folder) as running:
        # The two are no replicas, and a program may be given what the kernel has of a file that looks the same.
        os.utime(running.servers["ns2"].folder / "public" / "readme.txt", (10**9, 10**9))
        yield running


def options(contoso: Company) -> str:
    hosts = ";".join(f"{name}:{address}" for name, address in contoso.hosts.items())
    return f"dc=dc1.contoso.test:dc2.contoso.test,hosts={hosts}"


def serving(mount: Path) -> str:
    """Which root server a read from the root of the namespace goes to."""
    return (mount / "readme.txt").read_text().split()[-1]


def test_h21_h22_links_in_the_listing_of_a_root(lab: Lab, contoso: Company, tmp_path: Path) -> None:
    """They are marked, so nobody asks for one before somebody enters it."""
    with mounted(lab, tmp_path / "mnt", options(contoso), UNC) as mount:
        shown = subprocess.run(["ls", "-l", str(mount)], capture_output=True, text=True, timeout=30, check=True).stdout
        lines = {line.split()[-1]: line.split()[0] for line in shown.splitlines()[1:]}
        assert set(lines) == {"readme.txt", "docs", "dir", "alone", "many"}
        assert {name for name, mode in lines.items() if mode.startswith("d")} == set(lines) - {"readme.txt"}
        assert [entry.name for entry in (mount / "dir").iterdir()] == ["sets"]
        assert "\\contoso.test\\public\\docs" not in {request.path for _, request in contoso.seen()}
        assert serving(mount) in ("ns1", "ns2")


def test_from_the_domain_through_links_and_interlinks(lab: Lab, contoso: Company, tmp_path: Path) -> None:
    with mounted(lab, tmp_path / "mnt", options(contoso), UNC) as mount:
        assert (mount / "docs" / "hello.txt").read_bytes() == content.HELLO
        assert (mount / "dir" / "sets" / "folder" / "inside.txt").read_bytes() == content.INSIDE
        assert (mount / "alone" / "extra" / "hello.txt").read_bytes() == content.small_hello("extra")
        with pytest.raises(OSError) as error:
            (mount / "docs").rmdir()
        assert error.value.errno == errno.EBUSY


def test_f13_f14_h04_a_controller_and_a_root_server_die(lab: Lab, contoso: Company, tmp_path: Path) -> None:
    with mounted(lab, tmp_path / "mnt", options(contoso), UNC) as mount:
        first = serving(mount)
        contoso.servers["dc1"].stop()
        contoso.servers[first].stop()
        assert {first, serving(mount)} == {"ns1", "ns2"}
        assert (mount / "docs" / "hello.txt").read_bytes() == content.HELLO


def test_c086_without_any_controller_nothing_is_mounted(lab: Lab, contoso: Company, tmp_path: Path) -> None:
    for name in ("dc1", "dc2"):
        contoso.servers[name].stop()
    mountpoint = tmp_path / "mnt"
    mountpoint.mkdir()
    user, password = lab.credentials
    result = mount_command(UNC, mountpoint, f"username={user},{options(contoso)}", password)
    assert result.returncode == 32
    assert "contoso.test" in result.stderr
