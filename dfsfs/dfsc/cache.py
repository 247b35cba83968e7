"""The caches of a DFS client: referrals by path prefix, and the domains it knows (MS-DFSC 3.1.1). Pure."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dfsfs.dfsc.policy import Policy
from dfsfs.unc import UncPath, fold_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from dfsfs.dfsc.referral import Referral

MAX_ENTRIES = 50_000
"""The largest stand-alone namespace that is recommended has as many links."""
NOT_DFS_SECONDS = 15 * 60
"""How long Windows remembers that a share is no DFS root."""
UNAVAILABLE_SECONDS = 5
"""The same for a server whose DFS service is only starting: a few seconds, so that a mount finds it soon."""


class ReferralCache:
    """Referrals by prefix, found by the longest one that covers a path, in whole components.

    An entry is for the spelling of the link that was asked for: `//srv/ns/LINK` is no hit for one of `//srv/ns/link`,
    but a question of its own to the server, as it alone knows whether the two are one link.
    """

    def __init__(self, limit: int = MAX_ENTRIES) -> None:
        self._limit = limit
        self._entries: OrderedDict[tuple[str, ...], Referral] = OrderedDict()  # least recently used first
        self._not_dfs: dict[tuple[str, ...], float] = {}  # share -> until when

    def __len__(self) -> int:
        return len(self._entries)

    def lookup(self, path: UncPath) -> Referral | None:
        """The entry with the longest prefix of `path`, expired or not."""
        for length in range(len(path.key), 1, -1):
            entry = self._entries.get(path.key[:length])
            if entry is not None:
                self._entries.move_to_end(path.key[:length])
                return entry
        return None

    def root_of(self, path: UncPath) -> Referral | None:
        """The entry for the first two components of `path`."""
        return self._entries.get(path.share.key)

    def store(self, fresh: Referral) -> Referral:
        """Adds an entry, or refreshes the one with the same prefix (MS-DFSC 3.1.5.4.3); returns the one to use."""
        known = self._entries.get(fresh.prefix.key)
        if known is not None:
            known.refresh(fresh)
            return known
        self._entries[fresh.prefix.key] = fresh
        self._not_dfs.pop(fresh.prefix.share.key, None)
        while len(self._entries) > self._limit:
            self._entries.popitem(last=False)
        return fresh

    def forget(self, prefix: UncPath) -> None:
        """Removes the entry for exactly this prefix, if there is one."""
        self._entries.pop(prefix.key, None)

    def flush(self, prefix: UncPath | None = None) -> int:
        """Removes the entries at and below a prefix, all of them if there is none. How many that were."""
        if prefix is None:
            count = len(self._entries)
            self._entries.clear()
            self._not_dfs.clear()
            return count
        gone = self.below(prefix)
        for entry in gone:
            del self._entries[entry.prefix.key]
        known = prefix.key[:2]
        for share in [share for share in self._not_dfs if share[: len(known)] == known]:
            del self._not_dfs[share]
        return len(gone)

    def below(self, prefix: UncPath) -> list[Referral]:
        """The entries at and below a prefix that somebody has typed: if none is spelled so, those in any case."""
        return prefix.below(self._entries.values(), lambda entry: entry.prefix)

    def set_hint(self, referral: Referral, target: UncPath) -> None:
        """Notes the target that was used with success; ignored if the entry does not have it (any more)."""
        referral.set_hint(target)

    def set_not_dfs(self, share: UncPath, until: float) -> None:
        """Notes that a share is no DFS root."""
        self._not_dfs[share.key] = until

    def is_not_dfs(self, share: UncPath, now: float) -> bool:
        until = self._not_dfs.get(share.key)
        if until is None:
            return False
        if now >= until:
            del self._not_dfs[share.key]
            return False
        return True

    def snapshot(self) -> tuple[Referral, ...]:
        """The entries, the least recently used first."""
        return tuple(self._entries.values())


@dataclass(frozen=True, slots=True)
class Domain:
    """A domain that the client knows: its controllers as a DC referral gave them (DCList), and the one in use (DCHint).

    Both are empty until a DC referral has been asked for.
    """

    name: str
    dcs: tuple[str, ...] = ()
    hint: str = ""

    @property
    def ordered(self) -> tuple[str, ...]:
        """The controllers in the order to ask them: from the hint to the end of the list, then from its start."""
        start = self.dcs.index(self.hint) if self.hint in self.dcs else 0
        return self.dcs[start:] + self.dcs[:start]


class DomainCache:
    """The domains that the client knows, each name an entry of its own: NetBIOS and DNS (MS-DFSC 3.1.1). Those of which
    it is known that they are of one domain share one (`join`).

    `bootstrap` is a controller of our own domain (BootstrapDC); empty as long as this computer is in no domain, and
    then the first component of a path is always a server.
    """

    def __init__(self) -> None:
        self.bootstrap = ""
        self._domains: dict[str, Domain] = {}
        self._full_names: dict[str, str] = {}

    def __contains__(self, name: str) -> bool:
        return self._key(name) in self._domains

    def __getitem__(self, name: str) -> Domain:
        return self._domains[self._key(name)]

    def _key(self, name: str) -> str:
        folded = fold_name(name)
        return self._full_names.get(folded, folded)

    def join(self, full_name: str, netbios: str) -> None:
        """The two are names of one domain, and have one entry from now on: that of the name in DNS."""
        self._full_names[fold_name(netbios)] = fold_name(full_name)
        self._domains.pop(fold_name(netbios), None)
        self.add((full_name,))

    def add(self, names: Iterable[str]) -> None:
        """Adds the names that are missing. None is ever removed (3.1.5.4.1; Windows removes none either)."""
        for name in names:
            self._domains.setdefault(self._key(name), Domain(name))

    def set_dcs(self, name: str, dcs: Sequence[str]) -> None:
        """The answer to a DC referral: replaces the list, and the first is the one in use (3.1.5.4.2)."""
        self._domains[self._key(name)] = Domain(self[name].name, tuple(dcs), dcs[0])

    def set_dc_hint(self, name: str, dc: str) -> None:
        """Notes the controller that gave an answer (3.1.5.4.3)."""
        known = self[name]
        self._domains[self._key(name)] = Domain(known.name, known.dcs, dc)

    def forget_dcs(self, name: str) -> None:
        """No controller of the domain answers: the next request begins with a new DC referral."""
        self._domains[self._key(name)] = Domain(self[name].name)

    def flush(self) -> int:
        """Forgets all domains and controllers. How many domains that were."""
        count = len(self._domains)
        self._domains.clear()
        self._full_names.clear()
        self.bootstrap = ""
        return count

    def snapshot(self) -> tuple[Domain, ...]:
        return tuple(self._domains.values())


@dataclass(slots=True)
class Caches:
    """What a resolution may read and change, and what the mount's options say about it."""

    referrals: ReferralCache = field(default_factory=ReferralCache)
    domains: DomainCache = field(default_factory=DomainCache)
    policy: Policy = field(default_factory=Policy)
