"""The cases that end otherwise on a mount than on a local file system: how, and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Difference:
    """`mounted` is the outcome on a mount."""

    mounted: Any
    reason: str


_NO_FIFO = "Samba 4.17 has no form for it; 4.22 and Windows have, and there it works"
_UNCHANGED = {"dangling": (40960, 7, 1), "file": (32768, 4, 1), "folder": (16384,), "link": (40960, 4, 1)}

DIFFERENCES: dict[tuple[str, str], Difference] = {
    ("open", f"O_TMPFILE of {name}"): Difference(
        ("ENOTSUP", ["dangling", "file", "folder", "link", "link-to-folder"], (32768, 4, 1)),
        "SMB has no file without a name; programs then make a file with a name",
    )
    for name in ("folder/", "link-to-folder")
} | {
    ("mkfifo", "new"): Difference(("EPERM", _UNCHANGED), _NO_FIFO),
    ("mkfifo", "x" * 20): Difference(("EPERM", _UNCHANGED), _NO_FIFO),
    ("utimensat", "times that are no multiple of 100 ns"): Difference(1_123_456_700, "SMB counts in 100 ns"),
    ("chmod", "every bit of a file"): Difference(
        0o755, "SMB has one permission, the read-only attribute; the modes are those of file_mode= and dir_mode="
    ),
    ("chown", "another owner"): Difference(0, "owners are those of uid= and gid=; no error, so that cp -p goes on"),
    ("fallocate", "errors: collapse a range"): Difference(("ENOTSUP", 65536), "SMB has no such thing"),
    ("fallocate", "errors: insert a range"): Difference(("ENOTSUP", 65536), "SMB has no such thing"),
    ("lock", "of an open file description: while it is open, and after close"): Difference(
        (
            "free free 11 free free free 1 20 10 True shared\n",
            "free free free free free free 2 0 0 False shared\n",
        ),
        "F_GETLK names the process that asked for it, where Linux says -1: FUSE does not say which kind a lock is of",
    ),
    ("lseek", "SEEK_DATA and SEEK_HOLE"): Difference(
        [0, 1_000_001], "a file that is not sparse for its server is all data"
    ),
}

SINCE_4_22 = {
    **{case: difference for case, difference in DIFFERENCES.items() if case[0] != "mkfifo"},
    ("mkdir", "x" * 20): Difference(
        ("ENAMETOOLONG", _UNCHANGED), "Samba 4.22 makes a folder under a longer name first: 215 bytes or so at most"
    ),
}
"""Those of the Samba of Debian 13."""
