"""Server-side copy as bytes on the wire: FSCTL_SRV_REQUEST_RESUME_KEY, FSCTL_SRV_COPYCHUNK (MS-SMB2 2.2.31.1). Pure."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dfsfs.errors import WireError

if TYPE_CHECKING:
    from collections.abc import Sequence

Buffer = bytes | bytearray | memoryview

KEY_SIZE = 24
"""Bytes of a resume key (MS-SMB2 2.2.32.3)."""
KEY_RESPONSE_SIZE = 32
"""MaxOutputResponse in bytes of the request for a key (MS-SMB2 2.2.32.3)."""
RESPONSE_SIZE = 12
"""Bytes of SRV_COPYCHUNK_RESPONSE (MS-SMB2 2.2.32.1)."""
CHUNK = 1024 * 1024
"""Bytes of the largest chunk that every server accepts (MS-SMB2 3.3.3)."""
CHUNKS = 16
"""The most chunks of one request that every server accepts (MS-SMB2 3.3.3)."""

_HEAD = struct.Struct("<24sII")
_CHUNK = struct.Struct("<QQII")
_RESPONSE = struct.Struct("<III")


@dataclass(frozen=True, slots=True)
class Range:
    """`length` bytes to copy, from the offset `source` in one file to the offset `target` in another."""

    source: int
    target: int
    length: int

    @property
    def chunks(self) -> tuple[Range, ...]:
        """The range in parts of CHUNK bytes at most."""
        return tuple(
            Range(self.source + start, self.target + start, min(CHUNK, self.length - start))
            for start in range(0, self.length, CHUNK)
        )


def decode_resume_key(buffer: Buffer) -> bytes:
    """The key that identifies the source of a copy. Raises: WireError: the output is too short."""
    if len(buffer) < KEY_SIZE:
        raise WireError(f"a resume key of {len(buffer)} bytes")
    return bytes(buffer[:KEY_SIZE])


def encode_copychunk(key: bytes, chunks: Sequence[Range]) -> bytes:
    """SRV_COPYCHUNK_COPY (MS-SMB2 2.2.31.1)."""
    packed = b"".join(_CHUNK.pack(chunk.source, chunk.target, chunk.length, 0) for chunk in chunks)
    return _HEAD.pack(key, len(chunks), 0) + packed


def decode_copychunk(buffer: Buffer) -> int:
    """The number of bytes written (MS-SMB2 2.2.32.1). Raises: WireError: the output is too short."""
    if len(buffer) < _RESPONSE.size:
        raise WireError(f"the answer to a server-side copy has {len(buffer)} bytes")
    total: int = _RESPONSE.unpack_from(buffer)[2]
    return total
