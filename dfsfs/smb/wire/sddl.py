"""Security descriptors as text: from the self-relative format (MS-DTYP 2.4.6) to SDDL (2.5.1).

Pure.
"""

from __future__ import annotations

import struct
import uuid

from dfsfs.errors import ContentError
from dfsfs.smb.wire.constants import Access, AceFlags, AceType, SecurityControl

Buffer = bytes | bytearray | memoryview

_DESCRIPTOR = struct.Struct("<BBHIIII")  # revision, reserved, control, offsets of owner, group, SACL and DACL
_ACL = struct.Struct("<BBHHH")  # revision, reserved, size, count, reserved
_ACE = struct.Struct("<BBHI")  # type, flags, size, access mask
_DACL_CONTROLS = {
    SecurityControl.DACL_PROTECTED: "P",
    SecurityControl.DACL_COMPUTED_INHERITANCE_REQUIRED: "AR",
    SecurityControl.DACL_AUTO_INHERITED: "AI",
}
_ACE_TYPES = {
    AceType.ACCESS_ALLOWED_ACE_TYPE: "A",
    AceType.ACCESS_DENIED_ACE_TYPE: "D",
    AceType.ACCESS_ALLOWED_OBJECT_ACE_TYPE: "OA",
    AceType.ACCESS_DENIED_OBJECT_ACE_TYPE: "OD",
}
_OBJECT_TYPES = (AceType.ACCESS_ALLOWED_OBJECT_ACE_TYPE, AceType.ACCESS_DENIED_OBJECT_ACE_TYPE)
_ACE_FLAGS = {
    AceFlags.OBJECT_INHERIT_ACE: "OI",
    AceFlags.CONTAINER_INHERIT_ACE: "CI",
    AceFlags.NO_PROPAGATE_INHERIT_ACE: "NP",
    AceFlags.INHERIT_ONLY_ACE: "IO",
    AceFlags.INHERITED_ACE: "ID",
}
_STANDARD = Access.READ_CONTROL | Access.SYNCHRONIZE
_READ = _STANDARD | Access.FILE_READ_DATA | Access.FILE_READ_EA | Access.FILE_READ_ATTRIBUTES
_WRITE = (
    _STANDARD | Access.FILE_WRITE_DATA | Access.FILE_APPEND_DATA | Access.FILE_WRITE_EA | Access.FILE_WRITE_ATTRIBUTES
)
_EXECUTE = _STANDARD | Access.FILE_EXECUTE | Access.FILE_READ_ATTRIBUTES
_ALL = _READ | _WRITE | _EXECUTE | Access.FILE_DELETE_CHILD | Access.DELETE | Access.WRITE_DAC | Access.WRITE_OWNER
_RIGHTS = {int(_ALL): "FA", int(_READ): "FR", int(_WRITE): "FW", int(_EXECUTE): "FX"}
_GENERIC = {
    int(Access.GENERIC_READ): "GR",
    int(Access.GENERIC_WRITE): "GW",
    int(Access.GENERIC_EXECUTE): "GX",
    int(Access.GENERIC_ALL): "GA",
}
_NOT_GENERIC = ~sum(_GENERIC)
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
    if control & SecurityControl.DACL_PRESENT:
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
    return generic if generic and not mask & _NOT_GENERIC else f"{mask:#x}"
