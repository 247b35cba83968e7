"""Large folders through a real mount: listed whole while they change, at any position, and removed."""

from __future__ import annotations

import ctypes
import os
import shutil
import threading
from typing import TYPE_CHECKING

import pytest

from tests.conftest import LONG
from tests.kernel.mounts import mounted
from tests.support.lab.topology import ALICE, GROUP

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.lab.samba import Lab

pytestmark = [pytest.mark.lab, pytest.mark.mount]

COUNT = 100_000 if LONG else 20_000
"""Files of a large folder."""


@pytest.fixture
def large(work: Path, lab: Lab) -> Iterator[Path]:
    """A folder of COUNT files, made behind the server's back."""
    share = lab.host("fs1").share_path("data") / work.name / "large"
    share.mkdir()
    for index in range(COUNT):
        (share / f"stays-{index:06}").touch()
    shutil.chown(share, ALICE.uid, GROUP[1])
    yield work / "large"
    shutil.rmtree(share)


def test_a_large_folder_is_whole_while_files_come_and_go(large: Path, lab: Lab) -> None:
    share = lab.host("fs1").share_path("data") / large.parent.name / "large"
    stop = threading.Event()

    def disturb() -> None:
        number = 0
        while not stop.is_set():
            (share / f"comes-{number}").touch()
            if number >= 10:
                (share / f"comes-{number - 10}").unlink()
            number += 1

    thread = threading.Thread(target=disturb)
    thread.start()
    try:
        for _ in range(2):
            names = os.listdir(large)
            assert len(names) == len(set(names))
            assert sum(name.startswith("stays-") for name in names) == COUNT
    finally:
        stop.set()
        thread.join()


class _Entry(ctypes.Structure):
    _fields_ = (
        ("d_ino", ctypes.c_uint64),
        ("d_off", ctypes.c_int64),
        ("d_reclen", ctypes.c_uint16),
        ("d_type", ctypes.c_uint8),
        ("d_name", ctypes.c_char * 256),
    )


def test_telldir_seekdir_and_rewinddir(work: Path) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.opendir.restype = ctypes.c_void_p
    libc.readdir.restype = ctypes.POINTER(_Entry)
    libc.telldir.restype = ctypes.c_long
    for function in (libc.readdir, libc.telldir, libc.rewinddir, libc.closedir):
        function.argtypes = (ctypes.c_void_p,)
    libc.seekdir.argtypes = (ctypes.c_void_p, ctypes.c_long)
    for index in range(1000):
        (work / f"file-{index}").touch()
    folder = libc.opendir(os.fsencode(work))
    try:
        positions, names = [], []
        while True:
            positions.append(libc.telldir(folder))
            entry = libc.readdir(folder)
            if not entry:
                break
            names.append(entry.contents.d_name)
        assert len(names) == len(set(names)) == 1002
        for index in (999, 3, 500, 0):
            libc.seekdir(folder, positions[index])
            assert libc.readdir(folder).contents.d_name == names[index]
        (work / "made later").touch()
        libc.rewinddir(folder)
        again = []
        while entry := libc.readdir(folder):
            again.append(entry.contents.d_name)
        assert b"made later" in again and len(again) == 1003
    finally:
        libc.closedir(folder)


def test_rm_r_removes_while_it_lists(work: Path) -> None:
    for folder in range(2):
        (work / "tree" / str(folder)).mkdir(parents=True)
        for index in range(300):
            (work / "tree" / str(folder) / f"file-{index}").touch()
    shutil.rmtree(work / "tree")
    assert os.listdir(work) == []


def test_what_utimes_changes_is_known_as_the_server_has_it(lab: Lab, work: Path, tmp_path: Path) -> None:
    """Also the time of the change: tar compares it before and after, and says that a folder changed if it differs."""
    with mounted(lab, tmp_path / "other") as other:
        for name in ("folder", "file"):
            path = work / name
            if name == "file":
                path.write_text("x")
            else:
                path.mkdir()
            path.stat()
            os.utime(path, (10**9, 10**9))
            here, there = path.stat(), (other / "link-single" / work.name / name).stat()
            assert (here.st_ctime_ns, here.st_mtime_ns) == (there.st_ctime_ns, there.st_mtime_ns)
            assert here.st_mtime == 10**9
