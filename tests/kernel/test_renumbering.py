"""A server whose file ids do not last: Samba on a file system in user space, see tests/support/lab/renumbering.py."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
import trio

from tests.kernel.mounts import mounted
from tests.samba.clients import open_pool, share_of
from tests.support.lab.renumbering import renumbered

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.lab.samba import Lab

pytestmark = [pytest.mark.lab, pytest.mark.mount, pytest.mark.every_samba]


@pytest.fixture
def disk(lab: Lab) -> Iterator[Path]:
    """The folder that the share `extra` of fs1 serves, under numbers that change."""
    with renumbered(lab.host("fs1"), "extra") as folder:
        yield folder


def test_each_answer_has_another_file_id(lab: Lab, disk: Path) -> None:
    share = share_of(lab, "fs1", "extra")
    ids = []

    async def main() -> None:
        async with open_pool(lab) as pool:
            tree = await pool.connect_tree(share)
            ids.extend([(await tree.stat(share.join(["hello.txt"]))).file_id for _ in range(3)])
            async for batch in tree.list(share):
                ids.extend(entry.stat.file_id for entry in batch if entry.name == "hello.txt")

    trio.run(main)
    assert len(set(ids)) == len(ids) == 4
    assert 0 not in ids


@pytest.mark.parametrize("options", ["", "noserverino", "actimeo=0"])
def test_files_can_be_opened_all_the_same(lab: Lab, disk: Path, tmp_path: Path, options: str) -> None:
    with mounted(lab, tmp_path / "dfs", options, f"//{lab.address('fs1')}/extra") as mount:
        text = (disk / "hello.txt").read_text()
        number = (mount / "hello.txt").stat().st_ino
        for _ in range(3):
            assert (mount / "hello.txt").read_text() == text
            assert sorted(os.listdir(mount)) == ["folder", "hello.txt"]
            assert (mount / "folder" / "inside.txt").read_text() == (disk / "folder" / "inside.txt").read_text()
            (mount / "new").write_text("one")
            assert (mount / "new").read_text() == "one"
            with (mount / "new").open("a") as file:
                file.write(" two")
            (mount / "new").rename(mount / "newer")
            assert (mount / "newer").read_text() == "one two"
            (mount / "newer").unlink()
        assert (mount / "hello.txt").stat().st_ino == number, "a number of the mount's own lasts"
