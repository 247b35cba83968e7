"""Security descriptors as text: from the self-relative form (MS-DTYP 2.4.6) to SDDL (2.5.1), which people read.

Pure.
"""

from __future__ import annotations

import struct
import uuid

from dfsfs.errors import ContentError

Buffer = bytes | bytearray | memoryview

_DESCRIPTOR = struct.Struct("<BBHIIII")  # revision, reserved, control, offsets of owner, group, SACL and DACL
_ACL = struct.Struct("<BBHHH")  # revision, reserved, size, count, reserved
_ACE = struct.Struct("<BBHI")  # type, flags, size, access mask
_DACL_PRESENT = 0x0004
_DACL_CONTROLS = {0x1000: "P", 0x0100: "AR", 0x0400: "AI"}

_ACE_TYPES = {0: "A", 1: "D", 5: "OA", 6: "OD"}
_OBJECT_TYPES = (5, 6)
_ACE_FLAGS = {0x01: "OI", 0x02: "CI", 0x04: "NP", 0x08: "IO", 0x10: "ID"}
_RIGHTS = {0x001F01FF: "FA", 0x00120089: "FR", 0x00120116: "FW", 0x001200A0: "FX"}
_GENERIC = {0x80000000: "GR", 0x40000000: "GW", 0x20000000: "GX", 0x10000000: "GA"}
_ALIASES = {
    "S-1-1-0": "WD",
    "S-1-3-0": "CO",
    "S-1-3-1": "CG",
    "S-1-5-2": "NU",
    "S-1-5-7": "AN",
    "S-1-5-11": "AU",
    "S-1-5-18": "SY",
    "S-1-5-32-544": "BA",
    "S-1-5-32-545": "BU",
    "S-1-5-32-546": "BG",
}


def to_sddl(buffer: Buffer) -> str:
    """Owner, group and DACL of a security descriptor: `O:S-1-5-21-...G:BUD:AI(A;;FA;;;BA)`.

    Raises:
        ContentError: a part of it lies outside the buffer, or is of a kind that has no text here.
    """
    view = memoryview(buffer)
    if len(view) < _DESCRIPTOR.size:
        raise ContentError(f"a security descriptor of {len(view)} bytes")
    _, _, control, owner, group, _, dacl = _DESCRIPTOR.unpack_from(view)
    text = ""
    if owner:
        text += f"O:{_alias(sid_at(view, owner))}"
    if group:
        text += f"G:{_alias(sid_at(view, group))}"
    if control & _DACL_PRESENT:
        flags = "".join(letter for bit, letter in _DACL_CONTROLS.items() if control & bit)
        text += f"D:{flags}{_acl(view, dacl) if dacl else 'NO_ACCESS_CONTROL'}"
    return text


def sid_at(view: memoryview, offset: int) -> str:
    """The SID at an offset (MS-DTYP 2.4.2.2). Raises: ContentError: it lies outside the buffer."""
    if offset + 8 > len(view):
        raise ContentError(f"a SID at {offset}, of {len(view)} bytes")
    count = view[offset + 1]
    if offset + 8 + 4 * count > len(view):
        raise ContentError(f"a SID with {count} parts at {offset}, of {len(view)} bytes")
    authority = int.from_bytes(view[offset + 2 : offset + 8], "big")
    parts = struct.unpack_from(f"<{count}I", view, offset + 8)
    return "-".join(map(str, ("S", view[offset], authority, *parts)))


def _alias(sid: str) -> str:
    return _ALIASES.get(sid, sid)


def _acl(view: memoryview, offset: int) -> str:
    if offset + _ACL.size > len(view):
        raise ContentError(f"an ACL at {offset}, of {len(view)} bytes")
    _, _, size, count, _ = _ACL.unpack_from(view, offset)
    end, position = offset + size, offset + _ACL.size
    if end > len(view):
        raise ContentError(f"an ACL of {size} bytes at {offset}, of {len(view)}")
    entries = []
    for _ in range(count):
        if position + _ACE.size > end:
            raise ContentError(f"an access control entry at {position}, beyond its list")
        length = _ACE.unpack_from(view, position)[2]
        if length < _ACE.size or position + length > end:
            raise ContentError(f"an access control entry of {length} bytes at {position}, beyond its list")
        entries.append(_ace(view[position : position + length]))
        position += length
    return "".join(entries)


def _ace(ace: memoryview) -> str:
    kind, flags, _, mask = _ACE.unpack_from(ace)
    letters = _ACE_TYPES.get(kind)
    if letters is None:
        return f"(type {kind};;{mask:#x};;;)"
    sid_offset, guids = _ACE.size, ["", ""]
    if kind in _OBJECT_TYPES:
        if len(ace) < _ACE.size + 4:
            raise ContentError(f"an access control entry for an object of {len(ace)} bytes")
        present = int.from_bytes(ace[8:12], "little")
        sid_offset += 4
        for index in range(2):
            if present & (1 << index):
                guids[index] = str(uuid.UUID(bytes_le=bytes(ace[sid_offset : sid_offset + 16]).ljust(16, b"\0")))
                sid_offset += 16
    inherited = "".join(letter for bit, letter in _ACE_FLAGS.items() if flags & bit)
    return f"({letters};{inherited};{_rights(mask)};{guids[0]};{guids[1]};{_alias(sid_at(ace, sid_offset))})"


def _rights(mask: int) -> str:
    if mask in _RIGHTS:
        return _RIGHTS[mask]
    generic = "".join(letters for bit, letters in _GENERIC.items() if mask & bit)
    return generic if generic and not mask & 0x0FFFFFFF else f"{mask:#x}"
