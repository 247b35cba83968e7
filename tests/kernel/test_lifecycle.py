"""From the command to the end of the daemon: what is left behind, which is nothing."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.conftest import LONG
from tests.kernel.mounts import (
    COMMAND,
    PATIENCE,
    clean_up,
    daemons,
    is_mounted,
    mount_command,
    mounted,
    serving,
    signal_daemons,
    signal_each,
    unmount,
    wait_until,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.support.lab.samba import Lab

pytestmark = [pytest.mark.lab, pytest.mark.mount]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A mount point that nothing stays mounted on."""
    path = tmp_path / "dfs"
    path.mkdir()
    yield path
    clean_up(path)


def mount_it(lab: Lab, place: Path, options: str = "", environment: Mapping[str, str] | None = None) -> int:
    """Mounts the namespace; the daemon's process."""
    user, password = lab.credentials
    result = mount_command(lab.root_unc, place, f"username={user}{options}", password, environment)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    assert is_mounted(place)
    (daemon,) = daemons(place)
    return daemon


def connections(lab: Lab) -> int:
    """How many connections there are to all servers of the lab."""
    return sum(host.connections() for host in lab.hosts.values())


def test_mounts_and_unmounts_leave_nothing(lab: Lab, place: Path, tmp_path: Path) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    for _ in range(20 if LONG else 4):
        mount_it(lab, place, environment={"TMPDIR": str(temporary)})
        assert (place / "link-single/hello.txt").read_bytes()
        assert connections(lab) == 2
        unmount(place)
        wait_until(lambda: connections(lab) == 0, "no connection is left")
    assert list(temporary.iterdir()) == []


def test_killed_it_leaves_what_umount_clears(lab: Lab, place: Path) -> None:
    mount_it(lab, place)
    signal_daemons(place, signal.SIGKILL)
    wait_until(lambda: not daemons(place), "the daemon is gone")
    with pytest.raises(OSError) as caught:
        os.listdir(place)
    assert caught.value.errno in (errno.ENOTCONN, errno.ECONNABORTED)
    subprocess.run(["umount", str(place)], check=True, timeout=30)
    assert not is_mounted(place)
    mount_it(lab, place)
    assert (place / "readme.txt").read_bytes()
    unmount(place)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_unmounts(lab: Lab, place: Path, number: signal.Signals) -> None:
    mount_it(lab, place)
    signal_daemons(place, number)
    wait_until(lambda: not is_mounted(place), "the mount is gone")
    wait_until(lambda: not daemons(place), "the daemon is gone")
    wait_until(lambda: connections(lab) == 0, "no connection is left")


def test_sigterm_unmounts_also_while_files_are_open(lab: Lab, place: Path) -> None:
    mount_it(lab, place)
    file = os.open(place / "link-single/hello.txt", os.O_RDONLY)
    signal_daemons(place, signal.SIGTERM)
    wait_until(lambda: not daemons(place), "the daemon is gone")
    assert not is_mounted(place)
    with pytest.raises(OSError) as caught:
        os.close(file)
    assert caught.value.errno == errno.ENOTCONN
    wait_until(lambda: connections(lab) == 0, "no connection is left")


def test_umount_of_a_busy_mount_is_refused_and_it_goes_on(lab: Lab, place: Path) -> None:
    mount_it(lab, place)
    with (place / "link-single/hello.txt").open("rb") as file:
        assert subprocess.run(["umount", str(place)], check=False, capture_output=True, timeout=30).returncode == 32
        assert file.read()
    unmount(place)


def test_in_the_foreground_it_stays_until_unmounted(lab: Lab, place: Path) -> None:
    user, password = lab.credentials
    process = subprocess.Popen(
        [COMMAND, lab.root_unc, str(place), "-o", f"username={user},foreground"],
        env={**os.environ, "PASSWD": password},
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_until(lambda: is_mounted(place), "it is mounted")
        assert (place / "readme.txt").read_bytes()
        assert process.poll() is None
        subprocess.run(["umount", str(place)], check=True, timeout=30)
        assert process.wait(timeout=30) == 0
    finally:
        process.kill()
        _, errors = process.communicate()
    assert "mounted" in errors
    assert password not in errors


def answered(pid: int) -> bool:
    """Whether no thread of a process waits for an answer of FUSE."""
    waits = [Path(f"/proc/{pid}/task/{task}/wchan").read_text() for task in os.listdir(f"/proc/{pid}/task")]
    return "request_wait_answer" not in waits


def test_a_crash_leaves_no_image_of_the_memory(lab: Lab, place: Path, tmp_path: Path) -> None:
    user, password = lab.credentials
    command = ["sh", "-c", 'ulimit -S -c "$(ulimit -H -c)" && exec "$@"', "sh", COMMAND, lab.root_unc, str(place)]
    process = subprocess.Popen(
        [*command, "-o", f"username={user},foreground"],
        env={**os.environ, "PASSWD": password},
        stdin=subprocess.DEVNULL,
        cwd=tmp_path,
    )
    wait_until(lambda: is_mounted(place), "it is mounted")
    assert (place / "readme.txt").read_bytes()
    # A thread of its own that waits for the mount's first answer could never end if the loop ends before it.
    wait_until(lambda: answered(process.pid), "it has begun")
    assert "Max core file size        0 " in Path(f"/proc/{process.pid}/limits").read_text()
    process.send_signal(signal.SIGSEGV)
    _, status = os.waitpid(process.pid, 0)
    process.returncode = -signal.SIGSEGV
    assert os.WTERMSIG(status) == signal.SIGSEGV and not os.WCOREDUMP(status)
    assert not list(tmp_path.glob("core*"))


def test_the_password_is_nowhere_to_be_seen(lab: Lab, place: Path) -> None:
    """Given on the command line, the worst of all ways: not in argv, environment, mount table or what is printed."""
    user, password = lab.credentials
    command = [COMMAND, lab.root_unc, str(place), "-v", "-o", f"username={user},password={password}"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True, stdin=subprocess.DEVNULL)
    assert password not in result.stdout + result.stderr
    (daemon,) = daemons(place)
    for name in ("cmdline", "environ", "mountinfo", "mounts"):
        assert password.encode() not in Path(f"/proc/{daemon}/{name}").read_bytes()
    unmount(place)


def test_the_mount_table_says_what_is_mounted(lab: Lab, mount: Path) -> None:
    line = next(line for line in Path("/proc/mounts").read_text().splitlines() if line.split()[1] == str(mount))
    source, _, kind, options, *_ = line.split()
    assert (source, kind) == (lab.root_unc, "fuse.dfsfs")
    assert {"rw", "nosuid", "nodev", "allow_other"} <= set(options.split(","))


def test_ro_is_read_only(lab: Lab, tmp_path: Path) -> None:
    with mounted(lab, tmp_path / "dfs", "ro") as mount:
        with pytest.raises(OSError) as caught:
            (mount / "link-single" / "new").touch()
        assert caught.value.errno == errno.EROFS


def test_10000_entries_are_listed_once_each(lab: Lab, mount: Path) -> None:
    folder = lab.host("fs1").share_path("data") / "many"
    folder.mkdir()
    names = {f"file-{number:05}" for number in range(10_000)}
    try:
        for name in names:
            (folder / name).touch()
        listed = subprocess.run(
            ["ls", "-l", str(mount / "link-single" / "many")], capture_output=True, text=True, check=True, timeout=60
        ).stdout.splitlines()[1:]
        assert len(listed) == 10_000
        assert {line.rsplit(" ", 1)[1] for line in listed} == names
    finally:
        subprocess.run(["rm", "-rf", str(folder)], check=True, timeout=60)


def test_a_server_that_is_named_by_its_ipv6_address(lab: Lab, tmp_path: Path) -> None:
    mapped = f"::ffff:{lab.address('fs1')}"
    for host, options in ((f"[{mapped}]", ""), ("[2001:db8::1]", f"ip=[{mapped}]"), (mapped, "")):
        with mounted(lab, tmp_path / "dfs", options, f"//{host}/data") as mount:
            assert (mount / "hello.txt").exists()


@pytest.mark.parametrize("options", ["", "nosymfollow"])
def test_only_the_mount_itself_is_taken_down_wherever_its_path_leads(lab: Lab, tmp_path: Path, options: str) -> None:
    """Somebody who may rename a folder above the mount point lays a link to another mount in its place."""
    folder, other = tmp_path / "folder", tmp_path / "other"
    for place in (folder, other):
        (place / "mnt").mkdir(parents=True)
    mountpoint = folder / "mnt"
    user, password = lab.credentials
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(other / "mnt")], check=True, timeout=PATIENCE)
    try:
        words = ",".join(filter(None, (f"username={user}", options)))
        mounting = mount_command(lab.root_unc, mountpoint, words, password)
        assert mounting.returncode == 0, mounting.stderr
        with serving(mountpoint) as found:
            folder.rename(tmp_path / "elsewhere")
            folder.symlink_to(other)
            signal_each(found.values(), signal.SIGTERM)
        wait_until(lambda: not daemons(mountpoint), "the daemon ends")
        assert is_mounted(other / "mnt")
        assert not is_mounted(tmp_path / "elsewhere" / "mnt")
    finally:
        clean_up(mountpoint)
        clean_up(tmp_path / "elsewhere" / "mnt")
        subprocess.run(["umount", str(other / "mnt")], check=False, timeout=PATIENCE)
