"""Reparse points and symbolic links in files: both ways, against bytes that servers sent, and against nonsense."""

from __future__ import annotations

import stat as posix
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfsfs.errors import WireError
from dfsfs.smb.reparse import (
    MFSYMLINK_SIZE,
    ReparseTag,
    Special,
    decode_mfsymlink,
    decode_reparse,
    encode_mfsymlink,
    encode_reparse,
    tag_of,
)

SAMBA_LINK = bytes.fromhex(
    "0c0000a0240000000000" + "0c000c000c0001000000" + "74006100720067006500740074006100720067006500740000"[:48]
)
"""As Samba 4.22 sent it for a link to `target`, whose name it gives twice."""
targets = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=300)


def reparse(tag: int, data: bytes) -> bytes:
    return struct.pack("<IHH", tag, len(data), 0) + data


def test_a_link_as_samba_sends_it() -> None:
    assert decode_reparse(SAMBA_LINK) == Special(posix.S_IFLNK, wire_target="target")
    assert tag_of(SAMBA_LINK) == ReparseTag.SYMLINK


def windows_link(target: str, flags: int) -> bytes:
    name = target.encode("utf-16-le")
    data = struct.pack("<HHHHI", 4, len(name), 0, 4, flags) + b"p\0r\0" + name
    return reparse(ReparseTag.SYMLINK, data)


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
    assert tag_of(encode_reparse(special)) == ReparseTag.NFS


@pytest.mark.parametrize("kind", [posix.S_IFIFO, posix.S_IFSOCK])
def test_fifos_and_sockets_come_back(kind: int) -> None:
    assert decode_reparse(encode_reparse(Special(kind))) == Special(kind)


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), st.sampled_from([posix.S_IFCHR, posix.S_IFBLK]))
def test_devices_come_back(major: int, minor: int, kind: int) -> None:
    special = Special(kind, device=(major, minor))
    assert decode_reparse(encode_reparse(special)) == special


@pytest.mark.parametrize(
    ("tag", "kind"),
    [
        (ReparseTag.AF_UNIX, posix.S_IFSOCK),
        (ReparseTag.LX_FIFO, posix.S_IFIFO),
        (ReparseTag.LX_CHR, posix.S_IFCHR),
        (ReparseTag.LX_BLK, posix.S_IFBLK),
    ],
)
def test_what_the_linux_subsystem_keeps(tag: int, kind: int) -> None:
    assert decode_reparse(reparse(tag, b""), (8, 1)) == Special(kind, device=(8, 1))
    assert decode_reparse(reparse(tag, b"")) == Special(kind)


def test_a_link_of_the_linux_subsystem() -> None:
    data = struct.pack("<I", 2) + "zür/ick".encode()
    assert decode_reparse(reparse(ReparseTag.LX_SYMLINK, data)) == Special(posix.S_IFLNK, "zür/ick")


@pytest.mark.parametrize("tag", [ReparseTag.MOUNT_POINT, ReparseTag.DFS, 0x80000013, 0x9000001A])
def test_tags_that_are_nothing_special(tag: int) -> None:
    assert decode_reparse(reparse(tag, b"anything")) is None


@pytest.mark.parametrize(
    "broken",
    [
        b"",
        b"\x0c\0\0\xa0",
        SAMBA_LINK[:-1],
        reparse(ReparseTag.SYMLINK, b"short"),
        reparse(ReparseTag.SYMLINK, struct.pack("<HHHHI", 0, 10, 0, 0, 1) + b"a\0"),
        reparse(ReparseTag.SYMLINK, struct.pack("<HHHHI", 65534, 2, 0, 0, 1) + b"a\0"),
        reparse(ReparseTag.SYMLINK, struct.pack("<HHHHI", 0, 1, 0, 0, 1) + b"a\0"),
        reparse(ReparseTag.NFS, b"LNK"),
        reparse(ReparseTag.NFS, struct.pack("<Q", 0x14B4E4C) + b"odd"),
        reparse(ReparseTag.NFS, struct.pack("<Q", 0x524843) + b"\0" * 7),
        reparse(ReparseTag.LX_SYMLINK, b"\2\0"),
    ],
)
def test_broken_reparse_points(broken: bytes) -> None:
    with pytest.raises(WireError):
        decode_reparse(broken)


@given(st.sampled_from(ReparseTag), st.binary(max_size=200))
def test_any_bytes_are_a_value_or_an_error(tag: ReparseTag, data: bytes) -> None:
    for buffer in (reparse(tag, data), data):
        try:
            decode_reparse(buffer)
        except WireError:
            pass


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
    ],
)
def test_files_of_that_size_that_are_no_links(content: bytes) -> None:
    assert decode_mfsymlink(content) is None
