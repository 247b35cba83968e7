"""Builds the domain: provisions it, has everybody join it, and keeps what came of that for the next lab.

What is built depends on config.py, directory.py, this file and the release of Samba, and is kept under a name made of
them. Standard library only.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.lab.domain import config

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.support.lab.domain.servers import DomainHost

KEPT = Path(__file__).parents[4] / ".venv" / "domain-lab"
"""Where provisioned domains are kept."""
STATE = ("private", "state", "lock", "cache")
"""The folders of a host that are kept."""
PARTS = ("DC=contoso,DC=test", "DC=DomainDnsZones,DC=contoso,DC=test", "DC=ForestDnsZones,DC=contoso,DC=test")
_ADMIN = ("-U", f"{config.ADMINISTRATOR.name}%{config.ADMINISTRATOR.password}")
_DIRECTORY = Path(__file__).with_name("directory.py")


def kept() -> Path:
    """The folder in which this version of the domain is kept, once it has been built."""
    release = subprocess.run(["samba", "--version"], capture_output=True, check=True, timeout=10).stdout
    sources = (Path(__file__), _DIRECTORY, Path(config.__file__))
    return KEPT / hashlib.sha256(release + b"".join(path.read_bytes() for path in sources)).hexdigest()[:16]


def build(controllers: Sequence[DomainHost], members: Sequence[DomainHost], keytab: Path) -> None:
    """Builds the domain in the folders of its hosts; their servers have been stopped again when this returns."""
    first, second = controllers
    _provision(first, keytab)
    first.start()
    join = ("samba-tool", "domain", "join", config.DOMAIN, "DC", f"--server={first.fqdn}", f"--site={config.PARIS}")
    own = (f"--option=interfaces=lo {second.address}/16", "--option=bind interfaces only=yes")
    second.run(*join, *_ADMIN, "--configfile", str(second.smb_conf), *own)
    second.start()
    second.run("samba_dnsupdate", "--use-samba-tool", f"--rpc-server-ip={first.address}", "-s", str(second.smb_conf))
    for host in members:
        # At the first controller, whose directory the second one then copies; it does not work the other way round
        # here.
        membership = ("net", "ads", "join", "-S", first.fqdn, "--no-dns-updates")
        host.run(*membership, *_ADMIN, "--configfile", str(host.smb_conf))
        record = (config.DOMAIN, host.name, "A", host.address)
        first.run("samba-tool", "dns", "add", first.fqdn, *record, *_ADMIN, "-s", str(first.smb_conf))
    for part in PARTS:
        replicate = ("samba-tool", "drs", "replicate", second.fqdn, first.fqdn, part, "--local", "--full-sync")
        second.run(*replicate, *_ADMIN, "-s", str(second.smb_conf))
    for host in (*controllers, *members):
        host.stop()


def _provision(host: DomainHost, keytab: Path) -> None:
    host.run(
        *("samba-tool", "domain", "provision", "--configfile", str(host.smb_conf), "--quiet"),
        *(f"--realm={config.REALM}", f"--domain={config.NETBIOS}", "--server-role=dc"),
        *(f"--host-name={host.name}", f"--host-ip={host.address}", f"--site={config.BERLIN}"),
        *("--dns-backend=SAMBA_INTERNAL", f"--adminpass={config.ADMINISTRATOR.password}"),
    )
    wanted = {
        "people": {user.name: user.password for user in config.PEOPLE},
        "sites": [config.PARIS],
        "subnets": config.SUBNETS,
    }
    host.run("/usr/bin/python3", str(_DIRECTORY), str(host.smb_conf), text=json.dumps(wanted))
    export = ("samba-tool", "domain", "exportkeytab", str(keytab), f"--principal={config.SERVICE.name}")
    host.run(*export, "-s", str(host.smb_conf))


def keep(target: Path, hosts: Sequence[DomainHost], keytab: Path) -> None:
    """Keeps what was built. Another lab may do the same at the same time: the first one wins."""
    unfinished = KEPT / f"unfinished-{uuid.uuid4().hex}"
    unfinished.mkdir(parents=True)
    for host in hosts:
        host.clear_runtime()
        host.make_folders()
        (unfinished / host.name).mkdir()
        for name in STATE:
            copy(host.folder / name, unfinished / host.name / name)
    copy(keytab.parent, unfinished / "keys")
    try:
        unfinished.rename(target)
    except OSError:
        shutil.rmtree(unfinished)


def copy(source: Path, target: Path) -> None:
    """Copies what is in a folder with all its attributes: Samba keeps access rights in them."""
    target.mkdir(exist_ok=True)
    subprocess.run(["cp", "-a", f"{source}/.", str(target)], check=True, timeout=60)
