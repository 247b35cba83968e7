"""Which mounts the commands ask, and how their answers are shown."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, TypeVar

from dfsfs.cli.command import code_of, fail
from dfsfs.cli.exitcodes import SUCCESS
from dfsfs.cli.output import show, show_json
from dfsfs.control.client import mount_at
from dfsfs.control.places import our_mounts
from dfsfs.control.protocol import WRONG, ControlError
from dfsfs.unc import UncError, UncPath, is_unc

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from dfsfs.cli.command import Parser
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


def take_good(
    answers: Iterable[tuple[MountEntry, Answer[T] | ControlError]],
) -> tuple[list[tuple[MountEntry, Answer[T]]], int]:
    """The answers that make sense, and the exit code. For each of the others the reason is shown, in one line."""
    found, code = [], SUCCESS
    for entry, answer in answers:
        if isinstance(answer, ControlError):
            code = max(code, fail(str(answer), code_of(answer)))
        else:
            found.append((entry, answer))
    return found, code


def add_mount_of_several(parser: Parser) -> None:
    """The option --mount of commands that may ask all mounts."""
    text = "the mount to ask; without, show asks all, and flush the only one that there is"
    parser.add_argument("--mount", metavar="PATH", help=text)


def places_of(path: str | None, mount: str | None, *, every: bool) -> tuple[list[MountEntry], str | None]:
    """The mounts to ask about a path, and the path as they know it. `every`: all, where none is named."""
    if path is None or is_unc(path):
        return (our_own_mounts() if every and mount is None else [the_mount(mount, path)]), path
    entry, rest = mount_at(path)
    return [entry], rest or "."


def show_each(
    found: Sequence[tuple[MountEntry, Answer[T]]], format_answer: Callable[[T], list[str]], *, headed: bool
) -> None:
    """Shows the answers of several mounts. `headed`: each below a line that names its mount."""
    for number, (entry, answer) in enumerate(found):
        head = [*([""] if number else []), f"{entry.mountpoint} ({entry.source})"] if headed else []
        show([*head, *format_answer(answer.said)])


def show_answer(answer: Answer[Any], lines: Sequence[str], *, json: bool) -> int:
    """Shows an answer, which is `lines` for people. The exit code."""
    if json:
        show_json(answer.raw)
    else:
        show(lines)
    return SUCCESS
