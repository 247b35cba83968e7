"""What a DFS namespace server serves, as data: sites, servers, domains, namespaces, links and their targets.

A world is read from TOML:

    insite_only, failback: booleans; ttl in seconds; priority as in Windows; everything but names is optional

    [domain]
    name = "contoso.test"
    netbios = "CONTOSO"
    controllers = ["dc1", "dc2"]
    trusted = ["fabrikam.test", "FABRIKAM"]

    [sites]
    berlin = ["127.0.1.0/24"]            # subnets of clients
    paris = []

    [[cost]]
    between = ["berlin", "paris"]
    cost = 10

    [servers]
    fs1 = "berlin"                       # where a target's host stands

    [[namespace]]
    name = "public"
    domain = true                        # else stand-alone
    site_costing = true
    targets = ["//ns1/public", { path = "//ns2/public", priority = "global-low", rank = 2 }]

    [[namespace.link]]
    path = "docs"
    targets = ["//fs1/docs"]

Pure; standard library and dfsfs.unc only.
"""

from __future__ import annotations

import ipaddress
import tomllib
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, Any

from dfsfs.unc import UncPath, fold_name

if TYPE_CHECKING:
    from collections.abc import Mapping


class PriorityClass(IntEnum):
    """Target priority classes, in the order of the groups and within them (MS-DFSC 3.2.5.5)."""

    GLOBAL_HIGH = 0
    SITE_COST_HIGH = 1
    SITE_COST_NORMAL = 2
    SITE_COST_LOW = 3
    GLOBAL_LOW = 4


@dataclass(frozen=True, slots=True)
class ServedTarget:
    """A root or link target as the namespace's metadata has it."""

    path: UncPath
    priority: PriorityClass = PriorityClass.SITE_COST_NORMAL
    rank: int = 0


@dataclass(frozen=True, slots=True)
class Served:
    """A root or a link: `components` below the root, empty for the root itself."""

    components: tuple[str, ...]
    targets: tuple[ServedTarget, ...]
    ttl: int
    failback: bool = False
    insite_only: bool = False
    interlink: bool = False


@dataclass(frozen=True, slots=True)
class ServedNamespace:
    """A namespace; `domain`: it is a domain's and not one server's."""

    name: str
    root: Served
    links: tuple[Served, ...]
    domain: bool = False
    site_costing: bool = False


@dataclass(frozen=True, slots=True)
class Domain:
    name: str
    netbios: str
    controllers: tuple[str, ...]
    trusted: tuple[str, ...] = ()

    def is_named(self, name: str) -> bool:
        return fold_name(name) in (fold_name(self.name), fold_name(self.netbios))


@dataclass(frozen=True, slots=True)
class World:
    """All that a server knows. Names of servers and sites are compared as they stand."""

    namespaces: tuple[ServedNamespace, ...]
    domain: Domain | None = None
    sites: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    costs: Mapping[frozenset[str], int] = field(default_factory=dict)
    servers: Mapping[str, str] = field(default_factory=dict)

    def site_of_client(self, address: str) -> str | None:
        """The site whose subnet a client is in."""
        for site, subnets in self.sites.items():
            if any(ipaddress.ip_address(address) in ipaddress.ip_network(subnet) for subnet in subnets):
                return site
        return None


ROOT_TTL, LINK_TTL = 300, 1800


def parse_world(text: str) -> World:
    """Reads a world. KeyError, TypeError or ValueError if it makes no sense: it is written by tests."""
    document = tomllib.loads(text)
    domain = document.get("domain")
    return World(
        namespaces=tuple(_namespace(table) for table in document["namespace"]),
        domain=Domain(domain["name"], domain["netbios"], tuple(domain["controllers"]), tuple(domain.get("trusted", ())))
        if domain
        else None,
        sites={name: tuple(subnets) for name, subnets in document.get("sites", {}).items()},
        costs={frozenset(entry["between"]): entry["cost"] for entry in document.get("cost", ())},
        servers=dict(document.get("servers", {})),
    )


def _namespace(table: Mapping[str, Any]) -> ServedNamespace:
    _only(table, "name", "domain", "site_costing", "targets", "ttl", "failback", "insite_only", "link")
    return ServedNamespace(
        name=table["name"],
        root=_served((), table, ROOT_TTL),
        links=tuple(_link(link) for link in table.get("link", ())),
        domain=table.get("domain", False),
        site_costing=table.get("site_costing", False),
    )


def _link(table: Mapping[str, Any]) -> Served:
    _only(table, "path", "targets", "ttl", "failback", "insite_only", "interlink")
    return _served(tuple(table["path"].split("/")), table, LINK_TTL)


def _served(components: tuple[str, ...], table: Mapping[str, Any], ttl: int) -> Served:
    return Served(
        components=components,
        targets=tuple(_target(target) for target in table["targets"]),
        ttl=table.get("ttl", ttl),
        failback=table.get("failback", False),
        insite_only=table.get("insite_only", False),
        interlink=table.get("interlink", False),
    )


def _target(value: str | Mapping[str, Any]) -> ServedTarget:
    if isinstance(value, str):
        return ServedTarget(UncPath.parse(value))
    _only(value, "path", "priority", "rank")
    priority = PriorityClass[value.get("priority", "site-cost-normal").replace("-", "_").upper()]
    return ServedTarget(UncPath.parse(value["path"]), priority, value.get("rank", 0))


def _only(table: Mapping[str, Any], *known: str) -> None:
    unknown = set(table) - set(known)
    if unknown:
        raise ValueError(f"unknown keys {sorted(unknown)}")
