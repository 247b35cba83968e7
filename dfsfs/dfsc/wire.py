"""The bytes of DFS referrals: REQ_GET_DFS_REFERRAL and RESP_GET_DFS_REFERRAL, versions 1 to 4 (MS-DFSC 2.2.2, 2.2.4,
2.2.5).

Pure. `decode_response` turns any bytes into a ReferralResponse or raises WireError, nothing else. Entries are stepped
through by their Size, strings are found by their offsets from the start of the entry, and whatever padding a server
puts between them is ignored.

Servers in the field need some leniency, each where it is marked: Samba answers domain requests with names that lack
their leading backslash, gives PathConsumed 0 in answers about domains, and counts a trailing backslash of the request.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntFlag

from dfsfs.errors import WireError
from dfsfs.unc import UncError, UncPath

MAX_REFERRALS = 4096
"""More targets than a 56 KiB answer has room for; the field could say 65535."""

_HEADER = struct.Struct("<HHI")
_V1 = struct.Struct("<HHHH")
_V2 = struct.Struct("<HHHHIIHHH")
_V3 = struct.Struct("<HHHHIHHH")


class HeaderFlags(IntFlag):
    """ReferralHeaderFlags (MS-DFSC 2.2.4)."""

    REFERRAL_SERVERS = 1
    STORAGE_SERVERS = 2
    TARGET_FAILBACK = 4


class EntryFlags(IntFlag):
    """ReferralEntryFlags (MS-DFSC 2.2.5.3, 2.2.5.4)."""

    NAME_LIST_REFERRAL = 2
    TARGET_SET_BOUNDARY = 4


@dataclass(frozen=True, slots=True)
class ReferralEntry:
    """One target of a root or link: `network_address` is where it is. `ttl` in seconds, 0 in V1, which has none."""

    is_root: bool
    ttl: int
    starts_set: bool
    network_address: UncPath


@dataclass(frozen=True, slots=True)
class NameListEntry:
    """One entry of the answer to a domain or DC request: names without backslashes."""

    special_name: str
    names: tuple[str, ...]
    ttl: int


@dataclass(frozen=True, slots=True)
class ReferralResponse:
    """A decoded answer. `covered` is the leading part of the asked path that PathConsumed stands for; None if that is
    0.

    `entries` or `name_lists` is empty, according to what was asked.
    """

    version: int
    flags: int
    covered: UncPath | None
    entries: tuple[ReferralEntry, ...]
    name_lists: tuple[NameListEntry, ...] = ()

    @property
    def failback(self) -> bool:
        """TargetFailback, which only V4 has (MS-DFSC 2.2.4)."""
        return self.version >= 4 and bool(self.flags & HeaderFlags.TARGET_FAILBACK)

    @property
    def is_interlink(self) -> bool:
        """Whether the header says that the target is another namespace (MS-DFSC 3.1.5.4.5, first rule)."""
        return bool(self.flags & HeaderFlags.REFERRAL_SERVERS) and not self.flags & HeaderFlags.STORAGE_SERVERS


def encode_request(path: str, level: int = 4) -> bytes:
    """REQ_GET_DFS_REFERRAL (MS-DFSC 2.2.2) for a path in wire form; `level` is the newest version understood."""
    return struct.pack("<H", level) + path.encode("utf-16-le", "surrogatepass") + b"\0\0"


def decode_response(body: bytes, request_path: UncPath) -> ReferralResponse:
    """RESP_GET_DFS_REFERRAL (MS-DFSC 2.2.4) to a request for `request_path`.

    Raises:
        WireError: whatever is wrong with it.
    """
    if len(body) < _HEADER.size:
        raise WireError(f"a referral of {len(body)} bytes")
    consumed, count, flags = _HEADER.unpack_from(body)
    if count > MAX_REFERRALS:
        raise WireError(f"a referral with {count} entries; at most {MAX_REFERRALS} are accepted")
    entries: list[ReferralEntry] = []
    name_lists: list[NameListEntry] = []
    version, offset = 0, _HEADER.size
    for index in range(count):
        if len(body) - offset < _V1.size:
            raise WireError(f"referral entry {index} at {offset} lies outside the {len(body)} bytes")
        entry_version, size = struct.unpack_from("<HH", body, offset)
        version = version or entry_version
        if entry_version != version or not 1 <= version <= 4:
            raise WireError(f"referral entry {index} has version {entry_version} after version {version}")
        entry = _entry(body, offset, version, size)
        if isinstance(entry, ReferralEntry):
            entries.append(entry)
        else:
            name_lists.append(entry)
        offset += size
    if entries and name_lists:
        raise WireError("a referral that mixes targets and names of domains")
    return ReferralResponse(version, flags, _covered(request_path, consumed), tuple(entries), tuple(name_lists))


def _covered(path: UncPath, consumed: int) -> UncPath | None:
    if consumed == 0:
        return None
    covered = path.consumed(consumed)
    if covered is None:
        raise WireError(f"PathConsumed {consumed} ends within a component of {path}, or behind it")
    return covered


def _entry(body: bytes, start: int, version: int, size: int) -> ReferralEntry | NameListEntry:
    if version == 1:
        return _entry_v1(body, start, size)
    layout = _V2 if version == 2 else _V3
    if size < layout.size or start + layout.size > len(body):
        raise WireError(f"a V{version} referral entry with Size {size} at {start}")
    if version == 2:
        _, _, kind, _, _, ttl, _, _, address = layout.unpack_from(body, start)
        return _target(body, start, kind, ttl, address, starts_set=False)
    _, _, kind, flags, ttl, first, second, third = layout.unpack_from(body, start)
    if flags & EntryFlags.NAME_LIST_REFERRAL:
        return _name_list(body, start, ttl, first, second, third)
    starts_set = version == 4 and bool(flags & EntryFlags.TARGET_SET_BOUNDARY)
    return _target(body, start, kind, ttl, third, starts_set=starts_set)


def _entry_v1(body: bytes, start: int, size: int) -> ReferralEntry:
    kind = _V1.unpack_from(body, start)[2]
    if size < _V1.size + 2 or start + size > len(body):
        raise WireError(f"a V1 referral entry with Size {size} at {start}")
    return _target(body, start, kind, 0, _V1.size, starts_set=False)


def _target(body: bytes, start: int, kind: int, ttl: int, offset: int, *, starts_set: bool) -> ReferralEntry:
    text, _ = _string(body, start + offset)
    try:
        address = UncPath.parse(text)
        address.share  # noqa: B018 - a target without a share is no target
    except UncError as error:
        raise WireError(f"the network address {text!r} in a referral: {error}") from None
    return ReferralEntry(is_root=kind == 1, ttl=ttl, starts_set=starts_set, network_address=address)


def _name_list(body: bytes, start: int, ttl: int, special: int, count: int, expanded: int) -> NameListEntry:
    special_name, _ = _string(body, start + special)
    names, position = [], start + expanded
    for _ in range(count):
        name, position = _string(body, position)
        names.append(name.lstrip("\\"))
    # Samba leaves out the backslash in front of the name if the request has one.
    return NameListEntry(special_name.lstrip("\\"), tuple(names), ttl)


def _string(body: bytes, start: int) -> tuple[str, int]:
    """The NUL-terminated UTF-16 string at `start`, and where it ends (MS-DFSC 2.2.1)."""
    end = start
    while True:
        end = body.find(b"\0\0", end)
        if start > len(body) or end < 0:
            raise WireError(f"a string at {start} does not end within the referral's {len(body)} bytes")
        if (end - start) % 2 == 0:
            return body[start:end].decode("utf-16-le", "surrogatepass"), end + 2
        end += 1
