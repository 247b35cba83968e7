"""What lies in the shares of a lab: the same files, to the byte and the timestamp, every time.

Tests compare what they read through a mount with the values given here. Standard library only.
"""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING

from tests.support.lab.topology import Content

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.lab.topology import Share

HELLO = b"hello from data\n"
INSIDE = b"a file inside a folder\n"
UMLAUTS = "Grüße.txt"
BIG_SIZE = 4 * 1024 * 1024 + 123
"""Bytes of big.bin: several requests of any size, and no round number."""
SNAPSHOTS = ("@GMT-2023.03.01-12.00.00", "@GMT-2023.04.01-12.00.00")
"""The snapshots of a share with Content.PAST, the oldest first; in each, hello.txt says its name."""
MODIFIED = 1_700_000_000
"""Modification time of every file and folder, seconds since the epoch."""


def big() -> bytes:
    """The bytes of big.bin."""
    return random.Random("big.bin").randbytes(BIG_SIZE)  # the same for every run, so that replicas agree


def small_hello(share: str) -> bytes:
    """The bytes of hello.txt in a share with Content.SMALL."""
    return f"hello from {share}\n".encode()


def files(share: Share) -> dict[str, bytes]:
    """The files of a share by path; folders come with their files."""
    match share.content:
        case Content.DATA:
            return {
                "hello.txt": HELLO,
                "folder/inside.txt": INSIDE,
                f"folder/{UMLAUTS}": "Grüße\n".encode(),
                "big.bin": big(),
            }
        case Content.SMALL:
            return {"hello.txt": small_hello(share.name), "folder/inside.txt": INSIDE}
        case Content.PAST:
            past = {f".snapshots-of-the-share/{name}/hello.txt": f"hello in {name}\n".encode() for name in SNAPSHOTS}
            old = f".snapshots-of-the-share/{SNAPSHOTS[0]}/folder"
            return {
                "hello.txt": small_hello(share.name),
                "folder/inside.txt": INSIDE,
                f"{old}/inside.txt": b"an older file\n",
                f"{old}/gone.txt": b"a file that is gone\n",
                **past,
            }
        case Content.ROOT:
            return {
                "readme.txt": b"the root of the namespace\n",
                "dir/note.txt": b"a note\n",
                "dir/sub/deep.txt": b"deep\n",
            }
        case Content.DEEP:
            return {"readme.txt": b"the root of the second namespace\n", "deep/deep.txt": b"deep in dfs2\n"}


def write_share(share: Share, folder: Path, owner: tuple[int, int]) -> None:
    """Fills `folder`, which must not exist, with the files of a share; everything belongs to `owner` (uid, gid)."""
    folder.mkdir(parents=True)
    for path, data in files(share).items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    # Bottom up, because writing into a folder would move its own time again.
    for parent, _, names in os.walk(folder, topdown=False):
        for name in (*(os.path.join(parent, name) for name in names), parent):
            os.chown(name, *owner)
            os.utime(name, (MODIFIED, MODIFIED))


def write_links(links: dict[str, str], folder: Path) -> None:
    """Makes DFS links as Samba keeps them, symlinks with the text `msdfs:` and the targets. Keeps folder times."""
    for path, text in links.items():
        link = folder / path
        link.symlink_to(text)
        os.utime(link.parent, (MODIFIED, MODIFIED))
