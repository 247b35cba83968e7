"""The parts of a running mount that are asked for reports, and told to change.

Apart from report.py, as a mount makes one at its start, and reports only when it is asked for one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dfsfs.control.places import mounts

if TYPE_CHECKING:
    from collections.abc import Callable

    from dfsfs.config.model import MountConfig
    from dfsfs.meters import Meters
    from dfsfs.namespace.client import Namespace
    from dfsfs.smb.treeprovider import TreeProvider
    from dfsfs.vfs.filesystem import FileSystem


@dataclass(slots=True)
class Mount:
    """The parts of a running mount that reports are made of. `started` is of `clock`; `apply` gives the mount another
    configuration, which differs only in what can be changed.
    """

    config: MountConfig
    mountpoint: str
    version: str
    pool: TreeProvider
    namespace: Namespace
    filesystem: FileSystem
    meters: Meters
    clock: Callable[[], float]
    started: float
    apply: Callable[[MountConfig], None]
    device: str | None = None
    """The number of the file system, MAJOR:MINOR, as soon as it is known."""

    @property
    def is_attached(self) -> bool:
        """Whether it is still mounted in this program's mount namespace, as far as is known."""
        try:
            return self.device is None or any(entry.device == self.device for entry in mounts())
        except OSError:
            return True
