"""LDAP pings: the question, answers as a Samba 4.17 controller gave them, and
worse.
"""

from __future__ import annotations

from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfsfs.errors import WireError
from dfsfs.namespace.cldap import Netlogon, decode_netlogon, decode_ping_reply, encode_ping

ANSWER = bytes.fromhex(
    "306d020107646804003064306204086e65746c6f676f6e31560454170000003c11000010d77ab06c24b146a0ddd0c6c5d7514c"
    "07636f6e746f736f047465737400c01803646332c01807434f4e544f534f0003444332000005506172697300064265726c696e"
    "0005000000ffffffff300c02010765070a010004000400"
)
NETLOGON = ANSWER[ANSWER.index(b"\x17\0\0\0") :][:84]


def test_an_answer_of_a_controller_in_another_site() -> None:
    assert decode_ping_reply(ANSWER, 7) == Netlogon(
        forest="contoso.test",
        domain="contoso.test",
        host="dc2.contoso.test",
        netbios_domain="CONTOSO",
        netbios_host="DC2",
        site="Paris",
        client_site="Berlin",
        is_closest=False,
    )


def test_the_question() -> None:
    """By the grammar of RFC 4511; that controllers understand it is shown by the tests in the domain."""
    domain, version = b"\xa3\x13\x04\x09DnsDomain\x04\x06x.test", b"\xa3\x0d\x04\x05NtVer\x04\x04\x06\0\0\0"
    fixed = b"\x04\0\x0a\1\0\x0a\1\0\2\1\0\2\1\0\1\1\0"
    search = fixed + b"\xa0\x24" + domain + version + b"\x30\x0a\x04\x08Netlogon"
    assert encode_ping("x.test", 1) == b"\x30\x4b\2\4\0\0\0\1\x63\x43" + search
    search = fixed + b"\xa0\x0f" + version + b"\x30\x0a\x04\x08Netlogon"
    assert encode_ping("", 0x7FFFFFFF) == b"\x30\x36\2\4\x7f\xff\xff\xff\x63\x2e" + search
    assert b"\x04\x81\xc8" + b"a" * 200 in encode_ping("a" * 200, 1)


def test_an_answer_to_another_question() -> None:
    with pytest.raises(WireError, match="another question"):
        decode_ping_reply(ANSWER, 8)


def test_no_prefix_of_an_answer_is_one() -> None:
    names_end = NETLOGON.index(b"\0\x05\0\0\0\xff\xff\xff\xff") + 1
    for length in range(names_end):
        with pytest.raises(WireError):
            decode_netlogon(NETLOGON[:length])


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (b"\xc0\x18", "points forward"),
        (b"\x01a\xc0\x18" * 1, "no end"),
        (b"\xc0", "no end"),
        (b"\x05abc", "beyond"),
        (b"\x80abc", "beyond"),
        (b"\x02\xff\xfe\x00", "UTF-8"),
    ],
)
def test_names_that_make_no_sense(names: bytes, said: str) -> None:
    with pytest.raises(WireError, match=said):
        decode_netlogon(NETLOGON[:24] + names)


def test_other_kinds_of_answers() -> None:
    with pytest.raises(WireError, match="kind 19"):
        decode_netlogon(b"\x13\0" + NETLOGON[2:])
    with pytest.raises(WireError, match="no domain controller"):
        decode_ping_reply(ANSWER.replace(b"netlogon", b"other___"), 7)


@given(st.binary(max_size=200))
def test_whatever_comes_is_an_answer_or_an_error(data: bytes) -> None:
    for decode in (partial(decode_ping_reply, data, 7), partial(decode_netlogon, data)):
        try:
            decode()
        except WireError:
            pass


@given(st.data())
def test_so_is_an_answer_with_some_bytes_changed(data: st.DataObject) -> None:
    changed = bytearray(ANSWER)
    for _ in range(data.draw(st.integers(1, 4))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    try:
        decode_ping_reply(bytes(changed), 7)
    except WireError:
        pass
