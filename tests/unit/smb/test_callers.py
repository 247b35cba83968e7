"""Processes whose users are to be logged in, with the kernel as the judge."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from dfsfs.caller import Caller
from dfsfs.errors import ForeignCaller, SmbError
from dfsfs.smb.auth.callers import check_cache_name, open_caller_root, read_cache_name
from dfsfs.smb.auth.credentials import KerberosCredentials
from dfsfs.smb.auth.identity import Account, as_user
from dfsfs.smb.auth.ticketcaches import copy_cache

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as others")

ALICE = Account(20001, 20000)
ENDED = 2**22
"""No process has this number."""


@contextlib.contextmanager
def process(
    script: str = "", *before: str, uid: int = 0, environment: Mapping[str, str] | None = None
) -> Iterator[Caller]:
    """A process of a user that does what `script` says, and waits."""
    become = f"import os; os.setgid(20000); os.setuid({uid})" if script else ""
    user = None if script else uid
    lines = f"import sys\n{script}\n{become}\nprint('here', flush=True)\nsys.stdin.read()"
    with subprocess.Popen(
        [*before, sys.executable, "-c", lines],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, **(environment or {})},
        text=True,
        user=user,
        group=user,
    ) as running:
        try:
            assert running.stdout is not None and running.stdout.readline() == "here\n"
            yield Caller(uid, 20000, running.pid)
        finally:
            running.kill()


@needs_root
def test_an_ordinary_process_has_our_paths() -> None:
    with process() as who:
        assert open_caller_root(who) is None


@needs_root
def test_a_process_with_another_root_is_refused() -> None:
    with tempfile.TemporaryDirectory() as folder, process(f"import os; os.chroot({folder!r})", uid=20001) as who:
        with pytest.raises(ForeignCaller, match="root folder of its own"):
            open_caller_root(who)


@needs_root
def test_a_process_with_another_user_namespace_is_refused() -> None:
    with process("", "unshare", "-U", "-r") as who, pytest.raises(ForeignCaller, match="user namespace of its own"):
        open_caller_root(who)


def test_a_process_that_can_not_be_seen_is_refused() -> None:
    with pytest.raises(ForeignCaller, match="can't be seen"):
        open_caller_root(Caller(ALICE.uid, ALICE.gid, 0))


def test_a_process_that_has_ended_is_nobodys() -> None:
    who = Caller(os.geteuid(), 1, ENDED)
    assert open_caller_root(who) is None
    assert read_cache_name(who) == ""


@needs_root
def test_a_cache_is_looked_for_where_its_user_sees_it() -> None:
    """Two files of one name: one that this test sees, and one in the mount namespace of a process."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        os.chmod(folder, 0o755)
        cache = Path(folder, "cache")
        cache.write_bytes(b"host")
        os.chown(cache, ALICE.uid, ALICE.gid)
        script = f"""
import os, subprocess
subprocess.run(['mount', '-t', 'tmpfs', 'private', {folder!r}], check=True)
open({str(cache)!r}, 'w').write('private')
os.chown({str(cache)!r}, {ALICE.uid}, {ALICE.gid})
"""
        with process(script, "unshare", "-m", uid=ALICE.uid) as who:
            root = open_caller_root(who)
            assert root is not None
            seen = KerberosCredentials(ccache=f"FILE:{cache}", account=ALICE, root=root)
            with as_user(ALICE):
                copy, other = copy_cache(seen), copy_cache(KerberosCredentials(ccache=f"FILE:{cache}", account=ALICE))
                assert copy is not None and other is not None
                assert Path(copy.name.removeprefix("FILE:")).read_bytes() == b"private"
                assert Path(copy.original.removeprefix("FILE:")).read_bytes() == b"private"
                assert Path(other.name.removeprefix("FILE:")).read_bytes() == b"host"


@needs_root
def test_the_cache_that_a_process_names() -> None:
    with process(uid=ALICE.uid, environment={"KRB5CCNAME": "FILE:/somewhere/cache"}) as who:
        assert read_cache_name(who) == "FILE:/somewhere/cache"
        assert read_cache_name(who._replace(uid=ALICE.uid + 1)) == "", "somebody else's"
    with process(uid=ALICE.uid, environment={"KRB5CCNAME": "MEMORY:of-the-mount"}) as who:
        with pytest.raises(SmbError, match="LOGON_FAILURE"):
            read_cache_name(who)


@pytest.mark.parametrize(
    ("name", "used"),
    [
        ("", ""),
        ("/tmp/c", "FILE:/tmp/c"),
        *((name, name) for name in ("FILE:/c", "DIR:/d", "DIR::/d/tkt1", "KCM:", "KCM:20001:5")),
        ("KEYRING:persistent:20001", "KEYRING:persistent:20001"),
        ("KEYRING:persistent:20001:x", "KEYRING:persistent:20001:x"),
    ],
)
def test_caches_that_a_user_may_name(name: str, used: str) -> None:
    assert check_cache_name(name, 20001) == used


@pytest.mark.parametrize(
    "name",
    [
        *(
            "MEMORY:",
            "MEMORY:x",
            "API:x",
            "FILE:c",
            "FILE:",
            "c",
            "DIR:d",
            "DIR::d",
            "DIR:::/d",
            "file:/c",
            "WRFILE:/c",
        ),
        *("KEYRING:session:x", "KEYRING:process:x", "KEYRING:thread:x", "KEYRING:user:x", "KEYRING:legacy:x"),
        *("KEYRING:x", "KEYRING:persistent:0", "KEYRING:persistent:200010", "KEYRING:persistent:"),
    ],
)
def test_caches_that_a_user_may_not_name(name: str) -> None:
    with pytest.raises(SmbError, match="LOGON_FAILURE"):
        check_cache_name(name, 20001)
