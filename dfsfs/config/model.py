"""What a mount is asked to be, as values: the options as given, and the configuration that is made of them.

A field of ParsedOptions for each option, a field of MountConfig for everything that the rest of the program reads.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dfsfs.config.table import DIALECTS, Sharing

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dfsfs.smb.auth.credentials import Login, Secret
    from dfsfs.unc import UncPath

CONNECT_TIMEOUT = 8.0
"""Seconds for a TCP connection, negotiate and login together: to mount from a host that is silent fails within 10."""
REQUEST_TIMEOUT = 30.0
FAILOVER_TIMEOUT = 60.0
HARD_TIMEOUT = 7 * 86400.0
"""Seconds that programs of a mount with `hard` wait for a server."""
RETRIES = 5
ECHO_INTERVAL = 60.0
ATTRIBUTE_TIMEOUT = 1.0
"""Seconds. That, and the modes, are the values of mount.cifs."""
CLOSE_TIME = 1.0
MAX_CREDITS = 1024
MODE = 0o755
PORT = 445
MAX_HOPS = 8


@dataclass(frozen=True, slots=True)
class ParsedOptions:
    """The options as given; None where nothing was said."""

    username: str | None = None
    password: Secret | None = None
    domain: str | None = None
    password2: Secret | None = None
    guest: bool = False
    credentials_file: str | None = None
    security: str = "ntlmssp"
    ticket_user: int | str | None = None
    ccache: str | None = None
    keytab: str | None = None
    principal: str | None = None
    multiuser: bool = False
    hardened: bool = True
    login_hosts: tuple[str, ...] = ()
    uid: int | str | None = None
    gid: int | str | None = None
    file_mode: int = MODE
    dir_mode: int = MODE
    permission_checks: bool = True
    name_style: str = "sfm"
    mfsymlinks: bool = False
    xattrs: bool = True
    snapshot: int | None = None
    use_dfs: bool = True
    max_hops: int = MAX_HOPS
    site: str | None = None
    controllers: tuple[str, ...] = ()
    suffixes: tuple[str, ...] = ()
    prefer: tuple[str, ...] = ()
    pins: Mapping[str, UncPath] = field(default_factory=dict)
    ttl_min: int | None = None
    ttl_max: int | None = None
    failback: bool | None = None
    static_file: str | None = None
    attribute_timeout_file: float = ATTRIBUTE_TIMEOUT
    attribute_timeout_directory: float = ATTRIBUTE_TIMEOUT
    cache_mode: str = "strict"
    close_time: float = CLOSE_TIME
    read_ahead: int | None = None
    server_inode_numbers: bool = True
    trust_leases: bool = False
    read_size: int | None = None
    write_size: int | None = None
    dialects: tuple[str, ...] = DIALECTS
    seal: bool = False
    port: int = PORT
    address: str | None = None
    source: str | None = None
    hosts: Mapping[str, str] = field(default_factory=dict)
    echo_interval: float = ECHO_INTERVAL
    max_credits: int = MAX_CREDITS
    timeout: float = REQUEST_TIMEOUT
    failover_timeout: float = FAILOVER_TIMEOUT
    hard: bool = False
    retries: int = RETRIES
    synchronous: bool = False
    read_only: bool = False
    suid: bool = False
    dev: bool = False
    execute: bool = True
    follow_symlinks: bool = True
    sharing: Sharing | None = None
    prefix_path: tuple[str, ...] = ()
    foreground: bool = False
    remount: bool = False
    nonempty: bool = False
    """A mount may hide another one of dfsfs at its place."""
    metrics: str | None = None
    fuse_loop: str = "native"
    without_effect: tuple[str, ...] = ()
    """Options that were ignored and deserve a warning."""


@dataclass(frozen=True, slots=True)
class OwnershipOptions:
    """Who all files belong to, with the modes that they show (permission bits)."""

    uid: int
    gid: int
    file_mode: int
    dir_mode: int
    of_caller: bool
    """Each user who looks is shown as the owner."""
    permission_checks: bool
    """The kernel checks them; if not, only the servers decide. fuse_options says so, too."""


@dataclass(frozen=True, slots=True)
class CachingOptions:
    """What is kept without asking the server again. Times in seconds."""

    mode: str
    """`strict`, `none` or `loose`, as in mount.cifs."""
    attribute_timeout_file: float
    attribute_timeout_directory: float
    read_ahead: int | None
    """Most bytes to read ahead at one place of a file; None: as it turns out to be useful."""
    close_time: float
    """For how long a handle stays open that no program uses any more."""
    server_inode_numbers: bool
    """Inode numbers are made of the servers' file ids; if not, they are the mount's own and last as long as it does."""
    trust_leases: bool
    """While there is a lease on a file, its attributes are believed beyond attribute_timeout_file."""


@dataclass(frozen=True, slots=True)
class DfsOptions:
    """How referrals are asked for and which of their targets are used. Times in seconds; None: as servers say."""

    max_hops: int
    site: str | None
    controllers: tuple[str, ...]
    """Of the domain that this computer is in."""
    domain: str
    """The domain of the user, as it was given; empty if it was not."""
    suffixes: tuple[str, ...]
    """What may follow short names in DNS."""
    prefer: tuple[str, ...]
    pins: tuple[tuple[UncPath, UncPath], ...]
    ttl_min: int | None
    ttl_max: int | None
    failback: bool | None
    static_file: str | None


@dataclass(frozen=True, slots=True)
class TransportOptions:
    """How servers are reached. Times in seconds, sizes in bytes, dialects by their names in Dialect."""

    port: int
    hosts: Mapping[str, str]
    """Fixed addresses by the folded name of the server; ip= is the entry of the server that the mount names."""
    source: str | None
    dialects: tuple[str, ...]
    seal: bool
    hardened: bool
    """SYSVOL and NETLOGON only from servers that prove who they are."""
    login_hosts: tuple[str, ...]
    """Patterns of the hosts that are logged in to; empty: any that a referral names."""
    connect_timeout: float
    request_timeout: float
    echo_interval: float
    max_credits: int
    read_size: int | None
    write_size: int | None


@dataclass(frozen=True, slots=True)
class MountConfig:
    """All that is to be known to serve a mount, except where it is mounted."""

    unc: UncPath
    """At least server and share."""
    credentials: Login
    """Who the mount logs in as; with `multiuser`, root's part of it."""
    multiuser: bool
    """Every user of this computer logs in for themselves."""
    transport: TransportOptions
    ownership: OwnershipOptions
    caching: CachingOptions
    name_style: str
    """How characters are sent that SMB has no room for: `sfm`, `sfu` or `none`."""
    mfsymlinks: bool
    """New symbolic links are files with the target in them, also where the server has something better; and every file
    of that form is a link, by whichever client it was made."""
    xattrs: bool
    snapshot: int | None
    """The time at which everything is shown, in 100 ns since 1601; None: now."""
    use_dfs: bool
    """If not, the share is mounted as it is (nodfs)."""
    dfs: DfsOptions
    failover_timeout: float
    """Seconds."""
    hard: bool
    """Programs wait for servers that are down, for as long as `failover_timeout`."""
    retries: int
    """How often a server that is busy is asked again."""
    fuse_options: tuple[str, ...]
    """For FUSE, besides fsname and subtype."""
    follow_symlinks: bool
    """Whether the kernel follows symbolic links; a flag of the mount that FUSE does not know."""
    fuse_loop: str
    """What reads the kernel's requests: `native`, or `pyfuse3`."""
    metrics: str | None
    """Where to give figures to Prometheus."""
    given: ParsedOptions
    """What all this was made of, for a remount."""
