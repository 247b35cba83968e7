"""Sizes and numbers against the header of FUSE 7.45, as a C compiler sees it (tests/support/fuselayout.py)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from dfsfs.fuse.abi import constants, negotiation, notifications, replies, requests
from dfsfs.fuse.abi.constants import InitFlag, NotifyCode, Opcode
from tests.support.fuselayout import constant, enum_of, size_of

if TYPE_CHECKING:
    from enum import IntEnum

STRUCTURES = {
    "fuse_in_header": requests.FUSE_IN_HEADER,
    "fuse_out_header": replies.FUSE_OUT_HEADER,
    "fuse_attr": replies.FUSE_ATTR,
    "fuse_entry_out": replies.FUSE_ENTRY_OUT,
    "fuse_attr_out": replies.FUSE_ATTR_OUT,
    "fuse_open_out": replies.FUSE_OPEN_OUT,
    "fuse_write_out": replies.FUSE_WRITE_OUT,
    "fuse_getxattr_out": replies.FUSE_GETXATTR_OUT,
    "fuse_statfs_out": replies.FUSE_STATFS_OUT,
    "fuse_lk_out": replies.FUSE_LK_OUT,
    "fuse_lseek_out": replies.FUSE_LSEEK_OUT,
    "fuse_copy_file_range_out": replies.FUSE_COPY_FILE_RANGE_OUT,
    "fuse_statx_out": replies.FUSE_STATX_OUT,
    "fuse_dirent": replies.FUSE_DIRENT,
    "fuse_direntplus": replies.FUSE_DIRENTPLUS,
    "fuse_init_out": negotiation.FUSE_INIT_OUT,
    "fuse_notify_inval_inode_out": notifications.FUSE_NOTIFY_INVAL_INODE_OUT,
}


@pytest.mark.parametrize("name", STRUCTURES)
def test_structures_have_the_sizes_of_c(name: str) -> None:
    assert STRUCTURES[name].size == size_of(name)


def test_what_stands_before_the_data_of_a_write() -> None:
    assert size_of("fuse_in_header") == requests.HEADER_SIZE
    assert size_of("fuse_in_header") + size_of("fuse_write_in") == requests.WRITE_HEADERS


@pytest.mark.parametrize(
    ("ours", "enum", "prefix"), [(Opcode, "fuse_opcode", "FUSE_"), (NotifyCode, "fuse_notify_code", "FUSE_NOTIFY_")]
)
def test_enumerations_are_those_of_the_header(ours: type[IntEnum], enum: str, prefix: str) -> None:
    assert {prefix + each.name: int(each) for each in ours} == {name: constant(name) for name in enum_of(enum)}


def test_flags_are_those_of_the_header() -> None:
    for flag in InitFlag:
        assert constant(f"FUSE_{flag.name}") == flag
    unknown = {constant("FUSE_FILE_OPS"), constant("FUSE_INIT_RESERVED") % 2**32}  # neither means anything
    assert {1 << bit for bit in range(43)} - set(InitFlag) == unknown


@pytest.mark.parametrize(
    "name", [name for name in vars(constants) if name.startswith(("FATTR_", "FOPEN_")) and name.isupper()]
)
def test_bits_of_requests_and_replies(name: str) -> None:
    assert getattr(constants, name) == constant(name)


@pytest.mark.parametrize(
    "name",
    [
        *("KERNEL_VERSION", "KERNEL_MINOR_VERSION", "ROOT_ID", "MIN_READ_BUFFER", "GETATTR_FH", "FSYNC_FDATASYNC"),
        *("LK_FLOCK", "RELEASE_FLOCK_UNLOCK", "WRITE_CACHE", "EXPIRE_ONLY"),
    ],
)
def test_other_numbers(name: str) -> None:
    assert getattr(constants, name) == constant(f"FUSE_{name}")
