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

from dfsfs.background import contain, keep_going
from dfsfs.config.errors import ConfigError
from dfsfs.control.places import TYPE, device_of, mount_on
from dfsfs.errors import ConnectError, DfsfsError, PosixError
from dfsfs.fuse.multiuser import MultiuserOperations
from dfsfs.fuse.session import GRACE, FuseKernelCache, serve
from dfsfs.mount import idle, laterimports
from dfsfs.mount.parts import (
    connect_users,
    make_filesystem,
    make_mount,
    make_operations,
    make_pool,
    make_user_pools,
)
from dfsfs.mount.service import prepare
from dfsfs.mount.settings import make_serve_settings
from dfsfs.namespace.assembly import make_namespace, referral_settings
from dfsfs.ntstatus import NtStatus
from dfsfs.smb.auth.credentials import KerberosCredentials
from dfsfs.smb.auth.kerberos import KdcPreference
from dfsfs.smb.pool import load_login_libraries
from dfsfs.threads import import_in_thread

if TYPE_CHECKING:
    from collections.abc import Callable

    from dfsfs.config.model import MountConfig
    from dfsfs.control.mount import Mount
    from dfsfs.fuse.kerneloperations import KernelOperations
    from dfsfs.mount.service import Service
    from dfsfs.namespace.client import Namespace
    from dfsfs.namespace.junction import Location
    from dfsfs.namespace.referrals import ReferralSettings
    from dfsfs.smb.pool import Pool
    from dfsfs.vfs.filesystem import FileSystem

log = logging.getLogger("dfsfs.fuse")

MOUNT_PATIENCE = 10.0
"""Seconds that a mount waits for the first answer of any server."""


def run(config: MountConfig, mountpoint: str, on_ready: Callable[[], None]) -> None:
    """Mounts, serves, and returns when the mount has ended. `on_ready` is called as soon as programs can use the mount.

    Raises:
        ConfigError: a file that an option names can't be used.
        DfsfsError: nothing could be mounted, or the mount was ended by an unexpected error; it is unmounted then.
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
    """The DfsfsError that tasks have ended with, None if there is any other exception besides."""
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
        pool = await stack.enter_async_context(make_pool(config))
        users = await stack.enter_async_context(make_user_pools(config, pool)) if config.multiuser else None
        namespace = make_namespace(config, pool, settings, kdcs, users)
        root = await find_root(config, pool, namespace)
        if config.hard:
            namespace.set_hard()  # not before: a mount of a server that is down fails
        kernel = FuseKernelCache()
        filesystem = make_filesystem(config, namespace, root, kernel)
        if users is not None:
            connect_users(users, namespace, filesystem)
        stack.push_async_callback(_close, filesystem)
        operations = make_operations(config, filesystem, users)
        mount = make_mount(config, mountpoint, pool, users, namespace, operations, filesystem)
        await _serve(mount, operations, kernel, service, on_ready)


async def _serve(
    mount: Mount, operations: KernelOperations, kernel: FuseKernelCache, service: Service, on_ready: Callable[[], None]
) -> None:
    """Mounts, and runs all tasks of the mount until it has been unmounted."""
    async with trio.open_nursery() as nursery:
        _start_background_tasks(nursery, mount)

        def ready() -> None:
            service.begin(mount, nursery)
            if isinstance(operations, MultiuserOperations) and (device := device_of(mount.mountpoint)) is not None:
                operations.set_device(device)
            on_ready()

        refuse_to_hide_mount(mount.config, mount.mountpoint)
        await serve(operations, make_serve_settings(mount.config, mount.mountpoint), kernel, ready)
        service.notifier.tell_stopping()
        nursery.cancel_scope.cancel()


def _start_background_tasks(nursery: trio.Nursery, mount: Mount) -> None:
    """Starts what runs beside the handlers of requests."""
    filesystem, meters = mount.filesystem, mount.meters
    nursery.start_soon(keep_going, "namespace", mount.namespace.serve)
    nursery.start_soon(keep_going, "files", filesystem.serve)
    nursery.start_soon(contain, "imports", laterimports.serve)
    nursery.start_soon(keep_going, "memory", partial(idle.serve, lambda: meters.requests, filesystem.shrink))


def refuse_to_hide_mount(config: MountConfig, mountpoint: str) -> None:
    """Checks once more that no mount of dfsfs is on the mount point: one may have come while this one logged in.

    Raises:
        PosixError: EBUSY, there is one, and option nonempty was not given.
    """
    try:
        top = None if config.given.nonempty else mount_on(mountpoint)[1]
    except OSError:
        return  # FUSE will say what is wrong with it
    if top is not None and top.kind == TYPE:
        text = f"{top.source} has been mounted on {mountpoint} meanwhile, and would be hidden"
        raise PosixError(errno.EBUSY, f"{text}; umount {mountpoint} first, or use the option nonempty")


async def _close(filesystem: FileSystem) -> None:
    with trio.move_on_after(GRACE, shield=True):
        await filesystem.close()


async def find_root(config: MountConfig, pool: Pool, namespace: Namespace) -> Location:
    """Finds where the mount's root is in the namespace.

    Raises:
        ConnectError: no server has answered within MOUNT_PATIENCE.
        DfsfsError: the error of the namespace, or of its servers.
    """
    found: Location | None = None
    failure: DfsfsError = ConnectError(
        config.unc.host, NtStatus.IO_TIMEOUT, f"no answer within {MOUNT_PATIENCE:g} seconds"
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(import_in_thread, load_login_libraries)  # while servers answer, as all of them want a login
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
    """Cancels `scope` if no server has answered after MOUNT_PATIENCE."""
    await trio.sleep(MOUNT_PATIENCE)
    if not pool.statistics() and not namespace.knows_domain:
        scope.cancel()
