"""What xfstests' tests say that they require, and a mount of dfsfs has not: as FUSE, SMB or a decision of ours has it.

A test says it in its text (`_require_...`), and refuses at that line: to be told so takes a mount and some seconds for
each of 550 tests, so it is read instead. `--ask-all` runs them all the same.
"""

from __future__ import annotations

import re

_XFS_IO = r'_require_xfs_io_command\s+"?({})\b'

IMPOSSIBLE: tuple[tuple[str, str], ...] = (
    (r"_require_(?:scratch|test|cp)_(?:reflink|dedupe)\w*", "FUSE has no FICLONE and no FIDEDUPERANGE"),
    (_XFS_IO.format("reflink|dedupe"), "FUSE has no FICLONE and no FIDEDUPERANGE"),
    (_XFS_IO.format("fcollapse|finsert|funshare"), "fallocate of FUSE and SMB collapses, inserts and unshares nothing"),
    (_XFS_IO.format("fiemap"), "FUSE passes on no FIEMAP"),
    (_XFS_IO.format(r"exchangerange|startupdate|fsmap|bulkstat\w*"), "an ioctl of the kernel's own file systems"),
    (r"_require_(?:fiemap|exchangerange|scratch_(?:delalloc|16T_\w*))", "FUSE has no blocks to look at"),
    (_XFS_IO.format("-T|flink"), "dfsfs refuses O_TMPFILE: SMB has no file without a name"),
    (_XFS_IO.format("set_encpolicy|add_enckey"), "the kernel's own encryption is for its own file systems"),
    (r"_require_\w*encryption\w*", "the kernel's own encryption is for its own file systems"),
    (r"_require_\w*verity\w*", "fs-verity is for the kernel's own file systems"),
    (r"_require_(?:scratch_)?shutdown\w*", "FUSE has no shutdown"),
    (r"_require_\w*quota\w*", "FUSE has no quotas"),
    (r"_require_\w*(?:block_device|local_device|dm_target|dmhugedisk|scsi_debug|log_writes|error_inject)\b", "no disk"),
    (r"_require_\w*(?:batched_discard|fstrim|defrag|label\w*|metadata_journaling|atomic_write\w*|dax\w*)\b", "no disk"),
    (r"_scratch_mkfs_(?:sized|blocksized|geom)\b", "FUSE has no mkfs"),
    (r"_require_\w*swapfile\b", "FUSE has no swap files"),
    (r"_require_(?:acls|richacl\w*)", "FUSE shows no POSIX ACLs unless the file system keeps them"),
    (r"_require_freeze", "FUSE can't be frozen"),
    (r"_require_\w*idmapped\w*", "dfsfs offers no idmapped mounts: owners are those of the mount"),
    (r"_require_\w*casefold\w*", "folding by chattr +F is for the kernel's own file systems"),
    (r"_require_timestamp_range", "xfstests does not know FUSE's bounds of times"),
    (r"_require_renameat2 (?:exchange|whiteout)", "SMB exchanges no two names and leaves no whiteout"),
    (_XFS_IO.format("chattr"), "of the flags of chattr SMB has only c, and dfsfs no ioctl for it"),
    (r"_require_chattr", "of the flags of chattr SMB has only c, and dfsfs no ioctl for it"),
    (r"_require_attrs\b.*\b(?:trusted|security)\b", "trusted and security attributes are not for servers"),
)
"""Regular expression of the line, and why it can't be had."""

_COMPILED = tuple((re.compile(rf"^\s*({text}.*)$", re.MULTILINE), why) for text, why in IMPOSSIBLE)


def unmet(text: str) -> str:
    """The first requirement of a test's text that can't be met, and why; empty if there is none."""
    found = [(match.start(), match[1].strip(), why) for rule, why in _COMPILED if (match := rule.search(text))]
    if not found:
        return ""
    _, line, why = min(found)
    return f"{line}: {why}"
