"""Open files through a real mount: what open(2), write(2), mmap(2) and friends promise."""

from __future__ import annotations

import errno
import mmap
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.kernel.mounts import mounted, refused, wait_until
from tests.support.lab.topology import ALICE

if TYPE_CHECKING:
    from tests.support.lab.samba import Lab

pytestmark = [pytest.mark.lab, pytest.mark.mount]

MANY = 3000
"""Files in a folder that takes more than two answers of a server to list."""


def test_a_map_of_a_file_opened_to_append_writes_where_it_says(work: Path) -> None:
    path = work / "log"
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND)
    try:
        os.write(file, bytes(10_000))
        with mmap.mmap(file, 10_000) as memory:
            memory[0:3] = b"abc"
            memory[9_000:9_003] = b"def"
            memory.flush()
        os.write(file, b"end")
    finally:
        os.close(file)
    content = path.read_bytes()
    assert len(content) == 10_003
    assert (content[:3], content[9_000:9_003], content[10_000:]) == (b"abc", b"def", b"end")


def test_a_folder_is_renamed_while_files_in_it_are_open(work: Path) -> None:
    (work / "old" / "deep").mkdir(parents=True)
    reading, writing = work / "old" / "deep" / "r", work / "old" / "w"
    reading.write_bytes(b"0123456789")
    with reading.open("rb") as reader, writing.open("wb") as writer:
        assert reader.read(2) == b"01"
        writer.write(b"before ")
        writer.flush()
        (work / "old").rename(work / "new")
        assert reader.read(3) == b"234"
        writer.write(b"after")
    assert (work / "new" / "w").read_bytes() == b"before after"
    assert os.listdir(work) == ["new"]


def test_a_folder_can_be_removed_while_a_file_removed_from_it_is_open(work: Path) -> None:
    folder = work / "folder"
    folder.mkdir()
    with (folder / "file").open("w+b") as file:
        file.write(b"still here")
        file.flush()
        (folder / "file").unlink()
        folder.rmdir()
        assert not folder.exists()
        file.seek(0)
        assert file.read() == b"still here"
        assert os.fstat(file.fileno()).st_nlink == 0
    assert os.listdir(work) == []


@pytest.mark.every_samba
@pytest.mark.parametrize("link", ["link-single", "link-multi"])
@pytest.mark.parametrize("count", [1, MANY])
def test_a_folder_that_is_removed_while_it_is_read_is_gone(
    work: Path, mount: Path, lab: Lab, link: str, count: int
) -> None:
    """Through the link by which it is read, or another one to the same share: see dfsfs/vfs/names/dirrenames.py."""
    folder, on_disk = work / "folder", lab.host("fs1").share_path("data") / work.name / "folder"
    folder.mkdir()
    for number in range(count):
        (on_disk / f"a rather long name of a file, number {number}").touch()
    with os.scandir(folder) as reading:
        next(reading)
        for path in on_disk.iterdir():
            path.unlink()
        (mount / link / work.name / "folder").rmdir()
        assert os.listdir(work) == [] and not on_disk.exists()
        if link == "link-single":
            folder.mkdir()


@pytest.mark.every_samba
def test_a_folder_that_is_replaced_while_it_is_read_is_gone(work: Path, lab: Lab) -> None:
    on_disk = lab.host("fs1").share_path("data") / work.name
    for name in ("old", "new"):
        (work / name).mkdir()
    for number in range(MANY):
        (on_disk / "old" / f"a rather long name of a file, number {number}").touch()
    with os.scandir(work / "old") as reading:
        next(reading)
        for path in (on_disk / "old").iterdir():
            path.unlink()
        inode = (work / "new").stat().st_ino
        (work / "new").rename(work / "old")
        assert [path.name for path in on_disk.iterdir()] == os.listdir(work) == ["old"]
        assert (work / "old").stat().st_ino == inode


def test_what_a_dead_mount_has_left_behind_is_removed_by_the_next_listing(work: Path, lab: Lab) -> None:
    share = lab.host("fs1").share_path("data") / work.name
    leftover = share / f".dfsfs_deleted_0badcafe-1-1_{int(time.time()) - 100_000:08x}_01234567"
    leftover.write_bytes(b"left")
    shutil.chown(leftover, ALICE.uid)
    mine = share / ".dfsfs_deleted_by_me"
    mine.write_bytes(b"not ours")
    assert os.listdir(work) == [mine.name]
    assert not leftover.exists()


def test_nothing_is_left_of_a_file_that_was_removed_while_it_was_open(work: Path, lab: Lab) -> None:
    share = lab.host("fs1").share_path("data") / work.name
    with (work / "file").open("w") as file:
        os.link(work / "file", work / "second")
        (work / "file").unlink()
        assert os.listdir(work) == ["second"]
        assert os.fstat(file.fileno()).st_nlink == 1
        (work / "second").unlink()
        assert os.fstat(file.fileno()).st_nlink == 0
        file.write("x")
    wait_until(lambda: os.listdir(share) == [], "the last close removes it")


def test_who_opens_a_file_hears_how_many_names_it_has(lab: Lab, tmp_path: Path) -> None:
    """A listing does not say it, and of an empty file there is nothing to read that would ask anew."""
    disk = lab.host("fs1").share_path("data") / "several-names"
    disk.mkdir()
    (disk / "one").touch()
    os.link(disk / "one", disk / "two")
    try:
        with mounted(lab, tmp_path / "m") as mount:
            (listed, *_) = os.scandir(mount / "link-single" / "several-names")
            assert Path(listed.path).read_bytes() == b""
            assert os.lstat(listed.path).st_nlink == 2
    finally:
        shutil.rmtree(disk)


def test_what_is_appended_after_a_truncation_by_another_open_goes_to_the_beginning(work: Path) -> None:
    path = work / "log"
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        os.write(log, b"before")
        os.close(os.open(path, os.O_RDONLY | os.O_TRUNC))
        os.write(log, b"after" * 10)
    finally:
        os.close(log)
    assert path.read_bytes() == b"after" * 10


def test_every_line_that_several_processes_append_is_there(work: Path) -> None:
    path = work / "log"
    writer = (
        "import os, sys\n"
        "file = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND)\n"
        "for number in range(200):\n"
        "    os.write(file, f'{sys.argv[2]}-{number}\\n'.encode() * 3)\n"
    )
    processes = [subprocess.Popen([sys.executable, "-c", writer, str(path), str(index)]) for index in range(4)]
    assert [process.wait(timeout=60) for process in processes] == [0] * 4
    lines = path.read_text().split()
    assert sorted(lines) == sorted(f"{index}-{number}" for index in range(4) for number in range(200) for _ in range(3))


def test_a_shared_map_needs_a_cache(lab: Lab, tmp_path: Path) -> None:
    with mounted(lab, tmp_path / "dfs", "cache=none") as top, (top / "readme.txt").open("r+b") as file:
        refused(errno.ENODEV, lambda: mmap.mmap(file.fileno(), 10))
        with mmap.mmap(file.fileno(), 10, flags=mmap.MAP_PRIVATE) as memory:
            assert memory[:3] == b"the"


def test_o_direct_o_sync_and_what_they_promise(work: Path, lab: Lab) -> None:
    on_server = lab.host("fs1").share_path("data") / work.name / "file"
    for flags in (os.O_SYNC, os.O_DSYNC, os.O_DIRECT):
        file = os.open(work / "file", os.O_RDWR | os.O_CREAT | os.O_TRUNC | flags)
        buffer = mmap.mmap(-1, 8192)  # O_DIRECT wants whole pages
        buffer.write(b"x" * 8192)
        try:
            assert os.write(file, buffer) == 8192
            assert on_server.read_bytes() == b"x" * 8192, "it is there before the file is closed"
            assert os.preadv(file, [buffer], 4096) == 4096
        finally:
            os.close(file)


def test_a_hole_stays_a_hole(work: Path) -> None:
    with (work / "image").open("wb") as file:
        file.truncate(64 * 2**20)
        file.seek(32 * 2**20)
        file.write(b"x")
    assert (work / "image").stat().st_blocks * 512 < 4 * 2**20
    subprocess.run(["cp", "--sparse=always", "image", "copy"], cwd=work, check=True, timeout=60)
    assert (work / "copy").stat().st_blocks * 512 < 4 * 2**20
    assert (work / "copy").stat().st_size == 64 * 2**20
