"""The parts of a mount, each made by one function: pools of connections, file system, handlers. The namespace is made
by namespace/assembly.py.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import trio

import dfsfs
from dfsfs.control.mount import Mount
from dfsfs.fuse.kerneloperations import KernelOperations
from dfsfs.fuse.multiuser import MultiuserOperations
from dfsfs.mount.settings import (
    get_given_names,
    make_caching,
    make_lifetimes,
    make_names,
    make_ownership,
)
from dfsfs.mount.userlogins import find_tickets, stored_logins
from dfsfs.namespace.assembly import target_policy, transport_settings
from dfsfs.smb.auth.credentials import KerberosCredentials
from dfsfs.smb.pool import Pool
from dfsfs.smb.userpools import UserPools
from dfsfs.vfs.filesystem import FileSystem

if TYPE_CHECKING:
    from dfsfs.config.model import MountConfig
    from dfsfs.namespace.client import Namespace
    from dfsfs.namespace.junction import Location
    from dfsfs.vfs.data.caching import KernelCache

DEADLINE_MARGIN = 5.0
"""Seconds that a handler may take beyond everything that it can wait for: no handler should ever get there."""


def make_pool(config: MountConfig) -> Pool:
    """The connections that are made with the mount's own login."""
    return Pool(transport_settings(config), config.credentials)


def make_user_pools(config: MountConfig, pool: Pool) -> UserPools:
    """The connections of a mount with option multiuser, made with each user's own login."""
    is_kerberos = isinstance(config.credentials, KerberosCredentials)
    find_login = find_tickets if is_kerberos else stored_logins(get_given_names(config))
    return UserPools(transport_settings(config), pool, find_login)


def make_filesystem(config: MountConfig, namespace: Namespace, root: Location, kernel: KernelCache) -> FileSystem:
    """The file system. `root`: where the mount's root is in the namespace."""
    return FileSystem(
        namespace,
        root,
        names=make_names(config),
        ownership=make_ownership(config),
        lifetimes=make_lifetimes(config),
        clock=trio.current_time,
        follow_links=config.use_dfs,
        caching=make_caching(config),
        kernel=kernel,
        mfsymlinks=config.mfsymlinks,
        many_users=config.multiuser,
        server_numbers=config.caching.server_inode_numbers,
    )


def connect_users(users: UserPools, namespace: Namespace, filesystem: FileSystem) -> None:
    """Connects the users' pools with what has to be done before a user is logged out, and after."""
    users.has_open_files, users.flush_writes = filesystem.has_open, filesystem.write_back_user
    users.on_user_gone = namespace.forget_user


def make_operations(config: MountConfig, filesystem: FileSystem, users: UserPools | None) -> KernelOperations:
    """The handlers of the kernel's requests."""
    deadline = config.transport.request_timeout + config.failover_timeout + DEADLINE_MARGIN
    if users is None:
        return KernelOperations(filesystem, deadline=deadline, xattrs=config.xattrs)
    operations = MultiuserOperations(filesystem, deadline=deadline, xattrs=config.xattrs)
    operations.log_out = users.log_out
    return operations


def make_mount(
    config: MountConfig,
    mountpoint: str,
    pool: Pool,
    users: UserPools | None,
    namespace: Namespace,
    operations: KernelOperations,
    filesystem: FileSystem,
) -> Mount:
    """All of that together, for the control socket and metrics."""
    return Mount(
        config=config,
        mountpoint=mountpoint,
        version=dfsfs.__version__,
        pool=users or pool,
        namespace=namespace,
        filesystem=filesystem,
        meters=operations.meters,
        clock=trio.current_time,
        started=trio.current_time(),
        apply=partial(apply_config, pool, namespace, filesystem),
    )


def apply_config(pool: Pool, namespace: Namespace, filesystem: FileSystem, config: MountConfig) -> None:
    """Applies a changed configuration to the parts of a running mount, as far as parts can be changed (remount)."""
    pool.login = config.credentials
    namespace.caches.policy = target_policy(config)
    filesystem.set_lifetimes(make_lifetimes(config))
