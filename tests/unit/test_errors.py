"""The tables of errors: what moves on to the next target, and what programs see."""

from __future__ import annotations

import errno

import pytest

from dfsfs.errors import (
    DISPOSITIONS,
    LOGIN_STATUSES,
    NEXT_TARGET_STATUSES,
    SERVER_FAULT_STATUSES,
    ConnectError,
    ConnectionLost,
    Disposition,
    LoginRefused,
    SecurityError,
    SetupRefused,
    SmbError,
    TicketError,
    WireError,
)
from dfsfs.ntstatus import NtStatus, errno_of, has_errno, is_failure, status_name

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


UNABLE = """
CANT_ACCESS_DOMAIN_INFO CONNECTION_COUNT_LIMIT DEVICE_NOT_READY DOMAIN_CONTROLLER_NOT_FOUND DOMAIN_TRUST_INCONSISTENT
DS_BUSY DS_UNAVAILABLE INSUFF_SERVER_RESOURCES INSUFFICIENT_RESOURCES INTERNAL_DB_CORRUPTION INTERNAL_DB_ERROR
INTERNAL_ERROR INVALID_DOMAIN_ROLE INVALID_DOMAIN_STATE INVALID_SERVER_STATE LICENSE_QUOTA_EXCEEDED
LOGON_SERVER_CONFLICT NETLOGON_NOT_STARTED NO_LOGON_SERVERS NO_MEMORY NO_SUCH_DOMAIN NO_TRUST_LSA_SECRET
NO_TRUST_SAM_ACCOUNT REDIRECTOR_NOT_STARTED REMOTE_SESSION_LIMIT REQUEST_NOT_ACCEPTED RPC_SERVER_TOO_BUSY
RPC_SERVER_UNAVAILABLE SERVER_DISABLED SERVER_SHUTDOWN_IN_PROGRESS SERVER_UNAVAILABLE SHARE_UNAVAILABLE
SHUTDOWN_IN_PROGRESS SYNCHRONIZATION_REQUIRED SYSTEM_SHUTDOWN TIME_DIFFERENCE_AT_DC TOO_MANY_SESSIONS TRUST_FAILURE
TRUSTED_DOMAIN_FAILURE TRUSTED_RELATIONSHIP_FAILURE VOLUME_DISMOUNTED
"""
"""What a server says to a session setup or tree connect when it can't."""


@pytest.mark.parametrize("status", list(NtStatus))
@pytest.mark.parametrize("kind", [SetupRefused, LoginRefused])
def test_a_server_that_can_not_let_anybody_in_leaves_it_to_the_next(kind: type[SetupRefused], status: NtStatus) -> None:
    """The whole table: as an answer to a session setup or tree connect, and as one to anything else."""
    error = kind(status, "logging in to fs1")
    moves = status.name in UNABLE.split() or DISPOSITIONS.get(status) is Disposition.NEXT_TARGET
    assert (error.disposition is Disposition.NEXT_TARGET) is moves
    assert error.is_server_fault is (status.name in UNABLE.split())
    assert not (moves and error.is_about_login), "else the user would be taken for one who has no login"
    if status not in DISPOSITIONS:
        assert SmbError(status, "open of a file").disposition is Disposition.RETURN


def test_the_table_of_servers_that_can_not_has_no_answer_about_the_user() -> None:
    assert set(UNABLE.split()) == {status.name for status in SERVER_FAULT_STATUSES}
    about_users = {*LOGIN_STATUSES, NtStatus.ACCESS_DENIED, NtStatus.NETWORK_ACCESS_DENIED, NtStatus.ACCOUNT_EXPIRED}
    about_users |= {NtStatus.INVALID_LOGON_HOURS, NtStatus.INVALID_WORKSTATION, NtStatus.LOGON_TYPE_NOT_GRANTED}
    assert SERVER_FAULT_STATUSES & about_users == {NtStatus.NO_LOGON_SERVERS}
    assert {errno_of(status) for status in SERVER_FAULT_STATUSES} & {errno.EACCES, errno.EPERM, errno.ENOENT} == set()


def test_that_no_kdc_answers_is_not_the_servers_fault() -> None:
    error = TicketError("cifs/fs1", "a cache", "no KDC", kdc_unreachable=True)
    assert error.disposition is Disposition.RETURN and error.is_about_login


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
    assert has_errno(status)


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
