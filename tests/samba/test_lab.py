"""The lab itself: up at once, its links as in topology.py, its servers end when told, and nothing is left.

The oracle for the links is smbclient, a client that has nothing to do with this project.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.lab import content, enter
from tests.support.lab.samba import PORT, Lab, LabError, free_net
from tests.support.lab.topology import BOB, STANDALONE, Link, Target

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.lab

REPOSITORY = Path(__file__).parent.parent.parent
SMBCLIENT_TIMEOUT = 60


@pytest.fixture
def own_lab() -> Iterator[Lab]:
    """A lab for a test that wants to break it."""
    with Lab(free_net()) as running:
        yield running


def smbclient(lab: Lab, commands: str, *, unc: str = "", user: str = "", password: str = "") -> str:
    """What smbclient prints, errors included; `unc` is the root of the namespace unless given."""
    if not user:
        user, password = lab.credentials
    command = ["smbclient", unc or lab.root_unc, "-U", f"{user}%{password}", "-c", commands]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SMBCLIENT_TIMEOUT, check=False)
    return done.stdout + done.stderr


def read(lab: Lab, path: str) -> str:
    """The content of a file that is read through the root of the namespace, or what smbclient says instead."""
    folder, _, name = path.rpartition("/")
    return smbclient(lab, f'cd "{folder}"; get {name} -' if folder else f"get {name} -")


def connect(address: str) -> socket.socket:
    return socket.create_connection((address, PORT), timeout=5)


@pytest.mark.every_samba
def test_the_servers_are_of_the_release_that_was_asked_for(lab: Lab) -> None:
    for host in lab.hosts.values():
        (pid_file,) = (host.folder / "pid").glob("smbd*.pid")
        assert os.readlink(f"/proc/{pid_file.read_text().strip()}/exe") == str(lab.samba / "usr/sbin/smbd")


class TestLinks:
    @pytest.mark.parametrize(
        ("path", "expected"),
        [
            ("readme.txt", "the root of the namespace"),
            ("dir/sub/deep.txt", "deep"),
            ("link-single/hello.txt", "hello from data"),
            ("link-multi/hello.txt", "hello from data"),
            ("link-multi/folder/inside.txt", "a file inside a folder"),
            ("dir/sub/link/hello.txt", "hello from extra"),
            ("link-sub/inside.txt", "a file inside a folder"),
            ("interlink/readme.txt", "the root of the second namespace"),
            ("interlink/link2/hello.txt", "hello from extra2"),
            ("interlink-deep/deep.txt", "deep in dfs2"),
            ("interlink-deep/link/hello.txt", "hello from data"),
            ("link-deadfirst/hello.txt", "hello from data"),
            ("link-secret/hello.txt", "hello from secret"),
            ("link-denied/hello.txt", "NT_STATUS_ACCESS_DENIED"),
            ("link-dead/hello.txt", "NT_STATUS_"),
        ],
    )
    def test_answer(self, lab: Lab, path: str, expected: str) -> None:
        assert expected in read(lab, path)

    @pytest.mark.parametrize("name", ["loop-self", "loop-a"])
    def test_loops_lead_back(self, lab: Lab, name: str) -> None:
        # No client is asked: smbclient follows a loop until it crashes.
        link = lab.host("ns1").share_path("dfs") / name
        assert str(link.readlink()) == lab.link_text(STANDALONE.links[name])

    def test_all_links_show_as_folders(self, lab: Lab) -> None:
        listing = smbclient(lab, "ls")
        for path in STANDALONE.links:
            if "/" not in path:
                assert any(line.split()[:2] == [path, "Dr"] for line in listing.splitlines()), path

    def test_bob_may_see_what_is_denied_to_alice(self, lab: Lab) -> None:
        unc = f"//{lab.address('fs1')}/bobonly"
        assert "hello from bobonly" in smbclient(lab, "get hello.txt -", unc=unc, user=BOB.name, password=BOB.password)
        assert "NT_STATUS_ACCESS_DENIED" in smbclient(lab, "ls", unc=unc)

    def test_wrong_password(self, lab: Lab) -> None:
        assert "NT_STATUS_LOGON_FAILURE" in smbclient(lab, "ls", user="alice", password="wrong")

    def test_changed_link(self, lab: Lab) -> None:
        link = Link("link-new", (Target("fs2", "extra2"),))
        lab.set_link(link)
        try:
            assert "hello from extra2" in read(lab, "link-new/hello.txt")
            lab.set_link(Link("link-new", (Target("fs1", "extra"),)))
            assert "hello from extra\n" in read(lab, "link-new/hello.txt")
        finally:
            (lab.host("ns1").share_path("dfs") / "link-new").unlink()


class TestShares:
    def test_alice_writes(self, lab: Lab) -> None:
        output = smbclient(lab, f"put {__file__} written; mkdir made", unc=f"//{lab.address('fs1')}/data")
        data = lab.host("fs1").share_path("data")
        try:
            assert (data / "written").read_bytes() == Path(__file__).read_bytes(), output
            assert (data / "made").is_dir(), output
        finally:
            (data / "written").unlink()
            (data / "made").rmdir()

    def test_replicas_are_the_same(self, lab: Lab) -> None:
        def look(host: str) -> dict[str, tuple[float, bytes]]:
            root = lab.host(host).share_path("data")
            files = sorted(root.rglob("*"))
            data = [file.read_bytes() if file.is_file() else b"" for file in files]
            return {str(f.relative_to(root)): (f.stat().st_mtime, held) for f, held in zip(files, data, strict=True)}

        fs1 = look("fs1")
        assert fs1 == look("fs2")
        modified, data = fs1["big.bin"]
        assert modified == content.MODIFIED
        assert data == content.big()
        assert f"folder/{content.UMLAUTS}" in fs1

    def test_unknown_names(self, lab: Lab) -> None:
        with pytest.raises(KeyError):
            lab.host("fs9")
        with pytest.raises(KeyError):
            lab.host("fs1").share_path("secret")


class TestServers:
    def test_stop_and_start(self, lab: Lab) -> None:
        fs1 = lab.host("fs1")
        with connect(fs1.address) as client:
            fs1.stop()
            assert client.recv(1) == b""
        assert not fs1.running
        with pytest.raises(ConnectionRefusedError):
            connect(fs1.address)
        fs1.stop()
        fs1.start()
        assert "hello from data" in read(lab, "link-single/hello.txt")
        with pytest.raises(LabError, match="running already"):
            fs1.start()

    def test_kill_ends_the_children_that_serve_clients(self, own_lab: Lab) -> None:
        fs1 = own_lab.host("fs1")
        before = fs1.pids()
        with connect(fs1.address) as client:
            deadline = time.monotonic() + 5
            # smbd also has children that come and go, so it is the new one that counts and not how many there are.
            while not set(fs1.pids()) - set(before) and time.monotonic() < deadline:
                time.sleep(0.01)
            assert set(fs1.pids()) - set(before)
            assert fs1.connections() == 1
            fs1.kill()
            assert client.recv(1) == b""
        assert fs1.pids() == []
        with pytest.raises(ConnectionRefusedError):
            connect(fs1.address)
        assert "hello from data" in read(own_lab, "link-deadfirst/hello.txt")
        fs1.start()
        assert "hello from data" in read(own_lab, "link-single/hello.txt")

    def test_pause_and_resume(self, own_lab: Lab) -> None:
        fs1 = own_lab.host("fs1")
        fs1.pause()
        states = [Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] for pid in fs1.pids()]
        assert states
        assert set(states) == {"T"}
        with connect(fs1.address):
            pass  # the kernel answers
        fs1.resume()
        assert "hello from data" in read(own_lab, "link-single/hello.txt")
        fs1.pause()
        fs1.stop()
        assert fs1.pids() == []

    def test_reset_connections(self, lab: Lab) -> None:
        fs2 = lab.host("fs2")
        with connect(fs2.address) as client:
            assert fs2.reset_connections() == 1
            with pytest.raises(ConnectionResetError):
                client.recv(1)
        assert fs2.running


class TestNamespace:
    """enter.py, with a FUSE file system that nobody serves: whoever looks into it waits for ever."""

    @pytest.fixture
    def hung_mount(self, tmp_path: Path) -> Iterator[Path]:
        libc = ctypes.CDLL(None, use_errno=True)
        target = tmp_path / "a mount with spaces"
        target.mkdir()
        device = os.open("/dev/fuse", os.O_RDWR)
        try:
            options = f"fd={device},rootmode=40000,user_id=0,group_id=0".encode()
            assert libc.mount(b"hung", os.fsencode(target), b"fuse", 0, options) == 0, os.strerror(ctypes.get_errno())
            yield target
            assert libc.umount2(os.fsencode(target), 0) == 0, os.strerror(ctypes.get_errno())
        finally:
            os.close(device)

    @pytest.mark.mount
    def test_does_not_hold_mounts_of_fuse(self, hung_mount: Path, tmp_path: Path) -> None:
        name = str(hung_mount).replace(" ", "\\040")
        assert name in Path("/proc/self/mountinfo").read_text()
        for folder in ("etc", "ns"):
            (tmp_path / folder).mkdir()
        (tmp_path / "etc" / "hosts").write_text("127.0.0.1 lab\n")
        command = [sys.executable, str(Path(enter.__file__)), "the-tag", str(tmp_path), "/"]
        done = subprocess.run(
            [*command, "cat", "/proc/self/mountinfo", "/etc/hosts"],
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
        assert name not in done.stdout
        assert f"{tmp_path}/ns" in done.stdout
        assert done.stdout.endswith("127.0.0.1 lab\n")
        assert Path("/etc/hosts").read_text() != "127.0.0.1 lab\n"
        assert "the-tag" not in Path("/proc/self/mountinfo").read_text()

    def test_keeps_its_files_when_those_of_the_machine_are_replaced(self, tmp_path: Path) -> None:
        """As useradd does it, with /etc of a namespace of this test's own in the place of the machine's."""
        for folder in ("etc", "ns", "machine"):
            (tmp_path / folder).mkdir()
        (tmp_path / "etc" / "hosts").write_text("127.0.0.1 lab\n")
        (tmp_path / "machine" / "hosts").write_text("127.0.0.1 machine\n")
        (tmp_path / "machine" / "issue").write_text("of the machine\n")
        script = """
            mount --make-rprivate / && mount --bind "$1/machine" /etc && mkfifo "$1/go"
            "$2" "$3" the-tag "$1" / sh -c 'cat /etc/hosts /etc/issue "$0/go" /etc/hosts' "$1" & inside=$!
            cp /etc/hosts /etc/hosts.new; exec 3> "$1/go"; mv /etc/hosts.new /etc/hosts; echo replaced >&3; exec 3>&-
            wait $inside; cat /etc/hosts
        """
        words = [str(tmp_path), sys.executable, str(Path(enter.__file__))]
        done = subprocess.run(
            ["unshare", "--mount", "sh", "-ec", script, "sh", *words],
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
        lab = ["127.0.0.1 lab", "of the machine", "replaced", "127.0.0.1 lab"]
        assert done.stdout.splitlines() == [*lab, "127.0.0.1 machine"]


class TestLifetime:
    def test_up_soon_and_nothing_left(self) -> None:
        begin = time.monotonic()
        lab = Lab(free_net())
        lab.start()
        try:
            assert time.monotonic() - begin < 10
            clients = [connect(host.address) for host in lab.hosts.values()]
        finally:
            lab.stop()
        for client in clients:
            client.close()
        assert not lab.state.exists()
        assert [host.name for host in lab.hosts.values() if host.running] == []
        for name in (*lab.hosts, "dead1", "dead2"):
            with pytest.raises(ConnectionRefusedError):
                connect(lab.address(name))
        assert str(lab.state) not in Path("/proc/self/mountinfo").read_text()
        lab.stop()

    def test_two_labs_side_by_side(self, lab: Lab, own_lab: Lab) -> None:
        own_lab.host("fs1").stop()
        assert lab.host("fs1").running
        assert "hello from data" in read(lab, "link-single/hello.txt")

    def test_address_in_use(self, lab: Lab, tmp_path: Path) -> None:
        second = Lab(lab.net, state=tmp_path.parent / "x")
        with pytest.raises(LabError, match="listens already"):
            second.start()
        assert not second.state.exists()
        assert lab.host("fs1").running

    def test_failed_start_says_why_and_leaves_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("tests.support.lab.smbconf._GLOBAL", (("server role", "nonsense"),))
        broken = Lab(free_net())
        with pytest.raises(LabError, match="pdbedit cannot add"):
            broken.start()
        assert not broken.state.exists()
        assert not any(host.running for host in broken.hosts.values())

    def test_servers_end_with_the_program_that_started_them(self) -> None:
        net = free_net()
        program = (
            "import sys, time; from tests.support.lab.samba import Lab\n"
            f"lab = Lab({net!r}); lab.start(); print(lab.state, flush=True); time.sleep(60)"
        )
        command = [sys.executable, "-c", program]
        with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as caller:
            assert caller.stdout is not None
            lab = Lab(net, state=Path(caller.stdout.readline().strip()))
            try:
                assert all(host.running for host in lab.hosts.values())
                with connect(lab.address("fs1")) as client:
                    os.kill(caller.pid, signal.SIGKILL)
                    assert client.recv(1) == b""
                deadline = time.monotonic() + 10
                while any(host.running for host in lab.hosts.values()) and time.monotonic() < deadline:
                    time.sleep(0.01)
                assert [host.name for host in lab.hosts.values() if host.running] == []
            finally:
                lab.stop()


def test_command() -> None:
    net = free_net()

    def run(*arguments: str, program: str = "/usr/bin/python3") -> tuple[int, str]:
        command = [program, str(REPOSITORY / "scripts" / "lab"), *arguments, "--net", net]
        done = subprocess.run(command, capture_output=True, text=True, cwd="/", check=False)
        return done.returncode, done.stdout + done.stderr

    try:
        assert run("status")[0] == 1
        code, text = run("up")
        assert code == 0, text
        assert f"mount.dfsfs //{net}.10/dfs" in text
        assert run("up")[0] == 0
        assert run("status", program=sys.executable)[0] == 0
        assert run("kill", "fs1")[0] == 0
        code, text = run("status")
        assert code == 1
        assert text.count("down") == 1
        assert run("start", "fs1")[0] == 0
        code, text = run("stop", "fs9")
        assert code == 1
        assert "fs9" in text
    finally:
        code, text = run("down")
    assert code == 0, text
    assert not Path(f"/run/dfsfs-lab-{net}").exists()
    assert run("status")[0] == 1
