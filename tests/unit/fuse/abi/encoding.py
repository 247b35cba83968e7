"""Requests as a kernel makes them: what stands in C's structures, from their layout and not from dfsfs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import strategies as st

from tests.support.fuselayout import encode, fields_of

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

names = st.binary(min_size=1, max_size=40).map(lambda name: name.replace(b"\0", b"/"))
"""The codec does not mind what is in a name, but for the NUL at its end."""
rest = st.binary(max_size=24)
"""What a newer kernel may put behind what is known."""


def values_of(structure: str, **fixed: int) -> SearchStrategy[dict[str, int]]:
    """All values of the fields of a structure."""
    drawn = {
        name: st.just(fixed[name]) if name in fixed else st.integers(0, (1 << 8 * size) - 1)
        for name, (_, size) in fields_of(structure).items()
        if size <= 8
    }
    return st.fixed_dictionaries(drawn)


def request(opcode: int, body: bytes, **header: int) -> bytes:
    """A whole request. Its length is right unless `len` is given."""
    return encode("fuse_in_header", **{"len": 40 + len(body), "opcode": int(opcode), **header}) + body
