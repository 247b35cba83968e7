"""The file system through the kernel: a real mount of a namespace in memory, and programs that use it."""

from __future__ import annotations

import contextlib
import errno
import filecmp
import mmap
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.mount

PROJECT = Path(__file__).parents[3]
PATIENCE = 20.0
"""Seconds for anything that a mount does."""


class Mount:
    """A running `served` process."""

    def __init__(self, directory: Path, loop: str) -> None:
        self.path = directory / "mnt"
        self.path.mkdir()
        self.errors = directory / "stderr"
        with self.errors.open("wb") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, "-W", "error", "-m", "tests.unit.fuse.served", str(self.path), loop],
                cwd=PROJECT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
            )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n", self.errors.read_text()

    def unmount(self) -> None:
        subprocess.run(["umount", str(self.path)], check=True, timeout=PATIENCE)

    def ended(self) -> str:
        """Waits for the process to end by itself; what it said last."""
        output, _ = self.process.communicate(timeout=PATIENCE)
        assert self.process.returncode == 0, self.errors.read_text()
        assert not os.path.ismount(self.path)
        return output

    def log(self) -> str:
        return self.errors.read_text()

    def destroy(self) -> None:
        """Whatever has happened: nothing is left."""
        subprocess.run(["umount", "-l", str(self.path)], check=False, capture_output=True, timeout=PATIENCE)
        self.process.kill()
        self.process.communicate(timeout=PATIENCE)


@pytest.fixture(params=["native", "pyfuse3"])
def mount(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Mount]:
    running = Mount(tmp_path, request.param)
    try:
        yield running
    finally:
        running.destroy()
    assert "in the loop" not in running.log()


def run(*command: str | Path) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=PATIENCE).stdout


def fails(code: int, action: Callable[[], object]) -> None:
    with pytest.raises(OSError) as caught:
        action()
    assert caught.value.errno is not None
    assert errno.errorcode[caught.value.errno] == errno.errorcode[code]


def test_trees_are_copied_moved_and_removed(mount: Mount) -> None:
    source, plain = PROJECT / "dfsfs", mount.path / "plain"
    run("cp", "-a", source, plain / "one")
    run("diff", "-r", source, plain / "one")
    run("mv", plain / "one", plain / "two")
    run("mv", plain / "two", mount.path / "link" / "three")
    run("diff", "-r", source, mount.path / "link" / "three")
    listed = run("ls", "-laR", mount.path / "link")
    assert "three" in listed and "?" not in listed
    run("rm", "-r", mount.path / "link" / "three")
    assert os.listdir(mount.path / "link") == ["inside.txt"]
    mount.unmount()
    assert mount.ended() == "left open: [] 0 0\n"
    assert "ERROR" not in mount.log() and "WARNING" not in mount.log()


def test_archives_are_unpacked_and_synchronised_by_root(mount: Mount, tmp_path: Path) -> None:
    run("tar", "cf", tmp_path / "a.tar", "-C", PROJECT, "dfsfs")
    run("tar", "xpf", tmp_path / "a.tar", "-C", mount.path / "link")
    run("diff", "-r", PROJECT / "dfsfs", mount.path / "link" / "dfsfs")
    if shutil.which("rsync"):
        run("rsync", "-a", f"{PROJECT}/dfsfs/", mount.path / "plain" / "copy")
        again = run(
            "rsync", "-ai", "--no-perms", "--no-owner", "--no-group", f"{PROJECT}/dfsfs/", mount.path / "plain" / "copy"
        )
        assert [line for line in again.splitlines() if line.startswith(">f")] == [], "times were kept"


def test_a_large_file_is_the_same_after_the_cache_is_dropped(mount: Mount, tmp_path: Path) -> None:
    original, copy = tmp_path / "original", mount.path / "link" / "copy"
    original.write_bytes(os.urandom(20_000_001))
    run("dd", f"if={original}", f"of={copy}", "bs=1M", "conv=fsync")
    Path("/proc/sys/vm/drop_caches").write_text("3")
    assert filecmp.cmp(original, copy, shallow=False)
    run("dd", "if=/dev/zero", f"of={copy}", "bs=1", "count=3", "seek=10000000", "conv=notrunc")
    with original.open("r+b") as file:
        file.seek(10_000_000)
        file.write(bytes(3))
    assert filecmp.cmp(original, copy, shallow=False)
    os.truncate(copy, 5)
    assert copy.read_bytes() == original.read_bytes()[:5]


def test_a_listing_has_all_names_once(mount: Mount) -> None:
    folder = mount.path / "plain"
    expected = {f"file {number}" for number in range(700)}
    for name in expected:
        (folder / name).touch()
    assert set(os.listdir(folder)) == expected
    assert len(os.listdir(folder)) == 700
    assert len(run("ls", "-a", folder).splitlines()) == 702


def test_a_removed_file_can_be_used_until_it_is_closed(mount: Mount) -> None:
    path = mount.path / "link" / "f"
    with path.open("w+") as file:
        file.write("data")
        file.flush()
        path.unlink()
        assert os.listdir(path.parent) == ["inside.txt"]
        path.write_text("new")
        file.seek(0)
        assert file.read() == "data"
        assert os.fstat(file.fileno()).st_nlink == 0
    assert path.read_text() == "new"


def test_a_file_is_mapped_and_written_through_the_map(mount: Mount) -> None:
    path = mount.path / "plain" / "mapped"
    path.write_bytes(bytes(10_000))
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as view:
        view[5000:5004] = b"abcd"
        view.flush()
    Path("/proc/sys/vm/drop_caches").write_text("3")
    assert path.read_bytes()[5000:5004] == b"abcd"


def test_links_look_like_folders_and_can_not_be_harmed(mount: Mount) -> None:
    link, dead = mount.path / "link", mount.path / "dead"
    assert (link / "inside.txt").read_text() == "inside\n"
    assert dead.is_dir()
    fails(errno.EHOSTUNREACH, lambda: os.listdir(dead))
    fails(errno.EHOSTUNREACH, lambda: (dead / "x").touch())
    fails(errno.EBUSY, lambda: link.rmdir())
    fails(errno.EBUSY, lambda: link.rename(mount.path / "moved"))
    fails(errno.EBUSY, lambda: dead.chmod(0o700))
    fails(errno.EXDEV, lambda: (link / "inside.txt").rename(mount.path / "plain" / "x"))
    fails(errno.EPERM, lambda: os.link(link / "inside.txt", link / "second"))
    fails(errno.EPERM, lambda: os.symlink("x", link / "symbolic"))
    fails(errno.EPERM, lambda: os.mkfifo(link / "pipe"))
    os.mknod(link / "ordinary")
    assert sorted(os.listdir(mount.path)) == ["broken", "dead", "gated", "link", "plain", "stuck", "vanishing"]


def test_the_free_space_is_that_of_the_server(mount: Mount) -> None:
    assert shutil.disk_usage(mount.path).total == 1 << 40
    assert os.statvfs(mount.path).f_namemax == 255


def test_the_kernel_reads_far_ahead(mount: Mount) -> None:
    device = os.stat(mount.path).st_dev
    read_ahead = Path(f"/sys/class/bdi/{os.major(device)}:{os.minor(device)}/read_ahead_kb")
    assert int(read_ahead.read_text()) >= 1024


def test_a_listing_that_fails_is_not_the_end_of_the_folder(mount: Mount) -> None:
    """The C library takes ENOENT of getdents(2) for that, and would show an empty folder."""
    fails(errno.ESTALE, lambda: os.listdir(mount.path / "vanishing"))


def test_a_handler_that_hangs_or_breaks_does_not_end_the_mount(mount: Mount) -> None:
    started = time.monotonic()
    fails(errno.ETIMEDOUT, (mount.path / "stuck").read_bytes)
    assert time.monotonic() - started < 10
    fails(errno.EIO, (mount.path / "broken").read_bytes)
    assert "LookupError: as the test wants it" in mount.log()
    assert (mount.path / "link" / "inside.txt").read_text() == "inside\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_unmounts(mount: Mount, number: signal.Signals) -> None:
    started = time.monotonic()
    mount.process.send_signal(number)
    assert mount.ended() == "left open: [] 0 0\n"
    assert time.monotonic() - started < 4
    assert "fail" not in mount.log()


def test_a_signal_ends_a_mount_that_is_in_use(mount: Mount) -> None:
    file = os.open(mount.path / "plain" / "f", os.O_CREAT | os.O_WRONLY)
    try:
        os.write(file, b"x")
        mount.process.send_signal(signal.SIGTERM)
        assert mount.ended() == "left open: [] 0 0\n"
        fails(errno.ENOTCONN, lambda: os.fsync(file))
    finally:
        with contextlib.suppress(OSError):
            os.close(file)
    assert "fail" not in mount.log() and "given up" not in mount.log()


def test_a_signal_shows_what_is_going_on(mount: Mount) -> None:
    mount.process.send_signal(signal.SIGUSR1)
    deadline = time.monotonic() + PATIENCE
    while "tasks and threads" not in mount.log() and time.monotonic() < deadline:
        time.sleep(0.05)
    (mount.path / "plain" / "f").touch()
    assert "fuse/session.py" in mount.log() and "thread MainThread" in mount.log()


def test_a_daemon_that_is_killed_as_soon_as_it_has_mounted_is_gone(tmp_path: Path) -> None:
    """It asks itself nothing: a thread of its own that waits for it can't be killed, and keeps the mount as it is."""
    top = tmp_path / "mnt"
    top.mkdir()
    command = [sys.executable, "-m", "tests.unit.fuse.unanswering", str(top)]
    with subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            said = process.stdout.readline()
            process.kill()
            assert process.wait(PATIENCE) == -signal.SIGKILL
            assert said == "ready\n"
            fails(errno.ENOTCONN, lambda: os.listdir(top))
        finally:
            subprocess.run(["umount", "-f", str(top)], check=False, capture_output=True, timeout=PATIENCE)
            subprocess.run(["umount", "-l", str(top)], check=False, capture_output=True, timeout=PATIENCE)
            process.kill()
