"""The bytes of DFS referrals: REQ_GET_DFS_REFERRAL, REQ_GET_DFS_REFERRAL_EX and RESP_GET_DFS_REFERRAL, versions 1 to 4
(MS-DFSC 2.2.2 to 2.2.5).

Pure. `decode_response` turns any bytes into a ReferralResponse or raises WireError, nothing else. Entries are stepped
through by their Size, strings are found by their offsets from the start of the entry, and whatever padding a server
puts between them is ignored. Addresses and names of domains have no control characters and no lone surrogates. What is
encoded can be decoded again to the same value; the encoder is for a server.

Servers in the field need some leniency, each where it is marked: Samba answers domain requests with names that lack
their leading backslash, gives PathConsumed 0 in answers about domains, and counts a trailing backslash of the request.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntFlag
from typing import Final

from smbprotocol import dfs

from dfsfs.errors import WireError
from dfsfs.printable import has_controls, printable
from dfsfs.unc import UncError, UncPath

MAX_REFERRALS = 4096
"""More targets than a 56 KiB answer has room for; the field could say 65535."""
MAX_STRING_BYTES = 1 << 20
"""All strings of one answer together, in UTF-16 bytes. Entries may share strings, so that 56 KiB could otherwise name
hundreds of megabytes; 1,500 targets with three paths of 200 bytes each stay below it."""
MAX_PATH_CHARACTERS = 8192
"""One string, in UTF-16 characters: twice as many as a path in Linux may have bytes."""

_HEADER = struct.Struct("<HHI")
_V1 = struct.Struct("<HHHH")
_V2 = struct.Struct("<HHHHIIHHH")
_V3 = struct.Struct("<HHHHIHHH")
_V3_SIZE = _V3.size + 16
"""With ServiceSiteGuid, which is always zero."""
_EX = struct.Struct("<HHI")
_SITE_NAME: Final = int(dfs.DFSReferralRequestFlags.SITE_NAME)
_ROOT_TARGETS: Final = int(dfs.DFSServerTypes.ROOT_TARGETS)
_NUL = b"\0\0"


class HeaderFlags(IntFlag):
    """ReferralHeaderFlags (MS-DFSC 2.2.4)."""

    REFERRAL_SERVERS = dfs.DFSReferralHeaderFlags.REFERRAL_SERVERS
    STORAGE_SERVERS = dfs.DFSReferralHeaderFlags.STORAGE_SERVERS
    TARGET_FAIL_BACK = dfs.DFSReferralHeaderFlags.TARGET_FAIL_BACK


class EntryFlags(IntFlag):
    """ReferralEntryFlags (MS-DFSC 2.2.5.3, 2.2.5.4)."""

    NAME_LIST_REFERRAL = dfs.DFSReferralEntryFlags.NAME_LIST_REFERRAL
    TARGET_SET_BOUNDARY = dfs.DFSReferralEntryFlags.TARGET_SET_BOUNDARY


@dataclass(frozen=True, slots=True)
class ReferralEntry:
    """One target of a root or link: `network_address` is where it is. `ttl` in seconds, 0 in V1, which has none.

    `dfs_path` and `alternate_path` repeat the part of the request that is covered, whatever characters that has; V1 has
    neither.
    """

    is_root: bool
    ttl: int
    starts_set: bool
    network_address: UncPath
    dfs_path: str = ""
    alternate_path: str = ""


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
    def ttl(self) -> int:
        """Seconds, of the first entry; servers give all the same. 0 if there is none."""
        ttls = [entry.ttl for entry in self.entries[:1]] + [entry.ttl for entry in self.name_lists[:1]]
        return ttls[0] if ttls else 0

    @property
    def failback(self) -> bool:
        """TargetFailback, which only V4 has (MS-DFSC 2.2.4)."""
        return self.version >= 4 and bool(self.flags & HeaderFlags.TARGET_FAIL_BACK)

    @property
    def is_interlink(self) -> bool:
        """Whether the header says that the target is another namespace (MS-DFSC 3.1.5.4.5, first rule)."""
        return bool(self.flags & HeaderFlags.REFERRAL_SERVERS) and not self.flags & HeaderFlags.STORAGE_SERVERS


@dataclass(frozen=True, slots=True)
class ReferralRequest:
    """A decoded request: `path` as it was sent, empty to ask for domains; `site` only in the extended form."""

    path: str
    level: int
    site: str | None = None


def encode_request(path: str, level: int = 4) -> bytes:
    """REQ_GET_DFS_REFERRAL (MS-DFSC 2.2.2) for a path in wire form; `level` is the newest version understood."""
    return struct.pack("<H", level) + _utf16(path)


def encode_request_ex(path: str, site: str, level: int = 4) -> bytes:
    """REQ_GET_DFS_REFERRAL_EX (MS-DFSC 2.2.3) with the name of the client's site; lengths count the NULs."""
    data = b"".join(struct.pack("<H", len(text)) + text for text in (_utf16(path), _utf16(site)))
    return _EX.pack(level, _SITE_NAME, len(data)) + data


def decode_request(body: bytes) -> ReferralRequest:
    """REQ_GET_DFS_REFERRAL (MS-DFSC 2.2.2).

    Raises:
        WireError: whatever is wrong with it.
    """
    if len(body) < 2:
        raise WireError(f"a referral request of {len(body)} bytes")
    return ReferralRequest(_Strings(body).at(2)[0], int.from_bytes(body[:2], "little"))


def decode_request_ex(body: bytes) -> ReferralRequest:
    """REQ_GET_DFS_REFERRAL_EX (MS-DFSC 2.2.3).

    Raises:
        WireError: whatever is wrong with it.
    """
    if len(body) < _EX.size:
        raise WireError(f"an extended referral request of {len(body)} bytes")
    level, flags, length = _EX.unpack_from(body)
    data = body[_EX.size : _EX.size + length]
    if len(data) < length:
        raise WireError(f"an extended referral request with {length} bytes of data in {len(body)}")
    path, position = _counted(data, 0)
    site = _counted(data, position)[0] if flags & _SITE_NAME else None
    return ReferralRequest(path, level, site)


def _counted(data: bytes, start: int) -> tuple[str, int]:
    """A string behind its length in bytes, with or without its NUL, and where it ends."""
    end = start + 2 + int.from_bytes(data[start : start + 2], "little")
    if start + 2 > len(data) or end > len(data) or (end - start) % 2:
        raise WireError(f"a string of an extended referral request ends at {end} of {len(data)} bytes")
    return data[start + 2 : end].decode("utf-16-le", "surrogatepass").rstrip("\0"), end


# -- answers ----------------------------------------------------------------------------------------------------------


def decode_response(body: bytes, request_path: UncPath | None) -> ReferralResponse:
    """RESP_GET_DFS_REFERRAL (MS-DFSC 2.2.4) to a request for `request_path`, which is None for a domain request.

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
    strings = _Strings(body)
    version, offset = 0, _HEADER.size
    for index in range(count):
        if len(body) - offset < _V1.size:
            raise WireError(f"referral entry {index} at {offset} lies outside the {len(body)} bytes")
        entry_version, size = struct.unpack_from("<HH", body, offset)
        version = version or entry_version
        if entry_version != version or not 1 <= version <= 4:
            raise WireError(f"referral entry {index} has version {entry_version} after version {version}")
        entry = _entry(strings, offset, version, size)
        if isinstance(entry, ReferralEntry):
            entries.append(entry)
        else:
            name_lists.append(entry)
        offset += size
    if entries and name_lists:
        raise WireError("a referral that mixes targets and names of domains")
    return ReferralResponse(version, flags, _covered(request_path, consumed), tuple(entries), tuple(name_lists))


def _covered(path: UncPath | None, consumed: int) -> UncPath | None:
    if consumed == 0:
        return None
    covered = path.consumed(consumed) if path is not None else None
    if covered is None:
        raise WireError(f"PathConsumed {consumed} ends within a component of {path}, or behind it")
    return covered


def _entry(strings: _Strings, start: int, version: int, size: int) -> ReferralEntry | NameListEntry:
    layout = {1: _V1, 2: _V2}.get(version, _V3)
    if size < layout.size or start + size > len(strings.body):
        raise WireError(f"a V{version} referral entry with Size {size} at {start}")
    if version == 1:
        kind = _V1.unpack_from(strings.body, start)[2]
        return ReferralEntry(kind == 1, 0, False, _address(strings, start + _V1.size))
    if version == 2:
        _, _, kind, _, _, ttl, *offsets = layout.unpack_from(strings.body, start)
        flags = 0
    else:
        _, _, kind, flags, ttl, *offsets = layout.unpack_from(strings.body, start)
    if flags & EntryFlags.NAME_LIST_REFERRAL:
        return _name_list(strings, start, ttl, *offsets)
    dfs_path, alternate, address = (start + offset for offset in offsets)
    return ReferralEntry(
        is_root=kind == _ROOT_TARGETS,
        ttl=ttl,
        starts_set=version == 4 and bool(flags & EntryFlags.TARGET_SET_BOUNDARY),
        network_address=_address(strings, address),
        dfs_path=strings.at(dfs_path)[0],
        alternate_path=strings.at(alternate)[0],
    )


def _address(strings: _Strings, start: int) -> UncPath:
    text, _ = strings.name_at(start)
    try:
        address = UncPath.parse(text)
        address.share  # noqa: B018 - a target without a share is no target
    except UncError as error:
        raise WireError(f"the network address {text!r} in a referral: {error}") from None
    if printable(address.host) != address.host:
        raise WireError(f"the name of a server has a character that is in no such name: {address.host!r}")
    return address


def _name_list(strings: _Strings, start: int, ttl: int, special: int, count: int, expanded: int) -> NameListEntry:
    special_name, _ = strings.name_at(start + special)
    names, position = [], start + expanded
    for _ in range(count):
        name, position = strings.name_at(position)
        names.append(name.lstrip("\\"))
    # Samba leaves out the backslash in front of the name if the request has one.
    return NameListEntry(special_name.lstrip("\\"), tuple(names), ttl)


class _Strings:
    """The NUL-terminated UTF-16 strings of a message (MS-DFSC 2.2.1), and how much was read of them so far."""

    def __init__(self, body: bytes) -> None:
        self.body = body
        self._left = MAX_STRING_BYTES

    def at(self, start: int) -> tuple[str, int]:
        """The string at `start`, and where it ends."""
        body, limit = self.body, start + 2 * MAX_PATH_CHARACTERS + 2
        end = body.find(_NUL, start, limit)
        while end >= 0 and (end - start) % 2:  # the halves of two characters
            end = body.find(_NUL, end + 1, limit)
        if end < 0:
            raise WireError(f"no string of at most {MAX_PATH_CHARACTERS} characters at {start} of {len(body)} bytes")
        self._left -= end - start
        if self._left < 0:
            raise WireError(f"a referral with more than {MAX_STRING_BYTES} bytes of strings")
        return body[start:end].decode("utf-16-le", "surrogatepass"), end + 2

    def name_at(self, start: int) -> tuple[str, int]:
        """The same of a target or domain, whose names have no control characters."""
        text, end = self.at(start)
        if has_controls(text):
            raise WireError(f"a string of a referral has a control character in it, or half of one: {text[:200]!r}")
        return text, end


def encode_response(response: ReferralResponse) -> bytes:
    """RESP_GET_DFS_REFERRAL (MS-DFSC 2.2.4): strings behind the last entry; V1 has its own inside.

    Raises:
        WireError: it can't be said, because a string lies further behind an entry than 16 bits can count.
    """
    consumed = 0 if response.covered is None else len(response.covered.wire.encode("utf-16-le", "surrogatepass"))
    count = len(response.entries) + len(response.name_lists)
    header = _HEADER.pack(consumed, count, response.flags)
    if response.version == 1:
        return header + b"".join(map(_encode_v1, response.entries))
    size = _V2.size if response.version == 2 else _V3_SIZE
    heap, fixed = _Heap(count * size), b""
    try:
        for entry in response.entries:
            fixed += _encode_target(response.version, entry, heap, len(fixed))
        for names in response.name_lists:
            fixed += _encode_name_list(response.version, names, heap, len(fixed))
    except struct.error:
        raise WireError(f"a referral with {count} entries is too long for its 16-bit offsets") from None
    return header + fixed + heap.bytes


class _Heap:
    """Strings behind the entries, each on its own, as servers write them. Offsets are counted from the first entry."""

    def __init__(self, start: int) -> None:
        self.bytes = b""
        self._start = start

    def put(self, *texts: str) -> int:
        """Where these strings lie, one directly behind the other."""
        offset = self._start + len(self.bytes)
        self.bytes += b"".join(map(_utf16, texts))
        return offset


def _encode_v1(entry: ReferralEntry) -> bytes:
    address = _utf16(entry.network_address.wire)
    return _V1.pack(1, _V1.size + len(address), entry.is_root, 0) + address


def _encode_target(version: int, entry: ReferralEntry, heap: _Heap, start: int) -> bytes:
    texts = (entry.dfs_path, entry.alternate_path, entry.network_address.wire)
    offsets = [heap.put(text) - start for text in texts]
    if version == 2:
        return _V2.pack(2, _V2.size, entry.is_root, 0, 0, entry.ttl, *offsets)
    flags = EntryFlags.TARGET_SET_BOUNDARY if version == 4 and entry.starts_set else 0
    return _V3.pack(version, _V3_SIZE, entry.is_root, flags, entry.ttl, *offsets).ljust(_V3_SIZE, b"\0")


def _encode_name_list(version: int, entry: NameListEntry, heap: _Heap, start: int) -> bytes:
    special = heap.put("\\" + entry.special_name) - start
    # A domain referral has no names, and 0 for where they are (MS-DFSC 3.3.5.2).
    names = heap.put(*("\\" + name for name in entry.names)) - start if entry.names else 0
    flags = EntryFlags.NAME_LIST_REFERRAL
    fixed = _V3.pack(version, _V3_SIZE, 0, flags, entry.ttl, special, len(entry.names), names)
    return fixed.ljust(_V3_SIZE, b"\0")


def _utf16(text: str) -> bytes:
    return text.encode("utf-16-le", "surrogatepass") + _NUL
