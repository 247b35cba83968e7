"""Extended attributes: which names of a server's programs are told."""

from __future__ import annotations

import pytest

from dfsfs.vfs.xattrs import is_usable


@pytest.mark.parametrize(
    ("name", "usable"),
    [
        (b"user.note", True),
        (b"user.\xff", True),
        (b"user." + b"x" * 250, True),
        (b"user." + b"x" * 251, False),
        (b"user.", False),
        (b"user.a\0b", False),
        (b"user.dfsfs.path", False),
        (b"user.stream.Zone.Identifier", True),
        ("user.stream.ü".encode(), True),
        (b"user.stream.", False),
        (b"user.stream.a/b", False),
        (b"user.stream.a:b", False),
        (b"user.stream.a\nb", False),
        ("user.stream.\ud800".encode("utf-8", "surrogatepass"), False),
    ],
)
def test_names_that_no_program_can_ask_for_are_left_out(name: bytes, usable: bool) -> None:
    assert is_usable(name) is usable
