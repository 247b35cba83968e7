"""Acting as another user, with the kernel as the judge."""

from __future__ import annotations

import errno
import itertools
import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import gssapi
import pytest

from dfsfs.errors import PosixError
from dfsfs.smb.auth import identity, kerberos, keyring
from dfsfs.smb.auth.credentials import Credentials, KerberosCredentials, Secret
from dfsfs.smb.auth.identity import UNUSED_UID, Account, as_real_user, as_user

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def readable() -> Iterator[Path]:
    """A folder that everybody may look into."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


SOMEBODY, OTHER = Account(20001, 20000), Account(20002, 20000)
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as others")


def ids() -> dict[str, list[int]]:
    with open("/proc/thread-self/status") as status:
        lines = dict(line.rstrip("\n").split(":", 1) for line in status)
    return {name: [int(number) for number in lines[name].split()] for name in ("Uid", "Gid", "Groups")}


@needs_root
def test_one_thread_acts_and_the_others_do_not() -> None:
    before, seen = ids(), []
    with as_user(SOMEBODY):
        mine = ids()
        other = threading.Thread(target=lambda: seen.append(ids()))
        # A new thread begins with the ids of the one that makes it; one that was there does not change.
        assert mine["Uid"][1] == mine["Uid"][3] == SOMEBODY.uid
        assert mine["Uid"][0] == mine["Uid"][2] == 0, "whoever has the real id might send signals"
        assert mine["Gid"][1] == SOMEBODY.gid and mine["Groups"] == [SOMEBODY.gid]
        with open(f"/proc/{os.getpid()}/status") as main:
            assert "Uid:\t0\t" in main.read()
    other.start()
    other.join()
    assert ids() == before == seen[0]


DUMPABLE = """
import ctypes, os, resource, sys
from dfsfs.smb.auth.identity import UNUSED_UID, Account, as_user, forbid_core_dumps, as_real_user
if sys.argv[1] != "root":
    os.setuid(int(sys.argv[1]))
    ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)
forbid_core_dumps()
print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0), resource.getrlimit(resource.RLIMIT_CORE)[0])
if sys.argv[1] == "root":
    for block in (as_user(Account(20001, 20000)), as_real_user(UNUSED_UID)):
        with block:
            print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))
        print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))
"""


def dumpable(who: str) -> list[str]:
    done = subprocess.run([sys.executable, "-c", DUMPABLE, who], capture_output=True, text=True, check=True)
    return done.stdout.split()


@needs_root
def test_no_images_of_the_memory_are_left() -> None:
    assert dumpable("20001") == ["1", "0"], "who owns the mount may look at its files in /proc"
    assert dumpable("root") == ["0", "0", *"0000"]


@needs_root
def test_that_stays_so_where_ids_change(suid_dumpable: None) -> None:
    assert dumpable("root") == ["0", "0", *"0000"]


@pytest.fixture
def suid_dumpable() -> Iterator[None]:
    """fs.suid_dumpable as Debian has it where a program takes the images: processes whose ids changed leave some."""
    setting = Path("/proc/sys/fs/suid_dumpable")
    before = setting.read_text()
    try:
        setting.write_text("2")
    except OSError:
        pytest.skip("the setting can't be changed here")
    try:
        yield
    finally:
        setting.write_text(before)


@needs_root
def test_files_of_root_are_out_of_reach(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("x")
    secret.chmod(0o600)
    with as_user(SOMEBODY), pytest.raises(PermissionError):
        secret.read_text()
    assert secret.read_text() == "x"


@needs_root
def test_everything_is_as_before_after_a_failure() -> None:
    before = ids()
    with pytest.raises(KeyError), as_user(SOMEBODY):
        raise KeyError
    with as_real_user(UNUSED_UID):
        assert ids()["Uid"] == [UNUSED_UID, UNUSED_UID, 0, UNUSED_UID]
    assert ids() == before


def failing_at(*numbers: int) -> Callable[..., None]:
    """`identity._syscall`, of which the calls of these numbers, counted from 0, are refused."""
    call, count = identity._syscall, itertools.count()

    def refusing(number: int, *arguments: object) -> None:
        if next(count) in numbers:
            raise OSError(errno.ENOMEM, "no memory for credentials")
        call(number, *arguments)

    return refusing


@needs_root
@pytest.mark.parametrize("step", [0, 1, 2])
def test_whoever_becomes_a_user_half_way_is_nobody_else_afterwards(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    before = ids()
    monkeypatch.setattr(identity, "_syscall", failing_at(step))
    try:
        with pytest.raises(OSError, match="no memory"), as_user(SOMEBODY):
            pass
        assert ids() == before
    finally:
        monkeypatch.undo()
        identity._set_thread_ids(0, os.getgid(), before["Groups"])


STUCK = """
import errno, sys, threading, time
from dfsfs.smb.auth import identity
from tests.unit.smb.test_identity import SOMEBODY, failing_at
refused = [int(number) for number in sys.argv[2:]]
def act():
    identity._syscall = failing_at(*refused)
    try:
        with identity.as_user(SOMEBODY) if sys.argv[1] == "as_user" else identity.as_real_user(identity.UNUSED_UID):
            print("as another", flush=True)
    except OSError:
        pass
    print("afterwards", flush=True)
thread = threading.Thread(target=act)
thread.start()
thread.join()
"""


@needs_root
@pytest.mark.parametrize(
    ("how", "refused", "said"),
    [
        # Each becomes somebody by 3 or 1 calls. What is refused then is a call of the way back.
        ("as_user", range(3, 6), "as another\n"),
        ("as_user", range(4, 6), "as another\n"),
        ("as_user", range(1, 6), ""),
        ("as_real_user", range(1, 6), "as another\n"),
    ],
)
def test_a_process_ends_that_can_not_be_itself_again(how: str, refused: range, said: str) -> None:
    words = [sys.executable, "-c", STUCK, how, *map(str, refused)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.returncode) == (said, os.EX_SOFTWARE), "nothing is done as somebody else"
    assert "can't be itself again" in done.stderr


@needs_root
def test_who_is_not_root_can_not_act_as_another_and_goes_on() -> None:
    with as_user(SOMEBODY):
        before = ids()
        with pytest.raises(PermissionError), as_user(OTHER):
            pass
        assert ids() == before


def test_nobody_in_particular_changes_nothing() -> None:
    before = ids()
    with as_user(None):
        assert ids() == before
    with as_user(Account(os.geteuid(), os.getegid())):
        assert ids() == before


@needs_root
def test_the_default_cache_of_each_user(monkeypatch: pytest.MonkeyPatch, readable: Path) -> None:
    configuration = readable / "krb5.conf"
    monkeypatch.setenv("KRB5_CONFIG", str(configuration))
    monkeypatch.delenv("KRB5CCNAME", raising=False)
    for text, expected in (
        ("", "FILE:/tmp/krb5cc_20001"),
        ("default_ccache_name = FILE:/tmp/cc_0/%{uid}", "FILE:/tmp/cc_0/20001"),
        ("default_ccache_name = KEYRING:persistent:%{uid}", "KEYRING:persistent:20001"),
    ):
        configuration.write_text(f"[libdefaults]\n{text}\n")
        kerberos._find_cache_pattern.cache_clear()
        assert kerberos.get_default_cache(20001) == expected
    kerberos._find_cache_pattern.cache_clear()


@needs_root
def test_stored_logins_are_those_of_one_user() -> None:
    login = Credentials("alice", Secret("Wonderland-7"), "CONTOSO")
    with as_user(SOMEBODY):
        keyring.store("Unit.Test", login)
        assert keyring.load("unit.test") == login
    try:
        with as_user(OTHER):
            assert keyring.load("unit.test") is None
        assert keyring.load("unit.test") is None
        with as_user(SOMEBODY):
            keyring.store("unit.test", Credentials("bob", Secret("x"), ""))
            assert keyring.load("unit.test") == Credentials("bob", Secret("x"), "")
    finally:
        with as_user(SOMEBODY):
            assert keyring.remove("unit.test")
            assert not keyring.remove("unit.test")
            assert keyring.load("unit.test") is None


@needs_root
def test_without_persistent_keyrings_nobody_gets_what_root_has_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyring._load_library(), "keyctl_get_persistent", lambda uid, to: -1)
    keyring.store("unit.test", Credentials("root", Secret("x"), "CONTOSO"))
    try:
        assert keyring.load("unit.test") is not None
        with as_user(SOMEBODY), pytest.raises(PosixError, match="no persistent keyring of user 20001"):
            keyring.load("unit.test")
    finally:
        keyring.remove("unit.test")


@pytest.mark.parametrize(
    ("credentials", "source"),
    [
        (KerberosCredentials(), "the default ticket cache"),
        (KerberosCredentials(ccache="DIR:/c"), "ticket cache DIR:/c"),
        (KerberosCredentials(keytab="/k"), "keytab /k"),
        (KerberosCredentials("a@B", password=Secret("geheim")), "the password of a@B"),
    ],
)
def test_credentials_name_their_source_and_show_no_password(credentials: KerberosCredentials, source: str) -> None:
    assert credentials.source == source
    assert "geheim" not in repr(credentials) + credentials.principal


def test_what_controllers_are_called_becomes_no_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KRB5_CONFIG", "/nowhere")
    kdcs = kerberos.KdcPreference()
    file = Path(os.environ["KRB5_CONFIG"].split(":")[0])
    assert os.environ["KRB5_CONFIG"].endswith(":/nowhere")
    kdcs.prefer("CONTOSO.TEST", ("10.0.0.1", "dc2.contoso.test", "x }\n[libdefaults]", "a b"))
    text = file.read_text()
    assert "CONTOSO.TEST = {" in text and "kdc = 10.0.0.1" in text and "kdc = dc2.contoso.test" in text
    assert text.count("[libdefaults]") == 1 and "a b" not in text
    kdcs.prefer("X.TEST", ("10.0.0.2",))
    assert "10.0.0.1" not in file.read_text() and file.read_text().rstrip().endswith("}")
    kdcs.prefer("X }", ("10.0.0.3",))
    assert "10.0.0.3" not in file.read_text()
    os.close(kdcs._file)


def test_a_login_at_that_moment_reads_the_old_controllers_or_the_new_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """The Kerberos library reads the file whenever it likes, in threads."""
    monkeypatch.setenv("KRB5_CONFIG", "/nowhere")
    kdcs = kerberos.KdcPreference()
    file, seen, write = Path(os.environ["KRB5_CONFIG"].split(":")[0]), list[str](), os.pwrite

    def watched(descriptor: int, data: bytes, offset: int) -> int:
        written = write(descriptor, data, offset)
        seen.append(file.read_text())
        return written

    kdcs.prefer("CONTOSO.TEST", ("dc1.contoso.test", "dc2.contoso.test"))
    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", watched)
        kdcs.prefer("CONTOSO.TEST", ("10.0.0.2",))
    assert seen and all("10.0.0.2" in text and text.rstrip().endswith("}") and text.count("}") == 1 for text in seen)
    os.close(kdcs._file)


def test_the_name_of_a_server_is_no_matter_of_dns(monkeypatch: pytest.MonkeyPatch) -> None:
    """From the start: before any domain is found, and whatever krb5.conf says."""
    monkeypatch.setenv("KRB5_CONFIG", os.environ.get("KRB5_CONFIG", "/etc/krb5.conf"))
    kdcs = kerberos.KdcPreference()
    for hosts in ((), ("10.0.0.1",)):
        kdcs.prefer("CONTOSO.TEST", hosts)
        # DNS, or /etc/hosts in its place, has a name for this one.
        name = gssapi.Name("cifs@127.0.0.1", gssapi.NameType.hostbased_service)
        canonical = str(name.canonicalize(gssapi.MechType.kerberos))
        assert canonical.partition("@")[0] == "cifs/127.0.0.1"
    os.close(kdcs._file)
