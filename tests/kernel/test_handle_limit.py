"""A server that has no more handles to give: who has a file open can read it, who wants another one hears why."""

from __future__ import annotations

import contextlib
import errno
import os
from typing import TYPE_CHECKING

import pytest

from tests.kernel.mounts import mounted
from tests.support.lab.samba import Lab, free_net
from tests.support.lab.variants import FEW_HANDLES, HANDLES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.lab, pytest.mark.mount]

COUNT = 2 * HANDLES


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """A lab with FEW_HANDLES, on whose server there are more files than that."""
    with Lab(free_net(), topology=FEW_HANDLES) as running:
        folder = running.host("fs1").share_path("data") / "many"
        folder.mkdir()
        owner = folder.parent.stat()
        os.chown(folder, owner.st_uid, owner.st_gid)
        for number in range(COUNT):
            (folder / f"f{number:03}").write_bytes(content(number))
        yield running


def content(number: int) -> bytes:
    times = 7000 if number % 3 else 1  # more than comes along with an open, or all of it
    return f"what is in {number:03}".encode() * times


def open_all(folder: Path, stack: contextlib.ExitStack) -> tuple[dict[int, int], set[int]]:
    """Opens files until that has failed some times: descriptors, by the number of the file, and errors."""
    opened: dict[int, int] = {}
    errors: list[int] = []
    for number in range(COUNT):
        try:
            opened[number] = os.open(folder / f"f{number:03}", os.O_RDONLY)
            stack.callback(os.close, opened[number])
        except OSError as error:
            errors.append(error.errno or 0)
            if len(errors) == 5:
                break
    return opened, set(errors)


def test_beyond_the_servers_handles_opens_fail_and_open_files_can_be_read(lab: Lab, tmp_path: Path) -> None:
    with mounted(lab, tmp_path / "dfs") as top, contextlib.ExitStack() as stack:
        opened, errors = open_all(top / "link-single" / "many", stack)
        assert errors == {errno.ENFILE} and len(opened) < COUNT
        for number, descriptor in opened.items():
            assert os.pread(descriptor, 1 << 20, 0) == content(number)
        stack.close()
        # Handles that are only kept for whoever comes next are given back before anybody hears of the limit.
        assert (top / "link-single" / "many" / f"f{COUNT - 1:03}").read_bytes() == content(COUNT - 1)


def test_handles_that_are_only_kept_are_in_nobodys_way(lab: Lab, tmp_path: Path) -> None:
    with mounted(lab, tmp_path / "dfs", "closetimeo=30") as top:
        folder = top / "link-single" / "many"
        assert len(os.listdir(folder)) == COUNT
        for number in range(COUNT):
            assert (folder / f"f{number:03}").read_bytes() == content(number)
        (folder / "new").write_bytes(b"new")
        (folder / "new").rename(folder / "newer")
        (folder / "newer").unlink()
