"""The caller of a task: the user and the process of this computer for which it works.

A mount for many users (multiuser) does everything under the login of the user whose program sent the request, many
layers below the place where that is known. So the caller is kept as the kernel keeps credentials (current_cred(),
override_creds()), beside the call and not in it: each task has one, and tasks that it starts begin with the same one.
Work for another user, such as sending what that user wrote, is done in `override_caller`.

Other mounts have one login; there the caller is always ROOT, and nothing depends on it.
"""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator


class Caller(NamedTuple):
    """A user of this computer. `pid` is the process that sent the request, 0 if there is none or it can't be seen from
    here.

    `is_background`: the mount works for the user by itself, and does not log the user in for that.
    """

    uid: int
    gid: int
    pid: int = 0
    is_background: bool = False


ROOT = Caller(0, 0)

_caller: ContextVar[Caller] = ContextVar("current_caller", default=ROOT)


def current_caller() -> Caller:
    """The caller of this task."""
    return _caller.get()


def set_current_caller(who: Caller) -> None:
    """Makes `who` the caller of this task, from now on."""
    _caller.set(who)


@contextmanager
def override_caller(who: Caller) -> Iterator[None]:
    """Makes `who` the caller of this task for the length of the block."""
    token = _caller.set(who)
    try:
        yield
    finally:
        _caller.reset(token)
