"""From ParsedOptions, with the login and the user who mounts, to a MountConfig. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dfsfs.config.errors import ConfigError
from dfsfs.config.model import (
    CONNECT_TIMEOUT,
    HARD_TIMEOUT,
    CachingOptions,
    DfsOptions,
    MountConfig,
    OwnershipOptions,
    ParsedOptions,
    TransportOptions,
)
from dfsfs.config.table import Sharing
from dfsfs.unc import UncError, UncPath, fold_name, is_unc

if TYPE_CHECKING:
    from collections.abc import Callable

    from dfsfs.smb.auth.credentials import Login


@dataclass(frozen=True, slots=True)
class Mounter:
    """The user who mounts, and how names of users and groups become numbers. Both raise KeyError for an unknown one."""

    uid: int
    gid: int
    find_user: Callable[[str], int]
    find_group: Callable[[str], int]


def make_config(unc: UncPath, options: ParsedOptions, credentials: Login, mounter: Mounter) -> MountConfig:
    """Puts a mount together.

    Raises:
        ConfigError: a user or group of that name does not exist.
    """
    if options.multiuser and mounter.uid != 0:
        raise ConfigError("option 'multiuser' is for mounts that root makes")
    return MountConfig(
        unc=unc,
        credentials=credentials,
        multiuser=options.multiuser,
        transport=_transport_options(unc, options),
        ownership=_ownership(options, mounter),
        caching=CachingOptions(
            options.cache_mode,
            options.attribute_timeout_file,
            options.attribute_timeout_directory,
            options.read_ahead,
            options.close_time,
            options.server_inode_numbers,
            options.trust_leases,
        ),
        name_style=options.name_style,
        mfsymlinks=options.mfsymlinks,
        xattrs=options.xattrs,
        snapshot=options.snapshot,
        use_dfs=options.use_dfs,
        dfs=_dfs_options(unc, options),
        failover_timeout=HARD_TIMEOUT if options.hard else options.failover_timeout,
        hard=options.hard,
        retries=options.retries,
        fuse_options=_fuse_options(options, mounter),
        follow_symlinks=options.follow_symlinks,
        fuse_loop=options.fuse_loop,
        metrics=options.metrics,
        given=options,
    )


def _transport_options(unc: UncPath, options: ParsedOptions) -> TransportOptions:
    hosts = dict(options.hosts)
    if options.address is not None:
        # Other servers that the namespace leads to have addresses of their own.
        hosts[fold_name(unc.host)] = options.address
    return TransportOptions(
        port=options.port,
        hosts=hosts,
        source=options.source,
        dialects=options.dialects,
        seal=options.seal or options.security == "krb5p",
        hardened=options.hardened,
        login_hosts=options.login_hosts,
        connect_timeout=min(CONNECT_TIMEOUT, options.timeout),
        request_timeout=options.timeout,
        echo_interval=options.echo_interval,
        max_credits=options.max_credits,
        read_size=options.read_size,
        write_size=options.write_size,
    )


def _ownership(options: ParsedOptions, mounter: Mounter) -> OwnershipOptions:
    return OwnershipOptions(
        uid=_number("uid", options.uid, mounter.uid, mounter.find_user),
        gid=_number("gid", options.gid, mounter.gid, mounter.find_group),
        file_mode=options.file_mode,
        dir_mode=options.dir_mode,
        of_caller=options.multiuser and options.uid is None and options.gid is None,
        permission_checks=_checks_permissions(options),
    )


def _dfs_options(unc: UncPath, options: ParsedOptions) -> DfsOptions:
    """A path of dfs_pin= that does not begin with // is one of the namespace that is mounted."""
    pins = []
    for text, target in options.pins.items():
        try:
            absolute = is_unc(text)
            path = UncPath.parse(text) if absolute else unc.share.join(UncPath.parse(text).components)
        except UncError as error:
            raise ConfigError(f"option 'dfs_pin={text}:...': {error}") from None
        pins.append((path, target))
    return DfsOptions(
        max_hops=options.max_hops,
        site=options.site,
        controllers=options.controllers,
        domain=options.domain or "",
        suffixes=options.suffixes,
        prefer=options.prefer,
        pins=tuple(pins),
        ttl_min=options.ttl_min,
        ttl_max=options.ttl_max,
        failback=options.failback,
        static_file=options.static_file,
    )


def _number(option: str, given: int | str | None, default: int, look_up: Callable[[str], int]) -> int:
    if not isinstance(given, str):
        return default if given is None else given
    try:
        return look_up(given)
    except KeyError:
        kind = "user" if option == "uid" else "group"
        raise ConfigError(f"option '{option}={given}': this system has no {kind} of that name") from None


def _checks_permissions(options: ParsedOptions) -> bool:
    """Modes say nothing about users that only servers know: with multiuser those alone decide, as for mount.cifs."""
    return options.permission_checks and not options.multiuser


def _fuse_options(options: ParsedOptions, mounter: Mounter) -> tuple[str, ...]:
    sharing = options.sharing
    if sharing is None:
        sharing = Sharing.EVERYBODY if mounter.uid == 0 else Sharing.NOBODY
    words = (
        ("ro", options.read_only or options.snapshot is not None),
        ("suid" if options.suid else "nosuid", True),
        ("dev" if options.dev else "nodev", True),
        ("noexec", not options.execute),
        ("sync", options.synchronous),
        ("allow_other", sharing is Sharing.EVERYBODY),
        ("allow_root", sharing is Sharing.ROOT),
        ("default_permissions", _checks_permissions(options)),
    )
    return tuple(word for word, wanted in words if wanted)
