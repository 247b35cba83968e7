"""Where user name and password come from."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from dfsfs.cli.messages import MountError
from dfsfs.cli.secrets import Surroundings, fields_in_restart, find_new_login, obtain_credentials
from dfsfs.config.errors import ConfigError
from dfsfs.config.options import fields_of, parse_options
from dfsfs.smb.auth.credentials import Credentials, Secret

if TYPE_CHECKING:
    from pathlib import Path

MARK = "Tr0ub4dor&3"
NOBODY_KNOWS = "no password is given"


def obtain(text: str, environ: dict[str, str] | None = None, typed: str | None = None) -> Credentials:
    warnings: list[str] = []
    ask = None if typed is None else lambda _question: typed
    surroundings = Surroundings(environ or {}, lambda: "login", ask, warnings.append)
    credentials = obtain_credentials(parse_options([text]), "//srv/ns", surroundings)
    assert warnings == []
    return credentials


def who(username: str, password: str, domain: str = "") -> Credentials:
    return Credentials(username, Secret(password), domain)


@pytest.fixture
def cred(tmp_path: Path) -> Path:
    file = tmp_path / "cred"
    file.write_text("username=filer\npassword=of file\ndomain=FILE\n")
    file.chmod(0o600)
    return file


@pytest.fixture
def password_file(tmp_path: Path) -> Path:
    file = tmp_path / "password"
    file.write_bytes(b"of, file \r\nrest")
    file.chmod(0o600)
    return file


@pytest.mark.parametrize(
    ("text", "environ", "typed", "expected"),
    [
        ("username=u,password=p", {}, None, who("u", "p")),
        ("username=u,password=", {}, None, who("u", "")),
        ("username=D/u,password=p", {}, None, who("u", "p", "D")),
        ("password=p", {"USER": "env"}, None, who("env", "p")),
        ("password=p", {"USER": "D\\env"}, None, who("env", "p", "D")),
        ("password=p,domain=X", {"USER": "D\\env"}, None, who("env", "p", "X")),
        ("password=p", {}, None, who("login", "p")),
        ("password=p", {"USER": ""}, None, who("login", "p")),
        ("username=u", {"PASSWD": "pe"}, None, who("u", "pe")),
        ("username=u,password=p", {"PASSWD": "pe"}, None, who("u", "p")),
        ("username=u", {"PASSWD": ""}, None, who("u", "")),
        ("username=u", {"PASSWD_FILE": "{password_file}"}, None, who("u", "of, file ")),
        ("username=u", {"PASSWD": "pe", "PASSWD_FILE": "/nowhere"}, None, who("u", "pe")),
        ("credentials={cred}", {"USER": "env"}, None, who("filer", "of file", "FILE")),
        ("credentials={cred},username=u", {}, None, who("u", "of file", "FILE")),
        ("credentials={cred},domain=X", {}, None, who("filer", "of file", "X")),
        ("credentials={cred},password=p", {}, None, who("filer", "p", "FILE")),
        ("credentials={cred}", {"PASSWD": "pe"}, None, who("filer", "pe", "FILE")),
        ("username=u", {}, "typed", who("u", "typed")),
    ],
)
def test_precedence(
    text: str, environ: dict[str, str], typed: str | None, expected: Credentials, cred: Path, password_file: Path
) -> None:
    text = text.format(cred=cred)
    environ = {name: value.format(password_file=password_file) for name, value in environ.items()}
    assert obtain(text, environ, typed) == expected


@pytest.mark.parametrize(
    ("text", "environ", "expected"),
    [
        ("username=u", {}, f"{NOBODY_KNOWS} for user 'u', and there is no terminal to ask"),
        ("username=u", {"PASSWD_FD": "x"}, "PASSWD_FD is not the number"),
        ("username=u", {"PASSWD_FD": "999999999"}, "file descriptor 999999999 (PASSWD_FD) can't be read"),
        ("username=u", {"PASSWD_FILE": "/nowhere"}, "PASSWD_FILE /nowhere can't be read: No such file"),
        ("username=u", {"PASSWD": f"{MARK}\n"}, "environment variable PASSWD: there is a line break"),
        ("username=u", {"PASSWD": f"{MARK}\udce4"}, "no UTF-8"),
        ("password=p", {"USER": f"u%{MARK}"}, "environment variable USER: a password after %"),
        ("credentials=/nowhere", {}, "the credentials file /nowhere can't be read: No such file"),
        ("credentials=/", {}, "the credentials file / can't be read: Is a directory"),
        ("credentials=a\udc00b", {}, "can't be read"),
    ],
)
def test_errors(text: str, environ: dict[str, str], expected: str) -> None:
    with pytest.raises((ConfigError, MountError)) as caught:
        obtain(text, environ)
    assert expected in str(caught.value)
    assert MARK not in str(caught.value)


def test_a_password_comes_from_a_descriptor_up_to_the_end_of_the_line() -> None:
    reader, writer = os.pipe()
    os.write(writer, "pässword\nrest".encode())
    try:
        # The other end stays open: what counts is the line.
        assert obtain("username=u", {"PASSWD_FD": str(reader)}) == who("u", "pässword")
    finally:
        os.close(writer)
    with pytest.raises(OSError):
        os.fstat(reader)


def test_a_terminal_that_is_closed() -> None:
    def ask(_question: str) -> str:
        raise EOFError

    with pytest.raises(ConfigError, match=NOBODY_KNOWS):
        obtain_credentials(parse_options(["username=u"]), "//srv/ns", Surroundings({}, str, ask, pytest.fail))


def test_the_question_says_who_and_where() -> None:
    questions = []

    def ask(question: str) -> str:
        questions.append(question)
        return ""

    obtain_credentials(parse_options(["username=D/u"]), "//srv/ns", Surroundings({}, str, ask, pytest.fail))
    assert questions == ["Password for D\\u at //srv/ns: "]


@pytest.mark.parametrize(("mode", "who_can"), [(0o600, None), (0o640, "its group"), (0o604, "all users")])
def test_files_that_others_can_read(cred: Path, mode: int, who_can: str | None) -> None:
    cred.chmod(mode)
    warnings: list[str] = []
    surroundings = Surroundings({}, lambda: "login", None, warnings.append)
    obtain_credentials(parse_options([f"credentials={cred}"]), "//srv/ns", surroundings)
    expected = [] if who_can is None else [f"{cred} has a password and can be read by {who_can}; chmod 600 {cred}"]
    assert warnings == expected


def test_spaces_around_the_equals_sign_are_pointed_out(cred: Path) -> None:
    cred.write_text("username=u\npassword = secret\n")
    warnings: list[str] = []
    surroundings = Surroundings({}, lambda: "login", None, warnings.append)
    found = obtain_credentials(parse_options([f"credentials={cred}"]), "//srv/ns", surroundings)
    assert found.password.reveal() == " secret"
    assert warnings == [f"{cred} line 2: the value begins with the space after the =, as for mount.cifs"]


def test_files_that_are_something_else(tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.touch(mode=0o600)
    for data, expected in ((b"x" * 70_000, "too long"), (b"\xff", "is not UTF-8")):
        file.write_bytes(data)
        with pytest.raises(ConfigError, match=expected):
            obtain(f"credentials={file}")


@pytest.mark.parametrize(
    ("text", "restart", "environ", "typed", "expected"),
    [
        ("ro", "", {"PASSWD": "of the shell", "USER": "root"}, None, {}),
        ("ro", "password", {"PASSWD": "new"}, None, {"password": "new"}),
        ("username=D/bob", "password", {"PASSWD": "new"}, None, {"username": "bob", "domain": "D", "password": "new"}),
        ("username=bob", "", {}, "typed", {"username": "bob", "password": "typed"}),
        ("domain=D", "", {"PASSWD": "of the shell"}, None, {"domain": "D"}),
        ("guest,username=bob", "", {}, None, {"username": "bob", "password": ""}),
        ("password2=second", "", {}, None, {"password2": "second"}),
        ("credentials={cred}", "", {}, None, {"username": "filer", "password": "of file", "domain": "FILE"}),
        (
            "credentials={cred}",
            "password",
            {"PASSWD": "x"},
            None,
            {"username": "filer", "password": "x", "domain": "FILE"},
        ),
    ],
)
def test_what_a_remount_changes_of_a_login(
    text: str, restart: str, environ: dict[str, str], typed: str | None, expected: dict[str, str], cred: Path
) -> None:
    """Only what is named; a password of the command line has been taken out of it by a restart."""
    texts = [text.format(cred=cred)]
    named = fields_of(texts) | fields_in_restart({"PASSWD_NAMED": restart})
    ask = None if typed is None else lambda _question: typed
    surroundings = Surroundings(environ, lambda: "login", ask, lambda _: None)
    found = find_new_login(parse_options(texts), named, "//srv/ns", surroundings) if named & LOGIN_FIELDS else {}
    assert found == expected


LOGIN_FIELDS = {"username", "password", "password2", "domain", "credentials_file", "guest"}


def test_a_remount_without_the_password_of_a_new_user() -> None:
    surroundings = Surroundings({}, lambda: "login", None, lambda _: None)
    with pytest.raises(ConfigError, match=NOBODY_KNOWS):
        find_new_login(parse_options(["username=bob"]), {"username"}, "//srv/ns", surroundings)
