"""Which tickets a mount with sec=krb5 uses."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from dfsfs.cli.kerberos import kerberos_login
from dfsfs.cli.messages import MountError
from dfsfs.cli.secrets import Surroundings
from dfsfs.config.assembly import Mounter, make_config
from dfsfs.config.errors import ConfigError
from dfsfs.config.options import parse_options
from dfsfs.smb.auth import kerberos
from dfsfs.smb.auth.credentials import KerberosCredentials, Secret
from dfsfs.smb.auth.identity import Account
from dfsfs.unc import UncPath

if TYPE_CHECKING:
    from pathlib import Path


def login(text: str, **environ: str) -> KerberosCredentials:
    """What comes of options and an environment, where nobody can be asked for anything."""
    warnings: list[str] = []
    surroundings = Surroundings(environ, lambda: "me", None, warnings.append)
    found = kerberos_login(parse_options([f"sec=krb5,{text}"]), surroundings)
    assert not warnings
    return found


@pytest.fixture(autouse=True)
def nothing_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """No tickets, and no keytab of the computer."""
    monkeypatch.setattr(kerberos, "has_tickets", lambda: False)
    monkeypatch.setattr(kerberos, "find_machine_keytab", lambda: "")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("rw", KerberosCredentials()),
        ("principal=a@B", KerberosCredentials("a@B")),
        ("username=alice", KerberosCredentials("alice")),
        ("username=alice,domain=contoso.test", KerberosCredentials("alice@CONTOSO.TEST")),
        ("username=alice,domain=CONTOSO", KerberosCredentials("alice")),
        ("username=alice@X.Y,domain=contoso.test", KerberosCredentials("alice@X.Y")),
        ("ccache=DIR:/c", KerberosCredentials(ccache="DIR:/c")),
        ("ccache=/c", KerberosCredentials(ccache="FILE:/c")),
        ("username=a@B,password=x", KerberosCredentials("a@B", password=Secret("x"))),
        ("ccache=/c,username=a@B,password=x", KerberosCredentials("a@B", ccache="FILE:/c")),
        (f"cruid={os.geteuid()}", KerberosCredentials()),
    ],
)
def test_what_is_used(text: str, expected: KerberosCredentials) -> None:
    assert login(text) == expected


def test_a_password_of_the_environment() -> None:
    assert login("username=a@B", PASSWD="x") == KerberosCredentials("a@B", password=Secret("x"))
    with pytest.raises(ConfigError, match="no user"):
        login("rw", PASSWD="x")


def test_a_keytab(tmp_path: Path) -> None:
    keytab = tmp_path / "k"
    with pytest.raises(MountError, match="can't be read"):
        login(f"keytab={keytab}")
    keytab.write_bytes(b"")
    keytab.chmod(0o600)
    assert login(f"keytab=FILE:{keytab},ccache=/c") == KerberosCredentials(keytab=str(keytab))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may use what others have")
def test_root_has_the_computers_keytab_and_the_caches_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kerberos, "get_default_cache", "FILE:/tmp/krb5cc_{}".format)
    assert login("cruid=4711") == KerberosCredentials(ccache="FILE:/tmp/krb5cc_4711", account=Account(4711, 4711))
    with pytest.raises(ConfigError, match="no user of that name"):
        login("cruid=nobody-of-that-name")
    monkeypatch.setattr(kerberos, "find_machine_keytab", lambda: "FILE:/etc/krb5.keytab")
    assert login("rw") == KerberosCredentials(keytab="FILE:/etc/krb5.keytab")
    monkeypatch.setattr(kerberos, "has_tickets", lambda: True)
    assert login("rw") == KerberosCredentials()


@pytest.mark.parametrize("text", ["cruid=1", "ccache=/c", "keytab=/k", "principal=a"])
def test_options_about_kerberos_take_kerberos(text: str) -> None:
    with pytest.raises(ConfigError, match="takes sec=krb5"):
        parse_options([text])


def configured(text: str, uid: int = 0) -> Any:
    who = Mounter(uid, uid, {"bob": 7}.__getitem__, dict[str, int]().__getitem__)
    return make_config(UncPath(("a.b", "c")), parse_options([text]), KerberosCredentials(), who)


def test_many_users_are_roots_business_and_the_servers_decide() -> None:
    config = configured("sec=krb5p,multiuser")
    assert config.multiuser and config.transport.seal and config.ownership.of_caller
    assert "default_permissions" not in config.fuse_options and not config.ownership.permission_checks
    assert not configured("sec=krb5,multiuser,uid=bob").ownership.of_caller
    assert "default_permissions" in configured("sec=krb5").fuse_options
    with pytest.raises(ConfigError, match="multiuser"):
        configured("sec=krb5,multiuser", uid=5)
