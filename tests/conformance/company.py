"""A company of namespace servers for the tests on the wire: two controllers of contoso.test, two root servers, and the
lab's Samba servers behind the links.
"""

from __future__ import annotations

from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dfsfs.namespace.client import Namespace
from dfsfs.namespace.discovery import DomainSettings
from dfsfs.namespace.referrals import ReferralSettings
from dfsfs.smb.auth.credentials import Credentials, Secret
from dfsfs.smb.connection.settings import TransportSettings
from dfsfs.smb.pool import Pool
from dfsfs.unc import UncPath, fold_name
from tests.support.lab.namespaces import parse_world
from tests.support.lab.nsserver import NamespaceServer, SeenRequest
from tests.support.lab.topology import ALICE, USERS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from dfsfs.dfsc.policy import Policy
    from dfsfs.namespace.junction import Location
    from tests.support.lab.samba import Lab

OCTETS = {"dc1": 50, "dc2": 51, "ns1": 52, "ns2": 53}
WORLD = """
[domain]
name = "contoso.test"
netbios = "CONTOSO"
controllers = ["dc1", "dc2"]
trusted = ["fabrikam.test"]

[sites]
berlin = []

[servers]
fs1 = "paris"
fs2 = "berlin"
dc2 = "paris"

[[namespace]]
name = "public"
domain = true
site_costing = true
targets = ["//ns1.contoso.test/public", "//ns2.contoso.test/public"]
[[namespace.link]]
path = "docs"
targets = ["//fs1.contoso.test/data", "//fs2.contoso.test/data"]
[[namespace.link]]
path = "dir/sets"
ttl = 60
failback = true
targets = [
  { path = "//fs2.contoso.test/data", priority = "global-low" },
  { path = "//fs1.contoso.test/data", priority = "global-high" },
]
[[namespace.link]]
path = "alone"
interlink = true
targets = ["//ns1.contoso.test/standalone"]
[[namespace.link]]
path = "many"
targets = MANY

[[namespace]]
name = "standalone"
targets = ["//ns1.contoso.test/standalone"]
[[namespace.link]]
path = "extra"
targets = ["//fs1.contoso.test/extra"]
[[namespace.link]]
path = "back"
interlink = true
targets = ["//contoso.test/public"]
[[namespace.link]]
path = "loop"
interlink = true
targets = ["//ns1.contoso.test/standalone/pool"]
[[namespace.link]]
path = "pool"
interlink = true
targets = ["//ns1.contoso.test/standalone/loop"]
"""


@dataclass(slots=True)
class Company:
    """The servers by name, and a client for them."""

    lab: Lab
    servers: dict[str, NamespaceServer]
    hosts: dict[str, str]
    credentials: Credentials = field(default_factory=lambda: Credentials(ALICE.name, Secret(ALICE.password), ""))

    def seen(self, *names: str) -> list[tuple[str, SeenRequest]]:
        """The requests that came to these servers, all of them if none is named."""
        return [(name, request) for name in names or self.servers for request in self.servers[name].requests]

    @asynccontextmanager
    async def client(
        self, *, joined: bool = True, site: str | None = None, policy: Policy | None = None, **times: float
    ) -> AsyncIterator[Namespace]:
        """A client in the domain, or in none. `times` are those of TransportSettings."""
        async with Pool(TransportSettings(hosts=self.hosts, **times), self.credentials) as pool:  # type: ignore[arg-type]
            controllers = ("dc1.contoso.test", "dc2.contoso.test") if joined else ()
            settings = ReferralSettings(site=site, domain=DomainSettings(controllers=controllers))
            yield Namespace(pool, referrals=settings, policy=policy)


@contextmanager
def company(lab: Lab, folder: Path, *, many: int = 3) -> Iterator[Company]:
    """Starts the servers; `many` targets has the link of that name."""
    targets = ", ".join(f'"//server{number:04}.contoso.test/data"' for number in range(many))
    world = parse_world(WORLD.replace("MANY", f"[{targets}]"))
    addresses = {name: f"{lab.net}.{octet}" for name, octet in OCTETS.items()}
    addresses |= {name: lab.address(name) for name in ("fs1", "fs2", "fs3")}
    hosts = {fold_name(full): addr for name, addr in addresses.items() for full in (name, f"{name}.contoso.test")}
    nowhere = {fold_name(f"server{number:04}.contoso.test"): lab.address("dead1") for number in range(many)}
    servers = {name: NamespaceServer(name, addresses[name], world, USERS, folder / name) for name in OCTETS}
    try:
        for server in servers.values():
            server.__enter__()
        yield Company(lab, servers, hosts | nowhere)
    finally:
        for server in servers.values():
            server.stop()


async def targets(namespace: Namespace, path: str) -> list[str]:
    """Where a path of the namespace is: its targets in order, followed to the end of all links."""
    location: Location
    location, _ = await namespace.find(UncPath.parse(path))
    assert location.junction.resolution is not None
    return [str(target.path) for target in location.junction.resolution.targets]
