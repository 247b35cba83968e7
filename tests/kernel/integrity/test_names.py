"""Names, and what is behind them: told apart, replaced, removed, seen again."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import shutil
import subprocess
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.conftest import LONG
from tests.kernel.integrity.beside import again_and_again
from tests.kernel.mounts import mounted, scratch, wait_until
from tests.support.fakes.proxy import Proxy
from tests.support.lab.samba import is_before_4_22
from tests.support.lab.topology import ALICE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.lab.samba import Lab

pytestmark = [pytest.mark.lab, pytest.mark.mount]

RACES = 60 if LONG else 20
"""How often two calls are made at the same moment."""
DROP = Path("/proc/sys/vm/drop_caches")
HIDDEN = ".dfsfs_"
ENDLESS = 30.0
"""Seconds after which a program is in a circle."""
APART = ("Notes.txt", "notes.txt", "sınır.txt", "sinir.txt", "µ.txt", "μ.txt", "ș.txt", "ț.txt", "ſ.txt", "s.txt")
"""Names of which two and two are told apart by a server that is case-sensitive."""
APART_EVERYWHERE = ("sınır.txt", "sinir.txt", "ș.txt", "ț.txt")
"""Those that every server tells apart, as there is no simple upper case that they have in common."""


def forget() -> None:
    """The kernel forgets inodes and dentries that nobody uses, as it does when memory is short."""
    DROP.write_text("2")


@contextlib.contextmanager
def on_server(lab: Lab, share: str, name: str) -> Iterator[Path]:
    """A directory made by the server's own means, as the mount's user owns it."""
    place = lab.host("fs1").share_path(share) / name
    place.mkdir()
    os.chown(place, ALICE.uid, -1)
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


# -- two names ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("link", "share", "names"), [("exact", "exact", APART), ("single", "data", APART_EVERYWHERE)])
def test_names_that_the_server_tells_apart_are_two_files(
    lab: Lab, mount: Path, tmp_path: Path, link: str, share: str, names: tuple[str, ...]
) -> None:
    """Each is read, written, listed, copied and removed as itself."""
    with on_server(lab, share, "apart") as disk:
        for name in names:
            (disk / name).write_text(f"this is {name}")
            os.chown(disk / name, ALICE.uid, -1)
        folder = mount / f"link-{link}" / "apart"
        for name in names:
            assert (folder / name).read_text() == f"this is {name}"
        assert sorted(os.listdir(folder)) == sorted(names)
        for name in names:
            (folder / name).write_text(f"now {name}")
            for other in names:
                expected = "now" if names.index(other) <= names.index(name) else "this is"
                assert (disk / other).read_text() == f"{expected} {other}"
        subprocess.run(["cp", "-r", str(folder), str(tmp_path / "copy")], check=True, timeout=30)
        assert {path.name: path.read_text() for path in (tmp_path / "copy").iterdir()} == {n: f"now {n}" for n in names}
        (folder / names[0]).unlink()
        assert sorted(os.listdir(disk)) == sorted(names[1:])
        subprocess.run(["rm", "-r", str(folder)], check=True, timeout=30)
        assert not disk.exists()


def test_both_of_two_names_can_be_made(lab: Lab, mount: Path) -> None:
    """And renamed one over the other, which leaves one."""
    with scratch(mount / "link-exact") as work:
        disk = lab.host("fs1").share_path("exact") / work.name
        (work / "Both").write_text("upper")
        (work / "both").write_text("lower")
        assert {path.name: path.read_text() for path in disk.iterdir()} == {"Both": "upper", "both": "lower"}
        assert (work / "Both").stat().st_ino != (work / "both").stat().st_ino
        os.rename(work / "both", work / "Both")
        assert {path.name: path.read_text() for path in disk.iterdir()} == {"Both": "lower"}
        assert os.listdir(work) == ["Both"]


REPLACES_OPEN_FILES = pytest.mark.skipif(
    shutil.which("smbd") is not None and not is_before_4_22(),
    reason="since 4.22 Samba lets nobody replace a file that another client has open",
)

# -- replaced -------------------------------------------------------------------------------------------------------


@REPLACES_OPEN_FILES
def test_a_file_that_is_open_here_is_replaced_by_another_client(lab: Lab, tmp_path: Path) -> None:
    """An open by name gives the new file at once, and the descriptor keeps the old one.

    That holds for what is replaced next as far as the name is not believed: for actimeo.
    """
    with mounted(lab, tmp_path / "a") as one, mounted(lab, tmp_path / "b") as two, scratch(one / "link-single") as work:
        here, there = work, two / "link-single" / work.name
        (here / "file").write_text("old")
        os.listdir(there)
        file = os.open(here / "file", os.O_RDONLY)
        try:
            assert os.read(file, 9) == b"old"
            for number in range(5):
                (there / "new").write_text(f"new {number}")
                os.rename(there / "new", there / "file")
                if number == 0:
                    assert (here / "file").read_text() == "new 0"
                wait_until(lambda n=number: (here / "file").read_text() == f"new {n}", "the new file is seen", 2)  # type: ignore[misc]
                assert os.pread(file, 9, 0) == b"old"
            wait_until(lambda: (here / "file").stat().st_ino != os.fstat(file).st_ino, "stat shows the new file", 3)
        finally:
            os.close(file)
        assert (here / "file").read_text() == "new 4"


def test_a_file_is_open_here_by_a_name_that_another_client_has_changed(lab: Lab, tmp_path: Path) -> None:
    """It is replaced here by its new name, although this client has it open itself, and knows it by the old one."""
    with mounted(lab, tmp_path / "a") as one, mounted(lab, tmp_path / "b") as two, scratch(one / "link-single") as work:
        there, here = work, two / "link-single" / work.name
        for number in range(5):
            (there / "conf").write_text("first")
            (there / "new").write_text("second")
            wait_until(lambda: (here / "new").exists(), "the new file is seen", 3)
            assert (here / "conf").exists()
            with (here / "new").open() as file:
                os.rename(there / "new", there / "conf")
                (here / "new").write_text(f"third {number}")
                os.rename(here / "new", here / "conf")
                assert (here / "conf").read_text() == f"third {number}"
                assert file.read() == "second"
            wait_until(lambda n=number: (there / "conf").read_text() == f"third {n}", "the last file is seen", 3)  # type: ignore[misc]


BESIDE = frozenset({errno.ESTALE, errno.EACCES, errno.EBUSY})
"""What a program may get for a name that another client replaces at that moment: docs/semantics.md, "What is not right
yet"."""


@REPLACES_OPEN_FILES
def test_two_clients_replace_one_file_while_both_read_it(lab: Lab, tmp_path: Path) -> None:
    """By turns. An open gets one of the files as a whole, and fstat says its size; or one of BESIDE, now and then."""
    excused: list[int] = []

    def read(path: Path) -> None:
        try:
            with path.open("rb") as file:
                content, size = file.read(), os.fstat(file.fileno()).st_size
        except FileNotFoundError as error:
            raise AssertionError("no file of that name") from error
        except OSError as error:
            if error.errno not in BESIDE:
                raise
            excused.append(error.errno)
            return
        assert content, "empty"
        assert len(content) == size == 100 * content[0] and len(set(content)) == 1, f"{len(content)} bytes of {size}"

    def replace(folder: Path) -> None:
        try:
            os.rename(folder / "new", folder / "conf")
        except OSError as error:
            if error.errno not in BESIDE:
                raise
            excused.append(error.errno)
            os.rename(folder / "new", folder / "conf")

    with mounted(lab, tmp_path / "a") as one, mounted(lab, tmp_path / "b") as two, scratch(one / "link-single") as work:
        folders = work, two / "link-single" / work.name
        (work / "conf").write_bytes(b"\1" * 100)
        wait_until(lambda: (folders[1] / "conf").exists(), "the file is seen", 3)
        with again_and_again(*(lambda folder=folder: read(folder / "conf") for folder in folders)):
            for number in range(RACES):
                folder = folders[number % 2]
                (folder / "new").write_bytes(bytes([number % 50 + 1]) * (100 * (number % 50 + 1)))
                replace(folder)
    assert len(excused) <= RACES / 10, excused


# -- removed --------------------------------------------------------------------------------------------------------


def test_a_file_that_was_read_and_forgotten_by_the_kernel_is_gone_when_it_is_removed(work: Path) -> None:
    """The handle that is kept of it is found by what it is open on, since the kernel's inode is another one by now."""
    for number in range(5):
        folder = work / f"folder{number}"
        folder.mkdir()
        for name in ("one", "two", "three"):
            (folder / name).write_text("x")
            assert (folder / name).read_text() == "x"
        forget()
        (folder / "one").unlink()
        assert sorted(os.listdir(folder)) == ["three", "two"]
        os.rename(folder / "three", folder / "two")
        assert os.listdir(folder) == ["two"]
        (folder / "two").unlink()
        folder.rmdir()
    assert os.listdir(work) == []


@pytest.mark.parametrize("way", ["unlink", "replace"])
def test_a_close_at_the_moment_of_an_unlink_leaves_nothing_behind(lab: Lab, work: Path, way: str) -> None:
    disk = lab.host("fs1").share_path("data") / work.name
    ready = threading.Barrier(2)
    file = -1

    def close() -> None:
        for _ in range(RACES):
            ready.wait()
            os.close(file)
            ready.wait()

    closer = threading.Thread(target=close)
    closer.start()
    for number in range(RACES):
        path, other = work / f"file{number}", work / "other"
        path.write_text("x")
        other.write_text("y")
        file = os.open(path, os.O_RDONLY)
        os.read(file, 1)
        ready.wait()
        if way == "unlink":
            path.unlink()
        else:
            os.replace(other, path)
        ready.wait()
    closer.join()
    expected = ["other"] if way == "unlink" else sorted(f"file{number}" for number in range(RACES))
    # On the server first: a listing through the mount would remove what was left.
    wait_until(lambda: sorted(os.listdir(disk)) == expected, "no hidden file is on the server", 5)
    assert sorted(os.listdir(work)) == expected


@pytest.mark.parametrize("places", ["two links", "two mounts"])
def test_what_was_read_in_one_place_is_removed_in_another(lab: Lab, mount: Path, tmp_path: Path, places: str) -> None:
    """Two links to one share, and two mounts of it: nothing that is kept of a file holds it."""
    with contextlib.ExitStack() as stack:
        second = mount / "link-second"
        if places == "two mounts":
            second = stack.enter_context(mounted(lab, tmp_path / "b")) / "link-single"
        work = stack.enter_context(scratch(mount / "link-single"))
        for number in range(5):
            (work / "folder").mkdir()
            (work / "folder" / "file").write_text(f"{number}")
            assert (work / "folder" / "file").read_text() == f"{number}"
            assert (work / "folder" / "file").read_text() == f"{number}"
            there = second / work.name / "folder"
            wait_until(lambda there=there: there.exists(), "the other place shows the folder", 3)  # type: ignore[misc]
            subprocess.run(["rm", "-r", str(there)], check=True, timeout=30)
            assert not (lab.host("fs1").share_path("data") / work.name / "folder").exists()
            wait_until(lambda: not (work / "folder").exists(), "the folder is gone here as well", 3)


@pytest.mark.parametrize("again", [False, True], ids=["gone", "made again"])
def test_a_directory_that_is_open_here_is_removed_by_another_client(lab: Lab, mount: Path, again: bool) -> None:
    """fstat of what a program has open never fails; what has the name now is another directory."""
    with on_server(lab, "data", "removed") as disk:
        (disk / "d").mkdir()
        os.chown(disk / "d", ALICE.uid, -1)
        folder = mount / "link-single" / "removed"
        wait_until(lambda: (folder / "d").exists(), "the mount shows the folder", 3)
        descriptor = os.open(folder / "d", os.O_RDONLY | os.O_DIRECTORY)
        number = os.open(disk / "d", os.O_RDONLY | os.O_DIRECTORY)  # so that the other one gets another
        try:
            before = os.fstat(descriptor)
            (disk / "d").rmdir()
            if again:
                (disk / "d").mkdir()
                wait_until(lambda: (folder / "d").stat().st_ino != before.st_ino, "the mount shows the other folder", 8)
            else:
                wait_until(lambda: not os.listdir(folder), "the mount shows that the folder is gone", 8)
            now = os.fstat(descriptor)
            assert (now.st_ino, now.st_mode) == (before.st_ino, before.st_mode)
        finally:
            os.close(descriptor)
            os.close(number)


@contextlib.contextmanager
def two_names(lab: Lab, mount: Path, name: str) -> Iterator[tuple[Path, Path]]:
    """A directory on the server and as the mount shows it, with a file that is known here as `first` and `second`."""
    with on_server(lab, "data", name) as disk:
        folder = mount / "link-single" / name
        wait_until(folder.exists, "the mount shows the folder", 3)
        (folder / "first").write_bytes(b"content")
        os.link(folder / "first", folder / "second")
        assert (folder / "first").stat().st_ino == (folder / "second").stat().st_ino
        yield disk, folder


@pytest.mark.parametrize("gone", ["first", "second"])
@pytest.mark.parametrize(
    "change",
    [lambda path: os.utime(path, (7, 7)), lambda path: os.truncate(path, 3), lambda path: path.chmod(0o444)],
    ids=["utime", "truncate", "chmod"],
)
def test_one_of_two_names_is_removed_by_another_client(
    lab: Lab, mount: Path, tmp_path: Path, change: Callable[[Path], None], gone: str
) -> None:
    """What is done by the other name is done, though the mount did it by the one that is gone."""
    with two_names(lab, mount, tmp_path.name) as (disk, folder):
        (disk / gone).unlink()
        change(folder / ("second" if gone == "first" else "first"))


@pytest.mark.parametrize("replaced", ["first", "second"])
@pytest.mark.parametrize(
    "change",
    [
        lambda path: os.utime(path, (7, 7)),
        lambda path: os.truncate(path, 3),
        lambda path: path.chmod(0o444),
        lambda path: path.write_bytes(b"con"),
        lambda path: os.setxattr(path, "user.name", b"value"),
        lambda path: os.link(path, path.parent / "third"),
    ],
    ids=["utime", "truncate", "chmod", "open", "setxattr", "link"],
)
def test_one_of_two_names_is_given_to_another_file_by_another_client(
    lab: Lab, mount: Path, tmp_path: Path, change: Callable[[Path], None], replaced: str
) -> None:
    """What is done by the other name is not done to that file."""
    with two_names(lab, mount, tmp_path.name) as (disk, folder):
        (disk / "other").write_bytes(b"of others")
        os.chown(disk / "other", ALICE.uid, -1)
        before = (disk / "other").stat()
        (disk / "other").rename(disk / replaced)
        change(folder / ("second" if replaced == "first" else "first"))
        after = (disk / replaced).stat()
        assert (disk / replaced).read_bytes() == b"of others"
        assert (after.st_mtime_ns, after.st_mode) == (before.st_mtime_ns, before.st_mode)
        assert after.st_nlink == 1
        assert not any("name" in key.lower() for key in os.listxattr(disk / replaced))


def test_a_removed_working_directory_is_empty(work: Path) -> None:
    script = 'mkdir "$0/g" && cd "$0/g" && rmdir ../g && ls && ls -la && stat -c %h .'
    done = subprocess.run(["bash", "-c", script, str(work)], capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.split()[-1] for line in done.stdout.splitlines() if not line.startswith("total")][:-1] in (
        [],
        [".", ".."],
    )


def test_fstat_of_a_removed_file_that_is_only_known_by_its_place(work: Path) -> None:
    """A descriptor of O_PATH has nothing open on the server."""
    for _ in range(5):
        (work / "file").touch()
        file = os.open(work / "file", os.O_PATH)
        try:
            assert os.fstat(file).st_nlink == 1
            (work / "file").unlink()
            assert os.fstat(file).st_nlink == 0
        finally:
            os.close(file)


def test_two_names_are_counted_while_somebody_lists(work: Path) -> None:
    """A listing does not say how many names a file has, so it says nothing new of what link(2) and unlink(2) did."""
    one, two = work / "one", work / "two"
    one.write_text("x")
    with again_and_again(lambda: [entry.stat() for entry in os.scandir(work)]):
        for _ in range(RACES):
            os.link(one, two)
            assert (one.stat().st_nlink, two.stat().st_nlink) == (2, 2)
            two.unlink()
            assert one.stat().st_nlink == 1


def test_two_names_are_counted_after_the_kernel_has_forgotten_the_file(work: Path) -> None:
    """A listing does not say how many names a file has: what was known before does."""
    names = [work / name for name in ("one", "two", "three")]
    names[0].touch()
    for number, name in enumerate(names[1:], 2):
        os.link(names[0], name)
        for _ in range(3):
            forget()
            os.listdir(work)
            assert [known.stat().st_nlink for known in names[:number]] == [number] * number
    for name in names[1:]:
        name.unlink()
    forget()
    os.listdir(work)
    assert names[0].stat().st_nlink == 1


def test_the_inode_number_of_a_file_is_always_the_same(work: Path) -> None:
    """A file system gives a number of a removed file to the next one, while the kernel may hold the old one still."""
    old, new = work / "old", work / "new"
    for _ in range(5):
        old.touch()
        held = os.open(old, os.O_PATH)
        before = os.fstat(held).st_ino
        old.unlink()
        new.touch()
        number = new.stat().st_ino
        assert os.fstat(held).st_ino == before
        os.close(held)
        assert new.stat().st_ino == number
        forget()
        assert new.stat().st_ino == number
        with new.open() as file:
            assert os.fstat(file.fileno()).st_ino == number
        (entry,) = os.scandir(work)
        assert entry.inode() == number
        new.unlink()


# -- directories while they are read ----------------------------------------------------------------------------------


def remove_what_is_read(folder: Path) -> None:
    """One by one, as `rm -r` and programs that clean up do."""
    for entry in os.scandir(folder):
        os.unlink(entry.path)


def rename_what_is_read(folder: Path) -> None:
    """There and back."""
    for entry in os.scandir(folder):
        os.rename(entry.path, folder / "renamed")
        os.rename(folder / "renamed", entry.path)


class _Dirent(ctypes.Structure):
    """struct dirent of a 64-bit Linux."""

    name: bytes
    _fields_ = [
        ("inode", ctypes.c_uint64),
        ("offset", ctypes.c_int64),
        ("length", ctypes.c_uint16),
        ("kind", ctypes.c_uint8),
        ("name", ctypes.c_char * 256),
    ]


def remove_and_seek(folder: Path) -> None:
    """After each removal back to where the directory was read last: a place that has to go on meaning the same."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.opendir.restype, libc.readdir.restype = ctypes.c_void_p, ctypes.POINTER(_Dirent)
    libc.telldir.restype = ctypes.c_long
    stream = ctypes.c_void_p(libc.opendir(os.fsencode(folder)))
    try:
        while entry := libc.readdir(stream):
            if entry.contents.name not in (b".", b".."):
                os.unlink(os.path.join(os.fsencode(folder), entry.contents.name))
            libc.seekdir(stream, ctypes.c_long(libc.telldir(stream)))
    finally:
        libc.closedir(stream)


@pytest.mark.parametrize("work_on", [remove_what_is_read, rename_what_is_read, remove_and_seek])
def test_changing_a_directory_while_it_is_read_costs_as_much_for_each_file(
    lab: Lab, tmp_path: Path, work_on: Callable[[Path], None]
) -> None:
    """Four times as many files take four times as much of the server: requests and bytes count, not the time.

    A listing instead of questions for single names may cost each of them some kilobytes, however large the folder is.
    """
    costs = []
    received = 0

    def weigh(frame: bytes) -> bytes:
        nonlocal received
        received += len(frame)
        return frame

    with Proxy(f"{lab.net}.83", lab.address("fs1")) as proxy, on_server(lab, "data", "many") as disk:
        with mounted(lab, tmp_path / "m", unc=f"//{proxy.address}/data") as mount:
            for count in (50, 200):
                folder = mount / "many" / f"{count}"
                folder.mkdir()
                for number in range(count):
                    (disk / f"{count}" / f"{'n' * 100}{number:04}").touch()
                shutil.chown(disk / f"{count}", ALICE.uid)
                subprocess.run(["chown", "-R", str(ALICE.uid), str(disk)], check=True)
                wait_until(lambda folder=folder, count=count: len(os.listdir(folder)) == count, "all are listed", 5)  # type: ignore[misc]
                proxy.tamper = weigh
                before = len(proxy.requests), received
                work_on(folder)
                costs.append((len(proxy.requests) - before[0], received - before[1]))
                assert len(os.listdir(folder)) == (count if work_on is rename_what_is_read else 0)
    (few, _), (many, size) = costs
    assert many <= 6 * few, f"{few} requests for 50 files and {many} for 200"
    assert size <= 200 * 32 * 1024, f"{size} bytes for 200 files"


# -- circles ----------------------------------------------------------------------------------------------------------


def test_a_directory_that_is_below_itself_ends(lab: Lab, mount: Path) -> None:
    """The server follows links of its own: an ancestor that is seen again has to look like one, for find, du and rm."""
    with on_server(lab, "data", "circle") as disk:
        (disk / "d").mkdir()
        (disk / "d" / "file").write_text("x")
        (disk / "beside").write_text("stays")
        for name, to in (("en", "."), ("de", "."), ("up", "..")):
            (disk / "d" / name).symlink_to(to)
        subprocess.run(["chown", "-hR", str(ALICE.uid), str(disk)], check=True)
        folder = mount / "link-single" / "circle"
        wait_until(lambda: (folder / "d").exists(), "the mount shows the folder", 3)
        for command in (["find"], ["du", "-a"], ["ls", "-R"]):
            done = subprocess.run(
                [*command, str(folder / "d")], capture_output=True, text=True, timeout=ENDLESS, check=False
            )
            assert 0 < len(done.stdout.splitlines()) < 50, f"{command} went round"
        subprocess.run(["rm", "-rf", str(folder / "d")], capture_output=True, timeout=ENDLESS, check=False)
        assert (disk / "beside").read_text() == "stays"
        assert not (disk / "d" / "file").exists()


@pytest.mark.parametrize("options", ["", "cache=none", "actimeo=0"])
def test_a_folder_is_renamed_while_programs_look_into_it(lab: Lab, tmp_path: Path, options: str) -> None:
    """Each look is an open file below the folder for the server, which then refuses to rename that."""
    with mounted(lab, tmp_path / "m", options) as mount, scratch(mount / "link-single") as work:
        names = [work / "one", work / "two"]
        (names[0] / "deep").mkdir(parents=True)
        for name in ("file", "deep/file"):
            (names[0] / name).write_bytes(b"content")

        def look() -> None:
            for name in names:
                for path in (name / "file", name / "deep" / "file"):
                    try:
                        assert path.read_bytes() == b"content"
                        path.stat()
                        os.listdir(path.parent)
                    except FileNotFoundError:
                        break

        with again_and_again(look, look, look):
            for _ in range(60):
                names[0].rename(names[1])
                names[1].rename(names[0])
        assert (names[0] / "deep" / "file").read_bytes() == b"content"
