"""From the configuration of a mount to the settings of its pool and to its namespace: for mounts, and for commands that
need no mount.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from dfsfs.config.errors import ConfigError
from dfsfs.dfsc.policy import Policy
from dfsfs.namespace.client import Namespace
from dfsfs.namespace.discovery import DomainSettings
from dfsfs.namespace.referrals import ReferralSettings
from dfsfs.smb.auth.kerberos import get_default_realm
from dfsfs.smb.connection.settings import TransportSettings
from dfsfs.smb.wire.constants import Dialect
from dfsfs.unc import fold_name

if TYPE_CHECKING:
    from dfsfs.config.model import MountConfig
    from dfsfs.namespace.domaininfo import DomainInfo
    from dfsfs.smb.auth.kerberos import KdcPreference
    from dfsfs.smb.pool import Pool
    from dfsfs.smb.userpools import UserPools


def transport_settings(config: MountConfig) -> TransportSettings:
    """How the pool reaches servers."""
    options = config.transport
    return TransportSettings(
        port=options.port,
        hosts=options.hosts,
        source=options.source,
        dialects=tuple(Dialect[name] for name in options.dialects),
        seal=options.seal,
        hardened=options.hardened,
        login_hosts=options.login_hosts,
        connect_timeout=options.connect_timeout,
        request_timeout=options.request_timeout,
        silence_timeout=min(options.request_timeout, TransportSettings().silence_timeout),
        echo_interval=options.echo_interval,
        max_credits=options.max_credits,
        read_size=options.read_size,
        write_size=options.write_size,
        mfsymlinks=config.mfsymlinks,
    )


def referral_settings(config: MountConfig) -> ReferralSettings:
    """How referrals are asked for.

    Raises:
        ConfigError: the file of dfs_static= can't be read, or makes no sense.
    """
    options = config.dfs
    static = None
    if options.static_file is not None:
        from dfsfs.dfsc.static import parse_static

        try:
            static = parse_static(Path(options.static_file).read_text(encoding="utf-8"), options.static_file)
        except OSError as error:
            raise ConfigError(f"option 'dfs_static={options.static_file}': {error.strerror}") from None
        except ValueError as error:
            raise ConfigError(f"option 'dfs_static': {error}") from None
    return ReferralSettings(options.max_hops, options.site, domain_settings(config), static)


def domain_settings(config: MountConfig) -> DomainSettings:
    """Where to look for the domain that the mount is about."""
    options, host = config.dfs, config.unc.host
    return DomainSettings(
        host="" if fold_name(host) in config.transport.hosts else host,
        domains=(options.domain,) if "." in options.domain else (),
        suffixes=options.suffixes,
        realm=get_default_realm(),
        controllers=options.controllers,
        source=config.transport.source,
    )


def make_namespace(
    config: MountConfig,
    pool: Pool,
    settings: ReferralSettings,
    kdcs: KdcPreference | None,
    users: UserPools | None = None,
) -> Namespace:
    """The namespace of a mount. `kdcs`: is told of controllers that are found. `users`: each of them acts by a login of
    their own.
    """
    namespace = Namespace(
        pool,
        referrals=settings,
        policy=target_policy(config),
        use_dfs=config.use_dfs,
        failover_timeout=config.failover_timeout,
        retries=config.retries,
        users=users,
    )
    if kdcs is not None:
        namespace.discovery.on_found = partial(_tell_kdcs, kdcs)
    return namespace


def _tell_kdcs(kdcs: KdcPreference, found: DomainInfo) -> None:
    """Has tickets asked for at the controllers that answer."""
    if found.name:
        kdcs.prefer(found.name.upper(), found.addresses)


def target_policy(config: MountConfig) -> Policy:
    """Which targets of a referral the mount wants, and for how long it keeps one."""
    options = config.dfs
    return Policy(options.prefer, options.pins, options.ttl_min, options.ttl_max, options.failback)
