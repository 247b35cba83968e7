"""Targets that die: before the mount, between two reads, in the middle of a copy."""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING

import pytest

from tests.kernel.mounts import mounted, wait_until
from tests.support.lab import content

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.lab.samba import Lab, LabHost

pytestmark = [pytest.mark.lab, pytest.mark.mount]

QUICK = 10.0
"""Seconds for the first answer after a server has died."""


@pytest.fixture
def first(lab: Lab) -> Iterator[LabHost]:
    """The first target of link-multi, running again at the end."""
    host = lab.host("fs1")
    yield host
    if not host.running:
        host.start()


def test_f13_first_target_stopped_before_the_mount(lab: Lab, first: LabHost, tmp_path: Path) -> None:
    first.stop()
    started = time.monotonic()
    with mounted(lab, tmp_path / "dfs") as mount:
        assert (mount / "link-multi/hello.txt").read_bytes() == content.HELLO
        assert (mount / "link-multi/big.bin").read_bytes() == content.big()
        assert time.monotonic() - started < QUICK
        assert lab.host("fs2").connections() == 1


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_f10_first_target_stopped_between_two_reads(lab: Lab, first: LabHost, tmp_path: Path, end: str) -> None:
    with mounted(lab, tmp_path / "dfs", "actimeo=0") as mount:
        assert (mount / "link-multi/hello.txt").read_bytes() == content.HELLO
        assert first.connections() == 1
        getattr(first, end)()
        started = time.monotonic()
        assert (mount / "link-multi/big.bin").read_bytes() == content.big()
        assert sorted(os.listdir(mount / "link-multi/folder")) == sorted(["inside.txt", content.UMLAUTS])
        assert time.monotonic() - started < QUICK
        assert lab.host("fs2").connections() == 1


def test_a_link_with_one_target_fails_while_it_is_down_and_works_again_after(
    lab: Lab, first: LabHost, tmp_path: Path
) -> None:
    with mounted(lab, tmp_path / "dfs", "actimeo=0") as mount:
        assert (mount / "link-single/hello.txt").read_bytes() == content.HELLO
        first.kill()
        with pytest.raises(OSError, match=r"hello\.txt"):
            (mount / "link-single/hello.txt").read_bytes()
        assert (mount / "readme.txt").read_bytes()
        first.start()

        def back() -> bool:
            try:
                return (mount / "link-single/hello.txt").read_bytes() == content.HELLO
            except OSError:
                return False

        wait_until(back, "the link works again")


@pytest.mark.logs("this open file reports an error until it is closed")
def test_writing_to_a_file_whose_server_has_died_is_an_error_and_never_silence(
    lab: Lab, first: LabHost, tmp_path: Path
) -> None:
    with mounted(lab, tmp_path / "dfs") as mount:
        path = mount / "link-multi" / "lost.bin"
        try:
            with pytest.raises(OSError), path.open("wb", buffering=0) as file:
                file.write(b"x" * 100_000)
                first.kill()
                file.write(b"y" * 100_000)
                os.fsync(file.fileno())
        finally:
            for name in ("fs1", "fs2"):
                (lab.host(name).share_path("data") / "lost.bin").unlink(missing_ok=True)


def test_many_readers_go_on_when_the_target_dies(lab: Lab, first: LabHost, tmp_path: Path) -> None:
    """Whoever opens anew gets the whole file from the other server; whoever has it open gets the file or an error."""
    with mounted(lab, tmp_path / "dfs", "actimeo=0") as mount:
        path, ended, wrong = mount / "link-multi/big.bin", threading.Event(), []
        counts = {"before": 0, "after": 0}
        died = threading.Event()

        def read_on() -> None:
            while not ended.is_set():
                phase = "after" if died.is_set() else "before"
                try:
                    if path.read_bytes() != content.big():
                        wrong.append("other bytes")
                    counts[phase] += 1
                except OSError as error:
                    if phase == "after":
                        wrong.append(f"opened after the end of the server: {error}")

        readers = [threading.Thread(target=read_on) for _ in range(4)]
        for reader in readers:
            reader.start()
        try:
            wait_until(lambda: counts["before"] > 8, "reading")
            first.kill()
            died.set()
            wait_until(lambda: counts["after"] > 8, "reading from the other target")
        finally:
            ended.set()
            for reader in readers:
                reader.join()
        assert wrong == []
