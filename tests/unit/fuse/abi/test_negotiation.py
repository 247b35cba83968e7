"""FUSE_INIT with kernels of each age."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfsfs.fuse.abi.constants import InitFlag
from dfsfs.fuse.abi.negotiation import DEFAULT_MAX_PAGES, PAGE, UnsupportedKernel, Wanted, negotiate
from dfsfs.fuse.abi.requests import parse_init
from dfsfs.fuse.device.capabilities import FLAGS
from tests.support.fuselayout import constant, decode, encode, size_of
from tests.unit.fuse.abi.encoding import values_of

WANTED = Wanted(FLAGS, max_pages=256, max_readahead=1 << 20, max_background=64)
EXT = constant("FUSE_INIT_EXT")

OFFERED = {
    31: 0x07FFFFFB,
    36: 0x7FFFFFFB | 0x3 << 32,
    39: 0x7FFFFFFB | 0x1F << 32,
    45: 0x7FFFFFFB | 0x7FF << 32,
}
"""What kernels of these minor versions can offer at most: all flags that there were."""


def init_in(major: int, minor: int, offered: int, max_readahead: int = 128 << 10) -> bytes:
    """As fuse_send_init makes it; from 7.36 on with flags2."""
    flags = {"flags": offered & 0xFFFFFFFF, "flags2": offered >> 32}
    raw = encode("fuse_init_in", major=major, minor=minor, max_readahead=max_readahead, **flags)
    return raw if (major, minor) >= (7, 36) else raw[:16]


def agree(minor: int, offered: int, wanted: Wanted = WANTED) -> tuple[dict[str, int], int, int]:
    """The reply's fields, the flags in it, and the bytes of a write that were agreed on."""
    reply, agreed = negotiate(parse_init(init_in(7, minor, offered)), wanted)
    assert len(reply) == size_of("fuse_init_out")
    fields = decode("fuse_init_out", reply)
    flags = fields["flags"] | (fields["flags2"] << 32 if fields["flags"] & EXT else 0)
    assert agreed is not None
    assert agreed.flags == flags
    assert agreed.minor == min(minor, 45)
    assert agreed.max_write == fields["max_write"]
    return fields, flags, agreed.max_write


@pytest.mark.parametrize("minor", OFFERED)
def test_each_age(minor: int) -> None:
    fields, flags, max_write = agree(minor, OFFERED[minor])
    assert (fields["major"], fields["minor"]) == (7, 45)
    assert flags == FLAGS & OFFERED[minor]
    assert fields["max_pages"] == 256 and max_write == 1 << 20
    assert fields["max_readahead"] == 128 << 10, "no more than the kernel has"
    assert fields["max_background"] == 64 and fields["congestion_threshold"] == 48
    assert fields["time_gran"] == 1
    assert [fields[name] for name in ("map_alignment", "flags2", "max_stack_depth", "request_timeout")] == [0] * 4


def test_what_linux_5_4_has_not_is_not_asked_for() -> None:
    _, flags, _ = agree(31, OFFERED[31])
    assert not flags & InitFlag.HANDLE_KILLPRIV_V2
    _, flags, _ = agree(36, OFFERED[36])
    assert flags & InitFlag.HANDLE_KILLPRIV_V2


LATE = InitFlag.SECURITY_CTX | InitFlag.HAS_EXPIRE_ONLY | InitFlag.REQUEST_TIMEOUT
WANTS_LATE = Wanted(FLAGS | LATE, max_pages=256, max_readahead=1 << 20, max_background=64)


def test_late_flags_only_with_init_ext() -> None:
    """A kernel reads flags2 of a reply only if that says INIT_EXT."""
    fields, flags, _ = agree(45, OFFERED[45], WANTS_LATE)
    assert fields["flags"] & EXT
    assert flags == (FLAGS | LATE | InitFlag.INIT_EXT) & OFFERED[45]
    fields, flags, _ = agree(38, OFFERED[36], WANTS_LATE)
    assert flags & LATE == InitFlag.SECURITY_CTX
    fields, flags, _ = agree(45, OFFERED[45] & ~EXT, WANTS_LATE)
    assert fields["flags2"] == 0 and not flags >> 32 and not fields["flags"] & EXT
    fields, flags, _ = agree(31, OFFERED[31], WANTS_LATE)
    assert fields["flags2"] == 0 and not fields["flags"] & EXT


def test_late_flags_of_a_structure_that_was_longer_before_init_ext() -> None:
    """Bytes where flags2 is now, of a kernel that does not say that they are flags."""
    raw = encode("fuse_init_in", major=7, minor=35, flags=OFFERED[31], flags2=0xFFFFFFFF)
    reply, agreed = negotiate(parse_init(raw), WANTS_LATE)
    assert agreed is not None and not agreed.flags >> 32
    assert decode("fuse_init_out", reply)["flags2"] == 0


def test_init_ext_is_not_said_without_need() -> None:
    fields, _, _ = agree(45, OFFERED[45])
    assert not fields["flags"] & EXT and fields["flags2"] == 0


@pytest.mark.parametrize(("wanted_pages", "pages"), [(256, 32), (1024, 32), (32, 32), (1, 1)])
def test_without_max_pages_no_more_than_the_kernels_own_limit(wanted_pages: int, pages: int) -> None:
    """And never more than is wanted: the buffer for requests is made for that."""
    wanted = Wanted(FLAGS, wanted_pages, 1 << 20, 64)
    fields, flags, max_write = agree(31, OFFERED[31] & ~InitFlag.MAX_PAGES, wanted)
    assert not flags & InitFlag.MAX_PAGES
    assert fields["max_pages"] == 0 and max_write == pages * PAGE
    assert DEFAULT_MAX_PAGES == 32


@pytest.mark.parametrize("pages", [1, 16, 256, 1024, 65535])
def test_max_pages(pages: int) -> None:
    fields, _, max_write = agree(45, OFFERED[45], Wanted(FLAGS, pages, 1 << 20, 64))
    assert fields["max_pages"] == pages and max_write == pages * PAGE


@pytest.mark.parametrize(("major", "minor"), [(7, 30), (7, 0), (6, 45), (6, 8), (0, 0)])
def test_kernels_that_are_too_old(major: int, minor: int) -> None:
    with pytest.raises(UnsupportedKernel, match=rf"speaks FUSE {major}\.{minor}, and 7\.31 \(Linux 5\.4\) is needed"):
        negotiate(parse_init(init_in(major, minor, OFFERED[31])), WANTED)


@pytest.mark.parametrize(("major", "minor"), [(8, 0), (8, 45), (2**32 - 1, 0)])
def test_a_newer_major_version_is_asked_to_ask_again(major: int, minor: int) -> None:
    reply, agreed = negotiate(parse_init(init_in(major, minor, 2**64 - 1)), WANTED)
    assert agreed is None
    fields = decode("fuse_init_out", reply)
    assert (fields.pop("major"), fields.pop("minor")) == (7, 45)
    assert not any(fields.values())


def test_a_newer_minor_version_is_answered_with_ours() -> None:
    reply, agreed = negotiate(parse_init(init_in(7, 99, 2**63 - 1)), WANTED)
    assert agreed is not None and agreed.minor == 45
    assert decode("fuse_init_out", reply)["minor"] == 45


@given(values=values_of("fuse_init_in", major=7), pages=st.integers(0, 65535), wanted=st.integers(0, 2**43 - 1))
def test_nothing_is_accepted_that_was_not_offered_and_wanted(values: dict[str, int], pages: int, wanted: int) -> None:
    values["minor"] = 31 + values["minor"] % 40
    init = parse_init(encode("fuse_init_in", **values))
    reply, agreed = negotiate(init, Wanted(InitFlag(wanted), pages, 1 << 22, 64))
    assert agreed is not None
    fields = decode("fuse_init_out", reply)
    offered = values["flags"] | (values["flags2"] << 32 if values["flags"] & EXT else 0)
    flags = fields["flags"] | fields["flags2"] << 32
    assert flags & ~offered == 0
    assert flags & ~(wanted | EXT) == 0
    assert wanted & offered & ~flags == 0
    assert fields["max_readahead"] <= min(values["max_readahead"], 1 << 22)
    assert PAGE <= fields["max_write"] <= max(pages, 1) * PAGE
    assert bool(fields["max_pages"]) == bool(flags & InitFlag.MAX_PAGES)
