"""One mount from its configuration to its end: the parts are made, connected, and taken down again in reverse order.

    pool of connections -> namespace -> where the root is -> file system -> handlers -> kernel

Nothing is mounted before the root of the namespace has answered: a wrong name, password or address is an error of the
mount command and not a mount point that gives errors. A mount of a server that does not answer at all fails within
MOUNT_PATIENCE seconds; once any server has answered, its namespace's other targets get their chance.

What this does not do: it doesn't daemonize, read options or write to a terminal. That is the command's.
"""

from __future__ import annotations

import errno
import logging
import os
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING

import trio

import dfsfs
from dfsfs.background import keep_going
from dfsfs.config import ConfigError
from dfsfs.control.places import TYPE, device_of, mount_on
from dfsfs.control.report import Mount
from dfsfs.errors import ConnectError, DfsfsError, PosixError
from dfsfs.fuse.multiuser import MultiuserOperations
from dfsfs.fuse.operations import DfsOperations
from dfsfs.fuse.session import GRACE, READ_AHEAD_KB, FuseKernelCache, serve
from dfsfs.mount import idle
from dfsfs.mount.service import prepare
from dfsfs.mount.userlogins import stored_logins, tickets_of
from dfsfs.namespace.assembly import make_namespace, referral_settings, target_policy, transport_settings
from dfsfs.ntstatus import NtStatus
from dfsfs.smb.auth.credentials import KerberosCredentials
from dfsfs.smb.auth.kerberos import KdcPreference, get_default_realm
from dfsfs.smb.pool import Pool
from dfsfs.smb.userpools import UserPools
from dfsfs.vfs.data.caching import CacheMode, Caching
from dfsfs.vfs.data.readahead_policy import LIMIT as LARGEST_WINDOW
from dfsfs.vfs.filesystem import FileSystem
from dfsfs.vfs.names.attrcache import Lifetimes
from dfsfs.vfs.names.mapping import NameMapping, NameStyle, Ownership

if TYPE_CHECKING:
    from collections.abc import Callable

    from dfsfs.config.model import MountConfig
    from dfsfs.namespace.client import Namespace
    from dfsfs.namespace.junction import Location
    from dfsfs.namespace.referrals import ReferralSettings

log = logging.getLogger("dfsfs.fuse")

MOUNT_PATIENCE = 10.0
"""Seconds that a mount waits for the first answer of any server."""
_CACHE_MODES = {"strict": CacheMode.STRICT, "none": CacheMode.NONE, "loose": CacheMode.LOOSE}
DEADLINE_MARGIN = 5.0
"""Seconds that a handler gets beyond everything that it may wait for: the deadline is a net, not a limit in use."""


def run(config: MountConfig, mountpoint: str, on_ready: Callable[[], None]) -> None:
    """Mounts, serves, and returns when the mount has ended.

    `on_ready` is called in between, as soon as programs can use the mount.

    Raises:
        ConfigError: a file that an option names can't be used.
        DfsfsError: nothing could be mounted, or the mount ended by something unexpected; it is unmounted then.
    """
    mountpoint, settings = os.path.realpath(mountpoint), referral_settings(config)
    kdcs = KdcPreference() if isinstance(config.credentials, KerberosCredentials) else None
    try:
        trio.run(_run, config, settings, kdcs, mountpoint, on_ready, strict_exception_groups=True)
    except (DfsfsError, ConfigError):
        raise
    except Exception as error:
        own = _own_error(error)
        if own is not None:
            raise own from None
        log.exception("the mount on %s has ended by an unexpected error", mountpoint)
        raise PosixError(errno.EIO, f"the mount on {mountpoint} has ended by an unexpected error: {error!r}") from error


def _own_error(error: BaseException) -> DfsfsError | None:
    """The one error of ours that tasks have ended with, if there is nothing else."""
    while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error if isinstance(error, DfsfsError) else None


async def _run(
    config: MountConfig,
    settings: ReferralSettings,
    kdcs: KdcPreference | None,
    mountpoint: str,
    on_ready: Callable[[], None],
) -> None:
    service = prepare(config)
    async with AsyncExitStack() as stack:
        stack.callback(service.close)
        pool = await stack.enter_async_context(Pool(transport_settings(config), config.credentials))
        users = await stack.enter_async_context(make_user_pools(config, pool)) if config.multiuser else None
        namespace = make_namespace(config, pool, settings, kdcs, users)
        root = await find_root(config, pool, namespace)
        if config.hard:
            namespace.set_hard()  # not before: a mount of a server that is down fails
        filesystem = make_filesystem(config, namespace, root)
        if users is not None:
            users.has_open_files, users.flush_writes = filesystem.has_open, filesystem.write_back_user
            users.on_user_gone = namespace.forget_user
        stack.push_async_callback(_close, filesystem)
        deadline = config.transport.request_timeout + config.failover_timeout + DEADLINE_MARGIN
        kind = MultiuserOperations if config.multiuser else DfsOperations
        operations = kind(filesystem, deadline=deadline, xattrs=config.xattrs)
        if users is not None and isinstance(operations, MultiuserOperations):
            operations.log_out = users.log_out
        mount = Mount(
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
        async with trio.open_nursery() as nursery:
            _begin_background(nursery, mount)

            def ready() -> None:
                service.begin(mount, nursery)
                if isinstance(operations, MultiuserOperations) and (device := device_of(mountpoint)) is not None:
                    operations.set_device(device)
                on_ready()

            refuse_to_hide_mount(config, mountpoint)
            await serve(
                operations,
                mountpoint,
                fuse_options(config),
                ready,
                read_ahead_kb=read_ahead_kb(config),
                follow_symlinks=config.follow_symlinks,
            )
            service.notifier.tell_stopping()
            nursery.cancel_scope.cancel()


def _begin_background(nursery: trio.Nursery, mount: Mount) -> None:
    """Begins what goes on beside the requests of programs."""
    filesystem, meters = mount.filesystem, mount.meters
    nursery.start_soon(keep_going, "namespace", mount.namespace.serve)
    nursery.start_soon(keep_going, "files", filesystem.serve)
    nursery.start_soon(keep_going, "memory", partial(idle.serve, lambda: meters.requests, filesystem.give_back))


def refuse_to_hide_mount(config: MountConfig, mountpoint: str) -> None:
    """The command has looked whether a mount of ours is there; another one may have come while this one logged in.

    Raises:
        PosixError: it has.
    """
    try:
        top = None if config.given.nonempty else mount_on(mountpoint)[1]
    except OSError:
        return  # FUSE will say what is wrong with it
    if top is not None and top.kind == TYPE:
        text = f"{top.source} has been mounted on {mountpoint} meanwhile, and would be hidden"
        raise PosixError(errno.EBUSY, f"{text}; umount {mountpoint} first, or use the option nonempty")


def apply_config(pool: Pool, namespace: Namespace, filesystem: FileSystem, config: MountConfig) -> None:
    """Makes a configuration that differs in what can be changed that of a running mount."""
    pool.login = config.credentials
    namespace.caches.policy = target_policy(config)
    filesystem.set_lifetimes(lifetimes(config))


def lifetimes(config: MountConfig) -> Lifetimes:
    """For how long attributes are believed."""
    return Lifetimes(config.caching.attribute_timeout_file, config.caching.attribute_timeout_directory)


async def _close(filesystem: FileSystem) -> None:
    with trio.move_on_after(GRACE, shield=True):
        await filesystem.close()


async def find_root(config: MountConfig, pool: Pool, namespace: Namespace) -> Location:
    """Where the mount's root is.

    Raises:
        ConnectError: no server has answered.
        DfsfsError: one has, and that is what it came to.
    """
    found: Location | None = None
    failure: DfsfsError = ConnectError(
        config.unc.host, NtStatus.IO_TIMEOUT, f"no answer within {MOUNT_PATIENCE:g} seconds"
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_cancel_without_answer, pool, namespace, nursery.cancel_scope)
        try:
            found = await namespace.mount_root(config.unc, config.snapshot)
        except DfsfsError as error:
            failure = error
        nursery.cancel_scope.cancel()
    if found is None:
        raise failure
    return found


async def _cancel_without_answer(pool: Pool, namespace: Namespace, scope: trio.CancelScope) -> None:
    await trio.sleep(MOUNT_PATIENCE)
    if not pool.statistics() and not namespace.knows_domain:
        scope.cancel()


def make_user_pools(config: MountConfig, pool: Pool) -> UserPools:
    """The pools of the users of a mount for many of them."""

    is_kerberos = isinstance(config.credentials, KerberosCredentials)
    find_login = tickets_of if is_kerberos else stored_logins(given_names(config))
    return UserPools(transport_settings(config), pool, find_login)


def given_names(config: MountConfig) -> tuple[str, ...]:
    """What the mount's domain or server is called by whoever made the mount or set up this computer: nothing that
    anybody on the network has said.
    """
    names = (config.unc.host, config.dfs.domain, *config.dfs.suffixes, get_default_realm())
    return tuple(dict.fromkeys(name.lower() for name in names if name))


def make_names(config: MountConfig) -> NameMapping:
    """How names of files go on the wire."""
    return NameMapping(NameStyle[config.name_style.upper()])


def make_filesystem(config: MountConfig, namespace: Namespace, root: Location) -> FileSystem:
    """The file system of a mount."""
    owner, caching = config.ownership, config.caching
    return FileSystem(
        namespace,
        root,
        names=make_names(config),
        ownership=Ownership(owner.uid, owner.gid, owner.file_mode, owner.dir_mode, owner.of_caller),
        lifetimes=lifetimes(config),
        clock=trio.current_time,
        follow_links=config.use_dfs,
        caching=Caching(
            _CACHE_MODES[caching.mode],
            caching.close_time,
            LARGEST_WINDOW if caching.read_ahead is None else caching.read_ahead,
            caching.trust_leases,
        ),
        kernel=FuseKernelCache(),
        mfsymlinks=config.mfsymlinks,
        many_users=config.multiuser,
        server_numbers=caching.server_inode_numbers,
    )


def read_ahead_kb(config: MountConfig) -> int:
    """How far the kernel is to read ahead, in KiB."""
    asked = config.caching.read_ahead
    return READ_AHEAD_KB if asked is None else min(READ_AHEAD_KB, asked // 1024)


def fuse_options(config: MountConfig) -> set[str]:
    """The options of the mount(2) to come: those asked for, and what shows in /proc/mounts."""
    return {*config.fuse_options, f"fsname={escape_option(str(config.unc))}", "subtype=dfsfs"}


def escape_option(text: str) -> str:
    """A text as the value of a FUSE option: libfuse splits at commas and knows octal escapes, pyfuse3 takes ASCII."""
    return "".join(
        chr(byte) if 0x20 <= byte < 0x7F and byte not in b",\\" else f"\\{byte:03o}"
        for byte in text.encode("utf-8", "surrogateescape")
    )
