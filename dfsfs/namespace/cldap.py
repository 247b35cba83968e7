"""The question to a domain controller that needs no login: an "LDAP ping" (MS-ADTS 6.3.3). Pure.

The question is an LDAP search in a datagram, for the attribute Netlogon of the root; the answer is one entry with a
structure of Microsoft's in it (NETLOGON_SAM_LOGON_RESPONSE_EX, 6.3.1.9), whose names are written as in DNS. There is no
maintained library for that, and no more of LDAP is needed than this. Every length is checked, as any host on the way
can answer. Nothing of an answer is trusted with more than the choice of which server to ask first.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from dfsfs.errors import WireError

_SEQUENCE, _SET, _INTEGER, _OCTETS, _ENUMERATED, _BOOLEAN = 0x30, 0x31, 0x02, 0x04, 0x0A, 0x01
_SEARCH_REQUEST, _SEARCH_ENTRY, _FILTER_AND, _FILTER_EQUAL = 0x63, 0x64, 0xA0, 0xA3
_NT_VERSION = 0x00000006
"""NETLOGON_NT_VERSION_5 and 5EX: the answer in its newer form (6.3.1.1)."""
_RESPONSES = (23, 25)
"""LOGON_SAM_LOGON_RESPONSE_EX and LOGON_SAM_USER_UNKNOWN_EX (6.3.1.3)."""
_FIXED = struct.Struct("<HHI16s")
_CLOSEST = 0x00000080
_NAMES = 8
_MAX_LABELS = 64


@dataclass(frozen=True, slots=True)
class Netlogon:
    """What a controller says of itself and of the client. Names without trailing dots; empty where it knows none."""

    forest: str
    domain: str
    host: str
    netbios_domain: str
    netbios_host: str
    site: str
    client_site: str
    is_closest: bool
    """Whether it is in the client's site, or in the one that is nearest to it."""


def encode_ping(domain: str, message_id: int) -> bytes:
    """The question to a controller of `domain`; if that is empty, to one of any domain. `message_id` is below 2**31."""
    conditions = _equal(b"NtVer", struct.pack("<I", _NT_VERSION))
    if domain:
        conditions = _equal(b"DnsDomain", domain.encode("utf-8")) + conditions
    search = (
        _element(_OCTETS, b"")  # the root
        + _element(_ENUMERATED, b"\0")  # and nothing below it
        + _element(_ENUMERATED, b"\0")
        + _element(_INTEGER, b"\0") * 2  # no limits of size and time
        + _element(_BOOLEAN, b"\0")
        + _element(_FILTER_AND, conditions)
        + _element(_SEQUENCE, _element(_OCTETS, b"Netlogon"))
    )
    number = _element(_INTEGER, message_id.to_bytes(4, "big"))
    return _element(_SEQUENCE, number + _element(_SEARCH_REQUEST, search))


def decode_ping_reply(datagram: bytes, message_id: int) -> Netlogon:
    """A controller's answer. Raises: WireError: it is none, or not one to this question."""
    message = _expect(datagram, _SEQUENCE)[0]
    number, message = _expect(message, _INTEGER)
    if int.from_bytes(number, "big") != message_id:
        raise WireError("an LDAP answer to another question")
    entry = _expect(message, _SEARCH_ENTRY)[0]
    _, entry = _expect(entry, _OCTETS)
    attributes = _expect(entry, _SEQUENCE)[0]
    while attributes:
        attribute, attributes = _expect(attributes, _SEQUENCE)
        name, values = _expect(attribute, _OCTETS)
        if name.lower() == b"netlogon":
            return decode_netlogon(_expect(_expect(values, _SET)[0], _OCTETS)[0])
    raise WireError("an LDAP answer without the attribute Netlogon: this is no domain controller")


def decode_netlogon(data: bytes) -> Netlogon:
    """NETLOGON_SAM_LOGON_RESPONSE_EX (MS-ADTS 6.3.1.9). Raises: WireError."""
    if len(data) < _FIXED.size:
        raise WireError(f"a Netlogon answer of {len(data)} bytes")
    opcode, _, flags, _ = _FIXED.unpack_from(data)
    if opcode not in _RESPONSES:
        raise WireError(f"a Netlogon answer of kind {opcode}")
    names = []
    position = _FIXED.size
    for _ in range(_NAMES):
        name, position = _name(data, position)
        names.append(name)
    forest, domain, host, netbios_domain, netbios_host, _, site, client_site = names
    return Netlogon(forest, domain, host, netbios_domain, netbios_host, site, client_site, bool(flags & _CLOSEST))


def _name(data: bytes, position: int) -> tuple[str, int]:
    """A name as in RFC 1035 4.1.4, where its end may be a pointer to an earlier one; and what comes after it."""
    labels: list[bytes] = []
    after = None
    while True:
        if position >= len(data) or len(labels) > _MAX_LABELS:
            raise WireError("a name in a Netlogon answer has no end")
        length = data[position]
        position += 1
        if length == 0:
            break
        if length & 0xC0 == 0xC0:
            if position >= len(data):
                raise WireError("a name in a Netlogon answer has no end")
            target = (length & 0x3F) << 8 | data[position]
            after = position + 1 if after is None else after
            if target >= position - 1:
                raise WireError("a name in a Netlogon answer points forward")
            position = target
            labels.append(b"")  # counts against the limit
            continue
        if length & 0xC0 or position + length > len(data):
            raise WireError("a name in a Netlogon answer goes beyond its end")
        labels.append(data[position : position + length])
        position += length
    try:
        text = b".".join(filter(None, labels)).decode("utf-8")
    except UnicodeDecodeError:
        raise WireError("a name in a Netlogon answer is not UTF-8") from None
    return text, position if after is None else after


# -- BER, as far as it is needed --------------------------------------------------------------------------------------


def _element(tag: int, value: bytes) -> bytes:
    size = len(value)
    if size < 0x80:
        return bytes((tag, size)) + value
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length + value


def _equal(name: bytes, value: bytes) -> bytes:
    return _element(_FILTER_EQUAL, _element(_OCTETS, name) + _element(_OCTETS, value))


def _expect(data: bytes, tag: int) -> tuple[bytes, bytes]:
    """The value of the element at the beginning of `data`, and what comes after it."""
    if len(data) < 2 or data[0] != tag:
        found = f"{data[0]:#04x}" if data else "nothing"
        raise WireError(f"an LDAP answer has {found} where {tag:#04x} belongs")
    length, begin = data[1], 2
    if length & 0x80:
        size = length & 0x7F
        if not 1 <= size <= 4 or len(data) < 2 + size:
            raise WireError("an LDAP answer with a length that makes no sense")
        length, begin = int.from_bytes(data[2 : 2 + size], "big"), 2 + size
    if begin + length > len(data):
        raise WireError("an LDAP answer that is cut")
    return data[begin : begin + length], data[begin + length :]
