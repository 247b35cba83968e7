"""File information: against smbprotocol's structures as oracle, and with bytes that make no sense."""

from __future__ import annotations

import struct
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from smbprotocol import file_info

from dfsfs.errors import ContentError, WireError
from dfsfs.filetime import filetime_to_ns, ns_to_filetime
from dfsfs.smb.wire.constants import FileAttributes, ReparseTag
from dfsfs.smb.wire.directories import DirectoryPage, decode_directory
from dfsfs.smb.wire.fscc import (
    FileStat,
    decode_all_information,
    decode_full_size,
    encode_basic_information,
    encode_disposition,
    encode_end_of_file,
    encode_rename,
)

if TYPE_CHECKING:
    from collections.abc import Callable

SECOND = 1_000_000_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
ENTRY = struct.Struct("<IIQQQQQQIIIBB24sHQ")
ALL = struct.Struct("<QQQQIIQQIBBHQIIQIII")
FULL_SIZE = struct.Struct("<qqqII")
DIRECTORY_LINK = FileAttributes.FILE_ATTRIBUTE_DIRECTORY | FileAttributes.FILE_ATTRIBUTE_REPARSE_POINT

DOTS = (".", "..")
"""What every folder has, and no listing of ours."""
names = st.text(st.characters(codec="utf-16-le", exclude_characters="\0"), min_size=1, max_size=40).filter(
    lambda name: name not in DOTS
)
any_units = st.binary(max_size=80).map(lambda raw: raw[: len(raw) // 2 * 2])


def entry(
    name: bytes, *, step: int = 0, attributes: int = 0x20, size: int = 5, allocated: int = 4096, ea_size: int = 0
) -> bytes:
    times = (0, 0, 0, 0)
    return ENTRY.pack(step, 0, *times, size, allocated, attributes, len(name), ea_size, 0, 0, b"", 0, 77) + name


def listing(*encoded: bytes) -> bytes:
    """A well-formed answer: entries aligned to 8 bytes, the last one without a next."""
    blob = b""
    for index, one in enumerate(encoded):
        last = index == len(encoded) - 1
        padded = one if last else one + bytes(-len(one) % 8)
        blob += (0 if last else len(padded)).to_bytes(4, "little") + padded[4:]
    return blob


def from_oracle(name: str, moment: datetime, attributes: int, size: int, file_id: int) -> bytes:
    structure: Any = file_info.FileIdBothDirectoryInformation()
    for field in ("creation_time", "last_access_time", "last_write_time", "change_time"):
        structure[field] = moment
    structure["end_of_file"] = size
    structure["allocation_size"] = size
    structure["file_attributes"] = attributes
    structure["file_name"] = name.encode("utf-16-le")
    structure["file_id"] = file_id
    return bytes(structure.pack())


# -- times ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ticks", "ns"),
    [
        (116_444_736_000_000_000, 0),
        (116_444_736_000_000_001, 100),
        (132_539_328_000_000_000, 1_609_459_200 * SECOND),  # 2021-01-01
        (1, -11_644_473_600 * SECOND + 100),
        (0, 0),
        (0xFFFFFFFFFFFFFFFF, 0),
        (0xFFFFFFFFFFFFFFFE, 0),
    ],
)
def test_filetimes(ticks: int, ns: int) -> None:
    assert filetime_to_ns(ticks) == ns


@given(st.integers(1, 2**63 - 1))
def test_a_filetime_survives_the_round_trip(ticks: int) -> None:
    assert ns_to_filetime(filetime_to_ns(ticks)) == ticks


@given(st.integers(-(2**80), 2**80))
def test_any_time_becomes_one_that_changes_the_file(ns: int) -> None:
    """0 and -1 would mean "leave it"."""
    assert 1 <= ns_to_filetime(ns) < 2**63


# -- listings ---------------------------------------------------------------------------------------------------------


@given(
    st.lists(
        st.tuples(
            names,
            st.integers(0, 4_000_000_000).map(lambda seconds: EPOCH + timedelta(seconds=seconds)),
            st.sampled_from([0x10, 0x20, 0x80, 0x21]),
            st.integers(0, 2**63 - 1),
            st.integers(0, 2**64 - 1),
        ),
        min_size=1,
        max_size=6,
    )
)
def test_listings_decode_as_the_oracle_packs_them(rows: list[tuple[str, datetime, int, int, int]]) -> None:
    decoded, left_out = decode_directory(listing(*(from_oracle(*row) for row in rows)))
    assert not left_out and len(decoded) == len(rows)
    for found, (name, moment, attributes, size, file_id) in zip(decoded, rows, strict=True):
        ns = int((moment - EPOCH).total_seconds()) * SECOND
        assert found.name == name
        assert found.stat == FileStat(ns, ns, ns, ns, attributes, size, size, file_id, 0, 0, 0)


@given(any_units.filter(lambda raw: raw and raw.decode("utf-16-le", "replace") not in DOTS))
def test_names_of_any_16_bit_units_survive(raw: bytes) -> None:
    (found,), _ = decode_directory(entry(raw))
    assert found.name.encode("utf-16-le", "surrogatepass") == raw


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_any_buffer_will_do(kind: Callable[[bytes], bytes]) -> None:
    assert [one.name for one in decode_directory(kind(entry(b"a\0")))[0]] == ["a"]


def test_the_folder_itself_and_the_one_above_are_left_out() -> None:
    page, left_out = decode_directory(listing(entry(b".\0"), entry(b".\0.\0"), entry(b".\0a\0"), entry(b".\0.\0.\0")))
    assert ([one.name for one in page], list(page.names()), left_out) == ([".a", "..."], [".a", "..."], [])


def test_answers_of_one_round_trip_are_one_page() -> None:
    page = DirectoryPage()
    page.add(listing(entry(b"a\0"), entry(b"l\0", attributes=DIRECTORY_LINK)))
    page.add(listing(entry(b"c\0"), entry(b"d\0", size=1067), entry(b"e\0")))
    assert [one.name for one in page] == ["a", "l", "c", "d", "e"] == [page.name(index) for index in range(len(page))]
    assert page.unusual == [1, 3]
    part = page[1:4]
    assert (list(part), part.unusual, page[3].stat.size) == ([page[1], page[2], page[3]], [0, 2], 1067)
    assert part.size < page.size


def test_no_bytes_are_no_entries() -> None:
    page, left_out = decode_directory(b"")
    assert (len(page), left_out) == (0, [])


GOOD = (entry(b"a\0"), entry(b"b\0"))


@pytest.mark.parametrize("at", [0, 1, 2])
@pytest.mark.parametrize(
    ("odd", "text"),
    [
        (entry("x".encode("utf-16-le") * 5000), "an entry with a name of 5000 characters"),
        (entry("x".encode("utf-16-le") * 256), "an entry with a name of 256 characters"),
        (entry(b""), "an entry with a name of 0 characters"),
        (entry(b"x\0", size=2**63), "the entry 'x' with a negative size"),
        (entry(b"\0\xd8", allocated=2**64 - 1), "the entry '\ufffd' with a negative size"),
    ],
)
def test_what_no_file_can_have_is_left_out(odd: bytes, text: str, at: int) -> None:
    rows = [*GOOD[:at], odd, *GOOD[at:]]
    found, left_out = decode_directory(listing(*rows))
    assert [one.name for one in found] == ["a", "b"]
    assert left_out == [text]


def test_the_longest_name_is_none_of_these() -> None:
    (found,), left_out = decode_directory(entry("x".encode("utf-16-le") * 255))
    assert len(found.name) == 255 and not left_out


@pytest.mark.parametrize(
    ("attributes", "ea_size", "tag", "is_link"),
    [
        (DIRECTORY_LINK, ReparseTag.IO_REPARSE_TAG_DFS, ReparseTag.IO_REPARSE_TAG_DFS, True),
        (DIRECTORY_LINK, ReparseTag.IO_REPARSE_TAG_DFSR, ReparseTag.IO_REPARSE_TAG_DFSR, True),
        (DIRECTORY_LINK, 0xA000000C, 0xA000000C, False),
        (
            FileAttributes.FILE_ATTRIBUTE_DIRECTORY,
            ReparseTag.IO_REPARSE_TAG_DFS,
            0,
            False,
        ),  # then EaSize is the size of the EAs
    ],
)
def test_ea_size_is_the_tag_of_a_reparse_point(attributes: int, ea_size: int, tag: int, is_link: bool) -> None:
    (found,), _ = decode_directory(entry(b"l\0", attributes=attributes, ea_size=ea_size))
    assert (found.stat.reparse_tag, found.stat.is_dfs_link) == (tag, is_link)
    assert found.stat.is_directory


@pytest.mark.parametrize(
    "broken",
    [
        entry(b"ab")[:-1],
        entry(b"ab")[: ENTRY.size - 1],
        entry(b"abc"),  # half a unit
        entry(b"ab", step=1) + entry(b"cd"),  # into the middle of itself
        entry(b"abcd", step=ENTRY.size) + entry(b"cd"),  # into its own name
        entry(b"ab", step=ENTRY.size + 2) + b"rest",
        entry(b"ab", step=5000),  # the next one begins beyond the end
    ],
)
def test_broken_listings(broken: bytes) -> None:
    with pytest.raises(WireError):
        decode_directory(broken)


# -- one file ---------------------------------------------------------------------------------------------------------


def test_all_information_decodes_as_the_oracle_packs_it() -> None:
    moment = datetime(2024, 2, 29, 12, 0, 1, tzinfo=UTC)
    structure: Any = file_info.FileAllInformation()
    basic, standard = structure["basic_information"].get_value(), structure["standard_information"].get_value()
    for field in ("creation_time", "last_access_time", "last_write_time", "change_time"):
        basic[field] = ns_to_filetime(int(moment.timestamp()) * SECOND)
    basic["file_attributes"] = 0x21
    standard["allocation_size"], standard["end_of_file"], standard["number_of_links"] = 8192, 5000, 3
    structure["internal_information"].get_value()["index_number"] = 99
    structure["name_information"].get_value()["file_name"] = "\\a"
    ns = int(moment.timestamp()) * SECOND
    assert decode_all_information(structure.pack()) == FileStat(ns, ns, ns, ns, 0x21, 5000, 8192, 99, 3, 0, 0)


def test_the_name_of_all_information_may_be_cut() -> None:
    packed = ALL.pack(0, 0, 0, 0, 0x10, 0, 0, 0, 1, 0, 1, 0, 42, 0, 0, 0, 0, 0, 4000)
    assert decode_all_information(packed).file_id == 42
    with pytest.raises(WireError):
        decode_all_information(packed[:90])


def test_volume_sizes_decode_as_the_oracle_packs_them() -> None:
    structure: Any = file_info.FileFsFullSizeInformation()
    structure["total_allocation_units"] = 1000
    structure["caller_available_units"] = 300
    structure["actual_available_units"] = 400
    structure["sectors_per_unit"], structure["bytes_per_sector"] = 8, 512
    volume = decode_full_size(structure.pack())
    assert (volume.total, volume.free, volume.caller_free, volume.unit) == (4096000, 1638400, 1228800, 4096)


@pytest.mark.parametrize("field", [6, 7])
def test_a_file_has_no_negative_size(field: int) -> None:
    fields = [0, 0, 0, 0, 0x20, 0, 0, 0, 1, 0, 0, 0, 42, 0, 0, 0, 0, 0, 0]
    fields[field] = 2**63
    with pytest.raises(ContentError, match="negative"):
        decode_all_information(ALL.pack(*fields))


@pytest.mark.parametrize("sizes", [(-1, 0, 0), (0, -1, 0), (0, 0, -1)])
def test_a_volume_has_no_negative_size(sizes: tuple[int, int, int]) -> None:
    with pytest.raises(WireError, match="negative"):
        decode_full_size(FULL_SIZE.pack(*sizes, 8, 512))


@pytest.mark.parametrize(("sectors", "sector"), [(0, 512), (8, 0), (0, 0), (2**32 - 1, 512), (1, 2**31), (2, 2**30)])
def test_a_volume_whose_clusters_make_no_sense(sectors: int, sector: int) -> None:
    with pytest.raises(WireError, match="clusters of"):
        decode_full_size(FULL_SIZE.pack(10, 5, 5, sectors, sector))


def test_the_largest_cluster() -> None:
    assert decode_full_size(FULL_SIZE.pack(1, 1, 1, 1, 2**31 - 1)).unit == 2**31 - 1


@given(st.binary(max_size=300))
def test_any_bytes_decode_or_are_a_wire_error(raw: bytes) -> None:
    for decode in (decode_directory, decode_all_information, decode_full_size):
        try:
            decode(raw)
        except WireError:
            pass


@given(st.data())
def test_a_listing_with_wrong_bytes_decodes_or_is_a_wire_error(data: st.DataObject) -> None:
    raw = bytearray(listing(entry(b"a\0b\0"), entry(b"c\0"), entry(b"d\0" * 9)))
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        decode_directory(raw[: data.draw(st.integers(0, len(raw)))])
    except WireError:
        pass


# -- what is sent -----------------------------------------------------------------------------------------------------


def test_basic_information_leaves_what_is_none() -> None:
    structure: Any = file_info.FileBasicInformation()
    packed = encode_basic_information(None, 5 * SECOND, None, None, 0x20)
    assert len(packed) == 40
    structure.unpack(packed)
    assert structure["last_access_time"].get_value() == ns_to_filetime(5 * SECOND)
    assert structure["file_attributes"].get_value() == 0x20
    assert struct.unpack_from("<Q8xQQ", packed) == (0, 0, 0)  # 0: leave it


@pytest.mark.parametrize("replace", [True, False])
def test_rename_is_packed_as_by_the_oracle(replace: bool) -> None:
    structure: Any = file_info.FileRenameInformation()
    structure["replace_if_exists"] = replace
    structure["file_name"] = "dir\\neu ü"
    assert encode_rename("dir\\neu ü", replace=replace) == structure.pack()


def test_a_name_that_is_no_unicode_can_be_renamed_to() -> None:
    assert encode_rename("\ud800", replace=False)[20:] == b"\x00\xd8"


def test_end_of_file_and_disposition_are_packed_as_by_the_oracle() -> None:
    size: Any = file_info.FileEndOfFileInformation()
    size["end_of_file"] = 2**40 + 1
    gone: Any = file_info.FileDispositionInformation()
    gone["delete_pending"] = True
    assert encode_end_of_file(2**40 + 1) == size.pack()
    assert encode_disposition() == gone.pack()
