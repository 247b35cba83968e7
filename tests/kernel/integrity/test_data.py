"""Data and sizes of a file that one program writes while others look on."""

from __future__ import annotations

import functools
import mmap
import os
import random
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.conftest import LONG
from tests.kernel.integrity import aio
from tests.kernel.integrity.beside import again_and_again, together
from tests.kernel.mounts import mounted, scratch, wait_until
from tests.support.lab.variants import SHARES

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.lab.samba import Lab

pytestmark = [pytest.mark.lab, pytest.mark.mount]

LINES = 200
"""Lines that each of two shells appends."""
SECONDS = 2.0 if LONG else 0.7
"""How long a race is given."""
PAGE = mmap.PAGESIZE
ACTIMEO = 1.0
LATE = 1.0
"""Seconds that a message may be later than promised on a busy machine."""


@pytest.mark.parametrize("options", ["", "cache=none", "cache=loose"])
def test_two_shells_append_lines_to_one_file(lab: Lab, tmp_path: Path, options: str) -> None:
    with mounted(lab, tmp_path / "m", options) as mount, scratch(mount / "link-single") as work:
        script = 'for number in $(seq "$2"); do echo "$1 $number" >> "$3"; done'
        shells = [
            subprocess.Popen(["bash", "-c", script, "bash", name, str(LINES), str(work / "log")]) for name in "AB"
        ]
        assert [shell.wait(timeout=60) for shell in shells] == [0, 0]
        lines = (work / "log").read_text().splitlines()
        for name in "AB":
            assert [line for line in lines if line.startswith(name)] == [f"{name} {n + 1}" for n in range(LINES)]
        assert len(lines) == 2 * LINES


def test_processes_append_while_another_client_reads(lab: Lab, tmp_path: Path) -> None:
    """Each read of the other client breaks the lease; what is then asked of the server is older than the next line."""

    def add(path: Path, name: int) -> None:
        """Even ones open the file for each line, odd ones keep it open."""
        kept = path.open("ab", buffering=0) if name % 2 else None
        for number in range(LINES):
            file = kept or path.open("ab", buffering=0)
            file.write(f"{name} {number} {'x' * (number % 50)}\n".encode())
            os.fsync(file.fileno())
            if kept is None:
                file.close()

    with mounted(lab, tmp_path / "a") as one, mounted(lab, tmp_path / "b") as two, scratch(two / "link-single") as work:
        here, there = work / "log", one / "link-single" / work.name / "log"
        for _ in range(2):
            here.write_bytes(b"")
            wait_until(lambda: there.exists() and there.stat().st_size == 0, "the other client sees the file", 3)
            with again_and_again(lambda: paced(there), lambda: listed(there.parent), lambda: listed(work)):
                codes = together(*(functools.partial(add, here, name) for name in range(4)))
            assert codes == [0] * 4
            disk = lab.host("fs1").share_path("data") / work.name / "log"
            lines = [tuple(line.split()[:2]) for line in disk.read_text().splitlines()]
            expected = {(str(name), str(number)) for name in range(4) for number in range(LINES)}
            assert (sorted(expected - set(lines)), len(lines)) == ([], 4 * LINES)


def test_a_growing_file_is_mapped_while_somebody_lists_its_directory(work: Path) -> None:
    """Whoever maps what it has just written does not die of SIGBUS, as the pages are there."""

    def grow(path: Path) -> None:
        end = time.monotonic() + SECONDS
        with path.open("w+b", buffering=0) as file:
            pages = 0
            while time.monotonic() < end:
                pages = pages + 1 if pages < 200 else 1
                if pages == 1:
                    file.truncate(0)
                os.pwrite(file.fileno(), bytes([pages]) * PAGE, (pages - 1) * PAGE)
                with mmap.mmap(file.fileno(), pages * PAGE, prot=mmap.PROT_READ) as memory:
                    assert memory[-1] == pages

    with again_and_again(lambda: listed(work)):
        assert together(*(lambda name=name: grow(work / name) for name in ("one", "two", "three"))) == [0, 0, 0]


def paced(path: Path) -> None:
    """Reads it some times in a second."""
    path.read_bytes()
    time.sleep(0.02)


def listed(folder: Path) -> None:
    """As `ls -l` does it, a few times in a second."""
    for entry in os.scandir(folder):
        entry.stat()
    time.sleep(0.05)


LOOKS: dict[str, Callable[[Path], object]] = {
    "ls -l": lambda path: [entry.stat() for entry in os.scandir(path.parent)],
    "stat": os.stat,
    "cat": Path.read_bytes,
}


def write(path: Path, data: bytes, _: bytes) -> bytes:
    path.write_bytes(data)
    return data


def append(path: Path, data: bytes, before: bytes) -> bytes:
    with path.open("ab") as file:
        file.write(data)
    return before + data


def write_at_the_end(path: Path, data: bytes, before: bytes) -> bytes:
    with path.open("r+b", buffering=0) as file:
        assert os.pwrite(file.fileno(), data, len(before)) == len(data)
        assert os.fstat(file.fileno()).st_size == len(before + data), "fstat after a write"
    return before + data


@pytest.mark.parametrize("link", ["link-single", "link-plain"])
@pytest.mark.parametrize("look", list(LOOKS))
def test_who_wrote_sees_it_at_once_whoever_looks_on(mount: Path, link: str, look: str) -> None:
    """fstat after a write, stat and read after close."""
    chance = random.Random(f"{link} {look}")
    with scratch(mount / link) as work:
        path = work / "file"
        path.touch()
        with again_and_again(*[lambda: LOOKS[look](path)] * 3):
            content, end = b"", time.monotonic() + 2 * SECONDS
            while time.monotonic() < end:
                data = chance.randbytes(chance.randrange(1, 5000))
                how = chance.choice([write, append, write_at_the_end])
                content = how(path, data, content)
                assert path.stat().st_size == len(content), f"stat after close ({how.__name__})"
                assert path.read_bytes() == content, f"read after close ({how.__name__})"


def test_a_file_is_replaced_while_others_read_it(lab: Lab, mount: Path) -> None:
    """The rename never fails, a reader gets the old or the new file as a whole, and nothing is left behind."""
    size = 2000

    def read() -> None:
        try:
            content = path.read_bytes()
        except FileNotFoundError as error:
            raise AssertionError("no file of that name") from error
        assert len(content) == size and len(set(content)) == 1, f"torn: {len(content)} bytes"

    with scratch(mount / "link-single") as work:
        path = work / "conf"
        path.write_bytes(b"0" * size)
        with again_and_again(read, read, read):
            end, number = time.monotonic() + 2 * SECONDS, 0
            while time.monotonic() < end:
                number += 1
                content = bytes([number % 250]) * size
                (work / "new").write_bytes(content)
                os.replace(work / "new", path)
                assert path.read_bytes() == content
        assert os.listdir(work) == ["conf"]
        disk = lab.host("fs1").share_path("data") / work.name
        wait_until(lambda: os.listdir(disk) == ["conf"], "nothing else is on the server", 5)


@pytest.mark.skipif(not aio.can_submit(), reason="the numbers of the system calls are not known here")
@pytest.mark.parametrize("options", ["", "cache=none"])
def test_asynchronous_direct_writes_beside_readers_of_pages(lab: Lab, tmp_path: Path, options: str) -> None:
    """When the writes have ended nobody gets what was there before them."""
    piece, pieces = 64 * 1024, 16
    with mounted(lab, tmp_path / "m", options) as mount, scratch(mount / "link-single") as work:
        path = work / "file"
        path.write_bytes(bytes(piece * pieces))
        file = os.open(path, os.O_RDWR | os.O_DIRECT)
        try:
            with again_and_again(path.read_bytes, path.read_bytes):
                end, number = time.monotonic() + SECONDS, 0
                while time.monotonic() < end:
                    number += 1
                    content = bytes([number % 250 + 1]) * (piece * pieces)
                    memory = mmap.mmap(-1, len(content))
                    memory.write(content)
                    aio.write_at_once(file, memory, piece)
                    got = path.read_bytes()
                    stale = [place // PAGE for place in range(0, len(got), PAGE) if got[place] != content[0]]
                    assert len(got) == len(content) and stale == [], f"round {number}: stale pages {stale}"
        finally:
            os.close(file)


@pytest.mark.parametrize("link", ["link-single", "link-plain"])
def test_tail_follows_what_a_process_of_the_server_writes(lab: Lab, mount: Path, link: str) -> None:
    """No SMB client writes, so that no lease breaks: the file is looked at again after actimeo."""
    with scratch(mount / link) as work:
        path, disk = work / "log", lab.host("fs1").share_path(SHARES[link]) / work.name / "log"
        path.write_text("begin\n")
        assert path.read_text() == "begin\n"
        tail = subprocess.Popen(["tail", "-n", "+1", "-s", "0.1", "-f", str(path)], stdout=subprocess.PIPE)
        try:
            assert tail.stdout is not None
            os.set_blocking(tail.stdout.fileno(), False)
            shown, expected = b"", b"begin\n"

            def shows_all() -> bool:
                nonlocal shown
                assert tail.stdout is not None
                shown += tail.stdout.read() or b""
                return shown == expected

            wait_until(shows_all, "tail shows what is there", 5)
            for number in range(4):
                line = b"line %d\n" % number
                with disk.open("ab") as log:
                    log.write(line)
                expected += line
                wait_until(shows_all, f"tail shows line {number}", ACTIMEO + LATE)
        finally:
            tail.kill()
            tail.communicate()


def test_who_has_a_file_open_sees_what_a_process_of_the_server_writes(lab: Lab, mount: Path) -> None:
    with scratch(mount / "link-single") as work:
        disk = lab.host("fs1").share_path("data") / work.name / "log"
        (work / "log").write_bytes(b"x" * 10)
        file = os.open(work / "log", os.O_RDONLY)
        try:
            assert os.pread(file, 100, 0) == b"x" * 10
            with disk.open("ab") as log:
                log.write(b"y" * 10)
            wait_until(lambda: os.fstat(file).st_size == 20, "fstat says the new size", ACTIMEO + LATE)
            assert os.pread(file, 100, 0) == b"x" * 10 + b"y" * 10
        finally:
            os.close(file)
