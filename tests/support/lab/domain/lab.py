"""The lab of a domain: builds it once, keeps what it has built, and starts it in seconds from then on.

    with DomainLab() as lab:
        lab.login(ALICE)               # a ticket for alice on the client, by kinit
        lab.as_uid(ALICE.uid, "ls", str(lab.mounts / "public"))

A domain is provisioned with samba-tool and the members join it for real, which takes about half a minute. What the
hosts have in their folders then is kept in .venv, and the next lab begins with a copy of that, at the same addresses.

The client side is two more network namespaces, with name servers, krb5.conf and accounts of their own. `mounts` is a
folder whose mounts are seen on the client and by the tests alike.

Needs root. Standard library only.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.lab import content
from tests.support.lab.domain import build, config
from tests.support.lab.domain.network import Network
from tests.support.lab.domain.servers import DomainHost
from tests.support.lab.samba import LabError, Lifetime
from tests.support.lab.topology import ALICE, User

if TYPE_CHECKING:
    from types import TracebackType

PROGRAMS = ("samba", "samba-tool", "smbd", "winbindd", "net", "kinit", "ip", "klist")


def requirements_missing() -> list[str]:
    """Why no such lab can run here, in words; empty if one can."""
    if os.geteuid() != 0:
        return ["the lab of a domain needs root"]
    missing = [f"{name} is not installed" for name in PROGRAMS if shutil.which(name) is None]
    if not missing:
        name = f"dfsfs-probe-{os.getpid()}"
        probe = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
        subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)
        if probe.returncode != 0:
            missing.append(f"no network namespaces here ({probe.stderr.strip()})")
    return missing


class DomainLab:
    """See the module's text. `state` is a new folder in /tmp unless given; it goes with the lab."""

    def __init__(self, state: Path | None = None, lifetime: Lifetime = Lifetime.OF_CALLER) -> None:
        self.state = (state or Path(tempfile.gettempdir(), f"dfsfs-ad-{uuid.uuid4().hex[:6]}")).absolute()
        tag = hashlib.sha256(os.fsencode(self.state)).hexdigest()[:6]
        self.network = Network(f"ad{tag}")
        self.hosts = {name: DomainHost(name, self.state / name, self.network, lifetime) for name in config.ADDRESSES}
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
            kept = build.kept()
            if kept.exists():
                build.copy(kept, self.state)
            self._make_folders()
            if not kept.exists():
                build.build(self.controllers, self.members, self.keytab)
                build.keep(kept, self.servers, self.keytab)
            for host in self.servers:
                host.launch()
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
        for name in config.CLIENTS:
            (self.hosts[name].folder / "mounts").symlink_to(self.mounts)
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
            host.share_path("single").mkdir(exist_ok=True)
            (host.share_path("single") / "here.txt").write_text("on a controller\n")
            content.write_links({"docs": f"msdfs:fs1.{config.DOMAIN}\\docs"}, host.share_path("single"))

    def write_krb5_conf(self, ccache: str) -> None:
        """Sets where the clients keep tickets."""
        (self.state / "krb5.conf").write_text(config.krb5_conf(ccache))

    # -- what tests do on the client --------------------------------------------------------------------------------

    def environment(self) -> dict[str, str]:
        """What programs on a client need to know."""
        return {"KRB5_CONFIG": str(self.state / "krb5.conf")}

    def login(self, user: User, *, uid: int | None = None, lifetime: str = "", cache: str = "") -> None:
        """Gets a ticket for a person on the client, into the default cache of `uid`, their own unless given.

        `lifetime` as in kinit -l; the controllers give none out for tickets of two minutes or less.
        """
        options = [*(("-l", lifetime) if lifetime else ()), *(("-c", cache) if cache else ())]
        words = ("kinit", *options, f"{user.name}@{config.REALM}")
        self.as_uid(user.uid if uid is None else uid, *words, text=f"{user.password}\n")

    def logout(self, *uids: int) -> None:
        """Takes the tickets in the default caches of users away."""
        for uid in uids:
            (self.state / "tickets" / str(uid)).unlink(missing_ok=True)

    def as_uid(self, uid: int, *command: str, text: str = "", environment: dict[str, str] | None = None) -> str:
        """Runs a command on the client as a user, and returns what it writes. LabError if it fails."""
        words = ("setpriv", "--reuid", str(uid), "--regid", str(config.GROUP), "--clear-groups", *command)
        return self.client.run(*words, text=text, environment={**self.environment(), **(environment or {})})
