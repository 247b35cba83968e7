"""The configuration of a mount as the settings of its file system and of FUSE. Those of its namespace and of its
connections are in namespace/assembly.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dfsfs.fuse.device.mounting import MountSpec
from dfsfs.fuse.session import READ_AHEAD_KB, ServeSettings
from dfsfs.smb.auth.kerberos import get_default_realm
from dfsfs.vfs.data.caching import CacheMode, Caching
from dfsfs.vfs.data.readahead_policy import LIMIT as WINDOW_MAX
from dfsfs.vfs.names.attrcache import Lifetimes
from dfsfs.vfs.names.mapping import NameMapping, NameStyle, Ownership

if TYPE_CHECKING:
    from dfsfs.config.model import MountConfig

_CACHE_MODES = {"strict": CacheMode.STRICT, "none": CacheMode.NONE, "loose": CacheMode.LOOSE}


def get_given_names(config: MountConfig) -> tuple[str, ...]:
    """The names that the configuration of the mount or of this computer has for the domain or server, in lower case:
    none that a server has given.
    """
    names = (config.unc.host, config.dfs.domain, *config.dfs.suffixes, get_default_realm())
    return tuple(dict.fromkeys(name.lower() for name in names if name))


# -- file system ------------------------------------------------------------------------------------------------------


def make_names(config: MountConfig) -> NameMapping:
    """How names of files are encoded on the wire."""
    return NameMapping(NameStyle[config.name_style.upper()])


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


def make_serve_settings(config: MountConfig, mountpoint: str) -> ServeSettings:
    """How the mount is made, and its requests read."""
    return ServeSettings(
        MountSpec(mountpoint, str(config.unc), "dfsfs", frozenset(config.fuse_options)),
        uses_pyfuse3=config.fuse_loop == "pyfuse3",
        read_ahead_kb=get_read_ahead_kb(config),
        follow_symlinks=config.follow_symlinks,
    )
