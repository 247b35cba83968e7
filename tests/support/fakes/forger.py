"""Somebody on the way who answers LDAP pings with whatever suits them: real datagrams, written as in MS-ADTS 6.3.1.9.

python -m tests.support.fakes.forger ADDRESS PORT DOMAIN HOST NETBIOS SITE     # prints a line when it is ready
"""

from __future__ import annotations

import socket
import struct
import sys
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Lie:
    """What is answered. Names as texts, with dots where labels end; a NetBIOS name is one label or not."""

    domain: str
    host: str
    netbios: str
    site: str = "Berlin"


def forged(question: bytes, lie: Lie) -> bytes:
    """An answer to a question of `encode_ping`."""
    message_id = question[2:8] if question[1] < 0x80 else question[3:9]
    assert message_id[:2] == b"\x02\x04", "the number of the question"
    names = (lie.domain, lie.domain, lie.host, lie.netbios, "EVIL", "", lie.site, lie.site)
    netlogon = struct.pack("<HHI16s", 23, 0, 0x80, bytes(16)) + b"".join(map(_name, names))
    attribute = _element(0x30, _element(0x04, b"netlogon") + _element(0x31, _element(0x04, netlogon)))
    entry = _element(0x64, _element(0x04, b"") + _element(0x30, attribute))
    return _element(0x30, message_id + entry)


def serve(address: str, port: int, lie: Lie) -> None:
    """Answers for ever. Says so on stdout once it can."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((address, port))
        print("ready", flush=True)
        while True:
            question, sender = sock.recvfrom(4096)
            sock.sendto(forged(question, lie), sender)


def _name(text: str) -> bytes:
    labels = [label.encode() for label in text.split(".") if label]
    return b"".join(bytes((len(label),)) + label for label in labels) + b"\0"


def _element(tag: int, value: bytes) -> bytes:
    size = len(value).to_bytes(2, "big")
    return bytes((tag, 0x82)) + size + value


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]), Lie(*sys.argv[3:]))
