"""Why tests of others fail on a mount, by name. What fails and is not here counts as unexplained.

A rule is about tests of a suite (with * and ?), on all servers or one, and where a test asks many questions about those
whose wording matches. The first rule that fits is the reason.
"""

from __future__ import annotations

import fnmatch
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.suites.results import Result


class Why(StrEnum):
    """The reasons. Their names are kept with results, so the words may change and the names may not."""

    OWNERS = (
        "owners and modes are those of the mount (uid=, gid=, file_mode=, dir_mode=): chown and chmod change nothing"
    )
    ALLOWED = (
        "who may do what is decided by the mount's modes and by the server, not by the owner whom the test has set"
    )
    FOLLOWS = (
        "follows from a question before it: what a mode or an owner should have refused was done, or the other way "
        "round"
    )
    CTIME = "ctime is what the server says, and Samba says mtime: links, renames and changes of the mode do not move it"
    ATIME = "atime is what the server says; nodiratime and strictatime are for file systems of the kernel"
    NLINK = "SMB does not say how many folders a folder has: st_nlink is 2"
    LONG_PATH = "Samba takes no path of more than 4,095 bytes in all, the share's own folder on the server included"
    LONG_TARGET = "a link's target has 1,024 bytes at most where the server keeps links in files"
    TOO_LARGE = "the server says that its disk is full (ENOSPC) where a local file system says EFBIG"
    LATE = (
        "a write behind the largest size of the server's file system is refused when it is sent: the program hears of "
        "it from fsync or close, and goes on until then"
    )
    ROOM = "Samba keeps no room for files unless the share says `strict allocate`: fallocate makes the file longer only"
    PROC_LOCKS = "Linux lists no locks in /proc/locks that a FUSE file system keeps by itself"
    NO_SPECIAL = "Samba 4.17 has no form for devices, fifos and sockets; 4.22 and Windows have"
    NO_SPECIAL_EITHER = (
        "follows from a question before it: on Samba 4.17 there is no device, fifo or socket to ask about"
    )
    LONG_FOLDER = "Samba 4.22 makes a folder under a longer name first, and so refuses names of some 215 bytes and more"
    HANDLES = (
        "open_by_handle_at after the kernel forgot the file: FUSE has only its number then, and dfsfs forgets with the "
        "kernel, since servers find files by their names"
    )
    EAS = "the server's file system (ext4) has room for 4 KiB of extended attributes per file"
    EA_EMPTY = "SMB has no extended attribute without a value: setting one to nothing removes it, so dfsfs says EINVAL"
    EA_NAMES = "Samba refuses a slash in the name of an extended attribute"
    BY_DESIGN = "runs, or waits, for a fixed time that is most of what it took"
    NAMES = "10,000 to 100,000 operations on names, 1 to 3 ms each in one process of Python"
    SMALL = "millions of writes of some bytes, each a request of 0.15 ms: the kernel gathers none (no write-back cache)"
    PAGES = "pages of a map, one by one: each is a request of 4 KiB"
    FALLOCATES = "262,144 times posix_fallocate of one byte, each a request, beside a loop of fsync"
    MOUNTS = "16 times 32 MiB in writes of 4 KiB, and a new mount each time"
    LIMITS = "root may not raise the limit of a file's size again on the machine it was run on; the rest was right"
    SOAK = "20,000 to a million operations of fsx, or 100,000 and more of fsstress"
    PIECES = "700 MB are copied in pieces of 4 KiB: 180,000 requests of 0.15 ms (no write-back cache)"
    PUNCHES = "12,800 holes, each punched by a request of its own"
    PROCESSES = "1,000 to 50,000 processes, each with some operations on a name or a file"
    REMOUNTS = "mounts 32 times, each a process of Python that starts, and has fio write and read"
    LARGE = "4 GiB and more in writes of 4 KiB: a million requests of 0.15 ms (no write-back cache)"


SLOWNESS = frozenset(
    {
        Why.BY_DESIGN,
        Why.NAMES,
        Why.SMALL,
        Why.PAGES,
        Why.FALLOCATES,
        Why.MOUNTS,
        Why.SOAK,
        Why.PIECES,
        Why.PUNCHES,
        Why.PROCESSES,
        Why.REMOUNTS,
        Why.LARGE,
    }
)
"""Why a test takes long. No reason for one that failed, as the others are none for one that took long."""


@dataclass(frozen=True, slots=True)
class Rule:
    """`about` is a regular expression for the wording of a question, or for the output of a test that asks none."""

    suite: str
    tests: str
    why: Why
    about: str = ""
    server: str = "*"

    def is_about(self, suite: str, test: str, server: str) -> bool:
        """Whether it may be the reason of some question of this test."""
        return (
            suite == self.suite
            and any(fnmatch.fnmatchcase(test, pattern) for pattern in self.tests.split())
            and self.server in ("*", server)
        )

    def fits(self, suite: str, test: str, server: str, wording: str) -> bool:
        return self.is_about(suite, test, server) and re.search(self.about, wording) is not None


_ACTING = (
    "chmod/* chown/* ftruncate/* link/* mkdir/* mkfifo/* mknod/* open/* rename/* rmdir/* symlink/* truncate/* unlink/* "
    "utimensat/*"
)
_KIND = "0|ENOENT|ENOTEMPTY|EEXIST|EADDRINUSE|dir|regular|fifo|block|char|socket|symlink"
_AFTER = (
    "rename/00 rename/04 rename/05 rename/09 rename/10 rename/21 link/00 link/06 link/07 open/08 unlink/00 unlink/11 "
    "rmdir/11"
)

RULES: tuple[Rule, ...] = (
    # -- pjdfstest: a test is a file of questions ----------------------------------------------------------------------
    Rule("pjdfstest", "mkdir/02 rmdir/02", Why.LONG_FOLDER, "", "backports"),
    Rule("pjdfstest", "mkdir/03 rmdir/03", Why.LONG_PATH),
    Rule("pjdfstest", "symlink/03", Why.LONG_TARGET),
    Rule("pjdfstest", "ftruncate/12 truncate/12", Why.TOO_LARGE),
    Rule("pjdfstest", "rename/24", Why.NLINK, "nlink"),
    Rule("pjdfstest", "*", Why.OWNERS, r"stat .*\b(mode|uid|gid)\b"),
    Rule("pjdfstest", "*", Why.NO_SPECIAL, "(mkfifo|mknod|bind) .*got EPERM", "stable"),
    Rule("pjdfstest", _ACTING, Why.OWNERS, r"-u \d+ .*\b(l?chmod|l?chown)\b"),
    Rule("pjdfstest", _ACTING, Why.ALLOWED, r"-u \d+ "),
    Rule("pjdfstest", "chmod/00 chown/00", Why.OWNERS, r"^\d+$"),
    Rule("pjdfstest", "link/00 rename/00 truncate/00 ftruncate/00", Why.FOLLOWS, r"^\d+$"),
    Rule("pjdfstest", "unlink/00", Why.FOLLOWS, r"^(53|57|61|65|69)$"),
    Rule("pjdfstest", "rename/23 unlink/00", Why.CTIME, r"^\d+$"),
    Rule(
        "pjdfstest",
        _AFTER,
        Why.FOLLOWS,
        rf"got ({_KIND})$",
    ),
    Rule("pjdfstest", _AFTER, Why.FOLLOWS, r"inode', expected (ENOENT|\d+), got"),
    # Whatever else is not there on 4.17 would not be there on 4.22 either, where no such rule is.
    Rule("pjdfstest", _ACTING, Why.NO_SPECIAL_EITHER, "got ENOENT$", "stable"),
    Rule(
        "pjdfstest",
        "link/10 mkdir/10 mkfifo/00 mknod/00 mknod/11 open/22 rename/13 rename/20 rmdir/06 symlink/08",
        Why.NO_SPECIAL_EITHER,
        r"got (0|EISDIR|EEXIST|EADDRINUSE|dir)$|^\d+$",
        "stable",
    ),
    # -- xfstests ------------------------------------------------------------------------------------------------------
    Rule("xfstests", "generic/003 generic/192", Why.ATIME),
    Rule("xfstests", "generic/221 generic/236 generic/728 generic/755", Why.CTIME),
    Rule(
        "xfstests",
        "generic/087 generic/088 generic/193 generic/314 generic/317 generic/355 generic/378 generic/597 generic/633 "
        "generic/423 generic/683 generic/684 generic/685",  # the last question of 423 is one of CTIME
        Why.OWNERS,
    ),
    Rule("xfstests", "generic/426 generic/467 generic/477 generic/756 generic/777", Why.HANDLES),
    Rule("xfstests", "generic/020 generic/486", Why.EAS),
    Rule("xfstests", "generic/523", Why.EA_NAMES),
    Rule("xfstests", "generic/564", Why.TOO_LARGE),
    Rule("xfstests", "generic/490", Why.LATE),
    Rule("xfstests", "generic/568", Why.ROOM),
    Rule("xfstests", "generic/504", Why.PROC_LOCKS),
    Rule("xfstests", "generic/611", Why.EA_EMPTY),
    Rule("xfstests", "generic/208 generic/310 generic/323 generic/464", Why.BY_DESIGN),
    Rule(
        "xfstests",
        "generic/006 generic/007 generic/011 generic/013 generic/037 generic/070 generic/089 generic/471 generic/676 "
        "generic/736",
        Why.NAMES,
    ),
    Rule("xfstests", "generic/069 generic/074 generic/129", Why.SMALL),
    Rule("xfstests", "generic/340 generic/344 generic/345 generic/346 generic/354", Why.PAGES),
    Rule("xfstests", "generic/394", Why.LIMITS),
    Rule("xfstests", "generic/438", Why.FALLOCATES),
    Rule("xfstests", "generic/524", Why.MOUNTS),
    Rule("xfstests", "generic/366", Why.REMOUNTS),
    Rule("xfstests", "generic/446 generic/615 generic/707", Why.PROCESSES),
    Rule("xfstests", "generic/286", Why.PIECES),
    Rule("xfstests", "generic/610", Why.PUNCHES),
    Rule("xfstests", "generic/694 generic/701", Why.LARGE),
    Rule(
        "xfstests",
        "generic/075 generic/091 generic/112 generic/127 generic/263 generic/363 generic/476 generic/521 generic/522 "
        "generic/551 generic/616 generic/642 generic/750",
        Why.SOAK,
    ),
    # -- LTP -----------------------------------------------------------------------------------------------------------
    Rule("ltp", "fsx-many", Why.SOAK),
    Rule("ltp", "gf15 gf16 gf17 gf18", Why.BY_DESIGN),
)


def why(suite: str, test: str, server: str, result: Result, said: str, rules: Iterable[Rule] = RULES) -> Why | None:
    """The reason of one question that failed, by its wording, or of a test that failed or took long; None if nobody
    knows.
    """
    return next(
        (
            rule.why
            for rule in rules
            if (rule.why in SLOWNESS) == result.is_slow and rule.fits(suite, test, server, said)
        ),
        None,
    )


def reasons(suite: str, test: str, server: str, result: Result, rules: Iterable[Rule] = RULES) -> dict[str, int]:
    """Why a test did not pass: reason -> how many of its questions; the reason "" stands for what nobody explains.

    What was explained when the result was put away stays so while there is such a rule for the test.
    """
    rules = tuple(rules)
    found: dict[str, int] = {}
    for name, count in result.explained:
        known = (rule.why for rule in rules if rule.why.name == name and rule.is_about(suite, test, server))
        reason: str = next(known, "")
        found[reason] = found.get(reason, 0) + count
    for said in result.failures or (() if result.explained else (result.detail,)):
        reason = why(suite, test, server, result, said, rules) or ""
        found[reason] = found.get(reason, 0) + 1
    return found
