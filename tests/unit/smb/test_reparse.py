"""Reparse points and symbolic links in files: both ways, against bytes that servers sent, and against nonsense."""

from __future__ import annotations

import os
import stat as posix
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfsfs.errors import ContentError, Disposition
from dfsfs.smb.wire.constants import ReparseTag
from dfsfs.smb.wire.reparse import (
    MAJOR_MAX,
    MFSYMLINK_SIZE,
    MINOR_MAX,
    Special,
    decode_mfsymlink,
    decode_reparse,
    encode_mfsymlink,
    encode_reparse,
    link_mark,
    tag_of,
)
from dfsfs.vfs.names.mapping import NameMapping

SAMBA_LINK = bytes.fromhex(
    "0c0000a0240000000000" + "0c000c000c0001000000" + "74006100720067006500740074006100720067006500740000"[:48]
)
"""As Samba 4.22 sent it for a link to `target`, whose name it gives twice."""
targets = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=300)


def reparse(tag: int, data: bytes) -> bytes:
    return struct.pack("<IHH", tag, len(data), 0) + data


def test_a_link_as_samba_sends_it() -> None:
    assert decode_reparse(SAMBA_LINK) == Special(posix.S_IFLNK, wire_target="target")
    assert tag_of(SAMBA_LINK) == ReparseTag.IO_REPARSE_TAG_SYMLINK


def windows_link(target: str, flags: int) -> bytes:
    name = target.encode("utf-16-le")
    data = struct.pack("<HHHHI", 4, len(name), 0, 4, flags) + b"p\0r\0" + name
    return reparse(ReparseTag.IO_REPARSE_TAG_SYMLINK, data)


@pytest.mark.parametrize(
    ("target", "flags", "shown"),
    [
        ("..\\up\\there", 1, "../up/there"),
        ("\\??\\UNC\\fs1\\data\\x", 0, "//fs1/data/x"),
        ("\\??\\C:\\Windows", 0, "/??/C:/Windows"),
        ("\\rooted", 0, "/rooted"),
    ],
)
def test_targets_of_windows(target: str, flags: int, shown: str) -> None:
    special = decode_reparse(windows_link(target, flags))
    assert special is not None and special.wire_target == shown


@given(targets)
def test_windows_links_come_back(target: str) -> None:
    wire_target = target.replace("\\", "/")
    special = Special(posix.S_IFLNK, "whatever", wire_target)
    assert decode_reparse(encode_reparse(special)) == Special(posix.S_IFLNK, wire_target=wire_target)


@given(targets)
def test_other_links_come_back(target: str) -> None:
    special = Special(posix.S_IFLNK, target)
    assert decode_reparse(encode_reparse(special)) == special
    assert tag_of(encode_reparse(special)) == ReparseTag.IO_REPARSE_TAG_NFS


@pytest.mark.parametrize("kind", [posix.S_IFIFO, posix.S_IFSOCK])
def test_fifos_and_sockets_come_back(kind: int) -> None:
    assert decode_reparse(encode_reparse(Special(kind))) == Special(kind)


@given(st.integers(0, MAJOR_MAX), st.integers(0, MINOR_MAX), st.sampled_from([posix.S_IFCHR, posix.S_IFBLK]))
def test_devices_come_back(major: int, minor: int, kind: int) -> None:
    special = Special(kind, device=(major, minor))
    assert decode_reparse(encode_reparse(special)) == special


@pytest.mark.parametrize(
    ("tag", "kind"),
    [
        (ReparseTag.IO_REPARSE_TAG_AF_UNIX, posix.S_IFSOCK),
        (ReparseTag.IO_REPARSE_TAG_LX_FIFO, posix.S_IFIFO),
        (ReparseTag.IO_REPARSE_TAG_LX_CHR, posix.S_IFCHR),
        (ReparseTag.IO_REPARSE_TAG_LX_BLK, posix.S_IFBLK),
    ],
)
def test_what_the_linux_subsystem_keeps(tag: int, kind: int) -> None:
    assert decode_reparse(reparse(tag, b""), (8, 1)) == Special(kind, device=(8, 1))
    assert decode_reparse(reparse(tag, b"")) == Special(kind)


def test_a_link_of_the_linux_subsystem() -> None:
    data = struct.pack("<I", 2) + "zür/ick".encode()
    assert decode_reparse(reparse(ReparseTag.IO_REPARSE_TAG_LX_SYMLINK, data)) == Special(posix.S_IFLNK, "zür/ick")


@pytest.mark.parametrize(
    "tag", [ReparseTag.IO_REPARSE_TAG_MOUNT_POINT, ReparseTag.IO_REPARSE_TAG_DFS, 0x80000013, 0x9000001A]
)
def test_tags_that_are_nothing_special(tag: int) -> None:
    assert decode_reparse(reparse(tag, b"anything")) is None


@pytest.mark.parametrize(
    "broken",
    [
        b"",
        b"\x0c\0\0\xa0",
        SAMBA_LINK[:-1],
        reparse(ReparseTag.IO_REPARSE_TAG_SYMLINK, b"short"),
        reparse(ReparseTag.IO_REPARSE_TAG_SYMLINK, struct.pack("<HHHHI", 0, 10, 0, 0, 1) + b"a\0"),
        reparse(ReparseTag.IO_REPARSE_TAG_SYMLINK, struct.pack("<HHHHI", 65534, 2, 0, 0, 1) + b"a\0"),
        reparse(ReparseTag.IO_REPARSE_TAG_SYMLINK, struct.pack("<HHHHI", 0, 1, 0, 0, 1) + b"a\0"),
        reparse(ReparseTag.IO_REPARSE_TAG_NFS, b"LNK"),
        reparse(ReparseTag.IO_REPARSE_TAG_NFS, struct.pack("<Q", 0x14B4E4C) + b"odd"),
        reparse(ReparseTag.IO_REPARSE_TAG_NFS, struct.pack("<Q", 0x524843) + b"\0" * 7),
        reparse(ReparseTag.IO_REPARSE_TAG_LX_SYMLINK, b"\2\0"),
        # What can't be said to the kernel:
        reparse(
            ReparseTag.IO_REPARSE_TAG_NFS, struct.pack("<Q", 0x14B4E4C) + b"a\0\x00\xd8b\0"
        ),  # half a pair of surrogates
        reparse(
            ReparseTag.IO_REPARSE_TAG_NFS, struct.pack("<Q", 0x14B4E4C) + b"\x80\xdc"
        ),  # the same, which Python takes for a byte
        reparse(ReparseTag.IO_REPARSE_TAG_NFS, struct.pack("<Q", 0x14B4E4C) + b"a\0\0\0b\0"),
        reparse(ReparseTag.IO_REPARSE_TAG_NFS, struct.pack("<Q", 0x14B4E4C)),
        reparse(ReparseTag.IO_REPARSE_TAG_NFS, struct.pack("<Q", 0x14B4E4C) + "x".encode("utf-16-le") * 4096),
        reparse(ReparseTag.IO_REPARSE_TAG_NFS, struct.pack("<Q", 0x14B4E4C) + "\u20ac".encode("utf-16-le") * 1366),
        reparse(ReparseTag.IO_REPARSE_TAG_SYMLINK, struct.pack("<HHHHI", 0, 0, 0, 0, 1)),
        reparse(ReparseTag.IO_REPARSE_TAG_SYMLINK, struct.pack("<HHHHI", 0, 6, 0, 0, 1) + b"a\0\0\0b\0"),
        reparse(ReparseTag.IO_REPARSE_TAG_LX_SYMLINK, struct.pack("<I", 2)),
        reparse(ReparseTag.IO_REPARSE_TAG_LX_SYMLINK, struct.pack("<I", 2) + b"a\0b"),
        reparse(ReparseTag.IO_REPARSE_TAG_NFS, struct.pack("<QII", 0x524843, MAJOR_MAX + 1, 0)),
        reparse(ReparseTag.IO_REPARSE_TAG_NFS, struct.pack("<QII", 0x4B4C42, 0, MINOR_MAX + 1)),
        reparse(ReparseTag.IO_REPARSE_TAG_NFS, struct.pack("<QII", 0x4B4C42, 2**32 - 1, 2**32 - 1)),
    ],
)
def test_broken_reparse_points(broken: bytes) -> None:
    with pytest.raises(ContentError) as caught:
        decode_reparse(broken)
    assert caught.value.disposition is Disposition.RETURN


@pytest.mark.parametrize("device", [(MAJOR_MAX + 1, 0), (0, MINOR_MAX + 1)])
def test_numbers_of_a_device_that_linux_has_no_room_for(device: tuple[int, int]) -> None:
    with pytest.raises(ContentError):
        decode_reparse(reparse(ReparseTag.IO_REPARSE_TAG_LX_CHR, b""), device)


@given(st.sampled_from(ReparseTag), st.binary(max_size=200))
def test_any_bytes_are_a_value_or_an_error(tag: ReparseTag, data: bytes) -> None:
    for buffer in (reparse(tag, data), data):
        try:
            special = decode_reparse(buffer)
        except ContentError:
            continue
        if special is not None:
            check_it_can_be_shown(special)


def check_it_can_be_shown(special: Special) -> None:
    """What the kernel is told of it: nothing of that may fail."""
    os.makedev(*special.device)
    if special.kind == posix.S_IFLNK:
        target = NameMapping().link_from_wire(special)
        assert len(target) > 0 and b"\0" not in target


nfs_links = st.lists(st.integers(0, 0xFFFF), max_size=40).map(lambda units: struct.pack(f"<{len(units)}H", *units))


@given(st.sampled_from([0x14B4E4C, 0x524843, 0x4B4C42]), st.one_of(nfs_links, st.binary(max_size=40)))
def test_what_nfs_servers_keep_can_be_shown_or_is_an_error(kind: int, data: bytes) -> None:
    try:
        special = decode_reparse(reparse(ReparseTag.IO_REPARSE_TAG_NFS, struct.pack("<Q", kind) + data))
    except ContentError:
        return
    if special is not None:
        check_it_can_be_shown(special)


@given(nfs_links)
def test_windows_links_can_be_shown_or_are_an_error(data: bytes) -> None:
    try:
        special = decode_reparse(
            reparse(ReparseTag.IO_REPARSE_TAG_SYMLINK, struct.pack("<HHHHI", 0, len(data), 0, 0, 1) + data)
        )
    except ContentError:
        return
    assert special is not None
    check_it_can_be_shown(special)


# -- links in files ---------------------------------------------------------------------------------------------------


@given(targets)
def test_links_in_files_come_back(target: str) -> None:
    content = encode_mfsymlink(target)
    if content is None:
        assert len(target.encode()) > 1024
    else:
        assert len(content) == MFSYMLINK_SIZE
        assert decode_mfsymlink(content) == Special(posix.S_IFLNK, target)


def test_a_link_in_a_file_as_other_clients_write_it() -> None:
    content = b"XSym\n0003\nacbd18db4cc2f85cedef654fccc4a4d8\nfoo\n".ljust(MFSYMLINK_SIZE)
    assert decode_mfsymlink(content) == Special(posix.S_IFLNK, "foo")
    assert encode_mfsymlink("foo") == content


@pytest.mark.parametrize(
    "content",
    [
        b"x" * MFSYMLINK_SIZE,
        b"XSym\n0003\nacbd18db4cc2f85cedef654fccc4a4d8\nfox\n".ljust(MFSYMLINK_SIZE),
        b"XSym\n9999\nacbd18db4cc2f85cedef654fccc4a4d8\nfoo\n".ljust(MFSYMLINK_SIZE),
        b"XSym\n-003\nacbd18db4cc2f85cedef654fccc4a4d8\nfoo\n".ljust(MFSYMLINK_SIZE),
        b"XSym\n0003\nacbd18db4cc2f85cedef654fccc4a4d8\nfoo\n",
        b"XSym\n0000\nd41d8cd98f00b204e9800998ecf8427e\n\n".ljust(MFSYMLINK_SIZE),
        b"XSym\n0003\n70350f6027bce3713f6b76473084309b\na\0b\n".ljust(MFSYMLINK_SIZE),
    ],
)
def test_files_of_that_size_that_are_no_links(content: bytes) -> None:
    assert decode_mfsymlink(content) is None


def test_the_mark_is_of_the_content() -> None:
    one, two = encode_mfsymlink("one"), encode_mfsymlink("two")
    assert one is not None and two is not None
    assert link_mark(one) == link_mark(bytes(one)) != link_mark(two)
    assert 0 < len(link_mark(one)) < 255
