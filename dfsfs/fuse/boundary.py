"""The boundary: the last thing between a handler and pyfuse3.

A handler may raise FUSEError and nothing else; anything else ends pyfuse3's main loop and with it the mount. And it has
to end: the kernel waits for a request that has been handed out even if the process that made it is killed, so a handler
that hangs is a process that can't be killed. `guarded` sees to both: it ends a handler at its deadline with ETIMEDOUT,
lets it be ended when whoever waited for it was killed (waiters.py), turns a DfsfsError into an errno that the call may
give (errnos.py), and everything unexpected into EIO with a traceback in the log.

Cancellation from outside passes through: it is the end of the mount.

It is also where requests are measured: how long each took, and with which error it ended.
"""

from __future__ import annotations

import errno
import functools
import logging
from time import perf_counter
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Protocol, TypeVar

import pyfuse3
import trio

from dfsfs.errors import DfsfsError, SmbError
from dfsfs.firstfew import FirstFew
from dfsfs.fuse.errnos import ALLOWED, NAMES, errno_for
from dfsfs.ntstatus import is_known

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from dfsfs.meters import Meters

log = logging.getLogger("dfsfs.fuse")

UNKNOWN_MAX = 100
"""Statuses that the log names: a server has four billion to choose from."""
_unknown = FirstFew[int](UNKNOWN_MAX)

_PARTS = {
    "lookup_known": "lookup",
    "lookup_spelled": "lookup",
    "other_spelling": "lookup",
    "getattr_known": "getattr",
    "getxattr_logout": "getxattr",
}
"""Parts of handlers, by the handler."""

P = ParamSpec("P")
S = TypeVar("S")
T = TypeVar("T")


class HasHandlers(Protocol):
    """An object with handlers."""

    deadline: float
    """Seconds that a handler may take."""
    meters: Meters
    under_way: dict[trio.CancelScope, tuple[str, tuple[object, ...]]]
    """What is worked on: the call and its arguments. Whoever takes an entry out and cancels its scope ends the request,
    of which nobody waits for the answer any more (waiters.py).
    """


H = TypeVar("H", bound=HasHandlers)


def guarded(
    handler: Callable[Concatenate[H, P], Awaitable[T]],
) -> Callable[Concatenate[H, P], Coroutine[Any, Any, T]]:
    """Makes a handler that always ends, and with nothing but a result or a FUSEError."""
    call = _call_of(handler)

    async def wrapper(self: H, /, *args: P.args, **kwargs: P.kwargs) -> T:
        begun = perf_counter()
        scope = trio.move_on_after(self.deadline)
        self.under_way[scope] = (call, args)
        try:
            with scope:
                return await handler(self, *args, **kwargs)
        except Exception as error:
            failure = _translated(error, call, args)
            self.meters.failed(call, failure.errno)
            raise failure from None
        finally:
            nobody_waits = self.under_way.pop(scope, None) is None
            self.meters.of(call).note(perf_counter() - begun)
        if nobody_waits:
            self.meters.failed(call, errno.EINTR)
            raise pyfuse3.FUSEError(errno.EINTR)
        log.warning("%s was given up after %g seconds", call, self.deadline)
        self.meters.failed(call, errno.ETIMEDOUT)
        raise pyfuse3.FUSEError(errno.ETIMEDOUT)

    functools.update_wrapper(wrapper, handler)
    return wrapper


def prompt(handler: Callable[Concatenate[S, P], T]) -> Callable[Concatenate[S, P], T]:
    """Like `guarded`, for what waits for nothing."""
    call = _call_of(handler)

    def wrapper(self: S, /, *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return handler(self, *args, **kwargs)
        except Exception as error:
            raise _translated(error, call, args) from None

    functools.update_wrapper(wrapper, handler)
    return wrapper


def _call_of(handler: Callable[..., object]) -> str:
    """The call that a handler is for or a part of: a key of errnos.ALLOWED.

    Raises:
        LookupError: nobody has said what it may end with.
    """
    name = getattr(handler, "__name__", "").strip("_")
    call = _PARTS.get(name, name)
    if call not in ALLOWED:
        raise LookupError(f"errnos.py does not say what {name} may end with")
    return call


def _translated(error: Exception, name: str, arguments: tuple[object, ...]) -> pyfuse3.FUSEError:
    """What a program gets for an error in the handler for the call `name`."""
    if isinstance(error, pyfuse3.FUSEError):
        return error
    if isinstance(error, DfsfsError):
        log.debug("%s: %s", name, error)
        if isinstance(error, SmbError) and not is_known(error.status) and _unknown.take(error.status):
            status = {"dfsfs_status": f"0x{error.status:08X}"}
            log.warning("%s: %s, which dfsfs does not know: EIO. This is said once", name, error, extra=status)
        names = [one for at in NAMES.get(name, ()) for one in arguments[at : at + 1] if isinstance(one, bytes)]
        return pyfuse3.FUSEError(errno_for(name, error, names))
    log.error("%s failed in an unexpected way; the program gets EIO", name, exc_info=error)
    return pyfuse3.FUSEError(errno.EIO)


def quiet(
    handler: Callable[Concatenate[H, P], Awaitable[None]],
) -> Callable[Concatenate[H, P], Coroutine[Any, Any, None]]:
    """Like `guarded`, for a handler that may raise nothing at all: nobody waits for its answer."""
    inner = guarded(handler)

    async def wrapper(self: H, /, *args: P.args, **kwargs: P.kwargs) -> None:
        try:
            await inner(self, *args, **kwargs)
        except pyfuse3.FUSEError:
            pass  # `guarded` has logged what is worth it

    functools.update_wrapper(wrapper, handler)
    return wrapper
