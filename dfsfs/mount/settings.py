"""The configuration of a mount as the settings of its parts: nothing is connected or mounted here."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from dfsfs.config import ConfigError
from dfsfs.dfsc.policy import Policy
from dfsfs.dfsc.static import parse_static
from dfsfs.fuse.session import READ_AHEAD_KB
from dfsfs.namespace.discovery import DomainSettings
from dfsfs.namespace.referrals import ReferralSettings
from dfsfs.smb.auth.kerberos import get_default_realm
from dfsfs.smb.connection.settings import TransportSettings
from dfsfs.smb.wire.constants import Dialect
from dfsfs.unc import fold_name
from dfsfs.vfs.data.caching import CacheMode, Caching
from dfsfs.vfs.data.readahead_policy import LIMIT as WINDOW_MAX
from dfsfs.vfs.names.attrcache import Lifetimes
from dfsfs.vfs.names.mapping import NameMapping, NameStyle, Ownership

if TYPE_CHECKING:
    from dfsfs.config.model import MountConfig

_NAME_STYLES = {"sfm": NameStyle.SFM, "sfu": NameStyle.SFU, "none": NameStyle.NONE}
_CACHE_MODES = {"strict": CacheMode.STRICT, "none": CacheMode.NONE, "loose": CacheMode.LOOSE}

# -- servers ----------------------------------------------------------------------------------------------------------


def make_transport_settings(config: MountConfig) -> TransportSettings:
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


def get_given_names(config: MountConfig) -> tuple[str, ...]:
    """The names that the configuration of the mount or of this computer has for the domain or server, in lower case:
    none that a server has given.
    """
    names = (config.unc.host, config.dfs.domain, *config.dfs.suffixes, get_default_realm())
    return tuple(dict.fromkeys(name.lower() for name in names if name))


# -- namespace --------------------------------------------------------------------------------------------------------


def make_referral_settings(config: MountConfig) -> ReferralSettings:
    """How referrals are asked for.

    Raises:
        ConfigError: the file of dfs_static= can't be read or parsed.
    """
    options = config.dfs
    static = None
    if options.static_file is not None:
        try:
            static = parse_static(Path(options.static_file).read_text(encoding="utf-8"), options.static_file)
        except OSError as error:
            raise ConfigError(f"option 'dfs_static={options.static_file}': {error.strerror}") from None
        except ValueError as error:
            raise ConfigError(f"option 'dfs_static': {error}") from None
    return ReferralSettings(options.max_hops, options.site, make_domain_settings(config), static)


def make_domain_settings(config: MountConfig) -> DomainSettings:
    """Where to look for the mount's domain."""
    options, host = config.dfs, config.unc.host
    return DomainSettings(
        host="" if fold_name(host) in config.transport.hosts else host,
        domains=(options.domain,) if "." in options.domain else (),
        suffixes=options.suffixes,
        realm=get_default_realm(),
        controllers=options.controllers,
        source=config.transport.source,
    )


def make_policy(config: MountConfig) -> Policy:
    """Which targets of a referral the mount uses, and for how long a referral is cached."""
    options = config.dfs
    return Policy(options.prefer, options.pins, options.ttl_min, options.ttl_max, options.failback)


# -- file system ------------------------------------------------------------------------------------------------------


def make_names(config: MountConfig) -> NameMapping:
    """How names of files are encoded on the wire."""
    return NameMapping(_NAME_STYLES[config.name_style])


def make_ownership(config: MountConfig) -> Ownership:
    """Owner and mode that files are shown with."""
    owner = config.ownership
    return Ownership(owner.uid, owner.gid, owner.file_mode, owner.dir_mode, owner.of_caller)


def make_lifetimes(config: MountConfig) -> Lifetimes:
    """How long attributes are cached."""
    return Lifetimes(config.caching.attribute_timeout_file, config.caching.attribute_timeout_directory)


def make_caching(config: MountConfig) -> Caching:
    """How the data of files is cached."""
    options = config.caching
    read_ahead = WINDOW_MAX if options.read_ahead is None else options.read_ahead
    return Caching(_CACHE_MODES[options.mode], options.close_time, read_ahead, options.trust_leases)


# -- kernel -----------------------------------------------------------------------------------------------------------


def get_read_ahead_kb(config: MountConfig) -> int:
    """KiB that the kernel reads ahead in a file."""
    asked = config.caching.read_ahead
    return READ_AHEAD_KB if asked is None else min(READ_AHEAD_KB, asked // 1024)


def make_fuse_options(config: MountConfig) -> set[str]:
    """The options for libfuse and the kernel: those of the configuration, and what /proc/mounts shows."""
    return {*config.fuse_options, f"fsname={escape_option(str(config.unc))}", "subtype=dfsfs"}


def escape_option(text: str) -> str:
    """A text as the value of a FUSE option: libfuse splits at commas and knows octal escapes, pyfuse3 takes ASCII."""
    return "".join(
        chr(byte) if 0x20 <= byte < 0x7F and byte not in b",\\" else f"\\{byte:03o}"
        for byte in text.encode("utf-8", "surrogateescape")
    )
