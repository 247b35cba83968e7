"""Mounts that were taken away and live on: for another mount namespace with a copy, or for programs with open files.

They are in no list of mounts here, but their programs still answer at their control sockets.
"""

from __future__ import annotations

import os
import re
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from dfsfs.cli.figures import format_time
from dfsfs.control.answers import Status
from dfsfs.control.client import AT_ONCE, Patience, ask_with
from dfsfs.control.holders import Holder, describe_holder, holders_of
from dfsfs.control.places import TYPE, MountEntry, folders_for, our_mounts
from dfsfs.control.protocol import ControlError
from dfsfs.printable import counted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dfsfs.control.client import Answer

_SOCKET = re.compile(r"(\d+)-(\d+)\.sock")


@dataclass(frozen=True, slots=True)
class Lingering:
    """A mount that was taken away from `entry.mountpoint`, and who holds copies of it."""

    entry: MountEntry
    report: Answer[Status]
    holders: tuple[Holder, ...]

    def to_json(self) -> dict[str, Any]:
        """The report of the mount, with who holds it."""
        mount = {**self.report.raw["mount"], "owner": self.entry.owner}
        return {
            **self.report.raw,
            "mount": mount,
            "problem": None,
            "holders": [asdict(holder) for holder in self.holders],
        }

    def page(self) -> list[str]:
        """For people."""
        said = self.report.said
        head = f"{said.mount.unc} was taken away from {said.mount.path}, and goes on"
        about = f"  for {format_time(said.mount.seconds)}; process {said.mount.pid}, dfsfs {said.mount.version}"
        if not self.holders:
            files = f"{counted(said.files.open, 'open file')} and {counted(said.files.open_folders, 'folder')}"
            return [head, about, f"  for programs that still use {files}, or are in one"]
        return [head, about, *(f"  held by {describe_holder(holder)}" for holder in self.holders)]


def find_lingering() -> list[Lingering]:
    """Those of root and of the user who asks. Raises OSError: the list of mounts can't be read."""
    patience, found = Patience(AT_ONCE), []
    for entry in _with_sockets({entry.device for entry in our_mounts()}):
        try:
            report = ask_with(patience, Status, entry, "status")
        except ControlError:
            continue  # it has ended meanwhile, or belongs to another mount namespace and says nothing
        if not report.said.mount.attached:
            there = replace(entry, mountpoint=report.said.mount.path)
            found.append(Lingering(there, report, tuple(holders_of(entry.device))))
    return found


def _with_sockets(devices: set[str]) -> Iterator[MountEntry]:
    """Mounts by their control sockets, without those with a device number that is known."""
    for owner in sorted({0, os.geteuid()}):
        names = {name for folder in folders_for(owner) for name in _names_in(folder)}
        for match in filter(None, map(_SOCKET.fullmatch, sorted(names))):
            if (device := f"{match[1]}:{match[2]}") not in devices:
                yield MountEntry(device, f"(device {device})", TYPE, "", owner)


def _names_in(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []
