"""What each call may end with: no error that programs take for something else."""

from __future__ import annotations

import errno
import inspect
from typing import TYPE_CHECKING

import pyfuse3
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfsfs.errors import ConnectError, ConnectionLost, DfsfsError, PosixError, SmbError, WireError
from dfsfs.fuse.boundary import immediate_handler, request_handler
from dfsfs.fuse.errnos import ALLOWED, BY_NAME, NAMES, errno_for
from dfsfs.fuse.operations import DfsOperations
from dfsfs.ntstatus import NtStatus, errno_of

if TYPE_CHECKING:
    from collections.abc import Iterable

CALLS = sorted(ALLOWED)
NEVER = {errno.EAGAIN, errno.EWOULDBLOCK, errno.EINTR, errno.EFAULT, errno.EMFILE, errno.ENOSYS, errno.EPIPE}
NEVER |= {errno.ECONNRESET, errno.ECONNABORTED, errno.ENOTCONN, errno.ENOMEM}
LOCKS = {"getlk", "setlk", "setlkw", "flock", "flockw"}
"""Calls of which pyfuse3 has no handlers: the kernel keeps locks itself then."""
AT_ONCE = {"setlk", "flock"}
"""Calls of which EAGAIN is a documented answer, that of dfsfs itself: no status of a server becomes it."""
STATUSES = st.sampled_from(list(NtStatus)) | st.integers(0, 2**32 - 1)
FORGIVEN = {
    "unlink": {errno.ENOENT},
    "rmdir": {errno.ENOENT},
    "mkdir": {errno.EEXIST},
    "getxattr": {errno.ENODATA, errno.EOPNOTSUPP},
    "listxattr": {errno.EOPNOTSUPP},
}
"""What programs take for success: only the statuses below may become that."""
PLAIN = {
    "OBJECT_NAME_NOT_FOUND",
    "OBJECT_PATH_NOT_FOUND",
    "NO_SUCH_FILE",
    "NOT_FOUND",
    "DELETE_PENDING",
    "FILE_DELETED",
    "FILE_RENAMED",
    "OBJECT_NAME_COLLISION",
    "NONEXISTENT_EA_ENTRY",
    "NO_EAS_ON_FILE",
    "NO_MORE_EAS",
    "EAS_NOT_SUPPORTED",
    "NOT_SUPPORTED",
    "NOT_IMPLEMENTED",
    "INVALID_DEVICE_REQUEST",
    "INVALID_INFO_CLASS",
    "INVALID_LEVEL",
    "CTL_FILE_NOT_SUPPORTED",
    "FS_DRIVER_REQUIRED",
    "IO_REPARSE_TAG_NOT_HANDLED",
    "HASH_NOT_SUPPORTED",
    "OBJECT_NAME_INVALID",
}


WITHOUT_PYFUSE3 = {"statx", "lseek", "fallocate", "copy_file_range"}
"""Calls for which pyfuse3 has no handlers."""


def of(call: str, status: int, *names: bytes) -> str:
    """The name of what a program gets for a server's answer."""
    return errno.errorcode[errno_for(call, SmbError(status, "a test"), names)]


@given(st.sampled_from(CALLS), STATUSES, st.lists(st.binary(max_size=300), max_size=2))
def test_whatever_a_server_says_a_call_ends_with_what_it_may(call: str, status: int, names: Iterable[bytes]) -> None:
    errors: tuple[DfsfsError, ...] = (
        SmbError(status, "a test"),
        ConnectError("fs1", status, "a test"),
        ConnectionLost("fs1", status, "a test"),
    )
    for error in errors:
        code = errno_for(call, error, names)
        assert code in ALLOWED[call]
        assert code not in NEVER


@given(st.sampled_from(CALLS), st.sampled_from(sorted(errno.errorcode)))
def test_whatever_is_decided_here_a_call_ends_with_what_it_may(call: str, code: int) -> None:
    found = errno_for(call, PosixError(code, "a test"))
    assert found in ALLOWED[call]
    assert found == code or code not in ALLOWED[call]


@pytest.mark.parametrize("call", CALLS)
def test_no_call_may_say_that_it_was_interrupted_or_should_be_tried_again(call: str) -> None:
    assert ALLOWED[call] & NEVER == ({errno.EAGAIN} if call in AT_ONCE else set())
    assert errno.EIO in ALLOWED[call] and errno.EHOSTUNREACH in ALLOWED[call]


@pytest.mark.parametrize("call", CALLS)
def test_no_status_means_eagain_or_eintr(call: str) -> None:
    assert {errno_of(status) for status in NtStatus}.isdisjoint({errno.EAGAIN, errno.EINTR})


@pytest.mark.parametrize("call", FORGIVEN)
def test_what_programs_take_for_success_is_only_what_it_is(call: str) -> None:
    for status in NtStatus:
        code = errno_for(call, SmbError(status, "a test"))
        assert code not in FORGIVEN[call] or status.name in PLAIN, status.name


def test_no_answer_of_a_server_says_that_no_data_comes_any_more() -> None:
    """cp and tar end a copy at ENXIO of lseek(2), and take it for whole."""
    for status in NtStatus:
        assert of("lseek", status) != "ENXIO", status.name


@pytest.mark.parametrize("call", sorted(set(CALLS) - BY_NAME))
def test_what_is_open_is_never_said_to_be_missing(call: str) -> None:
    """glibc takes ENOENT of getdents(2) for the end of the listing, and what is not listed rsync --delete removes."""
    for status in NtStatus:
        assert of(call, status) not in ("ENOENT", "EEXIST", "EINVAL")


IMPORTANT = [
    # call, status, what a program gets
    ("read", "FILE_LOCK_CONFLICT", "EACCES"),
    ("write", "FILE_LOCK_CONFLICT", "EACCES"),
    ("flush", "FILE_LOCK_CONFLICT", "EACCES"),
    ("setattr", "FILE_LOCK_CONFLICT", "EACCES"),
    ("write", "LOCK_NOT_GRANTED", "EACCES"),
    ("read", "CANCELLED", "EIO"),
    ("open", "CANCELLED", "EIO"),
    ("flush", "CANCELLED", "EIO"),
    ("lookup", "RETRY", "EBUSY"),
    ("open", "RETRY", "EBUSY"),
    ("read", "RETRY", "EIO"),
    ("fsync", "RETRY", "EIO"),
    ("lookup", "DELETE_PENDING", "ENOENT"),
    ("open", "DELETE_PENDING", "ENOENT"),
    ("unlink", "DELETE_PENDING", "ENOENT"),
    ("create", "DELETE_PENDING", "EBUSY"),
    ("mkdir", "DELETE_PENDING", "EBUSY"),
    ("rename", "DELETE_PENDING", "EBUSY"),
    ("read", "DELETE_PENDING", "ESTALE"),
    ("open", "SHARING_VIOLATION", "EBUSY"),
    ("unlink", "SHARING_VIOLATION", "EBUSY"),
    ("setattr", "SHARING_VIOLATION", "EBUSY"),
    ("read", "SHARING_VIOLATION", "EACCES"),
    ("write", "USER_MAPPED_FILE", "EACCES"),
    ("read", "FILE_CLOSED", "ESTALE"),
    ("flush", "INVALID_HANDLE", "ESTALE"),
    ("getattr", "FILE_CLOSED", "ESTALE"),
    ("readdir", "OBJECT_PATH_NOT_FOUND", "ESTALE"),
    ("readdir", "NO_SUCH_FILE", "ESTALE"),
    ("readdir", "ACCESS_DENIED", "EACCES"),
    ("readlink", "INVALID_PARAMETER", "EIO"),
    ("rename", "INVALID_PARAMETER", "EIO"),
    ("open", "INVALID_PARAMETER", "EIO"),
    ("fsync", "NOT_SUPPORTED", "EIO"),
    ("fsync", "MEDIA_WRITE_PROTECTED", "EIO"),
    ("write", "INVALID_PARAMETER", "EFBIG"),
    ("setattr", "INVALID_PARAMETER", "EINVAL"),
    ("setxattr", "INVALID_EA_NAME", "EINVAL"),
    ("getxattr", "INVALID_EA_NAME", "EIO"),
    ("read", "END_OF_FILE", "EIO"),
    ("getxattr", "END_OF_FILE", "EIO"),
    ("getxattr", "NONEXISTENT_EA_ENTRY", "ENODATA"),
    ("open", "TOO_MANY_OPENED_FILES", "ENFILE"),
    ("open", "INSUFFICIENT_RESOURCES", "ENFILE"),
    ("lookup", "TOO_MANY_OPENED_FILES", "ENFILE"),
    ("lookup", "INSUFFICIENT_RESOURCES", "ENFILE"),
    ("getattr", "TOO_MANY_OPENED_FILES", "EREMOTEIO"),
    ("read", "INSUFFICIENT_RESOURCES", "EREMOTEIO"),
    ("read", "DISK_FULL", "EIO"),
    ("write", "DISK_FULL", "ENOSPC"),
    ("flush", "DISK_QUOTA_EXCEEDED", "EDQUOT"),
    ("mkdir", "OBJECTID_EXISTS", "EIO"),
    ("link", "NOT_SUPPORTED", "EPERM"),
    ("setattr", "NOT_SUPPORTED", "EPERM"),
    ("setxattr", "NOT_SUPPORTED", "ENOTSUP"),
    ("write", "PIPE_BROKEN", "EIO"),
    ("read", "CONNECTION_RESET", "EHOSTUNREACH"),
    ("read", "CONNECTION_REFUSED", "EHOSTUNREACH"),
    ("opendir", "CONNECTION_REFUSED", "ECONNREFUSED"),
    ("readdir", "BAD_NETWORK_NAME", "EHOSTUNREACH"),
    ("opendir", "BAD_NETWORK_NAME", "ENXIO"),
    ("rename", "NOT_SAME_DEVICE", "EXDEV"),
    ("write", "NOT_SAME_DEVICE", "EIO"),
    ("rmdir", "DIRECTORY_NOT_EMPTY", "ENOTEMPTY"),
    ("lseek", "BAD_NETWORK_NAME", "EHOSTUNREACH"),
    ("lseek", "INVALID_DEVICE_REQUEST", "EIO"),
    ("fallocate", "DISK_FULL", "ENOSPC"),
    ("fallocate", "INVALID_PARAMETER", "EFBIG"),
    ("fallocate", "NOT_SUPPORTED", "ENOTSUP"),
    ("copy_file_range", "DISK_QUOTA_EXCEEDED", "EDQUOT"),
    ("copy_file_range", "FILE_LOCK_CONFLICT", "EACCES"),
    ("copy_file_range", "INVALID_PARAMETER", "EIO"),
]


@pytest.mark.parametrize(("call", "status", "code"), IMPORTANT, ids=str)
def test_the_important_ones(call: str, status: str, code: str) -> None:
    assert of(call, NtStatus[status]) == code


@pytest.mark.parametrize(
    ("call", "code", "expected"),
    [
        ("setlk", "EAGAIN", "EAGAIN"),
        ("setlk", "ENOLCK", "ENOLCK"),
        ("setlk", "EINVAL", "EINVAL"),
        ("setlk", "EBADF", "EBADF"),
        ("setlkw", "EDEADLK", "EDEADLK"),
        ("setlkw", "ENOLCK", "ENOLCK"),
        ("flock", "EAGAIN", "EAGAIN"),
        ("flockw", "ENOLCK", "ENOLCK"),
        ("getlk", "EBADF", "EBADF"),
    ],
)
def test_of_locks_programs_get_what_fcntl_and_flock_are_documented_to_give(call: str, code: str, expected: str) -> None:
    assert errno_for(call, PosixError(getattr(errno, code), "a test")) == getattr(errno, expected)


def test_a_name_that_a_server_can_not_have() -> None:
    invalid = NtStatus.OBJECT_NAME_INVALID
    assert of("lookup", invalid, "ü".encode() * 128) == "ENAMETOOLONG"
    assert of("create", invalid, "ü".encode() * 128) == "ENAMETOOLONG"
    assert of("rename", invalid, b"a", "ü".encode() * 128) == "ENAMETOOLONG"
    assert of("lookup", invalid, b":" * 86) == "ENAMETOOLONG"  # 258 bytes as the server has it
    assert of("lookup", invalid, b":" * 85) == "ENOENT"
    assert of("lookup", invalid, "ü".encode() * 127 + b"a") == "ENOENT"
    assert of("create", invalid, b"a:b") == "EILSEQ"
    assert of("mkdir", invalid, b"a\xff") == "EILSEQ"
    assert of("read", invalid) == "EIO"


def test_the_errno_of_bytes_that_make_no_sense() -> None:
    assert {errno_for(call, WireError("a test")) for call in CALLS} == {errno.EIO}


def test_every_handler_has_a_set_and_its_names_are_where_they_are_said_to_be() -> None:
    handlers = {
        name: handler
        for name, handler in vars(DfsOperations).items()
        if inspect.iscoroutinefunction(handler) and hasattr(pyfuse3.Operations, name)
    }
    assert set(handlers) - {"forget"} == set(ALLOWED) - WITHOUT_PYFUSE3 - LOCKS
    for call, handler in handlers.items():
        parameters = list(inspect.signature(handler).parameters)[1:]  # without self
        names = tuple(at for at, name in enumerate(parameters) if name in ("name", "new_name", "name_old", "name_new"))
        assert NAMES.get(call, ()) == (() if call.endswith("xattr") else names), call


async def ioctl(handlers: DfsOperations) -> None:
    """A handler that there is not yet."""


def test_a_handler_of_which_nobody_has_said_what_it_may_end_with() -> None:
    for decorator in (request_handler, immediate_handler):
        with pytest.raises(LookupError, match="ioctl"):
            decorator(ioctl)
