"""Failures in words."""

from __future__ import annotations

import errno
import os
from dataclasses import replace

import pytest

from dfsfs.cli.messages import MountError, Verdict, describe
from dfsfs.config.assembly import Mounter, make_config
from dfsfs.config.errors import ConfigError
from dfsfs.config.options import parse_options
from dfsfs.errors import (
    ConnectError,
    ConnectionLost,
    DfsfsError,
    LoginNotAllowed,
    MutualAuthenticationRequired,
    NamespaceLoop,
    PosixError,
    SecurityError,
    SmbError,
    TicketError,
    WireError,
)
from dfsfs.ntstatus import NtStatus
from dfsfs.smb.auth.credentials import Credentials, KerberosCredentials, Secret
from dfsfs.unc import UncPath

PASSWORD = "Tr0ub4dor&3"
CONFIG = make_config(
    UncPath(("srv", "ns")),
    parse_options(["port=1445"]),
    Credentials("alice", Secret(PASSWORD), "LAB"),
    Mounter(0, 0, dict[str, int]().__getitem__, dict[str, int]().__getitem__),
)


@pytest.mark.parametrize(
    ("error", "code", "expected"),
    [
        (
            SmbError(NtStatus.LOGON_FAILURE, "logging in to fs1"),
            32,
            (
                "logging in to fs1: the server does not know user 'LAB\\alice', or the password is wrong",
                "STATUS_LOGON_FAILURE",
                "check username=",
                "credentials file",
            ),
        ),
        (SmbError(NtStatus.ACCOUNT_LOCKED_OUT, "logging in to fs1"), 32, ("user 'LAB\\alice' is locked",)),
        (SmbError(NtStatus.PASSWORD_EXPIRED, "logging in to fs1"), 32, ("has expired", "change it")),
        (SmbError(NtStatus.ACCESS_DENIED, "stat of //srv/ns"), 32, ("stat of //srv/ns: user 'LAB\\alice' has no",)),
        (
            SmbError(NtStatus.BAD_NETWORK_NAME, "connecting to //srv/ns"),
            32,
            ("connecting to //srv/ns: the server has no share or namespace of that name", "smbclient -L srv -U USER"),
        ),
        (SmbError(NtStatus.NOT_FOUND, "DFS referral for //srv/ns from srv"), 32, ("no DFS namespace", "nodfs")),
        (
            SmbError(NtStatus.OBJECT_NAME_NOT_FOUND, "stat of //srv/ns/a"),
            32,
            ("//srv/ns/a: there is no such file or folder",),
        ),
        (
            SmbError(NtStatus.PATH_NOT_COVERED, "stat of //srv/ns/a"),
            32,
            ("to other servers through DFS", "administrator"),
        ),
        (
            TicketError("cifs/fs1", "ticket cache DIR:/c", "Ticket expired"),
            32,
            ("no Kerberos ticket for cifs/fs1 from ticket cache DIR:/c: Ticket expired", "get a new ticket"),
        ),
        (TicketError("cifs/fs1", "keytab /k", "Key table entry not found"), 32, ("check keytab= and principal=",)),
        (
            TicketError("cifs/fs1.x.test/x.test", "keytab /k", "Server not found in Kerberos database"),
            32,
            ("cifs/fs1.x.test/x.test", "taken for a controller", "nohardened"),
        ),
        (TicketError("cifs/fs1", "keytab /k", "Server not found in Kerberos database"), 32, ("check the name",)),
        (TicketError("cifs/fs1", "keytab /k", "something new"), 32, ("something new; see klist",)),
        (LoginNotAllowed("fs9"), 32, ("fs9 gets no login", "login_hosts=")),
        (MutualAuthenticationRequired("//srv/SYSVOL"), 32, ("//srv/SYSVOL", "sec=krb5", "nohardened")),
        (SmbError(0xC0001234, "stat of //srv/ns"), 32, ("the server refuses with NTSTATUS 0xc0001234",)),
        (
            ConnectError("srv", NtStatus.BAD_NETWORK_PATH, "can't find an address for srv: unknown"),
            32,
            ("can't connect to srv:1445: can't find an address for srv", "DNS", "ip= or hosts="),
        ),
        (
            ConnectError("srv", NtStatus.CONNECTION_REFUSED, "10.0.0.1 port 1445: whatever"),
            32,
            ("can't connect to srv:1445: connection refused; check that a file server runs there, and option port=",),
        ),
        (
            ConnectError("srv", NtStatus.IO_TIMEOUT, "no answer within 8 seconds"),
            32,
            ("srv:1445: no answer within 8", "firewall"),
        ),
        (ConnectError("srv", NtStatus.CONNECTION_RESET, "reset"), 32, ("srv:1445: reset", "vers=")),
        (ConnectError("srv", NtStatus.UNSUCCESSFUL, "odd"), 32, ("srv:1445: odd; check that the server is up",)),
        (ConnectionLost("srv", NtStatus.CONNECTION_RESET, "it ended"), 32, ("connection was lost: srv: it ended",)),
        (SecurityError("srv did not sign"), 32, ("srv did not sign; ", "given up")),
        (WireError("a frame of 1 byte"), 32, ("makes no sense: a frame of 1 byte",)),
        (NamespaceLoop("//srv/ns leads back to itself"), 32, ("//srv/ns leads back to itself; ", "dfs_max_hops=")),
        (PosixError(errno.ENOTDIR, "//srv/ns/a is not a directory"), 32, ("//srv/ns/a is not a directory; mount the",)),
        (PosixError(errno.EPERM, "FUSE can't mount on /mnt: no"), 1, ("FUSE can't mount on /mnt: no; only root",)),
        (PosixError(errno.ENODEV, "FUSE can't mount"), 2, ("modprobe fuse",)),
        (DfsfsError("a domain without controllers"), 32, ("a domain without controllers",)),
        (MountError(1, "no"), 1, ("no",)),
        (ConfigError("bad option"), 1, ("bad option",)),
        (PermissionError(errno.EACCES, os.strerror(errno.EACCES), "/dev/fuse"), 1, ("/dev/fuse: Permission denied",)),
        (OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)), 2, ("Cannot allocate memory",)),
        (ValueError("odd"), 2, ("ValueError: odd",)),
        (ExceptionGroup("g", [ValueError("odd"), ExceptionGroup("h", [WireError("why")])]), 32, ("no sense: why",)),
        (ExceptionGroup("g", [ValueError("odd"), KeyError("x")]), 2, ("ValueError: odd",)),
    ],
    ids=str,
)
def test_describe(error: Exception, code: int, expected: tuple[str, ...]) -> None:
    verdict = describe(error, CONFIG)
    assert verdict.code == code
    for text in expected:
        assert text in verdict.text
    assert PASSWORD not in verdict.text


def test_what_nodfs_has_to_do_with_it() -> None:
    config = replace(CONFIG, use_dfs=False)
    assert (
        "leave out the option nodfs" in describe(SmbError(NtStatus.PATH_NOT_COVERED, "stat of //srv/ns/a"), config).text
    )


@pytest.mark.parametrize("status", list(NtStatus))
def test_an_error_says_what_it_means_by_itself(status: NtStatus) -> None:
    text = str(SmbError(status, "step"))
    assert text.startswith("step: ") and text.endswith(f" (STATUS_{status.name})") and "{" not in text


@pytest.mark.parametrize("status", list(NtStatus))
def test_every_status_has_a_line(status: NtStatus) -> None:
    verdict = describe(SmbError(status, "step"), CONFIG)
    assert verdict.code == 32
    assert verdict.text.startswith("step: ")
    assert status.name in verdict.text
    assert "{" not in verdict.text


def test_whose_tickets_they_are_if_nobody_has_a_name() -> None:
    config = replace(CONFIG, credentials=KerberosCredentials(ccache="DIR:/c"))
    text = describe(SmbError(NtStatus.ACCESS_DENIED, "stat of //srv/ns"), config).text
    assert "user of ticket cache DIR:/c has no permission" in text


def test_success_has_nothing_to_say() -> None:
    assert Verdict(0).text == ""
