"""Times of SMB: FILETIME, 100 ns since 1601 (MS-DTYP 2.3.3), and the names of snapshots that stand for one. Pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime

_EPOCH_TICKS = 116_444_736_000_000_000  # 100 ns units from 1601 to 1970
_MAX_TICKS = 0x7FFFFFFFFFFFFFFF

TOKEN = "@GMT-%Y.%m.%d-%H.%M.%S"
"""How a snapshot is named, in the manner of strftime; always 24 characters."""
_TOKEN = re.compile(r"@GMT-\d{4}\.\d\d\.\d\d-\d\d\.\d\d\.\d\d")


def filetime_to_ns(ticks: int) -> int:
    """A FILETIME (100 ns since 1601) as ns since 1970. 0 and values without meaning give 0."""
    if ticks == 0 or ticks > _MAX_TICKS:
        return 0
    return (ticks - _EPOCH_TICKS) * 100


def ns_to_filetime(ns: int) -> int:
    """Nanoseconds since 1970 as a FILETIME, rounded down to 100 ns, kept inside what servers accept."""
    return min(max(ns // 100 + _EPOCH_TICKS, 1), _MAX_TICKS)


def parse_gmt_token(token: str) -> int | None:
    """The time of a snapshot from its name, `@GMT-2024.02.29-12.00.00`; None if that is none."""
    if not _TOKEN.fullmatch(token):
        return None
    try:
        taken = datetime.strptime(token, TOKEN).replace(tzinfo=UTC)
    except ValueError:
        return None
    return ns_to_filetime(int(taken.timestamp()) * 10**9)


def gmt_token(ticks: int) -> str:
    """The name of the snapshot that was taken at a time, in 100 ns since 1601."""
    return datetime.fromtimestamp(filetime_to_ns(ticks) / 10**9, UTC).strftime(TOKEN)
