"""Two clients on one file: what one has written the other one reads, whatever is kept where."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
import trio

from tests.conftest import LONG as LONG_RUN
from tests.kernel.mounts import mounted, wait_until
from tests.samba.clients import EXCLUSIVE, close_raw, open_pool, open_raw, share_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.lab.samba import Lab

pytestmark = [pytest.mark.lab, pytest.mark.mount]

LATE = 5.0
"""Seconds within which a server's message about a change has to be here, and to have had its effect."""
LONG = "actimeo=60,closetimeo=60"
"""With these, only a broken lease can tell a mount that something has changed."""
PATTERN = b"%08d "


@contextmanager
def two_mounts(lab: Lab, tmp_path: Path, options: str, name: str) -> Iterator[list[Path]]:
    """One file as two mounts of the same share see it."""
    with mounted(lab, tmp_path / "a", options) as one, mounted(lab, tmp_path / "b", options) as two:
        files = [mount / "link-single" / name for mount in (one, two)]
        files[0].write_bytes(b"")
        try:
            yield files
        finally:
            files[0].unlink()


def overwrite(path: Path, data: bytes) -> None:
    """Writes without a truncating open, which would make the server ask everybody first."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT)
    try:
        assert os.write(descriptor, data) == len(data)
        os.ftruncate(descriptor, len(data))
    finally:
        os.close(descriptor)


def replace(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def rename_over(path: Path, data: bytes) -> None:
    """As editors save."""
    temporary = path.with_name(path.name + ".new")
    temporary.write_bytes(data)
    temporary.rename(path)


ROUNDS = 5000 if LONG_RUN else 300
RENAMES, WRITES, UPLOADS, REPLACEMENTS = (300, 1500, 40, 100) if LONG_RUN else (100, 500, 12, 40)


def alternate(files: list[Path], rounds: int, writers: list[Callable[[Path, bytes], None]]) -> int:
    """Writes through one of the files, reads through both; how many reads were late. None may stay wrong."""
    rng, late = random.Random(rounds), 0
    for number in range(rounds):
        data = PATTERN % number * rng.choice([1, 1, 1, 5, 1000])
        rng.choice(writers)(rng.choice(files), data)
        for path in rng.sample(files, 2):
            if path.read_bytes() != data:
                late += 1
                begun = time.monotonic()
                while path.read_bytes() != data:
                    assert time.monotonic() - begun < LATE, f"{path} is stale in round {number}"
    return late


def test_an_open_that_asks_the_server_sees_what_was_closed_before(lab: Lab, tmp_path: Path) -> None:
    """Rounds of close-to-open. No handle is kept, so nothing depends on when a message arrives."""
    with two_mounts(lab, tmp_path, "closetimeo=0", "close-to-open") as files:
        assert alternate(files, ROUNDS, [overwrite, replace]) == 0


def test_what_is_kept_under_a_lease_goes_when_the_other_client_writes(lab: Lab, tmp_path: Path) -> None:
    """Rounds in which each mount opens the file without asking, as long as nobody has told it of a change.

    Samba answers the writer without waiting for those who only read. So a read may be too early for its message.
    """
    with two_mounts(lab, tmp_path, LONG, "leases") as files:
        late = alternate(files, ROUNDS, [overwrite, replace])
    print(f"{late} of {2 * ROUNDS} reads came before the message of their lease")
    assert late <= max(20, ROUNDS // 50)


def test_a_file_that_is_replaced_by_another_is_seen_in_time(lab: Lab, tmp_path: Path) -> None:
    with two_mounts(lab, tmp_path, "actimeo=0,closetimeo=60", "renamed") as files:
        assert alternate(files, RENAMES, [rename_over]) == 0


def test_files_that_stay_open_on_both_sides(lab: Lab, tmp_path: Path) -> None:
    """Neither side closes or opens again: data is kept only while a lease covers it, and what is written is there."""
    rng = random.Random(5)
    with two_mounts(lab, tmp_path, LONG, "open") as files:
        files[0].write_bytes(bytes(20_000))
        content = bytearray(20_000)
        descriptors = [os.open(path, os.O_RDWR) for path in files]
        try:
            for number in range(WRITES):
                offset, data = rng.randrange(19_000), PATTERN % number
                os.pwrite(rng.choice(descriptors), data, offset)
                content[offset : offset + len(data)] = data
                for descriptor in rng.sample(descriptors, 2):
                    begun = time.monotonic()
                    while os.pread(descriptor, len(data), offset) != data:
                        assert time.monotonic() - begun < LATE, f"stale in round {number}"
            for descriptor in descriptors:
                assert os.pread(descriptor, 20_000, 0) == content
        finally:
            for descriptor in descriptors:
                os.close(descriptor)


def test_another_client_that_knows_nothing_of_leases(lab: Lab, tmp_path: Path) -> None:
    with mounted(lab, tmp_path / "m", LONG) as mount:
        path, source = mount / "link-single" / "smbclient", tmp_path / "source"
        for number in range(UPLOADS):
            data = PATTERN % number * (number % 7 + 1)
            source.write_bytes(data)
            smbclient(lab, f"put {source} smbclient")
            wait_until(lambda data=data: path.read_bytes() == data, "the mount sees what smbclient put", LATE)  # type: ignore[misc]
            overwrite(path, data[::-1])
            smbclient(lab, f"get smbclient {tmp_path / 'got'}")
            assert (tmp_path / "got").read_bytes() == data[::-1]
        path.unlink()


def smbclient(lab: Lab, command: str) -> None:
    user, password = lab.credentials
    words = ["smbclient", f"//{lab.address('fs1')}/data", "-U", f"{user}%{password}", "-c", command]
    subprocess.run(words, check=True, capture_output=True, timeout=30)


def test_a_reader_sees_what_grows_in_another_mount(lab: Lab, tmp_path: Path) -> None:
    """As `tail -f` does: the file is not opened again, and its size is asked for."""
    with (
        two_mounts(lab, tmp_path, "", "log") as (writer, reader),
        reader.open("rb") as following,
        writer.open("ab") as log,
    ):
        for number in range(20):
            log.write(PATTERN % number)
            log.flush()
            wait_until(lambda n=number: os.fstat(following.fileno()).st_size == 9 * (n + 1), "the new size", 5)  # type: ignore[misc]
            assert following.read() == PATTERN % number


def test_a_handle_that_is_kept_is_nobody_s_obstacle(lab: Lab, tmp_path: Path) -> None:
    """Others may want the file for themselves, or remove or rename it, as soon as no program here has it open."""

    async def claim(path: str) -> None:
        async with open_pool(lab) as pool:
            share = share_of(lab, "fs1", "data")
            tree = await pool.connect_tree(share)
            await close_raw(tree, await open_raw(tree, share.join([path]), share_access=EXCLUSIVE))
            await tree.rename(share.join([path]), share.join([path + ".moved"]), replace=False)
            await tree.remove_file(share.join([path + ".moved"]))

    with mounted(lab, tmp_path / "m", LONG) as mount:
        (mount / "link-single" / "wanted").write_bytes(b"data")
        assert (mount / "link-single" / "wanted").read_bytes() == b"data"
        trio.run(claim, "wanted")
        assert not (lab.host("fs1").share_path("data") / "wanted.moved").exists()


def test_kept_handles_below_a_folder_that_is_renamed_or_removed(lab: Lab, tmp_path: Path) -> None:
    with mounted(lab, tmp_path / "m", LONG) as mount:
        folder = mount / "link-single" / "full"
        (folder / "deeper").mkdir(parents=True)
        for path in (folder / "one", folder / "deeper" / "two"):
            path.write_bytes(b"data")
            assert path.read_bytes() == b"data"
        folder.rename(folder.with_name("moved"))
        moved = folder.with_name("moved")
        assert (moved / "deeper" / "two").read_bytes() == b"data"
        shutil.rmtree(moved)
        assert not moved.exists()


@pytest.mark.parametrize("mode", ["none", "strict", "loose"])
def test_every_mode_is_close_to_open(lab: Lab, tmp_path: Path, mode: str) -> None:
    options = f"cache={mode},closetimeo=0,actimeo=0"
    with two_mounts(lab, tmp_path, options, mode) as files:
        for number in range(REPLACEMENTS):
            data = PATTERN % number * (number + 1)
            replace(files[number % 2], data)
            assert [path.read_bytes() for path in files] == [data, data]


def test_with_cache_none_every_read_and_write_goes_to_the_server(lab: Lab, tmp_path: Path) -> None:
    with two_mounts(lab, tmp_path, "cache=none", "none") as files:
        files[0].write_bytes(bytes(100))
        descriptors = [os.open(path, os.O_RDWR) for path in files]
        try:
            for number in range(300):
                os.pwrite(descriptors[number % 2], PATTERN % number, 10)
                assert [os.pread(descriptor, 9, 10) for descriptor in descriptors] == [PATTERN % number] * 2
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
