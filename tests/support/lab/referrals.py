"""The referral engine of the namespace server: MS-DFSC 3.2.5 and 3.3.5 as pure code.

`answer` says what a server of a world answers to a request; `fit` makes it fit the client's buffer. The only thing that
is not decided by the arguments is the order within a target set, which `rng` draws.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from dfsfs.dfsc.wire import (
    HeaderFlags,
    NameListEntry,
    ReferralEntry,
    ReferralRequest,
    ReferralResponse,
    encode_response,
)
from dfsfs.ntstatus import NtStatus
from dfsfs.unc import UncPath, fold_name
from tests.support.lab.namespaces import PriorityClass, Served, ServedNamespace, ServedTarget, World

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence

FAR = 1_000_000
"""The cost between sites of which nothing is said."""
SYSVOL_TTL, DOMAIN_TTL = 900, 600
"""Seconds, as Windows has them (section 6 on 3.3.5.2 to 3.3.5.4)."""
NEWEST = 4


@dataclass(frozen=True, slots=True)
class Client:
    """Who asks: its site, if it is known, from its address or from the request."""

    site: str | None = None


def answer(
    world: World, server: str, request: ReferralRequest, client: Client, rng: random.Random
) -> ReferralResponse | NtStatus:
    """What `server` answers."""
    is_dc = world.domain is not None and server in world.domain.controllers
    components = tuple(part for part in request.path.replace("/", "\\").split("\\") if part)
    if len(components) < 2:
        return _names(world, request, components, client) if is_dc else NtStatus.INVALID_PARAMETER
    path = UncPath(components)
    if path.key[1] in ("SYSVOL", "NETLOGON") and (world.domain is None or world.domain.is_named(path.host) or is_dc):
        return _sysvol(world, server, path, request.level, client) if is_dc else NtStatus.NOT_FOUND
    return _root_or_link(world, server, path, request.level, client, rng)


# -- domains ----------------------------------------------------------------------------------------------------------


def _names(
    world: World, request: ReferralRequest, components: Sequence[str], client: Client
) -> ReferralResponse | NtStatus:
    """Domain and DC referrals: 3.3.5.2, 3.3.5.3."""
    assert world.domain is not None
    if request.level < 3:
        return NtStatus.UNSUCCESSFUL
    if not components:
        names = (world.domain.netbios, world.domain.name, *world.domain.trusted)
        return ReferralResponse(3, 0, None, (), tuple(NameListEntry(name, (), DOMAIN_TTL) for name in names))
    if not world.domain.is_named(components[0]):
        return NtStatus.INVALID_PARAMETER
    short = fold_name(components[0]) == fold_name(world.domain.netbios)
    controllers = sorted(world.domain.controllers, key=lambda name: world.servers.get(name) != client.site)
    shown = tuple(name.upper() if short else f"{name}.{world.domain.name}" for name in controllers)
    return ReferralResponse(3, 0, None, (), (NameListEntry(components[0], shown, DOMAIN_TTL),))


def _sysvol(world: World, server: str, path: UncPath, level: int, client: Client) -> ReferralResponse | NtStatus:
    """3.3.5.4."""
    assert world.domain is not None
    if not world.domain.is_named(path.host) or len(path) > 2:
        return NtStatus.NOT_FOUND
    share = path.components[1]
    targets = [ServedTarget(UncPath((f"{name}.{world.domain.name}", share))) for name in world.domain.controllers]
    targets.sort(key=lambda target: world.servers.get(target.path.host.split(".")[0]) != client.site)
    version = min(level, NEWEST)
    flags = HeaderFlags.STORAGE_SERVERS | (HeaderFlags.REFERRAL_SERVERS if version == 1 else 0)
    entries = tuple(_entry(target, False, SYSVOL_TTL, not index, path) for index, target in enumerate(targets))
    return _in_version(ReferralResponse(version, flags, path, entries))


# -- roots and links --------------------------------------------------------------------------------------------------


def _root_or_link(
    world: World, server: str, path: UncPath, level: int, client: Client, rng: random.Random
) -> ReferralResponse | NtStatus:
    """3.2.5.5, and 3.3.5.5 on a domain controller."""
    is_dc = world.domain is not None and server in world.domain.controllers
    of_domain = world.domain is not None and world.domain.is_named(path.host)
    namespace = next((n for n in world.namespaces if fold_name(n.name) == path.key[1]), None)
    if namespace is None or (of_domain and not namespace.domain):
        if of_domain:
            return NtStatus.NO_SUCH_FILE if is_dc else NtStatus.DFS_UNAVAILABLE
        return NtStatus.NOT_FOUND
    hosts_root = any(server in _names_of(target.path.host) for target in namespace.root.targets)
    if not hosts_root and not is_dc:
        return NtStatus.NOT_FOUND
    if len(path) > 2 and not hosts_root:
        return NtStatus.NOT_FOUND
    link = link_above(namespace, path.below_share)
    served = link or namespace.root
    targets = ordered(world, namespace, served, client, rng)
    return _in_version(_response(namespace, served, targets, path, min(level, NEWEST)))


def _names_of(host: str) -> tuple[str, str]:
    """A host name, and its short form."""
    return host, host.split(".")[0]


def link_above(namespace: ServedNamespace, components: Sequence[str]) -> Served | None:
    """The link that is a prefix of whole components, without case."""
    folded = tuple(map(fold_name, components))
    for link in namespace.links:
        key = tuple(map(fold_name, link.components))
        if folded[: len(key)] == key:
            return link
    return None


def ordered(
    world: World, namespace: ServedNamespace, served: Served, client: Client, rng: random.Random
) -> list[tuple[ServedTarget, bool]]:
    """The targets in order, with whether they begin a target set."""
    insite = served.insite_only or namespace.root.insite_only

    def cost(target: ServedTarget) -> int:
        site = world.servers.get(target.path.host.split(".")[0])
        if site is not None and site == client.site:
            return 0
        if not namespace.site_costing or site is None or client.site is None:
            return FAR
        return world.costs.get(frozenset((site, client.site)), FAR)

    def rank(target: ServedTarget) -> tuple[int, int, int, int]:
        group = {PriorityClass.GLOBAL_HIGH: 0, PriorityClass.GLOBAL_LOW: 2}.get(target.priority, 1)
        return group, cost(target), target.priority, target.rank

    def is_kept(target: ServedTarget) -> bool:
        return not insite or rank(target)[0] != 1 or cost(target) == 0

    kept = [target for target in served.targets if is_kept(target)]
    rng.shuffle(kept)
    kept.sort(key=rank)
    return [(target, not index or rank(target) != rank(kept[index - 1])) for index, target in enumerate(kept)]


def _response(
    namespace: ServedNamespace, served: Served, targets: list[tuple[ServedTarget, bool]], path: UncPath, version: int
) -> ReferralResponse:
    is_root = served is namespace.root
    path_consumed = UncPath(path.components[: 2 + len(served.components)])
    flags = HeaderFlags(0)
    if is_root or served.interlink or version == 1:
        flags |= HeaderFlags.REFERRAL_SERVERS
    if not served.interlink or version == 1:
        flags |= HeaderFlags.STORAGE_SERVERS
    if version >= 4 and (served.failback or namespace.root.failback):
        flags |= HeaderFlags.TARGET_FAIL_BACK
    entries = tuple(_entry(target, is_root, served.ttl, first, path_consumed) for target, first in targets)
    return ReferralResponse(version, flags, path_consumed, entries)


def _entry(target: ServedTarget, is_root: bool, ttl: int, first: bool, path_consumed: UncPath) -> ReferralEntry:
    return ReferralEntry(is_root, ttl, first, target.path, path_consumed.wire, path_consumed.wire)


def _in_version(response: ReferralResponse) -> ReferralResponse:
    """Without what the version can't say."""
    entries = response.entries
    if response.version < 4:
        entries = tuple(replace(entry, starts_set=False) for entry in entries)
    if response.version == 1:
        entries = tuple(replace(entry, ttl=0, dfs_path="", alternate_path="") for entry in entries)
    return replace(response, entries=entries)


def fit(response: ReferralResponse, room: int) -> bytes | NtStatus:
    """The bytes, with as many whole entries as `room` bytes hold (3.2.5.1); BUFFER_OVERFLOW if not even one fits."""
    body = encode_response(response)
    while len(body) > room:
        if len(response.entries) + len(response.name_lists) <= 1:
            return NtStatus.BUFFER_OVERFLOW
        response = replace(response, entries=response.entries[:-1], name_lists=response.name_lists[:-1])
        body = encode_response(response)
    return body
