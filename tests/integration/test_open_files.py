"""Open files through a real mount: what open(2), write(2), mmap(2) and friends promise."""

from __future__ import annotations

import mmap
import os
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.lab, pytest.mark.mount]


def test_a_map_of_a_file_opened_to_append_writes_where_it_says(work: Path) -> None:
    path = work / "log"
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND)
    try:
        os.write(file, bytes(10_000))
        with mmap.mmap(file, 10_000) as memory:
            memory[0:3] = b"abc"
            memory[9_000:9_003] = b"def"
            memory.flush()
        os.write(file, b"end")
    finally:
        os.close(file)
    content = path.read_bytes()
    assert len(content) == 10_003
    assert (content[:3], content[9_000:9_003], content[10_000:]) == (b"abc", b"def", b"end")
