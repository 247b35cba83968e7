"""Removing and replacing what others have open, are just opening or closing, or only keep: nothing fails for that, and
nothing is left on the server.
"""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import threading
import time
from typing import TYPE_CHECKING

import pytest

from dfsfs.vfs.names.hiddennames import get_aside_name
from tests.kernel.mounts import mounted, scratch, wait_until
from tests.support.lab.topology import ALICE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.lab.samba import Lab

pytestmark = [pytest.mark.lab, pytest.mark.mount]

ROUNDS = 60
HIDDEN = ".dfsfs_"


def on_disk(lab: Lab, work: Path) -> Path:
    return lab.host("fs1").share_path("data") / work.name


def hidden(disk: Path) -> list[str]:
    return [name for name in os.listdir(disk) if name.startswith(HIDDEN)]


@pytest.fixture(autouse=True)
def swept(lab: Lab) -> Iterator[None]:
    """Takes what was moved up into the share's root, when a folder was removed that others' hidden files were in."""
    yield
    root = lab.host("fs1").share_path("data")
    for name in hidden(root):
        (root / name).unlink()


def forget_everything() -> None:
    """Has the kernel forget files that nobody uses, as it does when memory is short."""
    with open("/proc/sys/vm/drop_caches", "w") as file:
        file.write("2")


def read(path: Path) -> None:
    """After this a handle on the file is kept."""
    assert path.read_bytes() == b"content"


def test_a_file_that_the_kernel_has_forgotten_is_gone_when_it_is_removed(work: Path, lab: Lab) -> None:
    folder = work / "folder"
    folder.mkdir()
    for name in ("one", "two"):
        (folder / name).write_bytes(b"content")
        read(folder / name)
    forget_everything()
    (folder / "one").unlink()
    assert os.listdir(on_disk(lab, work) / "folder") == ["two"]
    read(folder / "two")
    forget_everything()
    subprocess.run(["rm", "-r", str(folder)], check=True, timeout=60)
    assert os.listdir(on_disk(lab, work)) == []


def test_a_handle_that_was_kept_for_a_forgotten_file_is_used_by_the_next_open(work: Path) -> None:
    path = work / "file"
    path.write_bytes(b"content")
    for _ in range(3):
        read(path)
        forget_everything()
    path.write_bytes(b"changed")
    assert path.read_bytes() == b"changed"


def test_what_is_kept_through_one_link_does_not_hold_what_is_removed_through_another(work: Path, mount: Path) -> None:
    (work / "folder").mkdir()
    (work / "folder" / "file").write_bytes(b"content")
    other = mount / "link-multi" / work.name
    read(work / "folder" / "file")
    (other / "folder" / "file").unlink()
    (other / "folder").rmdir()


@pytest.mark.every_samba
def test_what_another_mount_only_keeps_does_not_hold_what_is_removed_here(lab: Lab, tmp_path: Path) -> None:
    with mounted(lab, tmp_path / "a") as a, mounted(lab, tmp_path / "b", "closetimeo=30") as b:
        with scratch(a / "link-single") as work:
            there = b / "link-single" / work.name
            (work / "folder").mkdir()
            for name in ("one", "two"):
                (work / "folder" / name).write_bytes(b"content")
                read(there / "folder" / name)
            started = time.monotonic()
            (work / "folder" / "one").unlink()
            (work / "new").write_bytes(b"new")
            (work / "new").replace(work / "folder" / "two")
            read_back = (work / "folder" / "two").read_bytes()
            (work / "folder" / "two").unlink()
            (work / "folder").rmdir()
            assert read_back == b"new"
            assert time.monotonic() - started < 10, "nobody was waited for"


@pytest.mark.parametrize("replaces", [False, True], ids=["unlink", "rename"])
def test_a_close_that_races_a_removal_leaves_nothing(work: Path, lab: Lab, *, replaces: bool) -> None:
    barrier = threading.Barrier(2)
    files: list[int] = []

    def close() -> None:
        for _ in range(ROUNDS):
            barrier.wait(60)
            os.close(files.pop())
            barrier.wait(60)

    closer = threading.Thread(target=close)
    closer.start()
    for number in range(ROUNDS):
        path = work / f"f{number}"
        path.write_bytes(b"x")
        (work / "new").write_bytes(b"y")
        files.append(os.open(path, os.O_RDONLY))
        os.read(files[-1], 1)
        barrier.wait(60)
        if replaces:
            (work / "new").replace(path)
        else:
            path.unlink()
        barrier.wait(60)
    closer.join(60)
    assert not closer.is_alive()
    wait_until(lambda: not hidden(on_disk(lab, work)), "no hidden file is left")


@pytest.mark.every_samba
def test_a_file_is_replaced_while_others_open_and_read_it(lab: Lab, tmp_path: Path) -> None:
    """As editors and configuration tools save. No rename fails, and whoever reads sees one version whole."""
    with mounted(lab, tmp_path / "m") as mount, scratch(mount / "link-single") as work:
        path, done = work / "conf", threading.Event()
        path.write_bytes(b"0" * 2000)
        wrong: list[object] = []

        def look() -> None:
            while not done.is_set():
                # Opened by name while it changes hands: what that may say is another test's business.
                try:
                    data = path.read_bytes()
                except OSError:
                    continue
                if len(data) != 2000 or len(set(data)) != 1:
                    wrong.append(data)

        readers = [threading.Thread(target=look) for _ in range(3)]
        for reader in readers:
            reader.start()
        try:
            for number in range(ROUNDS):
                (work / "conf.tmp").write_bytes(bytes([48 + number % 10]) * 2000)
                (work / "conf.tmp").replace(path)
        finally:
            done.set()
            for reader in readers:
                reader.join(60)
        assert wrong == []
        assert os.listdir(work) == ["conf"]
        wait_until(lambda: os.listdir(on_disk(lab, work)) == ["conf"], "no hidden file is left")


def test_a_program_goes_on_with_the_file_that_was_replaced(work: Path, lab: Lab) -> None:
    (work / "file").write_bytes(b"old")
    with (work / "file").open("r+b") as file:
        for number in range(3):
            (work / "new").write_bytes(b"new %d" % number)
            (work / "new").replace(work / "file")
            file.seek(0)
            assert file.read() == b"old"
        file.write(b" and written")
        file.flush()
        file.seek(0)
        assert file.read() == b"old and written"
        assert os.fstat(file.fileno()).st_nlink == 0
        assert len(hidden(on_disk(lab, work))) == 1
    assert (work / "file").read_bytes() == b"new 2"
    wait_until(lambda: os.listdir(on_disk(lab, work)) == ["file"], "no hidden file is left")


def test_a_file_with_two_names_loses_one_to_another(work: Path, lab: Lab) -> None:
    (work / "one").write_bytes(b"content")
    os.link(work / "one", work / "two")
    with (work / "one").open("rb") as file:
        (work / "new").write_bytes(b"new")
        (work / "new").replace(work / "one")
        assert file.read() == b"content"
        (work / "two").unlink()
        file.seek(0)
        assert file.read() == b"content"
    assert (work / "one").read_bytes() == b"new"
    wait_until(lambda: os.listdir(on_disk(lab, work)) == ["one"], "no hidden file is left")


def leave(disk: Path, name: str, age: float = 0.0) -> Path:
    """Puts a file of alice's on the server's disk. Its times say that it was last changed `age` seconds ago."""
    path = disk / name
    path.write_bytes(b"left")
    shutil.chown(path, ALICE.uid)
    os.utime(path, (time.time() - age,) * 2)
    return path


NUMBERS = itertools.count(1)
"""One that no name before had: what is in the way of a folder's removal is moved up, and has to find room there."""


def foreign(kind: str, age: float, end: str = "") -> str:
    """A hidden name that another computer has made some seconds ago."""
    return f".dfsfs_{kind}_0badcafe-1-1_{int(time.time() - age):08x}_{next(NUMBERS):08x}{end}"


@pytest.mark.parametrize(
    ("name", "goes"),
    [
        (lambda: foreign("deleted", 100), False),
        (lambda: foreign("deleted", 90_000), True),
        (lambda: ".dfsfs_deleted_0123456789abcdef", False),
        (lambda: ".dfsfs_deleted_by_me", False),
    ],
    ids=["another's", "another's of yesterday", "of the release before", "not ours"],
)
def test_what_is_removed_by_a_listing(work: Path, lab: Lab, *, name: Callable[[], str], goes: bool) -> None:
    path = leave(on_disk(lab, work), name())
    os.listdir(work)
    assert path.exists() is not goes


def test_a_folder_with_a_hidden_file_of_others_can_be_removed(work: Path, lab: Lab) -> None:
    """The file is not: somebody may have it open."""
    (work / "folder").mkdir()
    name = foreign("deleted", 100)
    leave(on_disk(lab, work) / "folder", name)
    (work / "folder").rmdir()
    assert os.listdir(work) == []
    assert os.listdir(on_disk(lab, work)) == [name]


@pytest.mark.parametrize("replaced", [False, True])
def test_what_was_set_aside_by_a_mount_that_has_died(work: Path, lab: Lab, *, replaced: bool) -> None:
    disk = on_disk(lab, work)
    (work / "file").write_bytes(b"new")
    number = os.stat(disk / "file").st_ino
    if not replaced:
        (disk / "file").unlink()
    aside = disk / foreign("kept", 100, f"_{number:x}")
    aside.mkdir()
    leave(aside, get_aside_name(aside.name, "file"))
    shutil.chown(aside, ALICE.uid)
    assert os.listdir(work) in (["file"], []), "it may have been listed before it was put back"
    assert os.listdir(disk) == ["file"]
    assert (disk / "file").read_bytes() == (b"new" if replaced else b"left")


@pytest.mark.every_samba
def test_a_link_with_the_name_of_what_was_set_aside_leads_to_nobody_elses_files(lab: Lab, tmp_path: Path) -> None:
    """Who may write to a folder lays a link in it, on the server, to another one that only whoever lists it may change.
    The link's name says that what is in there is to be put back, or, with the id of a file of that name, to be removed.
    """
    with mounted(lab, tmp_path / "m") as mount, scratch(mount / "link-single") as work:
        disk = on_disk(lab, work)
        for replaced, beside in itertools.product((False, True), (False, True)):
            number = 0x1234
            folder = work / f"{replaced}-{beside}"
            private = folder / "private" if beside else work / f"private-{replaced}-{beside}"
            folder.mkdir()
            private.mkdir()
            (private.parent / "empty").mkdir(exist_ok=True)
            (private / "thesis").write_bytes(b"ten years")
            there = disk / folder.name
            if replaced:
                number = os.stat(leave(there, "thesis")).st_ino
            link = there / foreign("kept", 100, f"_{number:x}")
            link.symlink_to("private" if beside else f"../{private.name}")
            link.with_name(foreign("kept", 100, f"_{number:x}")).symlink_to("empty" if beside else "../empty")
            for target in (private, private / "thesis"):
                removed = link.with_name(foreign("deleted", 90_000))
                removed.symlink_to(os.path.relpath(target, folder))
            for _ in range(2):
                os.listdir(folder)
            assert (disk / private.relative_to(work) / "thesis").exists(), link.name
            assert (disk / private.relative_to(work) / "../empty").exists(), link.name
            for name in hidden(there):
                (there / name).unlink()


def test_what_was_set_aside_stays_if_another_file_has_its_name(work: Path, lab: Lab) -> None:
    disk = on_disk(lab, work)
    (work / "file").write_bytes(b"somebody else's")
    aside = disk / foreign("kept", 100, "_1234")
    aside.mkdir()
    left = leave(aside, get_aside_name(aside.name, "file"))
    shutil.chown(aside, ALICE.uid)
    assert os.listdir(work) == ["file"]
    assert left.read_bytes() == b"left"
    assert (disk / "file").read_bytes() == b"somebody else's"
    shutil.rmtree(aside)
