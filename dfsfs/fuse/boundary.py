"""The decorators of all handlers, through which pyfuse3 calls them.

    request_handler    handlers that may wait
    lock_handler       handlers that wait for a lock of another program, for as long as that keeps it
    immediate_handler  parts of handlers that do not wait
    release_handler    handlers whose answer the kernel drops

A handler may raise FUSEError and nothing else: anything else ends pyfuse3's main loop, and the mount with it. And it
has to end, as a process that waits for a request which has been handed out can't be killed. So a handler ends with
ETIMEDOUT at its deadline, and is cancelled when a signal ends the wait of its program (interrupts.py). A DfsfsError
becomes an errno that the call may give (errnos.py), any other exception EIO, with a traceback in the log.

Cancellation from outside passes through: it is the end of the mount.

Requests are measured here, too: how long each took, and with which error it ended.
"""

from __future__ import annotations

import errno
import functools
import logging
import math
from time import perf_counter
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Protocol, TypeVar

import pyfuse3
import trio

from dfsfs.errors import DfsfsError, SmbError
from dfsfs.firstfew import FirstFew
from dfsfs.fuse.errnos import ALLOWED, NAMES, errno_for
from dfsfs.fuse.requestcontext import current_request
from dfsfs.fuse.requests import Request
from dfsfs.ntstatus import has_errno

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from dfsfs.meters import Meters

log = logging.getLogger("dfsfs.fuse")

UNKNOWN_MAX = 100
"""Statuses that the log names at most: a server has 2**32 to choose from."""
_unknown = FirstFew[int](UNKNOWN_MAX)

_PARTS = {
    "lookup_known": "lookup",
    "lookup_spelled": "lookup",
    "other_spelling": "lookup",
    "getattr_known": "getattr",
    "getxattr_logout": "getxattr",
    "readdir_into": "readdir",
    "statfs_of": "statfs",
    "flockw": "flock",
}
"""Names of functions that are parts of a handler, and the name of that handler."""

P = ParamSpec("P")
S = TypeVar("S")
T = TypeVar("T")


class HasHandlers(Protocol):
    """An object with handlers."""

    deadline: float
    """Seconds that a handler may take."""
    meters: Meters
    under_way: dict[trio.CancelScope, Request]
    """See requests.HasRequests."""
    watcher: trio.Event | None
    """Set, if there is one, when a request begins."""
    task_scope: trio.CancelScope | None
    """The scope of the task that begins to run a handler, if it has one for that: see device/loop.py. The handler takes
    it, which spares it one of its own; whoever watches requests then ends it at its deadline.
    """


H = TypeVar("H", bound=HasHandlers)


def request_handler(
    handler: Callable[Concatenate[H, P], Awaitable[T]],
) -> Callable[Concatenate[H, P], Coroutine[Any, Any, T]]:
    """Decorates a handler that may wait: it ends at its deadline, and raises FUSEError only."""
    return _decorate(handler, lambda handlers: handlers.deadline)


def lock_handler(
    handler: Callable[Concatenate[H, P], Awaitable[T]],
) -> Callable[Concatenate[H, P], Coroutine[Any, Any, T]]:
    """Decorates a handler that waits for another program: like `request_handler`, without a deadline. It ends when its
    program gets a signal.
    """
    return _decorate(handler, lambda _: math.inf)


def _decorate(
    handler: Callable[Concatenate[H, P], Awaitable[T]], get_deadline: Callable[[H], float]
) -> Callable[Concatenate[H, P], Coroutine[Any, Any, T]]:
    call = _get_call(handler)

    async def wrapper(self: H, /, *args: P.args, **kwargs: P.kwargs) -> T:
        begun, deadline = perf_counter(), get_deadline(self)
        scope, self.task_scope = self.task_scope, None
        is_own = scope is None
        if scope is None:
            scope = trio.move_on_after(deadline)
        self.under_way[scope] = Request(call, args, current_request.get(), deadline)
        if (watcher := self.watcher) is not None:
            watcher.set()
        try:
            if not is_own:
                return await handler(self, *args, **kwargs)
            with scope:
                return await handler(self, *args, **kwargs)
        except BaseException as error:
            left = error if is_own or not scope.cancel_called else _without_cancel(error)
            if isinstance(left, Exception):
                failure = _translate(left, call, args)
                self.meters.record_error(call, failure.errno)
                raise failure from None
            if left is not None:
                raise
        finally:
            was_abandoned = self.under_way.pop(scope, None) is None
            self.meters.get_latencies(call).record(perf_counter() - begun)
        if was_abandoned:
            self.meters.record_error(call, errno.EINTR)
            raise pyfuse3.FUSEError(errno.EINTR)
        log.warning("%s was given up after %g seconds", call, deadline)
        self.meters.record_error(call, errno.ETIMEDOUT)
        raise pyfuse3.FUSEError(errno.ETIMEDOUT)

    functools.update_wrapper(wrapper, handler)
    return wrapper


def _without_cancel(error: BaseException) -> BaseException | None:
    """What a scope that was cancelled lets through of an exception, as a scope does when it ends."""
    if isinstance(error, trio.Cancelled):
        return None
    return error.split(trio.Cancelled)[1] if isinstance(error, BaseExceptionGroup) else error


def immediate_handler(handler: Callable[Concatenate[S, P], T]) -> Callable[Concatenate[S, P], T]:
    """Decorates a part of a handler that does not wait: it raises FUSEError only, and has no deadline."""
    call = _get_call(handler)

    def wrapper(self: S, /, *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return handler(self, *args, **kwargs)
        except Exception as error:
            raise _translate(error, call, args) from None

    functools.update_wrapper(wrapper, handler)
    return wrapper


def _get_call(handler: Callable[..., object]) -> str:
    """The call that a function handles, or handles a part of: a key of errnos.ALLOWED.

    Raises:
        LookupError: it is none.
    """
    name = getattr(handler, "__name__", "").strip("_")
    call = _PARTS.get(name, name)
    if call not in ALLOWED:
        raise LookupError(f"errnos.py does not say what {name} may end with")
    return call


def _translate(error: Exception, name: str, arguments: tuple[object, ...]) -> pyfuse3.FUSEError:
    """Turns an exception of the handler for the call `name` into what the program gets."""
    if isinstance(error, pyfuse3.FUSEError):
        return error
    if isinstance(error, DfsfsError):
        log.debug("%s: %s", name, error)
        if isinstance(error, SmbError) and not has_errno(error.status) and _unknown.take(error.status):
            status = {"dfsfs_status": f"0x{error.status:08X}"}
            log.warning("%s: %s, which dfsfs does not know: EIO. This is said once", name, error, extra=status)
        names = [one for at in NAMES.get(name, ()) for one in arguments[at : at + 1] if isinstance(one, bytes)]
        return pyfuse3.FUSEError(errno_for(name, error, names))
    log.error("%s failed in an unexpected way; the program gets EIO", name, exc_info=error)
    return pyfuse3.FUSEError(errno.EIO)


def release_handler(
    handler: Callable[Concatenate[H, P], Awaitable[None]],
) -> Callable[Concatenate[H, P], Coroutine[Any, Any, None]]:
    """Decorates a handler whose answer the kernel drops: like `request_handler`, but it raises nothing."""
    inner = request_handler(handler)

    async def wrapper(self: H, /, *args: P.args, **kwargs: P.kwargs) -> None:
        try:
            await inner(self, *args, **kwargs)
        except pyfuse3.FUSEError:
            pass  # `request_handler` has logged what is unexpected

    functools.update_wrapper(wrapper, handler)
    return wrapper
