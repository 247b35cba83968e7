"""Names and attributes between POSIX and SMB."""

from __future__ import annotations

import errno
import stat as posix
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfsfs.errors import PosixError
from dfsfs.smb.wire.constants import FileAttributes
from dfsfs.smb.wire.fscc import FileStat
from dfsfs.smb.wire.reparse import SpecialFile
from dfsfs.vfs.names.mapping import (
    NameMapping,
    NameStyle,
    Ownership,
    attributes_for_mode,
)

FILE = FileStat(
    created=1,
    accessed=2,
    written=3,
    changed=4,
    attributes=0,
    size=1000,
    allocated=4097,
    file_id=5,
    links=3,
    reparse_tag=0,
)
MAPPED = NameMapping()
PLAIN = NameMapping(NameStyle.NONE)
SFU = NameMapping(NameStyle.SFU)


@pytest.mark.parametrize(
    ("name", "wire"),
    [
        (b"plain.txt", "plain.txt"),
        (b'a"*:<>?\\|z', "a\uf020\uf021\uf022\uf023\uf024\uf025\uf026\uf027z"),
        (b"\x01\x1f", "\uf001\uf01f"),
        (b"ends in dot.", "ends in dot\uf029"),
        (b"ends in space ", "ends in space\uf028"),
        (b"..", ".\uf029"),
        (b". . ", ". .\uf028"),
        ("Größe".encode(), "Größe"),
        ("\U0001f600".encode(), "\U0001f600"),
    ],
)
def test_reserved_characters_have_their_place_in_the_private_range(name: bytes, wire: str) -> None:
    assert MAPPED.to_wire(name) == wire
    if name != b"..":
        assert MAPPED.from_wire(wire) == name


@pytest.mark.parametrize("mapping", [MAPPED, SFU])
@given(
    text=st.text(st.characters(exclude_characters="\0/", max_codepoint=0xEFFF, exclude_categories=["Cs"]), min_size=1)
)
def test_every_name_comes_back_as_it_was(mapping: NameMapping, text: str) -> None:
    name = text.encode()
    if name not in (b".", b"..") and len(text) <= 255:
        assert mapping.from_wire(mapping.to_wire(name)) == name


def test_the_style_of_services_for_unix() -> None:
    wire = SFU.to_wire(b'a"*:<>?\\|z.')
    assert wire == "a\uf022\uf02a\uf03a\uf03c\uf03e\uf03f\uf05c\uf07cz\uf02e"
    assert SFU.from_wire(wire) == b'a"*:<>?\\|z.'


@pytest.mark.parametrize(
    ("target", "wire"),
    [
        (b"a/b", "a/b"),
        (b"../a:b/.", "../a\uf022b/."),
        (b"a//b/", "a//b/"),
        (b"/absolute", ""),
        (b"x" * 300, ""),
    ],
)
def test_links_have_a_form_of_windows_if_there_is_one(target: bytes, wire: str) -> None:
    special = MAPPED.link_to_wire(target)
    assert (special.target, special.wire_target) == (target.decode(), wire)
    assert MAPPED.link_from_wire(special) == target


def test_a_link_that_is_no_utf8() -> None:
    with pytest.raises(PosixError) as caught:
        MAPPED.link_to_wire(b"\xff")
    assert caught.value.errno == errno.EILSEQ


def test_what_is_neither_file_nor_folder() -> None:
    ownership = Ownership(file_mode=0o644)
    link = replace(FILE, special=SpecialFile(posix.S_IFLNK, "x"), attributes=FileAttributes.FILE_ATTRIBUTE_DIRECTORY)
    assert not link.is_directory
    assert ownership.attributes(1, link).mode == posix.S_IFLNK | 0o777
    device = replace(FILE, special=SpecialFile(posix.S_IFCHR, device=(1, 3)))
    shown = ownership.attributes(1, device)
    assert (shown.mode, shown.device) == (posix.S_IFCHR | 0o644, (1, 3))
    assert attributes_for_mode(device, 0o444) is None


@pytest.mark.parametrize("wire", ["", ".", "..", "a/b", "a\0b", "a\\b", "\uf029"])
def test_a_name_that_no_program_could_use_is_left_out(wire: str) -> None:
    assert MAPPED.from_wire(wire) is None


def test_half_a_surrogate_pair_survives() -> None:
    wire = "a\ud83d"
    name = MAPPED.from_wire(wire)
    assert name is not None
    assert MAPPED.to_wire(name) == wire


@pytest.mark.parametrize(
    ("mapping", "name", "code"),
    [
        (MAPPED, b"\xff\xfe", errno.EILSEQ),
        (MAPPED, b"x" * 256, errno.ENAMETOOLONG),
        (MAPPED, "\U0001f600".encode() * 128, errno.ENAMETOOLONG),
        (PLAIN, b"a\\b", errno.EILSEQ),
    ],
)
def test_names_that_a_server_can_not_have(mapping: NameMapping, name: bytes, code: int) -> None:
    with pytest.raises(PosixError) as caught:
        mapping.to_wire(name)
    assert caught.value.errno == code


def test_the_longest_names_pass() -> None:
    assert len(MAPPED.to_wire(b"x" * 255)) == 255
    assert MAPPED.to_wire("\U0001f600".encode() * 127)


def test_without_the_mapping_names_stay_as_they_are() -> None:
    assert PLAIN.to_wire(b"a:b.") == "a:b."
    assert PLAIN.from_wire("a\uf022b") == "a\uf022b".encode()


def test_attributes_of_a_file() -> None:
    shown = Ownership(uid=7, gid=8, file_mode=0o664, dir_mode=0o775).attributes(42, FILE)
    assert (shown.ino, shown.uid, shown.gid, shown.nlink, shown.size) == (42, 7, 8, 3, 1000)
    assert shown.mode == posix.S_IFREG | 0o664
    assert shown.blocks == 9, "4097 bytes are nine sectors"
    assert (shown.btime_ns, shown.atime_ns, shown.mtime_ns, shown.ctime_ns) == (1, 2, 3, 4)


def test_attributes_of_a_folder_and_of_a_read_only_file() -> None:
    owner = Ownership(file_mode=0o664, dir_mode=0o775)
    folder = replace(
        FILE, attributes=FileAttributes.FILE_ATTRIBUTE_DIRECTORY | FileAttributes.FILE_ATTRIBUTE_READONLY, links=0
    )
    assert owner.attributes(1, folder).mode == posix.S_IFDIR | 0o775, "the bit means something else on a folder"
    assert owner.attributes(1, folder).nlink == 2
    assert (
        owner.attributes(1, replace(FILE, attributes=FileAttributes.FILE_ATTRIBUTE_READONLY)).mode
        == posix.S_IFREG | 0o444
    )
    assert owner.attributes(1, replace(FILE, links=0)).nlink == 1, "a listing gives no link count"
    assert owner.attributes(1, replace(FILE, changed=0)).ctime_ns == 3


def test_attributes_of_a_link_that_nobody_entered() -> None:
    listed = replace(FILE, attributes=FileAttributes.FILE_ATTRIBUTE_REPARSE_POINT, reparse_tag=0x8000000A, size=77)
    for shown in (Ownership().link_attributes(9, listed), Ownership().link_attributes(9, None)):
        assert posix.S_ISDIR(shown.mode)
        assert (shown.ino, shown.nlink, shown.size) == (9, 2, 0)
    assert Ownership().link_attributes(9, listed).mtime_ns == 3


def test_chmod_is_the_read_only_attribute() -> None:
    archive = replace(FILE, attributes=FileAttributes.FILE_ATTRIBUTE_ARCHIVE)
    locked = replace(FILE, attributes=FileAttributes.FILE_ATTRIBUTE_READONLY)
    assert attributes_for_mode(archive, 0o600) is None
    assert (
        attributes_for_mode(archive, 0o444)
        == FileAttributes.FILE_ATTRIBUTE_ARCHIVE | FileAttributes.FILE_ATTRIBUTE_READONLY
    )
    assert (
        attributes_for_mode(replace(FILE, attributes=FileAttributes.FILE_ATTRIBUTE_NORMAL), 0o444)
        == FileAttributes.FILE_ATTRIBUTE_READONLY
    )
    assert attributes_for_mode(locked, 0o400) is None
    assert attributes_for_mode(locked, 0o644) == FileAttributes.FILE_ATTRIBUTE_NORMAL, "0 would mean: leave them alone"
    assert attributes_for_mode(replace(FILE, attributes=FileAttributes.FILE_ATTRIBUTE_DIRECTORY), 0o555) is None
