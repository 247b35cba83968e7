"""The tables of errors: what moves on to the next target, and what programs see."""

from __future__ import annotations

import errno

import pytest

from dfsfs.errors import (
    DISPOSITIONS,
    NEXT_TARGET_STATUSES,
    ConnectError,
    ConnectionLost,
    Disposition,
    SecurityError,
    SmbError,
    WireError,
)
from dfsfs.ntstatus import NtStatus, errno_of, is_failure, is_known, status_name

WINDOWS_MOVES_ON = """
BAD_NETWORK_NAME BAD_NETWORK_PATH CONNECTION_DISCONNECTED CONNECTION_REFUSED CONNECTION_RESET DEVICE_OFF_LINE
DFS_UNAVAILABLE DISK_OPERATION_FAILED DUPLICATE_NAME FS_DRIVER_REQUIRED HOST_UNREACHABLE INSUFFICIENT_RESOURCES
INVALID_NETWORK_RESPONSE IO_REPARSE_TAG_NOT_HANDLED IO_TIMEOUT NETLOGON_NOT_STARTED NETWORK_BUSY NETWORK_NAME_DELETED
NETWORK_UNREACHABLE NO_SUCH_DEVICE NO_SUCH_LOGON_SESSION REMOTE_NOT_LISTENING REQUEST_NOT_ACCEPTED SHARING_PAUSED
UNEXPECTED_NETWORK_ERROR UNMAPPABLE_CHARACTER USER_SESSION_DELETED VIRTUAL_CIRCUIT_CLOSED
"""
MOVES_ON = {Disposition.NEXT_TARGET, Disposition.RECONNECT}


def test_f10_exactly_the_statuses_of_windows_move_on() -> None:
    """RECONNECT goes to the next target after one more try of the same; an expired session is only renewed."""
    moving = {status for status in NtStatus if DISPOSITIONS.get(status) in MOVES_ON}
    assert moving - {NtStatus.NETWORK_SESSION_EXPIRED} == {NtStatus[name] for name in WINDOWS_MOVES_ON.split()}
    assert moving >= NEXT_TARGET_STATUSES


@pytest.mark.parametrize(
    "status",
    [NtStatus.ACCESS_DENIED, NtStatus.LOGON_FAILURE, NtStatus.OBJECT_NAME_NOT_FOUND, NtStatus.SHARING_VIOLATION],
)
def test_f10_h26_answers_stay_where_they_are(status: int) -> None:
    assert SmbError(status, "test").disposition is Disposition.RETURN


def test_what_happens_to_connections() -> None:
    assert ConnectError("h", NtStatus.CONNECTION_REFUSED, "x").disposition is Disposition.NEXT_TARGET
    assert ConnectionLost("h", NtStatus.CONNECTION_RESET, "x").disposition is Disposition.RECONNECT
    assert WireError("x").disposition is Disposition.NEXT_TARGET
    assert SecurityError("x").disposition is Disposition.FATAL


@pytest.mark.parametrize("status", list(NtStatus))
def test_every_status_has_a_name_and_an_errno(status: NtStatus) -> None:
    assert status_name(status) == f"STATUS_{status.name}"
    assert errno_of(status) in errno.errorcode


@pytest.mark.parametrize("status", [status for status in NtStatus if is_failure(status)])
def test_somebody_has_decided_on_the_errno_of_every_failure(status: NtStatus) -> None:
    assert is_known(status)


PROGRAMS_KNOW = {
    "OBJECT_NAME_NOT_FOUND": errno.ENOENT,
    "OBJECT_NAME_COLLISION": errno.EEXIST,
    "ACCESS_DENIED": errno.EACCES,
    "SHARING_VIOLATION": errno.EBUSY,
    "DIRECTORY_NOT_EMPTY": errno.ENOTEMPTY,
    "DISK_FULL": errno.ENOSPC,
    "QUOTA_EXCEEDED": errno.EDQUOT,
    "MEDIA_WRITE_PROTECTED": errno.EROFS,
    "NOT_SAME_DEVICE": errno.EXDEV,
    "TOO_MANY_LINKS": errno.EMLINK,
    "NAME_TOO_LONG": errno.ENAMETOOLONG,
    "EA_TOO_LARGE": errno.ENOSPC,
    "NO_EAS_ON_FILE": errno.ENODATA,
    "STOPPED_ON_SYMLINK": errno.ELOOP,
    "FILE_IS_A_DIRECTORY": errno.EISDIR,
    "NOT_A_DIRECTORY": errno.ENOTDIR,
    "FILES_OPEN": errno.EBUSY,
    "PIPE_BROKEN": errno.EPIPE,
}


@pytest.mark.parametrize("name", PROGRAMS_KNOW)
def test_what_programs_handle(name: str) -> None:
    assert errno_of(NtStatus[name]) == PROGRAMS_KNOW[name]


def test_a_status_without_a_name() -> None:
    assert status_name(0xC0001234) == "NTSTATUS 0xc0001234"
    assert errno_of(0xC0001234) == errno.EIO


@pytest.mark.parametrize(
    ("status", "failed"),
    [(0, False), (0x103, False), (0x40000000, False), (0x80000005, True), (NtStatus.ACCESS_DENIED, True)],
)
def test_c072_information_completes_a_request(status: int, failed: bool) -> None:
    assert is_failure(status) is failed


def test_c065_ill_formed_bytes_are_invalid_network_response() -> None:
    assert WireError("x").status == NtStatus.INVALID_NETWORK_RESPONSE
