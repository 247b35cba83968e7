"""Reading large files through a mount: whatever is asked for ahead, a program gets what is in the file."""

from __future__ import annotations

import mmap
import os
import random
from typing import TYPE_CHECKING

import pytest

from tests.conftest import LONG
from tests.kernel.mounts import mounted, wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.lab.samba import Lab

pytestmark = [pytest.mark.lab, pytest.mark.mount]

SIZE = 24 * 1024 * 1024 + 777
READS = 400 if LONG else 150
KIB = 1024
OPTIONS = ["", "rasize=131072", "rasize=0", "cache=none", "cache=loose", "rsize=65536,max_credits=40", "seal"]


@pytest.fixture
def content() -> bytes:
    return random.Random(4).randbytes(SIZE)


@pytest.mark.parametrize("options", OPTIONS)
def test_streams_seeks_and_writes_in_one_file(lab: Lab, tmp_path: Path, content: bytes, options: str) -> None:
    rng, model = random.Random(options), bytearray(content)
    with mounted(lab, tmp_path / "m", options) as mount:
        path = mount / "link-single" / "streams.bin"
        path.write_bytes(content)
        descriptors = [os.open(path, os.O_RDWR), os.open(path, os.O_RDONLY)]
        try:
            positions = [0, SIZE // 3, SIZE // 2]
            for _ in range(READS):
                stream = rng.randrange(len(positions))
                if rng.random() < 0.05:
                    positions[stream] = rng.randrange(SIZE)
                if rng.random() < 0.1:
                    offset, data = rng.randrange(SIZE - 100), rng.randbytes(rng.choice([1, 100]))
                    os.pwrite(descriptors[0], data, offset)
                    model[offset : offset + len(data)] = data
                offset, size = positions[stream], rng.choice([4 * KIB, 100 * KIB, 300 * KIB])
                got = os.pread(rng.choice(descriptors), size, offset)
                assert got == model[offset : offset + size]
                positions[stream] = offset + size
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        assert path.read_bytes() == model
        path.unlink()


def test_a_file_that_is_cut_and_grows_while_it_is_read(lab: Lab, tmp_path: Path, content: bytes) -> None:
    """A server does not wait for readers before it lets a file be cut, so they hear of it a little later."""
    with mounted(lab, tmp_path / "a", "actimeo=0") as reading, mounted(lab, tmp_path / "b") as writing:
        (writing / "link-single" / "grows").write_bytes(content)
        with open(reading / "link-single" / "grows", "rb", buffering=0) as file:
            assert file.read(1000 * KIB) == content[: 1000 * KIB]
            os.truncate(writing / "link-single" / "grows", 1100 * KIB)
            wait_until(lambda: os.fstat(file.fileno()).st_size == 1100 * KIB, "the reader hears of the cut")
            assert file.read(1000 * KIB) == content[1000 * KIB : 1100 * KIB]
            assert file.read(10) == b""
            with open(writing / "link-single" / "grows", "ab") as growing:
                growing.write(b"more" * KIB)
            wait_until(lambda: os.fstat(file.fileno()).st_size == 1104 * KIB, "the reader hears of more")
            assert file.read() == b"more" * KIB
        (writing / "link-single" / "grows").unlink()


def test_mmap_reads_the_whole_file(lab: Lab, tmp_path: Path, content: bytes) -> None:
    with mounted(lab, tmp_path / "m") as mount:
        path = mount / "link-single" / "mapped"
        path.write_bytes(content)
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as view:
            rng = random.Random(9)
            for _ in range(200):
                offset = rng.randrange(SIZE)
                assert view[offset : offset + 5000] == content[offset : offset + 5000]
            assert view[:] == content
        path.unlink()
