"""`python -m tests.suites.remount [TIMES]`: unmounts and mounts at one place, and looks at once whether it lives.

That is what generic/366 of xfstests does. It found a dead mount once, that something else on the machine had ended: the
note in results/ has what. Exit status: 1 if a mount was dead, after what is known of it was printed.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from dfsfs.control.places import device_of, folders_for, socket_name
from tests.conftest import SAMBAS
from tests.suites.places import MARK, Place
from tests.support.lab.marked import marked
from tests.support.lab.samba import Lab, free_net

if TYPE_CHECKING:
    from tests.suites.places import Spot

TIMES = 200
PATIENCE = 60.0
"""Seconds for a mount, and for the way back."""


def look(spot: Spot, folder: Path) -> str:
    """What is wrong with a mount that has just been made; empty if it lives."""
    try:
        os.lstat(spot.mountpoint)
    except OSError as error:
        device = device_of(str(spot.mountpoint))
        sockets = [os.path.join(place, socket_name(device)) for place in folders_for(0)] if device else []
        left = [path for path in sockets if os.path.exists(path)]
        return f"{error}; device {device}, sockets {left}, processes {marked(f'{MARK}={folder}')}"
    return ""


def main() -> int:
    times = int(sys.argv[1]) if len(sys.argv) > 1 else TIMES
    with Lab(free_net(), samba=SAMBAS["stable"]) as lab, tempfile.TemporaryDirectory(prefix="dfsfs-suites-") as name:
        place = Place(lab, Path(name), "")
        place.clear()
        mount = [str(place.folder / "bin" / "mount"), "-t", "fuse.dfsfs", place.scratch.unc]
        try:
            for number in range(times):
                command = [*mount, str(place.scratch.mountpoint)]
                subprocess.run(command, env=place.environment({}), check=True, timeout=PATIENCE)
                if wrong := look(place.scratch, place.folder):
                    print(f"mount {number}: {wrong}")
                    return 1
                subprocess.run(["umount", place.scratch.unc], check=True, timeout=PATIENCE)
        finally:
            place.clear()
    print(f"{times} mounts lived")
    return 0


if __name__ == "__main__":
    sys.exit(main())
