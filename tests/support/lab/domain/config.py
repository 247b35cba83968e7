"""What the domain of the lab consists of, and the text of all its files: smb.conf, krb5.conf and those of /etc.

    dc1   first domain controller, in the site Berlin      fs1   member, replica of the namespace's root, files
    dc2   second one, in the site Paris                    fs2   the same
    client, client2   no servers: where mounts are made, in Berlin and in Paris; no member of the domain

The domain-based namespace is //contoso.test/public. Samba's controllers answer a root referral for it with fs1 and fs2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.support.lab import smbconf
from tests.support.lab.topology import ALICE, BOB, Content, Link, Share, Target, User

if TYPE_CHECKING:
    from pathlib import Path

DOMAIN, NETBIOS = "contoso.test", "CONTOSO"
REALM = DOMAIN.upper()
ADMINISTRATOR = User("administrator", "Admin-Says-42", 0)
CAROL = User("carol", "Carol-Sings-9", 20003)
"""She may log in, and read what alice may, but never has a ticket unless a test gets her one."""
SERVICE = User("svc-mount", "Keytab-Only-1", 20004)
"""The account whose key is in the lab's keytab."""
DAVE, ERIN = User("dave", "Dave-Runs-Out-5", 20005), User("erin", "Erin-Goes-On-6", 20006)
"""Their tickets end while others work."""
CROWD = tuple(User(f"user{number:02}", f"Crowd-Of-{number:02}", 20100 + number) for number in range(1, 51))
PEOPLE = (ALICE, BOB, CAROL, SERVICE, DAVE, ERIN, *CROWD)
GROUP = 20000

BERLIN, PARIS = "Berlin", "Paris"
SUBNETS = {"10.99.0.0/24": BERLIN, "10.99.1.0/24": PARIS}
ADDRESSES = {
    "dc1": "10.99.0.1",
    "dc2": "10.99.1.2",
    "fs1": "10.99.0.11",
    "fs2": "10.99.1.12",
    "client": "10.99.0.100",
    "client2": "10.99.1.100",
}
CONTROLLERS = ("dc1", "dc2")
MEMBERS = ("fs1", "fs2")
CLIENTS = ("client", "client2")

_BOTH_ROOTS = ("fs1", "fs2")
_LINKS = (
    Link("docs", (Target("fs1.contoso.test", "docs"), Target("fs2.contoso.test", "docs"))),
    Link("dir/one", (Target("fs1.contoso.test", "one"),)),
    Link("short", (Target("FS2", "docs"),)),
    Link("sealed", (Target("fs2.contoso.test", "sealed"),)),
    Link("alone", (Target("fs2.contoso.test", "two"),)),
    Link("inter", (Target("contoso.test", "public", ("dir",)),)),
)

SHARES = {
    "fs1": (
        Share("public", Content.ROOT, links=_LINKS),
        Share("docs", Content.DATA),
        Share("one", Content.SMALL),
    ),
    "fs2": (
        Share("public", Content.ROOT, links=_LINKS),
        Share("docs", Content.DATA),
        Share("two", Content.SMALL),
        Share("sealed", Content.SMALL, (("server smb encrypt", "required"),)),
    ),
}
"""What the members serve."""


@dataclass(frozen=True, slots=True)
class Folders:
    """Where a host keeps its things."""

    base: Path

    def smb_conf(self, host: str) -> str:
        """The text of the host's smb.conf."""
        own = [
            ("netbios name", host.upper()),
            ("workgroup", NETBIOS),
            ("realm", REALM),
            ("interfaces", f"lo {ADDRESSES[host]}/16"),
            ("bind interfaces only", "yes"),
            ("disable netbios", "yes"),
            ("smb ports", "445"),
            ("server min protocol", "SMB2_10"),
            ("server signing", "mandatory"),
            ("host msdfs", "yes"),
            ("load printers", "no"),
            ("printcap name", "/dev/null"),
            ("disable spoolss", "yes"),
            ("log level", "1"),
            ("logging", "file"),
            ("max log size", "0"),
            ("log file", f"{self.base}/log/smb.log"),
            ("private dir", f"{self.base}/private"),
            ("lock directory", f"{self.base}/lock"),
            ("state directory", f"{self.base}/state"),
            ("cache directory", f"{self.base}/cache"),
            ("pid directory", f"{self.base}/pid"),
            ("ncalrpc dir", f"{self.base}/ncalrpc"),
        ]
        return self._controller(own, host) if host in CONTROLLERS else self._member(own, host)

    def _controller(self, own: list[tuple[str, str]], host: str) -> str:
        own += [
            ("server role", "active directory domain controller"),
            ("server services", "s3fs, rpc, ldap, cldap, kdc, drepl, winbindd, kcc, dns"),
            ("ntp signd socket directory", f"{self.base}/ntp"),
            ("kccsrv:samba_kcc", "no"),
        ]
        roots = ",".join(f"\\{member}.{DOMAIN}\\public" for member in _BOTH_ROOTS)
        sysvol = f"{self.base}/state/sysvol"
        sections = [
            ("global", own),
            ("sysvol", [("path", sysvol), ("read only", "no")]),
            ("netlogon", [("path", f"{sysvol}/{DOMAIN}/scripts"), ("read only", "no")]),
            ("public", [("path", f"{self.base}/shares/public"), ("msdfs root", "yes"), ("msdfs proxy", roots)]),
            # A root that a controller serves itself: its referral names itself, under the name that was asked for.
            ("single", [("path", f"{self.base}/shares/single"), ("msdfs root", "yes")]),
        ]
        return "\n".join(smbconf.section(name, tuple(options)) for name, options in sections)

    def _member(self, own: list[tuple[str, str]], host: str) -> str:
        own += [
            ("server role", "member server"),
            ("security", "ads"),
            ("kerberos method", "secrets only"),
            ("idmap config * : backend", "tdb"),
            ("idmap config * : range", "30000-39999"),
            (f"idmap config {NETBIOS} : backend", "nss"),  # people are the accounts of etc_files
            (f"idmap config {NETBIOS} : range", "20000-29999"),
            ("kernel oplocks", "no"),
            ("kernel share modes", "no"),
            ("posix locking", "no"),
            ("ea support", "yes"),
            ("store dos attributes", "yes"),
            ("map to guest", "never"),
        ]
        sections = [smbconf.section("global", tuple(own))]
        for share in SHARES[host]:
            path = f"{self.base}/shares/{share.name}"
            root = (("msdfs root", "yes"),) if share.is_dfs_root else ()
            sections.append(smbconf.section(share.name, (("path", path), ("read only", "no"), *root, *share.options)))
        return "\n".join(sections)


def link_text(link: Link) -> str:
    """A link as Samba stores it."""
    return "msdfs:" + ",".join("\\".join((to.host, to.share, *to.below)) for to in link.targets)


def krb5_conf(ccache: str) -> str:
    """krb5.conf of a client; `ccache` is the pattern of the default credential cache."""
    return f"""\
[libdefaults]
    default_realm = {REALM}
    dns_lookup_realm = false
    dns_lookup_kdc = true
    rdns = false
    default_ccache_name = {ccache}
"""


def etc_files() -> dict[str, str]:
    """The files that replace those of /etc, on every host."""
    people = "".join(f"{user.name}:x:{user.uid}:{GROUP}::/nonexistent:/usr/sbin/nologin\n" for user in PEOPLE)
    return {
        "passwd": f"root:x:0:0::/root:/bin/sh\nnobody:x:65534:65534::/nonexistent:/usr/sbin/nologin\n{people}",
        "group": f"root:x:0:\nnogroup:x:65534:\nlabusers:x:{GROUP}:\nusers:x:100:\n",
        "hosts": "127.0.0.1 localhost\n",
        "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
        "resolv.conf": "".join(f"nameserver {ADDRESSES[host]}\n" for host in CONTROLLERS)
        + "options timeout:2 attempts:2\n",
    }
