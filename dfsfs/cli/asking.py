"""Which mounts the commands ask, and what of their answers makes sense."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, TypeVar

from dfsfs.cli.command import code_of, fail
from dfsfs.cli.messages import SUCCESS
from dfsfs.control.client import mount_at
from dfsfs.control.places import our_mounts
from dfsfs.control.protocol import WRONG, ControlError
from dfsfs.unc import UncError, UncPath

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dfsfs.control.client import Answer
    from dfsfs.control.places import MountEntry

T = TypeVar("T")


def all_mounts() -> list[MountEntry]:
    """The mounts of dfsfs, each once, however often it is bound to other places. Raises ControlError: there is none."""
    try:
        listed = our_mounts()
    except OSError as error:
        raise ControlError(f"/proc/self/mountinfo can't be read: {error.strerror}") from None
    found = list({entry.device: entry for entry in reversed(listed)}.values())[::-1]
    if not found:
        raise ControlError("nothing is mounted by dfsfs", WRONG)
    return found


def may_ask(entry: MountEntry) -> bool:
    """Whether a mount answers this user."""
    return os.geteuid() in (0, entry.owner)


def our_own_mounts() -> list[MountEntry]:
    """The mounts that answer this user. Raises ControlError: there is none."""
    found = all_mounts()
    ours = [entry for entry in found if may_ask(entry)]
    if not ours:
        owners = " and ".join(sorted({f"user {entry.owner}" for entry in found}))
        raise ControlError(f"what is mounted by dfsfs is for {owners} to ask, and for root", WRONG)
    return ours


def the_mount(path: str | None, unc: str | None = None) -> MountEntry:
    """The mount that a path is in; without one, the only mount that there is, or that has a UNC path in it.

    Raises:
        ControlError: there is none, or more than one.
    """
    if path is not None:
        return mount_at(path)[0]
    found = our_own_mounts()
    if len(found) > 1 and unc is not None:
        found = [entry for entry in found if _has(entry, unc)] or found
    if len(found) == 1:
        return found[0]
    shown = ", ".join(entry.mountpoint for entry in found)
    raise ControlError(f"there are {len(found)} mounts; name one of {shown} with --mount", WRONG)


def _has(entry: MountEntry, unc: str) -> bool:
    try:
        return UncPath.parse(entry.source).is_prefix_in_any_case_of(UncPath.parse(unc))
    except UncError:
        return False


def good(
    answers: Iterable[tuple[MountEntry, Answer[T] | ControlError]],
) -> tuple[list[tuple[MountEntry, Answer[T]]], int]:
    """The answers that make sense, and the exit code; of each other one it is said what is wrong."""
    found, code = [], SUCCESS
    for entry, answer in answers:
        if isinstance(answer, ControlError):
            code = max(code, fail(str(answer), code_of(answer)))
        else:
            found.append((entry, answer))
    return found, code
