"""Extended attributes of SMB as bytes on the wire: FileFullEaInformation (MS-FSCC 2.4.15). Pure."""

from __future__ import annotations

import struct

from dfsfs.errors import ContentError

Buffer = bytes | bytearray | memoryview

_ENTRY = struct.Struct("<IBBH")  # next entry, flags, length of the name, length of the value
NAME_MAX = 254
"""Bytes of the longest name."""
VALUE_MAX = 65535
"""Bytes of the longest value."""


def decode_eas(buffer: Buffer) -> dict[bytes, bytes]:
    """Names and values, in the server's order.

    Raises:
        ContentError: an entry lies outside the buffer, or they go round in a circle.
    """
    found: dict[bytes, bytes] = {}
    view, position = memoryview(buffer), 0
    while position < len(view):
        if len(view) - position < _ENTRY.size:
            raise ContentError(f"an extended attribute at {position} does not fit into {len(view)} bytes")
        step, _, name_size, value_size = _ENTRY.unpack_from(view, position)
        start = position + _ENTRY.size
        end = start + name_size + 1 + value_size
        if end > len(view) or (step and step < end - position):
            raise ContentError(f"an extended attribute of {end - position} bytes at {position}, of {len(view)}")
        name = bytes(view[start : start + name_size])
        found[name] = bytes(view[start + name_size + 1 : end])
        if not step:
            break
        position += step
    return found


def encode_ea(name: bytes, value: bytes) -> bytes:
    """One attribute to be set; an empty value removes it (MS-FSA 2.1.5.14.5).

    `name` has at most NAME_MAX bytes and `value` VALUE_MAX.
    """
    return _ENTRY.pack(0, 0, len(name), len(value)) + name + b"\0" + value
