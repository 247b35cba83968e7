"""The files that a lab host reads: smb.conf, and its own passwd, group, hosts and nsswitch.conf. Only their text.

The three options `kernel oplocks`, `kernel share modes` and `posix locking` have to be off for durable handles. An
interface of /32 is refused by Samba, hence /8. The lab's /etc files hold only what a server needs, so that no lookup
leaves the machine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.support.lab.topology import GROUP, USERS

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.support.lab.topology import Host

DIRECTORIES = ("private", "lock", "state", "cache", "pid", "ncalrpc", "winbind", "log")
"""What a host keeps, each a folder below its own; none is shared with another host or the system's Samba."""

_GLOBAL: tuple[tuple[str, str], ...] = (
    ("workgroup", "LAB"),
    ("server role", "standalone server"),
    ("server string", "dfsfs lab"),
    ("disable netbios", "yes"),
    ("smb ports", "445"),
    ("bind interfaces only", "yes"),
    ("dns proxy", "no"),
    ("server min protocol", "SMB2_10"),
    ("server signing", "mandatory"),
    ("map to guest", "never"),
    ("host msdfs", "yes"),
    ("kernel oplocks", "no"),
    ("kernel share modes", "no"),
    ("posix locking", "no"),
    ("ea support", "yes"),
    ("store dos attributes", "yes"),
    ("load printers", "no"),
    ("printcap name", "/dev/null"),
    ("disable spoolss", "yes"),
    ("log level", "1"),
    ("max log size", "0"),
    ("logging", "file"),
)


def section(name: str, options: tuple[tuple[str, str], ...]) -> str:
    return "\n".join((f"[{name}]", *(f"    {key} = {value}" for key, value in options), ""))


def smb_conf(host: Host, address: str, folder: Path) -> str:
    """smb.conf of a host that keeps its things in `folder`, and its shares in folder/shares."""
    own = (
        ("netbios name", host.name.upper()),
        ("interfaces", f"{address}/8"),
        ("passdb backend", f"tdbsam:{folder}/private/passdb.tdb"),
        ("private dir", f"{folder}/private"),
        ("lock directory", f"{folder}/lock"),
        ("state directory", f"{folder}/state"),
        ("cache directory", f"{folder}/cache"),
        ("pid directory", f"{folder}/pid"),
        ("ncalrpc dir", f"{folder}/ncalrpc"),
        ("winbindd socket directory", f"{folder}/winbind"),
        ("log file", f"{folder}/log/smbd.log"),
    )
    sections = [section("global", _GLOBAL + own + host.options)]
    for share in host.shares:
        root = (("msdfs root", "yes"),) if share.is_dfs_root else ()
        path = f"{folder}/shares/{share.name}"
        own_options = tuple((key, value.format(path=path)) for key, value in share.options)
        options = (("path", path), ("read only", "no"), *root, *own_options)
        sections.append(section(share.name, options))
    return "\n".join(sections)


def etc_files(addresses: Mapping[str, str]) -> dict[str, str]:
    """The files that replace those of /etc, by name. `addresses` are the hosts of the lab, name -> address."""
    group, gid = GROUP
    users = "".join(f"{user.name}:x:{user.uid}:{gid}::/nonexistent:/usr/sbin/nologin\n" for user in USERS)
    hosts = "".join(f"{address} {name}\n" for name, address in addresses.items())
    return {
        "passwd": f"root:x:0:0::/root:/bin/sh\nnobody:x:65534:65534::/nonexistent:/usr/sbin/nologin\n{users}",
        "group": f"root:x:0:\nnogroup:x:65534:\n{group}:x:{gid}:\n",
        "hosts": f"127.0.0.1 localhost\n{hosts}",
        "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
    }
