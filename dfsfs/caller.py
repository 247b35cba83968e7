"""The caller of a task: the user and the process of this computer for which it works.

A mount for many users (multiuser) does everything under the login of the user whose program sent the request, many
layers below the place where that is known. So the caller is kept as the kernel keeps credentials (current_cred(),
override_creds()), beside the call and not in it: each task has one, and tasks that it starts begin with the same one.
Work for another user, such as sending what that user wrote, is done in `override_caller`.

Other mounts have one login; there the caller is always ROOT, and nothing depends on it.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import NamedTuple


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


class override_caller:
    """A block for the length of which `who` is the caller of this task."""

    __slots__ = ("_token", "_who")  # no generator, as it is entered for each operation of a file

    def __init__(self, who: Caller) -> None:
        self._who = who

    def __enter__(self) -> None:
        self._token = _caller.set(self._who)

    def __exit__(self, *exception: object) -> None:
        _caller.reset(self._token)
