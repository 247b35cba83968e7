"""Bytes: requests, answers of versions 1 to 4, and what is wrong with them (MS-DFSC 2.1, 2.2, 3.1.4.2, 3.1.5.4)."""

from __future__ import annotations

import contextlib
import json
import struct
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfsfs.dfsc.wire import (
    MAX_PATH_CHARACTERS,
    MAX_REFERRALS,
    MAX_STRING_BYTES,
    EntryFlags,
    HeaderFlags,
    NameListEntry,
    ReferralEntry,
    ReferralRequest,
    ReferralResponse,
    decode_request,
    decode_request_ex,
    decode_response,
    encode_request,
    encode_request_ex,
    encode_response,
)
from dfsfs.errors import WireError
from dfsfs.ntstatus import NtStatus
from dfsfs.unc import UncError, UncPath

if TYPE_CHECKING:
    from collections.abc import Callable

RECORDED = [
    json.loads(line)
    for line in (Path(__file__).parents[1] / "fixtures" / "samba-4.17-referrals.jsonl").read_text().splitlines()
]
GOOD = [exchange for exchange in RECORDED if exchange["status"] == "SUCCESS"]
PATH = UncPath.parse("//contoso/public/docs")

components = st.text(st.characters(codec="utf-16-le", exclude_characters="\0\\/"), min_size=1, max_size=12)
paths = st.lists(components, min_size=2, max_size=5).map(lambda parts: UncPath(tuple(parts)))
shown = st.characters(codec="utf-16-le", exclude_characters="\\/", exclude_categories=("Cc", "Cf", "Zl", "Zp"))
names = st.text(shown, min_size=1, max_size=12)
addresses = st.lists(names, min_size=2, max_size=5).map(lambda parts: UncPath(tuple(parts)))
texts = st.text(st.characters(codec="utf-16-le", exclude_characters="\0"), max_size=20)
ttls = st.integers(0, 2**32 - 1)


@st.composite
def responses(draw: st.DrawFn) -> tuple[UncPath, ReferralResponse]:
    """A path and a well-formed answer to a request for it."""
    path, version = draw(paths), draw(st.integers(1, 4))
    covered = UncPath(path.components[: draw(st.integers(1, len(path)))])
    flags = draw(st.integers(0, 2**32 - 1))
    if version >= 3 and draw(st.booleans()):
        several = st.lists(names, max_size=4).map(tuple)
        lists = draw(st.lists(st.builds(NameListEntry, names, several, ttls), min_size=1, max_size=4))
        return path, ReferralResponse(version, flags, covered, (), tuple(lists))
    entries = draw(
        st.lists(st.builds(ReferralEntry, st.booleans(), ttls, st.booleans(), addresses, texts, texts), max_size=6)
    )
    if version < 4:
        entries = [replace(entry, starts_set=False) for entry in entries]
    if version == 1:
        entries = [replace(entry, ttl=0, dfs_path="", alternate_path="") for entry in entries]
    return path, ReferralResponse(version if entries else 0, flags, covered, tuple(entries))


def v3(*targets: str, version: int = 3, size: int = 34, flags: int = 0, ttl: int = 300, gap: bytes = b"") -> bytes:
    """An answer for PATH with strings behind all entries, built by hand; `gap` is padding behind each entry."""
    whole = PATH.wire.encode("utf-16-le") + b"\0\0"
    fixed, heap = b"", b""
    step = size + len(gap)
    for index, target in enumerate(targets):
        start = step * (len(targets) - index) + len(heap)
        address = start + len(whole)
        entry = struct.pack("<HHHHIHHH", version, step, 0, flags, ttl, start, start, address)
        fixed += entry.ljust(size, b"\xaa") + gap
        heap += whole + target.encode("utf-16-le", "surrogatepass") + b"\0\0"
    return struct.pack("<HHI", len(PATH.wire) * 2, len(targets), 2) + fixed + heap


def v1(target: str) -> bytes:
    """The same in version 1."""
    return encode_response(ReferralResponse(1, 0, PATH, (ReferralEntry(False, 0, False, UncPath.parse(target)),)))


def decoded(body: bytes) -> list[str]:
    return [str(entry.network_address) for entry in decode_response(body, PATH).entries]


# -- paths and requests -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["//a/b/c", "\\\\a\\b\\c", "\\a\\b\\c\\", "a\\b\\c", "//a//b/c/"])
def test_c003_c038_h18_one_backslash_in_front_and_none_doubled_or_at_the_end(text: str) -> None:
    assert UncPath.parse(text).wire == "\\a\\b\\c"


@pytest.mark.parametrize("level", [1, 2, 3, 4])
@given(path=paths)
def test_c004_c005_c010_a_request_is_a_level_and_a_terminated_string(level: int, path: UncPath) -> None:
    body = encode_request(path.wire, level)
    assert body == level.to_bytes(2, "little") + path.wire.encode("utf-16-le") + b"\0\0"
    assert decode_request(body) == ReferralRequest(path.wire, level)


@pytest.mark.parametrize("text", ["", "//", "//a\0b/c"])
def test_c006_a_component_has_a_character_and_no_nul(text: str) -> None:
    with pytest.raises(UncError):
        UncPath.parse(text)


def test_c006_a_target_of_one_component_is_ill_formed() -> None:
    with pytest.raises(WireError):
        decoded(v3("\\fs1"))


SPOILS = ["\x1b]0;x\x07", "\n", "\x7f", "\x9b2J", "\ud800", "\udc80"]
"""Control characters and halves of one; names of servers and domains may not turn the order of characters either."""


@pytest.mark.parametrize("evil", SPOILS)
@pytest.mark.parametrize("address", ["\\fs1{}\\data", "\\fs1\\da{}ta", "\\fs1\\data\\fol{}der"])
@pytest.mark.parametrize("encoded", [v1, v3], ids=["v1", "v3"])
def test_a_target_with_a_control_character_is_ill_formed(
    address: str, evil: str, encoded: Callable[[str], bytes]
) -> None:
    assert decoded(encoded(address.format("")))
    with pytest.raises(WireError, match="character") as caught:
        decoded(encoded(address.format(evil)))
    assert evil not in str(caught.value)


def test_and_a_server_whose_name_reads_in_another_order() -> None:
    assert decoded(v3("\\fs1\\data\\\u05d0\u200f")), "a folder may have such a name"
    with pytest.raises(WireError, match="character"):
        decoded(v3("\\fs\u202e1\\data"))


@pytest.mark.parametrize("evil", SPOILS)
def test_and_so_is_the_name_of_a_domain_or_controller(evil: str) -> None:
    for names in (NameListEntry(f"con{evil}toso", (), 60), NameListEntry("contoso", ("dc1", f"d{evil}c2"), 60)):
        with pytest.raises(WireError, match="character"):
            decode_response(encode_response(ReferralResponse(3, 0, None, (), (names,))), None)


def test_what_was_asked_for_may_have_any_character() -> None:
    target = ReferralEntry(False, 60, False, UncPath.parse("//fs1/data"), "\\a\\b\x9b\x7f", "\\a\\\ud800")
    response = ReferralResponse(4, 0, None, (target,))
    assert decode_response(encode_response(response), None) == response


@pytest.mark.parametrize(
    ("path", "share", "below"),
    [
        ("//server/dfs", "//server/dfs", ()),
        ("//contoso.test/public", "//contoso.test/public", ()),
        ("//server/dfs/dir/link", "//server/dfs", ("dir", "link")),
    ],
)
def test_c007_c008_c009_roots_links_and_targets_are_paths(path: str, share: str, below: tuple[str, ...]) -> None:
    assert (UncPath.parse(path).share, UncPath.parse(path).below_share) == (UncPath.parse(share), below)


@given(path=paths, site=components)
def test_c012_c013_c056_the_extended_request_carries_a_site(path: UncPath, site: str) -> None:
    body = encode_request_ex(path.wire, site)
    level, flags, length = struct.unpack_from("<HHI", body)
    assert (level, flags, length) == (4, 1, len(body) - 8)
    (name_length,) = struct.unpack_from("<H", body, 8)
    assert body[10 : 10 + name_length] == path.wire.encode("utf-16-le") + b"\0\0"
    assert decode_request_ex(body) == ReferralRequest(path.wire, 4, site)


@given(st.binary(max_size=60))
def test_c012_ill_formed_requests_have_one_error(body: bytes) -> None:
    for decode in (decode_request, decode_request_ex):
        with contextlib.suppress(WireError):
            decode(body)


# -- answers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("exchange", GOOD, ids=lambda exchange: f"{exchange['path']} {exchange['level']}")
def test_c010_c073_recorded_answers_of_samba(exchange: dict[str, Any]) -> None:
    path = UncPath.parse(exchange["path"]) if exchange["path"].strip("\\/") else None
    body = bytes.fromhex(exchange["response"])
    if not exchange["path"].startswith(("\\", "/")) and path is not None:
        # PathConsumed is of the text as it was sent; dfsfs sends none without its backslash.
        body = struct.pack("<H", struct.unpack_from("<H", body)[0] + 2) + body[2:]
    response = decode_response(body, path)
    assert response.entries or response.name_lists
    assert response.version == struct.unpack_from("<H", body, 8)[0]
    assert decode_response(encode_response(response), path) == response


@given(responses())
def test_c010_c015_c024_what_is_encoded_is_decoded(case: tuple[UncPath, ReferralResponse]) -> None:
    path, response = case
    assert decode_response(encode_response(response), path) == response


@given(path=paths, ascii_names=st.lists(st.from_regex("[A-Za-z]{1,8}", fullmatch=True), min_size=2, max_size=2))
def test_c011_the_case_of_host_and_share_does_not_matter(path: UncPath, ascii_names: list[str]) -> None:
    """That of what is below them is for the server to say: test_c011_c040_the_server_says_..."""
    names, rest = ascii_names, path.below_share
    assert UncPath((*names, *rest)) == UncPath((*(name.swapcase() for name in names), *rest))


@pytest.mark.parametrize("gap", [b"", b"\xff" * 2, b"\xff" * 16])
def test_c014_c020_entries_are_stepped_by_their_size(gap: bytes) -> None:
    assert decoded(v3("\\fs1\\data", "\\fs2\\data", gap=gap)) == ["//fs1/data", "//fs2/data"]


def test_c020_bytes_behind_the_strings_are_ignored() -> None:
    assert decoded(v3("\\fs1\\data") + b"\xff" * 7) == ["//fs1/data"]


def test_c024_entries_of_18_bytes_without_a_guid() -> None:
    assert decoded(v3("\\fs1\\data", "\\fs2\\data", size=18)) == ["//fs1/data", "//fs2/data"]


def test_c016_versions_are_not_mixed() -> None:
    body = bytearray(v3("\\fs1\\data", "\\fs2\\data"))
    struct.pack_into("<H", body, 8 + 34, 4)
    with pytest.raises(WireError, match="version 4 after version 3"):
        decoded(bytes(body))


@pytest.mark.parametrize("version", [0, 5, 6, 0xFFFF])
def test_c016_c073_unknown_versions_are_ill_formed(version: int) -> None:
    with pytest.raises(WireError):
        decoded(v3("\\fs1\\data", version=version))


def test_c017_unknown_header_flags_are_ignored() -> None:
    body = bytearray(v3("\\fs1\\data"))
    struct.pack_into("<I", body, 4, 0xFFFFFFF8 | HeaderFlags.STORAGE_SERVERS)
    assert decoded(bytes(body)) == ["//fs1/data"]


@pytest.mark.parametrize("version", [1, 2, 3, 4])
def test_c018_failback_counts_in_version_4_only(version: int) -> None:
    entry = ReferralEntry(False, 0, False, PATH)
    response = ReferralResponse(version, HeaderFlags.TARGET_FAIL_BACK, None, (entry,))
    assert decode_response(encode_response(response), PATH).failback is (version == 4)


def test_c019_path_consumed_counts_bytes_of_utf_16() -> None:
    path = UncPath.parse("//contoso/Grüße/😀/x")
    response = ReferralResponse(3, 2, UncPath(path.components[:3]), (ReferralEntry(False, 1, False, PATH),))
    assert struct.unpack_from("<H", encode_response(response))[0] == 2 * (1 + 7 + 1 + 5 + 1 + 2)
    assert decode_response(encode_response(response), path).covered == response.covered


@pytest.mark.parametrize("consumed", [1, 3, 15, 17, 200, 0xFFFF])
def test_c019_path_consumed_inside_a_component_or_behind_the_path(consumed: int) -> None:
    body = struct.pack("<H", consumed) + v3("\\fs1\\data")[2:]
    with pytest.raises(WireError, match="PathConsumed"):
        decoded(body)


def test_c021_version_1_has_its_string_inside_and_no_ttl() -> None:
    address = "\\fs1\\data\0".encode("utf-16-le")
    entry = struct.pack("<HHHH", 1, 8 + len(address) + 4, 1, 0xFFFF) + address + b"\xff" * 4
    response = decode_response(struct.pack("<HHI", 0, 2, 3) + entry + entry, PATH)
    assert [(e.is_root, e.ttl, str(e.network_address)) for e in response.entries] == [(True, 0, "//fs1/data")] * 2


def test_c022_version_2_has_a_ttl_and_three_strings() -> None:
    text = "\\fs1\\data\0".encode("utf-16-le")
    entry = struct.pack("<HHHHIIHHH", 2, 22, 0, 0xFFFF, 12345, 77, 22, 22, 22) + text
    response = decode_response(struct.pack("<HHI", 0, 1, 2) + entry, PATH)
    assert response.entries == (
        ReferralEntry(
            False, 77, False, UncPath.parse("//fs1/data"), text.decode("utf-16-le")[:-1], text.decode("utf-16-le")[:-1]
        ),
    )


@pytest.mark.parametrize("flags", [0, 1, 4, 0xFFFD])
def test_c023_of_the_flags_of_version_3_only_one_counts(flags: int) -> None:
    (entry,) = decode_response(v3("\\fs1\\data", flags=flags), PATH).entries
    assert not entry.starts_set


def test_c025_name_lists() -> None:
    heap = "\\contoso.test\0\\dc1.contoso.test\0\\dc2\0".encode("utf-16-le")
    for padding in (b"", b"\xee" * 16):
        size = 18 + len(padding)
        fixed = struct.pack("<HHHHIHHH", 3, size, 0, EntryFlags.NAME_LIST_REFERRAL, 600, size, 2, size + 28) + padding
        response = decode_response(struct.pack("<HHI", 0, 1, 0) + fixed + heap, None)
        assert response.name_lists == (NameListEntry("contoso.test", ("dc1.contoso.test", "dc2"), 600),)
        assert not response.entries


def test_c026_version_4_marks_target_sets() -> None:
    starts = enumerate([True, False, True])
    entries = tuple(ReferralEntry(False, 300, first, UncPath.parse(f"//fs{number}/data")) for number, first in starts)
    response = ReferralResponse(4, 2, PATH, entries)
    assert [e.starts_set for e in decode_response(encode_response(response), PATH).entries] == [True, False, True]
    (other,) = decode_response(v3("\\fs1\\data", version=4, flags=0xFFF9), PATH).entries
    assert not other.starts_set


# -- ill-formed answers -----------------------------------------------------------------------------------------------


def patched(offset: int, value: int) -> bytes:
    body = bytearray(v3("\\fs1\\data", "\\fs2\\data"))
    struct.pack_into("<H", body, offset, value)
    return bytes(body)


ILL_FORMED = {
    "empty": b"",
    "half a header": v3("\\fs1\\data")[:5],
    "an entry more than there are": patched(2, 3),
    "more entries than make sense": patched(2, MAX_REFERRALS + 1),
    "Size 0": patched(8 + 2, 0),
    "Size of less than the entry": patched(8 + 2, 17),
    "Size beyond the end": patched(8 + 34 + 2, 0x7FFF),
    "an offset beyond the end": patched(8 + 16, 0xFFFF),
    "DFSPath beyond the end": patched(8 + 12, 0xFFF0),
    "a string without an end": v3("\\fs1\\data")[:-2],
    "a target that is no path": v3("\\\\"),
    "a target without a share": v3("\\fs1"),
    "too long a string": v3("\\fs1\\" + "x" * MAX_PATH_CHARACTERS),
    "targets and names mixed": patched(8 + 34 + 6, EntryFlags.NAME_LIST_REFERRAL),
}


@pytest.mark.parametrize("case", ILL_FORMED)
def test_c065_ill_formed_answers_are_one_error(case: str) -> None:
    with pytest.raises(WireError) as caught:
        decode_response(ILL_FORMED[case], PATH)
    assert caught.value.status == NtStatus.INVALID_NETWORK_RESPONSE


def test_c065_a_few_bytes_do_not_become_hundreds_of_megabytes() -> None:
    text = ("\\fs1\\" + "x" * 8000 + "\0").encode("utf-16-le")
    count = MAX_STRING_BYTES // len(text) + 2
    body = struct.pack("<HHI", 0, count, 2)
    for index in range(count):
        offset = 18 * (count - index)
        body += struct.pack("<HHHHIHHH", 3, 18, 0, 0, 1, offset, offset, offset)
    with pytest.raises(WireError, match="bytes of strings"):
        decode_response(body + text, PATH)


@given(st.binary(max_size=200))
def test_c065_any_bytes_are_an_answer_or_the_error(body: bytes) -> None:
    with contextlib.suppress(WireError):
        decode_response(body, PATH)


@given(st.sampled_from(GOOD), st.data())
def test_c065_recorded_answers_with_changed_bytes(exchange: dict[str, Any], data: st.DataObject) -> None:
    body = bytearray(bytes.fromhex(exchange["response"]))
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    body = body[: data.draw(st.integers(0, len(body)))]
    with contextlib.suppress(WireError):
        decode_response(bytes(body), UncPath.parse(exchange["path"] or "//a/b"))


def test_more_targets_than_offsets_can_reach_is_an_error() -> None:
    entries = tuple(ReferralEntry(False, 1, False, UncPath.parse(f"//server{n:05}/share")) for n in range(3000))
    with pytest.raises(WireError, match="3000 entries"):
        encode_response(ReferralResponse(4, 2, PATH, entries))
