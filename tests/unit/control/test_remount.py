"""What a remount changes, and what it refuses by name."""

from __future__ import annotations

from typing import Any

import pytest

from dfsfs.config.assembly import Mounter, make_config
from dfsfs.config.options import parse_options
from dfsfs.control.protocol import ControlError
from dfsfs.control.remount import change_config
from dfsfs.smb.auth.credentials import Credentials, KerberosCredentials, Secret
from dfsfs.unc import UncPath


def nobody(name: str) -> int:
    raise KeyError(name)


def bin_only(name: str) -> int:
    return {"bin": 2}[name]


ROOT, USER = Mounter(0, 0, nobody, nobody), Mounter(1000, 1000, nobody, nobody)
LOGIN = Credentials("alice", Secret("old"), "LAB", Secret("older"))


def remounted(
    options: str, text: str, mounter: Mounter = ROOT, login: dict[str, str] | None = None, who: Any = LOGIN
) -> tuple[Any, tuple[str, ...]]:
    """A mount with some options after a remount with a text."""
    given = Mounter(mounter.uid, mounter.gid, bin_only, bin_only)
    config = make_config(UncPath(("srv", "ns", "docs")), parse_options([options]), who, given)
    return change_config(config, text, login or {}, mounter)


@pytest.mark.parametrize(
    ("options", "echo", "mounter"),
    [
        ("", "rw,nosuid,nodev,relatime,user_id=0,group_id=0,default_permissions,allow_other", ROOT),
        ("uid=bin,gid=bin", "rw,nosuid,nodev,relatime,user_id=0,group_id=0,default_permissions,allow_other", ROOT),
        ("multiuser", "rw,nosuid,nodev,relatime,user_id=0,group_id=0,allow_other", ROOT),
        ("sync,noexec", "rw,nosuid,nodev,noexec,sync,relatime,user_id=0,group_id=0,allow_other", ROOT),
        ("", "rw,nosuid,nodev,relatime,user_id=1000,group_id=1000,default_permissions", USER),
        ("prefixpath=docs", "rw,prefixpath=docs", ROOT),
    ],
)
def test_what_the_kernel_shows_is_no_change(options: str, echo: str, mounter: Mounter) -> None:
    config, names = remounted(options, f"{echo},ro", mounter)
    assert "ro" in config.fuse_options and config.unc == UncPath(("srv", "ns", "docs"))
    assert names == ("ro",)


@pytest.mark.parametrize(
    ("options", "text", "name"),
    [
        ("", "noallow_other", "allow_other"),
        ("", "allow_root", "allow_other"),
        ("noperm", "perm", "perm"),
        ("", "sync", "sync"),
        ("", "allow_other,seal", "seal;"),
        ("", "prefixpath=other", "prefixpath"),
    ],
)
def test_what_is_another_mount_is_refused(options: str, text: str, name: str) -> None:
    with pytest.raises(ControlError, match=f"can't be changed while it is mounted: .*{name}"):
        remounted(options, text)


@pytest.mark.parametrize(
    ("login", "expected"),
    [
        ({"password": "new"}, Credentials("alice", Secret("new"), "LAB", Secret("older"))),
        ({"password2": ""}, Credentials("alice", Secret("old"), "LAB", Secret(""))),
        ({"username": "bob", "password": "x"}, Credentials("bob", Secret("x"), "LAB", Secret("older"))),
        ({"domain": "HOME"}, Credentials("alice", Secret("old"), "HOME", Secret("older"))),
        ({}, LOGIN),
    ],
)
def test_only_what_is_named_of_a_login_changes(login: dict[str, str], expected: Credentials) -> None:
    config, names = remounted("", "rw", login=login)
    assert config.credentials == expected
    assert ("password" in names) is bool(login)


def test_tickets_have_no_use_for_a_password() -> None:
    with pytest.raises(ControlError, match="Kerberos, which has no use for a new password"):
        remounted("sec=krb5", "rw", login={"password": "x"}, who=KerberosCredentials())
