"""Labs whose servers are unlike others: a share without leases, one that tells names apart by case; a server with few
handles; one that allocates what it is asked to, and shares of other sizes.
"""

from __future__ import annotations

from tests.support.lab.topology import Content, Host, Link, Share, Target, Topology

NO_LEASES = (("oplocks", "no"), ("level2 oplocks", "no"))
EXACT = (("case sensitive", "yes"),)

_DATA = Target("fs1", "data")
_LINKS = (
    Link("link-single", (_DATA,)),
    Link("link-second", (_DATA,)),
    Link("link-plain", (Target("fs1", "plain"),)),
    Link("link-exact", (Target("fs1", "exact"),)),
)

VARIANTS = Topology(
    hosts=(
        Host("ns1", 10, (Share("dfs", Content.ROOT, links=_LINKS),)),
        Host(
            "fs1",
            12,
            (
                Share("data", Content.SMALL),
                Share("plain", Content.SMALL, NO_LEASES),
                Share("exact", Content.SMALL, EXACT),
            ),
        ),
    ),
    dead=(),
    root=Target("ns1", "dfs"),
)
SHARES = {"link-single": "data", "link-second": "data", "link-plain": "plain", "link-exact": "exact"}
"""The share of fs1 that each link leads to."""

HANDLES = 150
"""Files that a client may have open on the server of FEW_HANDLES. Samba takes some of them for itself, and refuses to
start with 100."""
FEW_HANDLES = Topology(
    hosts=(
        Host("ns1", 10, (Share("dfs", Content.ROOT, links=_LINKS[:1]),)),
        Host("fs1", 12, (Share("data", Content.SMALL),), (("max open files", str(HANDLES)),)),
    ),
    dead=(),
    root=Target("ns1", "dfs"),
)

SIZE_PROGRAM = "size.sh"
"""The program in the share `small` of ROOM that tells its size: KiB, free KiB, 1024."""
ROOM = Topology(
    hosts=(
        Host(
            "ns1",
            10,
            (
                Share(
                    "dfs",
                    Content.ROOT,
                    links=(
                        Link("link-data", (_DATA,)),
                        Link("link-small", (Target("fs1", "small"),)),
                        Link("link-dead", (Target("dead1", "data"),)),
                    ),
                ),
            ),
        ),
        Host(
            "fs1",
            12,
            (
                Share("data", Content.SMALL),
                Share("strict", Content.SMALL, (("strict allocate", "yes"),)),
                Share(
                    "small",
                    Content.SMALL,
                    (("dfree command", f"{{path}}/{SIZE_PROGRAM}"),),
                ),
            ),
        ),
    ),
    dead=(("dead1", 99),),
    root=Target("ns1", "dfs"),
)
