"""What can be wrong with a referral: knobs for the namespace server."""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from dfsfs.dfsc.wire import HeaderFlags
from dfsfs.unc import UncPath

if TYPE_CHECKING:
    from dfsfs.dfsc.wire import ReferralResponse
    from dfsfs.ntstatus import NtStatus

_HEADER = 8
_SIZE_AT, _OFFSET_AT = _HEADER + 2, _HEADER + 16
"""Where the first entry's Size and NetworkAddressOffset are, in V3 and V4."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What a server does wrong, or does like Samba, with one request. Nothing is wrong as it stands."""

    status: NtStatus | None = None
    black_hole: bool = False
    """No answer, until the server is stopped."""
    reset: bool = False
    """The connection ends instead of an answer."""
    newest: int | None = None
    """The newest version that it speaks."""
    truncate: int | None = None
    """Bytes that are left of the answer."""
    wrong_size: int | None = None
    """The first entry's Size."""
    wrong_offset: int | None = None
    """The first entry's NetworkAddressOffset."""
    no_entries: bool = False
    ttl: int | None = None
    unmarked: bool = False
    """Interlinks are not marked, and roots have ServerType 0: Samba."""
    overflow: bool = False
    """BUFFER_OVERFLOW as soon as not all entries fit, instead of those that do."""
    partial_overflow: bool = False
    """The same, with the beginning of the answer, cut anywhere: Samba."""
    short_names: bool = False
    """Targets without the domain of their host names."""

    def spoil(self, body: bytes) -> bytes:
        """The bytes of an answer, with what is to be wrong with them."""
        data = bytearray(body)
        if self.wrong_size is not None:
            struct.pack_into("<H", data, _SIZE_AT, self.wrong_size)
        if self.wrong_offset is not None:
            struct.pack_into("<H", data, _OFFSET_AT, self.wrong_offset)
        return bytes(data if self.truncate is None else data[: self.truncate])


def changed(response: ReferralResponse, fault: Fault) -> ReferralResponse:
    """An answer, with what is to be different about what it says."""
    if fault.no_entries:
        return replace(response, entries=(), name_lists=())
    entries = response.entries
    if fault.ttl is not None:
        entries = tuple(replace(entry, ttl=fault.ttl) for entry in entries)
    if fault.short_names:
        entries = tuple(replace(entry, network_address=_short(entry.network_address)) for entry in entries)
    if fault.unmarked:
        entries = tuple(replace(entry, is_root=False) for entry in entries)
        response = replace(response, flags=int(HeaderFlags.STORAGE_SERVERS))
    return replace(response, entries=entries)


def _short(path: UncPath) -> UncPath:
    return UncPath((path.host.split(".")[0], *path.components[1:]))
