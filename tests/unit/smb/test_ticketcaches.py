"""Ticket caches in files: which are copied, and which are refused, without waiting for anybody."""

from __future__ import annotations

import fcntl
import os
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from dfsfs.smb.auth import ticketcaches
from dfsfs.smb.auth.credentials import KerberosCredentials
from dfsfs.smb.auth.identity import Account, as_user
from dfsfs.smb.auth.ticketcaches import CacheError, copy_cache

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as others")

ALICE, BOB = Account(20001, 20000), Account(20002, 20000)
TICKETS = b"\x05\x04" + bytes(range(100))


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that everybody may look into."""
    with tempfile.TemporaryDirectory(dir="/tmp") as path:
        os.chmod(path, 0o755)
        yield Path(path)


def given(path: Path, content: bytes = TICKETS, *, owner: Account = ALICE, mode: int = 0o600) -> Path:
    path.write_bytes(content)
    path.chmod(mode)
    os.chown(path, owner.uid, owner.gid)
    return path


def of(name: object, account: Account | None = ALICE) -> KerberosCredentials:
    return KerberosCredentials(ccache=str(name), account=account)


@contextmanager
def refused(match: str) -> Iterator[None]:
    with pytest.raises(CacheError, match=match), as_user(ALICE):
        yield


def copy_of(name: object) -> bytes:
    """What the Kerberos library finds in place of the cache, which it opens anew, as the user."""
    with as_user(ALICE):
        copy = copy_cache(of(name))
        assert copy is not None
        return Path(copy.name.removeprefix("FILE:")).read_bytes()


def test_a_file_of_the_user_is_copied(folder: Path) -> None:
    cache = given(folder / "cache")
    assert copy_of(f"FILE:{cache}") == TICKETS
    (folder / "link").symlink_to(cache)
    assert copy_of(f"FILE:{folder}/link") == TICKETS


def test_a_copy_is_the_users_and_goes_with_its_object(folder: Path) -> None:
    before, cache = set(os.listdir("/proc/self/fd")), given(folder / "cache")
    with as_user(ALICE):
        copy = copy_cache(of(f"FILE:{cache}"))
    assert copy is not None and copy.original == f"FILE:{folder}/cache"
    path = copy.name.removeprefix("FILE:")
    assert (os.stat(path).st_uid, os.stat(path).st_mode & 0o777) == (ALICE.uid, 0o600)
    with as_user(BOB), pytest.raises(PermissionError):
        Path(path).read_bytes()
    del copy
    assert set(os.listdir("/proc/self/fd")) == before


def test_pipes_devices_and_folders_are_refused_at_once(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    os.chown(folder / "pipe", ALICE.uid, ALICE.gid)
    for path in (folder / "pipe", "/dev/tty", "/dev/zero", folder):
        with refused("no regular file"):
            copy_cache(of(f"FILE:{path}"))


def test_a_locked_file_is_not_waited_for(folder: Path) -> None:
    with given(folder / "cache").open("r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        fcntl.lockf(file, fcntl.LOCK_EX)
        assert copy_of(f"FILE:{folder}/cache") == TICKETS


def test_what_belongs_to_another_is_refused_even_if_it_can_be_read(folder: Path) -> None:
    for owner in (BOB, Account(0, 0)):
        cache = given(folder / str(owner.uid), owner=owner, mode=0o644)
        with refused("belongs to another user"):
            copy_cache(of(f"FILE:{cache}"))


def test_what_this_process_has_open_is_nobodys_cache(folder: Path) -> None:
    cache = given(folder / "his", owner=BOB)
    with as_user(BOB):
        his = copy_cache(of(f"FILE:{cache}", BOB))
    assert his is not None
    own = os.memfd_create("own")
    try:
        for path in (
            his.name,
            f"FILE:/proc/self/fd/{own}",
            f"FILE:/proc/{os.getpid()}/fd/{own}",
            "FILE:/proc/self/mem",
        ):
            with refused("belongs to another|can't be read"):
                copy_cache(of(path))
    finally:
        os.close(own)


def test_what_the_user_may_not_read_stays_unread(folder: Path) -> None:
    (folder / "closed").mkdir(mode=0o700)
    given(folder / "closed" / "cache")
    with refused("Permission denied"):
        copy_cache(of(f"FILE:{folder}/closed/cache"))


def test_a_cache_that_is_not_there_is_named_as_the_library_does(folder: Path) -> None:
    with refused(f"No credentials cache found .filename: {folder}/nothing"):
        copy_cache(of(f"FILE:{folder}/nothing"))
    with refused("can't be read"):
        copy_cache(of(f"FILE:{folder}/\0"))


def test_a_cache_has_a_bound(folder: Path) -> None:
    given(folder / "cache", bytes(ticketcaches.CACHE_MAX))
    assert len(copy_of(f"FILE:{folder}/cache")) == ticketcaches.CACHE_MAX
    given(folder / "cache", bytes(ticketcaches.CACHE_MAX + 1))
    with refused("more than"):
        copy_cache(of(f"FILE:{folder}/cache"))


@pytest.mark.parametrize("primary", [None, b"tkt\n", b"tktother\n", b"tktother"])
def test_a_collection_leads_to_its_primary_cache(folder: Path, primary: bytes | None) -> None:
    given(folder / "tkt", b"first")
    given(folder / "tktother", b"other")
    if primary is not None:
        given(folder / "primary", primary)
    expected = b"other" if primary is not None and b"other" in primary else b"first"
    assert copy_of(f"DIR:{folder}") == expected
    assert copy_of(f"DIR::{folder}/tktother") == b"other"


@pytest.mark.parametrize("primary", [b"../tkt", b"tkt/../../x", b"other", b"", b"tkt\0x", b"\xff"])
def test_a_collection_leads_nowhere_else(folder: Path, primary: bytes) -> None:
    given(folder / "primary", primary)
    with refused("names no ticket cache"):
        copy_cache(of(f"DIR:{folder}"))


@pytest.mark.parametrize("name", ["KCM:", "KEYRING:persistent:20001", "", "MEMORY:x"])
def test_what_is_in_no_file_is_left_to_the_library(name: str) -> None:
    with as_user(ALICE):
        assert copy_cache(of(name)) is None


def test_the_cache_of_whoever_mounts_is_used_as_it_is() -> None:
    assert copy_cache(of("FILE:/nowhere", None)) is None
