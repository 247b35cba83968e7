"""Times: what a write, an open with O_TRUNC or utime does to them is so at once, and stays so."""

from __future__ import annotations

import contextlib
import mmap
import os
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.conftest import LONG
from tests.kernel.integrity.beside import again_and_again
from tests.kernel.mounts import mounted, scratch
from tests.support.lab.variants import SHARES

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.lab.samba import Lab

pytestmark = [pytest.mark.lab, pytest.mark.mount]

LOOKS = (0.0, 0.5, 1.5, 3.0)
"""Seconds after a close at which the time is looked at: before and after actimeo, and after Samba's own delay."""
LINKS = ["link-single", "link-plain"]
OLD = 1e9
"""A time of last change that was set, in 2001."""
SECONDS = 5.0 if LONG else 2.0
"""For how long something is tried again and again."""
CLOCK = 0.02
"""Seconds between two times of a file system that have to differ: a tick of any kernel's clock, and some more."""


def after(moment: float, seconds: float) -> None:
    """Time has to pass: what is asked is what a server does with it."""
    time.sleep(max(0.0, moment + seconds - time.monotonic()))


def read(path: Path) -> None:
    path.read_bytes()


def nothing(path: Path) -> None:
    pass


def read_and_set_the_time(path: Path) -> None:
    read(path)
    os.utime(path, (OLD, OLD))
    read(path)


PREPARATIONS: dict[str, Callable[[Path], None]] = {
    "plain": nothing,
    "fstat before close": nothing,
    "read before": read,
    "utime after a read": read_and_set_the_time,
    "utime, and open": read_and_set_the_time,
}


@pytest.mark.parametrize("link", LINKS)
def test_a_write_is_seen_in_the_time_at_once_and_from_then_on(lab: Lab, mount: Path, link: str) -> None:
    with scratch(mount / link) as work:
        files = {case: work / case.replace(" ", "-") for case in PREPARATIONS}
        for path in files.values():
            path.write_bytes(b"x" * 200_000)
        after(time.monotonic(), 0.3)
        for case, path in files.items():
            PREPARATIONS[case](path)
        open_one = files["utime, and open"].open("rb")
        before = {case: path.stat().st_mtime_ns for case, path in files.items()}
        for case, path in files.items():
            file = os.open(path, os.O_WRONLY)
            os.pwrite(file, b"Y", 5)
            if case == "fstat before close":
                os.fstat(file)
            os.close(file)
            assert path.stat().st_mtime_ns != before[case], f"{case}: at once"
        first = {case: path.stat().st_mtime_ns for case, path in files.items()}
        closed = time.monotonic()
        for seconds in LOOKS:
            after(closed, seconds)
            assert {case: path.stat().st_mtime_ns for case, path in files.items()} == first, f"after {seconds} s"
        open_one.close()
        assert {case: path.stat().st_mtime_ns for case, path in files.items()} == first, "after another close"
        disk = lab.host("fs1").share_path(SHARES[link]) / work.name
        on_disk = {case: (disk / path.name).stat().st_mtime_ns // 100 for case, path in files.items()}
        assert on_disk == {case: moment // 100 for case, moment in first.items()}


@pytest.mark.parametrize("link", LINKS)
def test_the_time_after_a_close_is_that_before_it_and_not_later_than_the_clock(mount: Path, link: str) -> None:
    """As git and tar --listed-incremental compare it: fstat, close, and some time later stat."""
    with scratch(mount / link) as work:
        asked, closed = {}, {}
        for number in range(100):
            path = work / f"file{number:03}"
            with path.open("wb", buffering=0) as file:
                file.write(b"x" * (number * 50 + 1))
                asked[path] = os.fstat(file.fileno()).st_mtime_ns
            closed[path] = time.time_ns()
        assert {path: path.stat().st_mtime_ns for path in asked} == asked
        after(time.monotonic(), LOOKS[2])
        then = {path: path.stat().st_mtime_ns for path in asked}
        assert then == asked
        assert [path.name for path, moment in then.items() if moment > closed[path]] == []


def test_rsync_in_place_sees_every_change(work: Path, tmp_path: Path) -> None:
    """It compares sizes and times, to the ns if told so: a file whose time did not move is not copied, silently."""
    source, copy = work / "source", tmp_path / "copy"
    source.mkdir()
    for number in range(20):
        (source / f"file{number}").write_bytes(b"a" * 5000)
    command = ["rsync", "-a", "--inplace", "--modify-window=-1", f"{source}/", f"{copy}/"]
    subprocess.run(command, check=True, timeout=60)
    after(time.monotonic(), 5 * CLOCK)
    for path in source.iterdir():
        file = os.open(path, os.O_WRONLY)
        os.pwrite(file, b"b", 100)
        os.close(file)
    subprocess.run(command, check=True, timeout=60)
    assert {path.read_bytes()[100:101] for path in copy.iterdir()} == {b"b"}


@pytest.mark.parametrize("link", LINKS)
def test_an_open_that_truncates_shows_the_new_time(lab: Lab, mount: Path, link: str) -> None:
    with scratch(mount / link) as work:
        path, disk = work / "file", lab.host("fs1").share_path(SHARES[link]) / work.name / "file"
        path.write_text("some text\n")
        os.utime(path, (OLD, OLD))
        before = path.stat()
        file = os.open(path, os.O_WRONLY | os.O_TRUNC)
        try:
            shown = path.stat()
            assert shown.st_size == 0
            assert shown.st_mtime_ns != before.st_mtime_ns and shown.st_ctime_ns != before.st_ctime_ns
            assert os.fstat(file).st_mtime_ns == shown.st_mtime_ns
        finally:
            os.close(file)
        closed = time.monotonic()
        for seconds in LOOKS[:3]:
            after(closed, seconds)
            assert path.stat().st_mtime_ns == shown.st_mtime_ns, f"{seconds} s after close"
        assert disk.stat().st_mtime_ns // 100 == shown.st_mtime_ns // 100


def test_a_write_through_a_map_is_seen_in_the_time_while_somebody_lists(work: Path) -> None:
    """The kernel writes pages back without asking for attributes; those of a listing before must not be believed."""
    path, end = work / "file", time.monotonic() + SECONDS
    path.write_bytes(b"x" * 5000)
    with again_and_again(lambda: [entry.stat() for entry in os.scandir(work)]):
        while time.monotonic() < end:
            before = path.stat().st_mtime_ns
            after(time.monotonic(), CLOCK)
            with path.open("r+b") as file, mmap.mmap(file.fileno(), 5000) as memory:
                memory[10:13] = b"abc"
            assert path.stat().st_mtime_ns != before


def pwrite(path: Path) -> None:
    file = os.open(path, os.O_RDWR)
    os.pwrite(file, b"y", 5)
    os.close(file)


@pytest.mark.parametrize("link", LINKS)
def test_a_truncation_by_name_is_seen_in_the_time_while_the_file_is_open(mount: Path, link: str) -> None:
    with scratch(mount / link) as work:
        path = work / "file"
        path.write_bytes(b"x" * 1000)
        with path.open("rb") as file:
            for size in (10, 5000, 0):
                pwrite(path)  # after this a server has a time of its own for the file, as long as it is open
                before = path.stat().st_mtime_ns
                after(time.monotonic(), 5 * CLOCK)
                os.truncate(path, size)
                shown = path.stat()
                assert shown.st_size == size
                assert shown.st_mtime_ns != before, f"truncated to {size}"
                assert os.fstat(file.fileno()).st_mtime_ns == shown.st_mtime_ns


def append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"z" * 100)


def write_directly(path: Path) -> None:
    file = os.open(path, os.O_RDWR | os.O_DIRECT)
    with mmap.mmap(-1, mmap.PAGESIZE) as buffer:
        os.pwrite(file, buffer, 0)
    os.close(file)


CHANGES = (pwrite, append, write_directly)


def forget() -> None:
    """As memory pressure does it, again and again."""
    time.sleep(0.3)
    Path("/proc/sys/vm/drop_caches").write_text("2")


@pytest.mark.parametrize(("options", "link"), [("", "link-single"), ("cache=none", "link-single"), ("", "link-plain")])
def test_times_stay_though_the_kernel_forgets_the_file(lab: Lab, tmp_path: Path, options: str, link: str) -> None:
    """What is known of a file is lost then, and asked for again: the server has to say the same."""
    with mounted(lab, tmp_path / "m", options) as mount, scratch(mount / link) as work:
        changes = {work / f"{change.__name__}{number:02}": change for change in CHANGES for number in range(30)}
        for path in changes:
            path.write_bytes(b"x" * 5000)
        shown = {}
        with again_and_again(forget, lambda: [entry.stat() for entry in os.scandir(work)]):
            for path, change in changes.items():
                change(path)
                shown[path] = path.stat().st_mtime_ns
            after(time.monotonic(), LOOKS[2])
            moved = {path.name: (path.stat().st_mtime_ns - moment) / 1e6 for path, moment in shown.items()}
        assert [f"{name}: {ms:.3f} ms" for name, ms in moved.items() if ms] == []


@pytest.mark.parametrize(("options", "link"), [("actimeo=0", "link-single"), ("actimeo=0", "link-plain")])
def test_a_write_after_a_time_in_the_future_was_set(lab: Lab, tmp_path: Path, options: str, link: str) -> None:
    """Samba goes on to say a time that was set while any handle is open. It is no later write of somebody else's."""
    with (
        mounted(lab, tmp_path / "m", options) as mount,
        mounted(lab, tmp_path / "other", options) as other,
        scratch(mount / link) as work,
    ):
        path = work / "file"
        path.write_bytes(b"x" * 1000)
        with (other / link / work.name / "file").open("rb") as reader:
            for future in range(int(time.time()) + 1000, int(time.time()) + 6000, 1000):
                os.utime(path, (future, future))
                file = os.open(path, os.O_WRONLY)
                os.pwrite(file, b"y", 5)
                path.stat()
                os.fstat(reader.fileno())
                shown = os.fstat(file).st_mtime_ns
                assert shown < (future - 500) * 10**9
                os.close(file)
                assert path.stat().st_mtime_ns == shown
                os.listdir(work)
                assert path.stat().st_mtime_ns == shown
        assert path.stat().st_mtime_ns == shown


@pytest.mark.parametrize("link", LINKS)
def test_a_write_is_seen_in_the_time_after_the_kernel_forgot_that_it_was_set(
    lab: Lab, tmp_path: Path, link: str
) -> None:
    """A close leaves the time of the last write, and Samba keeps that while another client has the file open."""
    with (
        mounted(lab, tmp_path / "m") as mount,
        mounted(lab, tmp_path / "other", "actimeo=0") as other,
        scratch(mount / link) as work,
        contextlib.ExitStack() as open_elsewhere,
    ):
        files = [work / f"file{number}" for number in range(10)]
        for path in files:
            path.write_bytes(b"x")
            open_elsewhere.enter_context((other / link / work.name / path.name).open("rb"))
            append(path)
        before = {path: path.stat().st_mtime_ns for path in files}
        forget()
        for path in files:
            append(path)
        forget()
        assert [path.name for path in files if path.stat().st_mtime_ns == before[path]] == []


MOMENTS = (0, 1_234_567_890_123_456_789, -(10**18), -6 * 10**18, 3 * 10**18, 17 * 10**18 // 2)
"""Nanoseconds since 1970: with parts of 100 ns, before 1970, before what ext4 can say, and after it."""


@pytest.mark.parametrize("link", LINKS)
def test_a_time_that_is_set_is_shown_as_the_server_keeps_it(lab: Lab, mount: Path, link: str) -> None:
    with scratch(mount / link) as work:
        disk, shown = lab.host("fs1").share_path(SHARES[link]) / work.name, {}
        for moment in MOMENTS:
            path = work / f"{moment}"
            path.write_text("text")
            try:
                os.utime(path, ns=(moment, moment))
            except OSError:
                continue  # an error is an answer, too; what may not be is another time than was shown
            shown[path] = path.stat().st_mtime_ns
            assert shown[path] // 100 == (disk / path.name).stat().st_mtime_ns // 100
        assert len(shown) > 2
        after(time.monotonic(), LOOKS[2])
        assert {path: path.stat().st_mtime_ns for path in shown} == shown
