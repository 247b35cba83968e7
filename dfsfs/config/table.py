"""Every mount option, declared once: its names, what becomes of it, and a line of help.

The names and meanings are those of mount.cifs and mount(8) where these have the option. An option is

    accepted     it sets fields of ParsedOptions
    ignored      it asks for what dfsfs does anyway, or it is a word of mount(8) that no file system acts upon
    without effect   the mount works without it: ignored as well, with one warning
    refused      dfsfs does not do it, and a mount that pretends to would be a lie

A new option is a new line here, a field of ParsedOptions, and code that reads it. No value is parsed in this module.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TYPE_CHECKING, Any

from dfsfs.config import values
from dfsfs.config.values import NOT_YET

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

DIALECTS = ("SMB_2_1", "SMB_3_0", "SMB_3_0_2", "SMB_3_1_1")
"""What can be negotiated (MS-SMB2 2.2.3), oldest first: names of Dialect, which options are parsed without."""


class Policy(Enum):
    """What becomes of an option."""

    ACCEPT = auto()
    IGNORE = auto()
    NO_EFFECT = auto()
    REFUSE = auto()


class Sharing(Enum):
    """Who may use the mount besides the user who made it."""

    NOBODY = auto()
    ROOT = auto()
    EVERYBODY = auto()


@dataclass(frozen=True, slots=True)
class Option:
    """An option under all its names; the first one is its own.

    `metavar` is empty for an option without a value. Its `settings` are made as they stand; a value, parsed, is set to
    every field in `sets`. `help` says what it does, or for which reason it is refused.
    """

    names: tuple[str, ...]
    policy: Policy
    help: str
    metavar: str = ""
    parse: Callable[[str], object] = values.plain_text
    sets: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    secret: bool = False
    any_form: bool = False
    """With or without a value, it is all the same."""


def _value(names: str, sets: str, parse: Callable[[str], object], metavar: str, text: str) -> Option:
    return Option(tuple(names.split()), Policy.ACCEPT, text, metavar, parse, sets=tuple(sets.split()))


def _flag(names: str, settings: Mapping[str, Any], text: str) -> Option:
    return Option(tuple(names.split()), Policy.ACCEPT, text, settings=settings)


def _ignore(names: str, text: str) -> list[Option]:
    return [Option((name,), Policy.IGNORE, text, any_form=True) for name in names.split()]


def _ignore_with_warning(names: str) -> list[Option]:
    return [Option((name,), Policy.NO_EFFECT, "has no effect", any_form=True) for name in names.split()]


def _refuse(names: str, reason: str) -> list[Option]:
    return [Option((name,), Policy.REFUSE, reason, any_form=True) for name in names.split()]


_ANONYMOUS = "an anonymous session is not signed, so data could be changed on the way; see guest"
_INSECURE = "this kind of login is not secure; servers take ntlmssp"

_IDENTITY = [
    _value("username user", "username", values.username, "[DOMAIN/]NAME", "who to log in as; without, $USER"),
    Option(
        ("password", "pass"),
        Policy.ACCEPT,
        "the password; better kept in a file for credentials=. A comma in it is written twice",
        "TEXT",
        values.password,
        sets=("password",),
        secret=True,
    ),
    Option(
        ("password2", "pass2"),
        Policy.ACCEPT,
        "what to try when a server does not want the first one any more",
        "TEXT",
        values.password,
        sets=("password2",),
        secret=True,
    ),
    _value(
        "credentials cred",
        "credentials_file",
        values.plain_text,
        "FILE",
        "lines username=, password=, password2= and domain=",
    ),
    _value("domain dom workgroup", "domain", values.sendable_text, "NAME", "the user's domain"),
    _value(
        "sec",
        "security",
        values.choice(
            {"ntlmssp": "ntlmssp", "ntlmsspi": "ntlmssp", "krb5": "krb5", "krb5i": "krb5", "krb5p": "krb5p"},
            {
                **dict.fromkeys(("ntlm", "ntlmi", "ntlmv1", "ntlmv2", "ntlmv2i", "lanman", "nontlm"), _INSECURE),
                "none": _ANONYMOUS,
            },
        ),
        "KIND",
        "how to log in: ntlmssp, with a password (the default); krb5; krb5p: sealed",
    ),
    _value("cruid", "ticket_user", values.account, "USER", "whose tickets to use, name or number; without, yours"),
    _value("ccache", "ccache", values.plain_text, "CACHE", "tickets to use, as TYPE:NAME or a file"),
    _value("keytab", "keytab", values.plain_text, "FILE", "keys to get tickets with, also when no user is logged in"),
    _value(
        "principal", "principal", values.sendable_text, "NAME[@REALM]", "who to be, if there are several to choose from"
    ),
    _flag("multiuser", {"multiuser": True}, "each user of this computer acts with tickets or a login of their own"),
    _value("login_hosts", "login_hosts", values.globs, "PATTERN[;...]", "hosts that logins may go to; without, any"),
    _flag("nohardened", {"hardened": False}, "take SYSVOL, NETLOGON and domains from servers that prove less, too"),
    _flag("guest", {"guest": True}, "log in without a password, for accounts that have none, and ask for none"),
    *_ignore("netbiosname servern", "a name for servers older than SMB 2"),
]

_OWNERSHIP = [
    _value("uid", "uid", values.account, "USER", "owner of all files, name or number; without, you"),
    _value("gid", "gid", values.account, "GROUP", "group of all files, name or number; without, yours"),
    _value("file_mode", "file_mode", values.mode, "MODE", "mode of all files, octal; 0755"),
    _value("dir_mode dirmode", "dir_mode", values.mode, "MODE", "mode of all folders, octal; 0755"),
    _flag("perm default_permissions", {"permission_checks": True}, "check modes and owners here too (the default)"),
    _flag("noperm", {"permission_checks": False}, "leave all checks to the servers"),
    *_ignore("forceuid forcegid noforceuid noforcegid", "always so: servers give no owner that this system knows"),
    *_ignore("nodynperm nosetuids noidsfromsid nomodefromsid nocifsacl", "always so"),
    *_ignore("acl noacl", "ACLs of POSIX are an extension of SMB 1; those of the servers are the servers' business"),
    *_refuse("dynperm setuids cifsacl idsfromsid modefromsid backupuid backupgid", NOT_YET),
]

_NAMES = [
    _flag("mapposix", {"name_style": "sfm"}, 'names with one of " * : < > ? \\ | are kept (the default)'),
    _flag("mapchars", {"name_style": "sfu"}, "the same, in the way of Services for Unix"),
    _flag("nomapposix nomapchars", {"name_style": "none"}, "names go to the server as they are"),
    *_ignore("nocase ignorecase", "always so: case is kept, and makes no difference"),
    _flag(
        "mfsymlinks",
        {"mfsymlinks": True},
        "symbolic links are files that other clients of Unix know, and such files are links",
    ),
    _flag("nomfsymlinks", {"mfsymlinks": False}, "they are what the server has for them (the default)"),
    *_ignore("sfu", "special files are made in a way that the server knows"),
    Option(
        ("iocharset",),
        Policy.IGNORE,
        "names are UTF-8",
        "CHARSET",
        values.choice(dict.fromkeys(("utf8", "utf-8", "UTF8", "UTF-8")), {}),
    ),
    *_ignore("posixpaths unix linux posix nounix nolinux noposix noposixpaths", "extensions of SMB 1"),
]

_DFS = [
    _flag("nodfs", {"use_dfs": False}, "mount one share as it is and follow no links"),
    _value("dfs_max_hops", "max_hops", values.number(1, 64), "NUMBER", "namespaces that a path may lead through; 8"),
    _value("dfs_site", "site", values.sendable_text, "NAME", "the site of this computer, for servers that order by it"),
    _value("dfs_prefer", "prefer", values.globs, "PATTERN[;...]", "hosts whose targets come first, like fs*.site1"),
    _value("dfs_pin", "pins", values.pin, "PATH:TARGET", "the one target to use for a link; may be given again"),
    _value("dfs_ttl_min", "ttl_min", values.number(0, 2**31), "SECONDS", "referrals are kept at least so long"),
    _value(
        "dfs_ttl_max",
        "ttl_max",
        values.number(1, 2**31),
        "SECONDS",
        "referrals are asked for again then; a day",
    ),
    _flag("dfs_failback", {"failback": True}, "go back to the first targets when they answer again"),
    _flag("nodfs_failback", {"failback": False}, "never do; without either, the namespace decides"),
    _value("dfs_static", "static_file", values.plain_text, "FILE", "namespaces in TOML, instead of what servers say"),
    _value("dc", "controllers", values.host_list, "HOST[:HOST...]", "domain controllers, to mount //DOMAIN/NAMESPACE"),
    _value("dns_suffix", "suffixes", values.suffixes, "DOMAIN[;...]", "what may follow short names in DNS"),
]

_ATTRIBUTE_SECONDS = values.seconds(0, 86400)
_FOR_FILES, _FOR_FOLDERS = "attribute_timeout_file", "attribute_timeout_directory"

_CACHES = [
    _value(
        "cache",
        "cache_mode",
        values.choice(
            {"strict": "strict", "none": "none", "loose": "loose"}, dict.fromkeys(("ro", "singleclient"), NOT_YET)
        ),
        "MODE",
        "strict (the default): keep sure data only; none: keep none; loose: some may be old",
    ),
    _value(
        "closetimeo",
        "close_time",
        values.seconds(0, 86400),
        "SECONDS",
        "how long a file that was only read stays open on the server after it is closed; 1",
    ),
    _value("actimeo", f"{_FOR_FILES} {_FOR_FOLDERS}", _ATTRIBUTE_SECONDS, "SECONDS", "how long attributes are kept; 1"),
    _value("acregmax", _FOR_FILES, _ATTRIBUTE_SECONDS, "SECONDS", "the same for files only"),
    _value("acdirmax", _FOR_FOLDERS, _ATTRIBUTE_SECONDS, "SECONDS", "the same for folders only"),
    _flag("noac", {_FOR_FILES: 0.0, _FOR_FOLDERS: 0.0}, "keep no attributes"),
    _value("rsize", "read_size", values.number(4096, 2**31), "BYTES", "most bytes in one READ; what servers offer"),
    _value("wsize", "write_size", values.number(4096, 2**31), "BYTES", "most bytes in one WRITE; what servers offer"),
    _value("rasize", "read_ahead", values.number(0, 1 << 30), "BYTES", "most bytes to read ahead in one place"),
    _flag("sync", {"synchronous": True}, "each write waits until the server has written it to its disk"),
    _flag("async", {"synchronous": False}, "it does not, unless a program asks for it (the default)"),
    *_ignore("dirsync", "always so: changes of folders wait for the server"),
    *_ignore("bsize", "st_blksize says what the mount is best at"),
    *_ignore("rwpidforward", "locks are of open files, not of processes"),
    *_ignore("fsc strictsync nostrictsync", "no data is kept on disk, and fsync always asks the server"),
    *_ignore(
        "atime noatime diratime nodiratime relatime norelatime strictatime nostrictatime lazytime nolazytime",
        "times of access are the server's business",
    ),
    *_ignore("nobrl brl nolock forcemand forcemandatorylock", "locks stay on this machine"),
    *_refuse("mand", NOT_YET),
    *_ignore("nomand", "always so"),
    _flag("user_xattr", {"xattrs": True}, "extended attributes (the default)"),
    _flag("nouser_xattr", {"xattrs": False}, "none; each write of a program is one question of the kernel shorter"),
    _flag("serverino", {"server_inode_numbers": True}, "inode numbers are made of the servers' file ids (the default)"),
    _flag(
        "noserverino", {"server_inode_numbers": False}, "they are the mount's own, for servers whose ids do not last"
    ),
    _flag("trustlease", {"trust_leases": True}, "under a lease, attributes are not asked for again after actimeo"),
    _flag("notrustlease", {"trust_leases": False}, "they are: not all that writes breaks leases (the default)"),
]

_DIALECT_CHOICES = {
    "default": DIALECTS,
    "2.1": ("SMB_2_1",),
    "3": ("SMB_3_0", "SMB_3_0_2", "SMB_3_1_1"),
    "3.0": ("SMB_3_0",),
    "3.0.2": ("SMB_3_0_2",),
    "3.02": ("SMB_3_0_2",),
    "3.1.1": ("SMB_3_1_1",),
    "3.11": ("SMB_3_1_1",),
}

_TRANSPORT = [
    _value(
        "vers",
        "dialects",
        values.choice(
            _DIALECT_CHOICES,
            {"1.0": "SMB 1 is not secure", "2.0": "the oldest that dfsfs speaks is 2.1", "1": "SMB 1 is not secure"},
        ),
        "VERSION",
        "2.1, 3 (or later), 3.0, 3.0.2 or 3.1.1; without, the newest that both sides know",
    ),
    *_ignore("sign", "always so"),
    *_ignore("ver intr nointr", "words that /proc/mounts and old lines have beside what counts"),
    _flag("seal", {"seal": True}, "encrypt everything; needs SMB 3.0"),
    _value("port", "port", values.number(1, 65535), "NUMBER", "TCP port of the servers; 445"),
    _value("ip addr", "address", values.address, "ADDRESS", "address of the server that the mount names"),
    _value("srcaddr", "source", values.address, "ADDRESS", "local address to connect from"),
    _value("hosts", "hosts", values.hosts, "NAME:ADDRESS[;...]", "fixed addresses of servers"),
    _value(
        "echo_interval", "echo_interval", values.seconds(1, 600), "SECONDS", "how often idle connections are tried; 60"
    ),
    _value(
        "max_credits", "max_credits", values.number(20, 60000), "NUMBER", "requests under way with one server; 1024"
    ),
    _value("timeout", "timeout", values.seconds(1, 3600), "SECONDS", "how long one request may take; 30"),
    _value(
        "failover_timeout",
        "failover_timeout",
        values.seconds(0, 3600),
        "SECONDS",
        "how long other targets are tried after a failure; 60",
    ),
    _flag("soft", {"hard": False}, "a program gets an error when no target answers in time (the default)"),
    _flag("hard", {"hard": True}, "programs wait until a target answers again, up to a week, or until they are killed"),
    _value("retrans", "retries", values.number(0, 100), "NUMBER", "how often a server that is busy is asked again; 5"),
    *_ignore_with_warning(
        "multichannel nomultichannel max_channels rdma compress nosharesock tcpnodelay persistenthandles "
        "nopersistenthandles resilienthandles noresilienthandles handletimeout witness noblocksend noautotune nolease "
        "handlecache nohandlecache nosparse max_cached_dirs esize min_enc_offload reparse symlink nativesocket"
    ),
    _value(
        "snapshot",
        "snapshot",
        values.parse_snapshot_time,
        "TIME",
        "@GMT-YYYY.MM.DD-hh.mm.ss: show that snapshot, read only",
    ),
]

_RESTRICTED = {"suid": False, "dev": False, "execute": False}

_MOUNT = [
    _value("prefixpath", "prefix_path", values.prefix_path, "FOLDER[/FOLDER...]", "what to mount below the share"),
    _flag("ro", {"read_only": True}, "read only"),
    _flag("rw", {"read_only": False}, "read and write (the default)"),
    _flag("suid", {"suid": True}, "honour set-user-ID bits"),
    _flag("nosuid", {"suid": False}, "do not (the default)"),
    _flag("dev", {"dev": True}, "honour device files"),
    _flag("nodev", {"dev": False}, "do not (the default)"),
    _flag("exec", {"execute": True}, "programs may be started (the default)"),
    _flag("noexec", {"execute": False}, "they may not"),
    _flag("symfollow", {"follow_symlinks": True}, "symbolic links are followed (the default)"),
    _flag("nosymfollow", {"follow_symlinks": False}, "they are shown and not followed; takes root and Linux 5.14"),
    _flag("allow_other", {"sharing": Sharing.EVERYBODY}, "other users may use the mount (the default if root mounts)"),
    _flag("allow_root", {"sharing": Sharing.ROOT}, "root may use the mount, too"),
    _flag("noallow_other", {"sharing": Sharing.NOBODY}, "only you may use it (the default, if not root)"),
    _value("metrics", "metrics", values.listen_address, "ADDRESS:PORT|PATH", "where Prometheus may ask for figures"),
    _value(
        "fuse_loop loop",  # mount(8) takes `loop=` for a loop device, and never passes it on
        "fuse_loop",
        values.choice({"native": "native", "pyfuse3": "pyfuse3"}, {}),
        "KIND",
        "who reads the kernel's requests: native (the default), or pyfuse3, which can less",
    ),
    _flag("foreground fg", {"foreground": True}, "stay in front and log to stderr"),
    _flag("sloppy", {}, "ignore options that dfsfs does not know"),
    _flag("user users owner group", _RESTRICTED, "mount(8): not only root may mount; implies nosuid,nodev,noexec"),
    _flag("nonempty", {"nonempty": True}, "mount also where dfsfs has a mount already, which is hidden then"),
    _flag("remount", {"remount": True}, "change options of a mount that is in use, see below"),
    *_ignore(
        "defaults auto noauto nofail _netdev _rnetdev nouser nousers noowner nogroup silent loud comment helper "
        "uhelper user_id group_id rootmode fd blksize max_read",
        "a word of mount(8)",
    ),
]

GROUPS: Mapping[str, tuple[Option, ...]] = {
    "identity": tuple(_IDENTITY),
    "ownership": tuple(_OWNERSHIP),
    "names": tuple(_NAMES),
    "DFS": tuple(_DFS),
    "caches": tuple(_CACHES),
    "transport": tuple(_TRANSPORT),
    "mount": tuple(_MOUNT),
}
"""All options by subject, in the order in which help shows them."""

OPTIONS = tuple(option for group in GROUPS.values() for option in group)

BY_NAME: Mapping[str, tuple[Option, ...]] = {
    name: tuple(option for option in OPTIONS if name in option.names) for option in OPTIONS for name in option.names
}
"""The options of a name. `user` is two: a name to log in with, and a word of mount(8)."""

SECRETS = frozenset(name for option in OPTIONS if option.secret for name in option.names)
"""The names of options whose value must not be seen."""


def is_word_of_others(name: str) -> bool:
    """Whether it is of the kind that mount(8) leaves to programs such as systemd: `x-systemd.automount`."""
    return name.startswith(("x-", "X-"))


def find(name: str, *, has_value: bool) -> Option | None:
    """The option of that name, the one of that form if there are two."""
    options = BY_NAME.get(name, ())
    for option in options:
        if option.any_form or bool(option.metavar) == has_value:
            return option
    return options[0] if options else None
