"""Mounts, and says how that went: `python -m tests.unit.fuse.device.mounter MOUNTPOINT SOURCE WORD...` writes one JSON
object, with the mount's line in /proc/self/mountinfo or the error.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from dfsfs.errors import PosixError
from dfsfs.fuse.device.mounting import MountSpec, open_device


def main(mountpoint: str, source: str, *words: str) -> None:
    spec = MountSpec(mountpoint, source, "test", frozenset(words))
    try:
        device = open_device(spec)
    except PosixError as error:
        print(json.dumps({"errno": error.errno, "error": str(error)}))
        return
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    (line,) = (line for line in lines if line.split()[4] == mountpoint)
    head, tail = line.split(" - ")
    kind, shown, options = tail.split(" ", 2)
    unescaped = os.fsdecode(os.fsencode(shown).decode("unicode_escape").encode("latin-1"))
    found = {"type": kind, "source": unescaped, "flags": head.split()[5].split(","), "options": options.split(",")}
    print(json.dumps(found | {"blocks": os.get_blocking(device), "inheritable": os.get_inheritable(device)}))


if __name__ == "__main__":
    main(*sys.argv[1:])
