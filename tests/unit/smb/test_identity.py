"""Acting as another user, with the kernel as the judge."""

from __future__ import annotations

import os
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from dfsfs.smb import keyring, tickets
from dfsfs.smb.credentials import Credentials, KerberosCredentials, Secret
from dfsfs.smb.identity import NOBODY_HAS, Account, as_user, really_as

if TYPE_CHECKING:
    from collections.abc import Iterator


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
    with really_as(NOBODY_HAS):
        assert ids()["Uid"] == [NOBODY_HAS, NOBODY_HAS, 0, NOBODY_HAS]
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
        tickets._pattern.cache_clear()
        assert tickets.default_cache(20001) == expected
    tickets._pattern.cache_clear()


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


def test_the_cache_that_a_process_names(monkeypatch: pytest.MonkeyPatch) -> None:
    assert tickets.caller_cache(os.getpid(), os.geteuid() + 1) == "", "somebody else's"
    assert tickets.caller_cache(2**22, os.geteuid()) == ""


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
    kdcs = tickets.KdcPreference()
    file = Path(os.environ["KRB5_CONFIG"].split(":")[0])
    assert os.environ["KRB5_CONFIG"].endswith(":/nowhere")
    kdcs.prefer("CONTOSO.TEST", ("10.0.0.1", "dc2.contoso.test", "x }\n[libdefaults]", "a b"))
    text = file.read_text()
    assert "CONTOSO.TEST = {" in text and "kdc = 10.0.0.1" in text and "kdc = dc2.contoso.test" in text
    assert text.count("[libdefaults]") == 1 and "a b" not in text
    kdcs.prefer("X.TEST", ("10.0.0.2",))
    assert "10.0.0.1" not in file.read_text() and file.read_text().endswith("}\n")
    kdcs.prefer("X }", ("10.0.0.3",))
    assert "10.0.0.3" not in file.read_text()
    os.close(kdcs._file)
