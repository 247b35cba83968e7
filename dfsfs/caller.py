"""Who a piece of work is done for: the user of this computer whose program asked for it.

A mount for many users (multiuser) does everything under the login of whoever asks, many layers below the place where
that is known. So it is kept like the kernel keeps it, beside the call and not in it: each task has a caller, and tasks
that it starts begin with the same one. Work for somebody else, such as sending what another user wrote, is done
`override_caller`.
Other mounts have one login; there it is always ROOT and nobody looks.
"""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator


class Caller(NamedTuple):
    """A user of this computer. `pid` is the process that asked, 0 if there is none or it can't be seen from here.

    `is_background`: it is something that this mount does by itself, for which nobody is to be logged in.
    """

    uid: int
    gid: int
    pid: int = 0
    is_background: bool = False


ROOT = Caller(0, 0)

_caller: ContextVar[Caller] = ContextVar("current_caller", default=ROOT)


def current_caller() -> Caller:
    """Who this task works for."""
    return _caller.get()


def set_current_caller(who: Caller) -> None:
    """This task works for `who` from now on."""
    _caller.set(who)


@contextmanager
def override_caller(who: Caller) -> Iterator[None]:
    """This task works for `who` for the length of the block."""
    token = _caller.set(who)
    try:
        yield
    finally:
        _caller.reset(token)
