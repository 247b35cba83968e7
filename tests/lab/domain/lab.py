"""The lab of a domain: builds it once, keeps what it has built, and starts it in seconds from then on.

    with DomainLab() as lab:
        lab.login("alice")             # a ticket for alice on the client, as kinit would get it
        lab.run_as("alice", "ls", str(lab.mounts / "public"))

A domain is provisioned with samba-tool and the members join it for real, which takes about half a minute. What the hosts
have in their folders then is kept in .venv, and the next lab begins with a copy of that, at the same addresses.

The client side is two more network namespaces, with name servers, krb5.conf and accounts of their own. `mounts` is a
folder whose mounts are seen on the client and by the tests alike.

Needs root. Standard library only.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from tests.lab import content
from tests.lab.domain import config
from tests.lab.domain.network import Network
from tests.lab.domain.servers import DomainHost
from tests.lab.samba import LabError
from tests.lab.topology import ALICE

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

KEPT = Path(__file__).parents[3] / ".venv" / "domain-lab"
"""Where provisioned domains are kept, one for each version of what makes them."""
PROGRAMS = ("samba", "samba-tool", "smbd", "winbindd", "net", "kinit", "ip", "klist")
_DIRECTORY = Path(__file__).with_name("directory.py")
_OWN = Path(__file__).parent


def requirements_missing() -> list[str]:
    """Why no such lab can run here, in words; empty if one can."""
    if os.geteuid() != 0:
        return ["the lab of a domain needs root"]
    missing = [f"{name} is not installed" for name in PROGRAMS if shutil.which(name) is None]
    if not missing:
        probe = subprocess.run(["ip", "netns", "add", "dfsfs-probe"], capture_output=True, text=True, check=False)
        subprocess.run(["ip", "netns", "delete", "dfsfs-probe"], capture_output=True, check=False)
        if probe.returncode != 0:
            missing.append(f"no network namespaces here ({probe.stderr.strip()})")
    return missing


class DomainLab:
    """See the module's text. `state` is a new folder in /tmp unless given; it goes with the lab."""

    def __init__(self, state: Path | None = None) -> None:
        self.state = (state or Path(tempfile.gettempdir(), f"dfsfs-ad-{uuid.uuid4().hex[:6]}")).absolute()
        tag = hashlib.sha256(os.fsencode(self.state)).hexdigest()[:6]
        self.network = Network(f"ad{tag}")
        self.hosts = {name: DomainHost(name, self.state / name, self.network) for name in config.ADDRESSES}
        self.mounts = self.state / "mounts"

    @property
    def controllers(self) -> list[DomainHost]:
        return [self.hosts[name] for name in config.CONTROLLERS]

    @property
    def members(self) -> list[DomainHost]:
        return [self.hosts[name] for name in config.MEMBERS]

    @property
    def servers(self) -> list[DomainHost]:
        return [*self.controllers, *self.members]

    @property
    def client(self) -> DomainHost:
        return self.hosts["client"]

    @property
    def keytab(self) -> Path:
        """The key of the account svc-mount."""
        return self.state / "keys" / "svc-mount.keytab"

    # -- life -------------------------------------------------------------------------------------------------------

    def __enter__(self) -> DomainLab:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Brings the lab up; if that fails, nothing is left. LabError says why."""
        missing = requirements_missing()
        if missing:
            raise LabError("; ".join(missing))
        self.state.mkdir(mode=0o755)
        self.state.chmod(0o755)
        try:
            self.network.create({name: (address,) for name, address in config.ADDRESSES.items()})
            self._share_mounts()
            kept = KEPT / _version()
            if kept.exists():
                _copy(kept, self.state)
            self._make_folders()
            if kept.exists():
                for host in self.servers:
                    host.launch()
            else:
                self._build(kept)
            for host in self.servers:
                host.wait_ready()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Ends every host and takes all that is left of the lab away. LabError if something does not end."""
        errors = []
        for host in self.hosts.values():
            try:
                host.kill()
            except LabError as error:
                errors.append(str(error))
        self.network.remove()
        subprocess.run(["umount", "-R", "-l", str(self.mounts)], check=False, capture_output=True, timeout=10)
        shutil.rmtree(self.state, ignore_errors=True)
        if self.state.exists():
            errors.append(f"cannot remove {self.state}")
        if errors:
            raise LabError("; ".join(errors))

    def _share_mounts(self) -> None:
        """Makes the folder whose mounts show everywhere, before any host has its own view of what is mounted."""
        self.mounts.mkdir()
        for words in (["--bind", str(self.mounts), str(self.mounts)], ["--make-shared", str(self.mounts)]):
            subprocess.run(["mount", *words], check=True, timeout=10)

    def _make_folders(self) -> None:
        for host in self.hosts.values():
            host.make_folders()
        for name in ("tickets", "keys"):
            (self.state / name).mkdir(exist_ok=True)
        (self.state / "tickets").chmod(0o1777)
        self.write_krb5_conf(f"FILE:{self.state}/tickets/%{{uid}}")
        for host in self.members:
            for share in config.SHARES[host.name]:
                path = host.share_path(share.name)
                content.write_share(share, path, (ALICE.uid, config.GROUP))
                content.write_links({link.path: config.link_text(link) for link in share.links}, path)
                path.chmod(0o775)
        for host in self.controllers:
            host.share_path("public").mkdir(exist_ok=True)

    def write_krb5_conf(self, ccache: str) -> None:
        """Sets where the clients keep tickets."""
        (self.state / "krb5.conf").write_text(config.krb5_conf(ccache))

    # -- building ---------------------------------------------------------------------------------------------------

    def _build(self, kept: Path) -> None:
        """Provisions the domain, joins everybody to it, leaves all running, and keeps a copy of it."""
        first, second = self.controllers
        self._provision(first)
        first.start()
        admin = f"{config.ADMINISTRATOR.name}%{config.ADMINISTRATOR.password}"
        join = ("samba-tool", "domain", "join", config.DOMAIN, "DC", f"--server={first.fqdn}", f"--site={config.PARIS}")
        second.run(*join, "-U", admin, "--configfile", str(second.smb_conf), *self._options(second))
        second.start()
        second.run(
            "samba_dnsupdate", "--use-samba-tool", f"--rpc-server-ip={first.address}", "-s", str(second.smb_conf)
        )
        for host in self.members:
            host.run("net", "ads", "join", "-S", first.fqdn, "--no-dns-updates", "-U", admin, "--configfile", str(host.smb_conf))
            record = (config.DOMAIN, host.name, "A", host.address)
            first.run("samba-tool", "dns", "add", first.fqdn, *record, "-U", admin, "-s", str(first.smb_conf))
        for part in ("DC=contoso,DC=test", "DC=DomainDnsZones,DC=contoso,DC=test", "DC=ForestDnsZones,DC=contoso,DC=test"):
            replicate = ("samba-tool", "drs", "replicate", second.fqdn, first.fqdn, part, "--local")
            second.run(*replicate, "-U", admin, "-s", str(second.smb_conf))
        self._keep(kept)
        for host in self.servers:
            host.launch()

    def _options(self, host: DomainHost) -> Sequence[str]:
        return [f"--option=interfaces=lo {host.address}/16", "--option=bind interfaces only=yes"]

    def _provision(self, host: DomainHost) -> None:
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
        service = config.SERVICE.name
        export = ("samba-tool", "domain", "exportkeytab", str(self.keytab), f"--principal={service}")
        host.run(*export, "-s", str(host.smb_conf))

    def _keep(self, kept: Path) -> None:
        """Keeps what was built. Another lab may do the same at the same time: the first one wins."""
        for host in self.servers:
            host.stop()
        unfinished = KEPT / f"unfinished-{uuid.uuid4().hex}"
        unfinished.mkdir(parents=True)
        for host in self.servers:
            host.clear_runtime()
            for name in ("private", "state", "lock", "cache"):
                (unfinished / host.name).mkdir(exist_ok=True)
                _copy(host.folder / name, unfinished / host.name / name)
            host.make_folders()
        _copy(self.keytab.parent, unfinished / "keys")
        try:
            unfinished.rename(kept)
        except OSError:
            shutil.rmtree(unfinished)

    # -- what tests do on the client --------------------------------------------------------------------------------

    def environment(self) -> dict[str, str]:
        """What programs on a client need to know."""
        return {"KRB5_CONFIG": str(self.state / "krb5.conf")}


def _copy(source: Path, target: Path) -> None:
    """Copies what is in a folder with all its attributes: Samba keeps access rights in them."""
    target.mkdir(exist_ok=True)
    subprocess.run(["cp", "-a", f"{source}/.", str(target)], check=True, timeout=60)


def _version() -> str:
    """What the kept domain depends on: the files here and the release of Samba."""
    release = subprocess.run(["samba", "--version"], capture_output=True, check=True, timeout=10).stdout
    files = [path.read_bytes() for path in sorted(_OWN.glob("*.py"))]
    return hashlib.sha256(release + b"".join(files)).hexdigest()[:16]
