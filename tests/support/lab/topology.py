"""What the lab consists of, as data: hosts, shares, what lies in them, and the DFS links.

Two hosts serve namespaces (`ns1` with the root `dfs`, `ns2` with the root `dfs2`), three serve files. Addresses are the
last octet only; the first three are chosen when a lab is started, so that several labs can run side by side. `dead1`
and `dead2` are addresses where nobody listens.

Nothing here touches the machine; `samba.py` turns it into servers and `content.py` into files. Standard library only.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto


@dataclass(frozen=True, slots=True)
class User:
    """A user known to every host of the lab, as a Unix account and to Samba."""

    name: str
    password: str
    uid: int


ALICE = User("alice", "Wonderland-7", 20001)
BOB = User("bob", "Builder-Says-8", 20002)
USERS = (ALICE, BOB)
GROUP = ("labusers", 20000)


class Content(Enum):
    """What a share holds when the lab starts; `content.py` writes it."""

    DATA = auto()
    """hello.txt, folder/inside.txt, folder/Grüße.txt, big.bin. Replicas are the same to the byte and the timestamp."""
    SMALL = auto()
    """hello.txt, which says the name of the share, and folder/inside.txt."""
    ROOT = auto()
    """readme.txt, dir/, dir/sub/, dir/note.txt: what lies in the root of a namespace beside its links."""
    PAST = auto()
    """hello.txt and folder/inside.txt, and two snapshots in which both were different: see content.SNAPSHOTS."""
    DEEP = auto()
    """readme.txt, deep/, deep/deep.txt: the root of the second namespace."""


@dataclass(frozen=True, slots=True)
class Target:
    """One target of a link: host name, share, and the components below it, if any."""

    host: str
    share: str
    below: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Link:
    """A DFS link; `path` is relative to the root of the namespace, with slashes."""

    path: str
    targets: tuple[Target, ...]


@dataclass(frozen=True, slots=True)
class Share:
    """A share, written to by alice unless `options` (lines of smb.conf) say otherwise. In them, `{path}` is where the
    share's files are.
    """

    name: str
    content: Content
    options: tuple[tuple[str, str], ...] = ()
    links: tuple[Link, ...] = ()

    @property
    def is_dfs_root(self) -> bool:
        return bool(self.links)


@dataclass(frozen=True, slots=True)
class Host:
    """One server, one smbd. `octet` is the last of its IPv4 address."""

    name: str
    octet: int
    shares: tuple[Share, ...]
    options: tuple[tuple[str, str], ...] = ()
    """What smb.conf has in [global] besides."""


@dataclass(frozen=True, slots=True)
class Topology:
    """All hosts, and the names of the addresses where nobody listens."""

    hosts: tuple[Host, ...]
    dead: tuple[tuple[str, int], ...]
    root: Target

    def octet(self, name: str) -> int:
        """The last octet of the address that a host or a dead target has; KeyError for an unknown name."""
        return {**{host.name: host.octet for host in self.hosts}, **dict(self.dead)}[name]

    @property
    def links(self) -> dict[str, Link]:
        """The links of the root namespace by their path."""
        root = next(host for host in self.hosts if host.name == self.root.host)
        share = next(share for share in root.shares if share.name == self.root.share)
        return {link.path: link for link in share.links}


_FS1_DATA = Target("fs1", "data")
_FS2_DATA = Target("fs2", "data")

_SNAPSHOTS = (
    ("vfs objects", "shadow_copy2"),
    ("shadow:mountpoint", "{path}"),
    ("shadow:basedir", "{path}"),
    ("shadow:snapdir", ".snapshots-of-the-share"),
    ("shadow:sort", "desc"),
)

_DFS_LINKS = (
    Link("link-single", (_FS1_DATA,)),
    Link("link-multi", (_FS1_DATA, _FS2_DATA)),
    Link("dir/sub/link", (Target("fs1", "extra"),)),
    Link("link-sub", (Target("fs1", "data", ("folder",)),)),
    Link("interlink", (Target("ns2", "dfs2"),)),
    Link("interlink-deep", (Target("ns2", "dfs2", ("deep",)),)),
    Link("link-deadfirst", (Target("dead1", "data"), _FS2_DATA)),
    Link("link-dead", (Target("dead1", "data"), Target("dead2", "data"))),
    Link("link-secret", (Target("fs3", "secret"),)),
    Link("link-denied", (Target("fs1", "bobonly"),)),
    Link("link-rich", (Target("fs3", "rich"),)),
    Link("link-past", (Target("fs3", "past"),)),
    Link("link-readonly", (Target("fs3", "readonly"),)),
    Link("loop-self", (Target("ns1", "dfs", ("loop-self",)),)),
    Link("loop-a", (Target("ns2", "dfs2", ("loop-b",)),)),
)

_DFS2_LINKS = (
    Link("deep/link", (_FS1_DATA,)),
    Link("link2", (Target("fs2", "extra2"),)),
    Link("loop-b", (Target("ns1", "dfs", ("loop-a",)),)),
)

STANDALONE = Topology(
    hosts=(
        Host("ns1", 10, (Share("dfs", Content.ROOT, links=_DFS_LINKS),)),
        Host("ns2", 11, (Share("dfs2", Content.DEEP, links=_DFS2_LINKS),)),
        Host(
            "fs1",
            12,
            (
                Share("data", Content.DATA),
                Share("extra", Content.SMALL),
                Share("bobonly", Content.SMALL, (("valid users", "bob"),)),
            ),
        ),
        Host("fs2", 13, (Share("data", Content.DATA), Share("extra2", Content.SMALL))),
        Host(
            "fs3",
            14,
            (
                Share("secret", Content.SMALL, (("server smb encrypt", "required"),)),
                Share("rich", Content.SMALL, (("vfs objects", "acl_xattr streams_xattr"),)),
                Share("past", Content.PAST, _SNAPSHOTS),
                Share("readonly", Content.SMALL, (("read only", "yes"),)),
            ),
        ),
    ),
    dead=(("dead1", 99), ("dead2", 98)),
    root=Target("ns1", "dfs"),
)
