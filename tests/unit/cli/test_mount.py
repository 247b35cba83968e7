"""The commands mount.dfsfs and dfsfs, with something else than FUSE behind them. The real one is tested in the lab."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import dfsfs
from dfsfs.cli import main as dfsfs_main
from dfsfs.cli.messages import MountError
from dfsfs.cli.mount import Arguments, Backend, check_fuse, main, parse_arguments
from dfsfs.cli.mountpoint import check_mountpoint
from dfsfs.config.assembly import Mounter, make_config
from dfsfs.config.errors import ConfigError
from dfsfs.config.options import parse_options
from dfsfs.ntstatus import NtStatus
from dfsfs.smb.auth.credentials import Credentials, Secret
from dfsfs.unc import UncPath

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dfsfs.config.model import MountConfig

ROOT = Path(__file__).parent.parent.parent.parent
MARK = "Tr0ub4dor&3"
PATIENCE = 20.0

CONFIG = make_config(
    UncPath(("srv", "ns")),
    parse_options([]),
    Credentials("alice", Secret(MARK)),
    Mounter(1, 1, dict[str, int]().__getitem__, dict[str, int]().__getitem__),
)


def nothing_to_check(_config: MountConfig, _mountpoint: str) -> None:
    pass


def must_not_run(*_args: object) -> None:
    raise AssertionError("it was mounted")


NO_MOUNT = Backend(nothing_to_check, must_not_run)


# -- the command line -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["//a/b", "/m"], Arguments("//a/b", "/m")),
        (["//a/b", "/m", "-o", "ro,uid=1", "-o", "rw"], Arguments("//a/b", "/m", ("ro,uid=1", "rw"))),
        (["-oro", "//a/b", "/m"], Arguments("//a/b", "/m", ("ro",))),
        (["//a/b", "-fnsv", "/m"], Arguments("//a/b", "/m", fake=True, sloppy=True, verbose=True)),
        (["//a/b", "/m", "--foreground"], Arguments("//a/b", "/m", foreground=True)),
        (["//a/b", "/m", "-t", "fuse.dfsfs"], Arguments("//a/b", "/m")),
        (["--", "//a/b", "-m"], Arguments("//a/b", "-m")),
    ],
)
def test_command_line(words: list[str], expected: Arguments) -> None:
    assert parse_arguments(words) == expected


@pytest.mark.parametrize("words", [[], ["//a/b"], ["//a/b", "/m", "/n"], ["//a/b", "/m", "-x"], ["//a/b", "/m", "-o"]])
def test_wrong_command_line(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words, backend=NO_MOUNT) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert error.startswith("mount.dfsfs: ")
    assert "usage: mount.dfsfs" in error


@pytest.mark.parametrize(
    "arguments",
    [
        Arguments("//a/b", "/m"),
        Arguments("//a/b", "./-m", ("ro", "uid=1"), fake=True, sloppy=True, verbose=True, foreground=True),
    ],
)
def test_arguments_as_a_command_line(arguments: Arguments) -> None:
    assert parse_arguments(arguments.as_list()) == arguments
    assert parse_arguments(Arguments("//a/b", "-m").as_list()) == Arguments("//a/b", "./-m")


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["-V"]) == 0
    assert capsys.readouterr().out == f"mount.dfsfs {dfsfs.__version__}\n"
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert "credentials=FILE" in text
    assert "krb5" in text
    assert not [line for line in text.splitlines() if len(line) > 120]


# -- checks -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "expected", "code"),
    [
        (["//srv", "{dir}"], "//srv names a server only", 1),
        (["srv", "{dir}"], "'srv' is not of the form //SERVER/SHARE", 1),
        (["//srv/ns", "{dir}", "-o", f"password={MARK},frobnicate"], "//srv/ns: unknown option 'frobnicate'", 1),
        (["//srv/ns", "{dir}", "-o", f"password={MARK},vers=1.0"], "option 'vers=1.0': SMB 1 is not secure", 1),
        (["//srv/ns", "{dir}/no", "-o", f"password={MARK}"], "the mount point {dir}/no does not exist", 32),
        (["//srv/ns", "{dir}/file", "-o", f"password={MARK}"], "the mount point {dir}/file is not a directory", 32),
        (["//srv/ns", "{dir}/file/x", "-o", f"password={MARK}"], "can't be used: Not a directory", 32),
        (["//srv/ns", "{dir}\0", "-o", f"password={MARK}"], "can't be used: Invalid argument", 32),
        (["//srv/ns", "{dir}", "-o", f"password={MARK},uid=no-such-user-here"], "no user of that name", 1),
        (
            ["//srv/ns", "{dir}", "-o", "credentials={dir}/no"],
            "the credentials file {dir}/no can't be read: No such",
            1,
        ),
    ],
)
def test_one_line_says_what_is_wrong(
    words: list[str], expected: str, code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    words = [word.replace("{dir}", str(tmp_path)) for word in words]
    assert main(words, backend=NO_MOUNT) == code
    captured = capsys.readouterr()
    assert captured.err.startswith("mount.dfsfs: ")
    assert captured.err.count("\n") == 1
    assert expected.replace("{dir}", str(tmp_path)) in captured.err
    assert MARK not in captured.err + captured.out


def test_fake_checks_everything_and_mounts_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["//srv/ns", str(tmp_path), "-f", "-s", "-o", f"username=a,password={MARK},frobnicate,witness,rdma"]
    checked = []
    backend = Backend(lambda config, mountpoint: checked.append((config, mountpoint)), must_not_run)
    assert main(words, backend=backend) == 0
    ((config, mountpoint),) = checked
    assert mountpoint == str(tmp_path)
    assert config.credentials == Credentials("a", Secret(MARK))
    expected = "mount.dfsfs: //srv/ns: warning: options that have no effect in dfsfs: witness, rdma\n"
    assert capsys.readouterr().err == expected


def test_a_relative_mountpoint_or_a_link_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "link").symlink_to("m")
    monkeypatch.chdir(tmp_path)
    assert check_mountpoint("m") == check_mountpoint("link") == str(tmp_path / "m")


def test_fuse_has_to_be_there(tmp_path: Path) -> None:
    with pytest.raises(MountError, match="modprobe fuse") as caught:
        check_fuse(CONFIG, str(tmp_path), device=str(tmp_path / "fuse"))
    assert caught.value.verdict.code == 2


def test_what_another_user_than_root_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    device = tmp_path / "fuse"
    settings = tmp_path / "fuse.conf"
    device.touch()
    options = parse_options(["allow_other"])
    shared = make_config(CONFIG.unc, options, CONFIG.credentials, Mounter(1, 1, int, int))

    def check(config: MountConfig) -> None:
        check_fuse(config, str(tmp_path), device=str(device), settings=str(settings))

    monkeypatch.setattr("dfsfs.cli.mount.os.geteuid", lambda: 1000)
    monkeypatch.setattr("dfsfs.cli.mount.shutil.which", lambda _name: None)
    with pytest.raises(MountError, match="install fuse3"):
        check(CONFIG)
    monkeypatch.setattr("dfsfs.cli.mount.shutil.which", lambda name: f"/bin/{name}")
    check(CONFIG)
    with pytest.raises(MountError, match=r"option 'allow_other' is for root only, unless .* has a line user_allow"):
        check(shared)
    settings.write_text("# user_allow_other\n")
    with pytest.raises(MountError, match="option 'allow_other' is for root only"):
        check(shared)
    settings.write_text("# x\nuser_allow_other\n")
    check(shared)
    monkeypatch.setattr("dfsfs.cli.mount.os.access", lambda path, _mode: path == str(device))
    with pytest.raises(MountError, match="may write to"):
        check(CONFIG)
    monkeypatch.setattr("dfsfs.cli.mount.os.access", lambda _path, _mode: False)
    with pytest.raises(MountError, match="may not open"):
        check(CONFIG)


# -- as a process -----------------------------------------------------------------------------------------------------

PROGRAM = """
import json, os, sys, time
from pathlib import Path
from dfsfs.cli.mount import Backend, main

def run(config, mountpoint, on_ready):
    place = Path(mountpoint)
    (place / "seen.tmp").write_text(json.dumps(
        [os.getpid(), os.getppid(), config.credentials.username, config.credentials.password.reveal(), str(config.unc)]
    ))
    (place / "seen.tmp").rename(place / "seen")
    while not (place / "go").exists():
        time.sleep(0.01)
    on_ready()
    while not (place / "stop").exists():
        time.sleep(0.01)

sys.exit(main(backend=Backend(lambda config, mountpoint: None, run)))
"""


def wait_for(condition: Path) -> None:
    end = time.monotonic() + PATIENCE
    while not condition.exists():
        assert time.monotonic() < end, f"there is no {condition}"
        time.sleep(0.01)


def visible(pid: int) -> str:
    """What other users, and the same user, can see of a process."""
    parts = [Path(f"/proc/{pid}/{name}").read_bytes() for name in ("cmdline", "environ", "comm")]
    return b"\0".join(parts).decode(errors="replace")


@pytest.mark.parametrize("foreground", [False, True])
@pytest.mark.parametrize(
    ("options", "environ"),
    [
        (["-o", f"ro,username=alice,password={MARK},uid=5"], {}),
        (["-ousername=alice", f"-opass={MARK}"], {"PASSWD": "other", "PASSWD_FILE": "/nowhere"}),
        (["-o", f"password=x,username=alice,password={MARK}"], {"PASSWD_FD": "77"}),
        (["-o", "username=alice"], {"PASSWD": MARK}),
    ],
)
def test_a_password_is_in_no_process_to_be_seen(
    options: list[str], environ: dict[str, str], foreground: bool, tmp_path: Path
) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    place = tmp_path / "place"
    place.mkdir()
    words = ["//srv/ns", str(place), *options, *(["--foreground"] if foreground else [])]
    process = subprocess.Popen(
        [sys.executable, "-X", "utf8", str(program), *words],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environ},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_for(place / "seen")
        pid, parent, username, password, unc = json.loads((place / "seen").read_text())
        assert (username, password, unc) == ("alice", MARK, "//srv/ns")
        assert (pid if foreground else parent) == process.pid
        shown = visible(process.pid) + visible(pid)
        assert MARK not in shown
        assert "alice" in shown
        (place / "go").touch()
        if not foreground:
            assert process.wait(PATIENCE) == 0
            assert MARK not in visible(pid)
    finally:
        (place / "go").touch()
        (place / "stop").touch()
        out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert MARK not in out + err
    assert bool(err) is foreground, "the log of one in front goes to stderr"


def test_a_failure_in_the_background_is_one_line(tmp_path: Path) -> None:
    program = (
        "import sys\nfrom dfsfs.cli.mount import Backend, main\nfrom dfsfs.errors import SmbError\n"
        f"def run(*args): raise SmbError({NtStatus.LOGON_FAILURE:#x}, 'logging in to srv')\n"
        "sys.exit(main(backend=Backend(lambda *args: None, run)))\n"
    )
    for extra in ([], ["--foreground"]):
        done = subprocess.run(
            [sys.executable, "-c", program, "//srv/ns", str(tmp_path), "-o", f"user=alice,password={MARK}", *extra],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        assert done.returncode == 32
        assert re.fullmatch(r"mount\.dfsfs: //srv/ns: logging in to srv: .*'alice'.*credentials file\n", done.stderr)


@pytest.fixture
def interruptible() -> Iterator[None]:
    """SIGINT as a terminal's programs have it. It is ignored in what `nohup` or a script has put in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_interrupting_a_question(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def check(_config: MountConfig, _mountpoint: str) -> None:
        signal.raise_signal(signal.SIGINT)

    words = ["//srv/ns", str(tmp_path), "-o", "user=a,password=b"]
    assert main(words, backend=Backend(check, must_not_run)) == 8
    assert capsys.readouterr().err == "mount.dfsfs: //srv/ns: interrupted\n"


def test_a_mistake_is_answered_without_loading_the_file_system() -> None:
    program = (
        "import sys\nfrom dfsfs.cli.mount import main\ncode = main(['//srv/ns', '/m', '-o', 'frobnicate'])\n"
        "print(code, *({'trio', 'pyfuse3', 'cryptography', 'spnego', 'smbprotocol'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE, check=True
    )
    assert done.stdout == "1\n"


# -- the command dfsfs ------------------------------------------------------------------------------------------------


def test_dfsfs(capsys: pytest.CaptureFixture[str]) -> None:
    assert dfsfs_main.main(["--version"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0] == f"dfsfs {dfsfs.__version__}"
    assert {line.split()[0] for line in shown} >= {"pyfuse3", "libfuse", "kernel", "trio"}
    assert dfsfs_main.main(["--help"]) == 0
    assert "mounts a namespace or a share" in capsys.readouterr().out
    assert dfsfs_main.main([]) == 1
    assert capsys.readouterr().err == "dfsfs: a command is needed; see dfsfs --help\n"
    assert dfsfs_main.main(["statsu"]) == 1
    assert "there is no command 'statsu'" in capsys.readouterr().err
    assert dfsfs_main.main(["mount", "//srv", "/m"]) == 1
    assert "//srv names a server only" in capsys.readouterr().err


def test_the_prefix_is_there_once_it_is_known(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["//srv/ns", "/m", "-o", "frobnicate"]) == 1
    assert capsys.readouterr().err.startswith("mount.dfsfs: //srv/ns: ")
    with pytest.raises(ConfigError):
        parse_arguments(["-q"])


def test_what_mount_fuse_starts_is_a_mount(capsys: pytest.CaptureFixture[str]) -> None:
    """mount.fuse(8), for `mount -t fuse.dfsfs` where there is no mount.fuse.dfsfs, and for remounts."""
    assert dfsfs_main.main(["//srv/ns", "/no/such/place", "-o", "rw,guest", "-t", "fuse.dfsfs"]) == 32
    assert "the mount point /no/such/place does not exist" in capsys.readouterr().err


def test_a_warning_that_nobody_reads_does_not_keep_it_from_mounting(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    words = [sys.executable, "-m", "dfsfs.cli.mount", "-f", "//srv/ns", str(tmp_path), "-o", "guest,multichannel"]
    done = subprocess.run(words, stderr=writer, cwd=ROOT, timeout=60, check=False)
    os.close(writer)
    assert done.returncode == 0
