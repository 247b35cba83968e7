"""FUSE_INIT: the kernel says which version it speaks and what it can do, and is told what of that is wanted."""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct
from typing import TYPE_CHECKING

from dfsfs.fuse.abi.constants import KERNEL_MINOR_VERSION, KERNEL_VERSION, OLDEST_MINOR_VERSION, InitFlag

if TYPE_CHECKING:
    from dfsfs.fuse.abi.requests import InitIn

FUSE_INIT_OUT = Struct("=IIIIHHIIHHI28x")
_FLAGS2_SHIFT = 32
_U32_MAX = 2**32 - 1
PAGE = 4096
DEFAULT_MAX_PAGES = 32
"""Pages in a request at most, where nothing else was agreed on."""


class UnsupportedKernel(Exception):
    """The kernel speaks a version of FUSE that this does not work with."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a file system wants to agree on. Sizes are in bytes, `time_gran` in nanoseconds."""

    flags: InitFlag
    max_pages: int
    """Pages that a READ or a WRITE may have at most."""
    max_readahead: int
    max_background: int
    """Read-ahead and other requests that no program waits for, under way at a time."""
    time_gran: int = 1


@dataclass(frozen=True, slots=True)
class Negotiated:
    """What was agreed on."""

    minor: int
    """The version is 7.`minor`."""
    flags: InitFlag
    max_write: int
    """Bytes of data that a FUSE_WRITE has at most."""


def negotiate(init: InitIn, wanted: Wanted) -> tuple[bytes, Negotiated | None]:
    """Answers FUSE_INIT: struct fuse_init_out, and what was agreed on. None if the kernel speaks a newer major version:
    it asks again, in ours.

    Raises:
        UnsupportedKernel: it is too old.
    """
    if init.major > KERNEL_VERSION:
        return FUSE_INIT_OUT.pack(KERNEL_VERSION, KERNEL_MINOR_VERSION, *(0,) * 9), None
    if init.major < KERNEL_VERSION or init.minor < OLDEST_MINOR_VERSION:
        needed = f"{KERNEL_VERSION}.{OLDEST_MINOR_VERSION} (Linux 5.4)"
        raise UnsupportedKernel(f"the kernel speaks FUSE {init.major}.{init.minor}, and {needed} is needed")
    offered = init.flags
    if offered & InitFlag.INIT_EXT:
        offered |= init.flags2 << _FLAGS2_SHIFT
    flags = wanted.flags & offered
    if wanted.flags >> _FLAGS2_SHIFT and offered & InitFlag.INIT_EXT:
        flags |= InitFlag.INIT_EXT
    pages = max(1, wanted.max_pages)
    if not flags & InitFlag.MAX_PAGES:
        pages = min(pages, DEFAULT_MAX_PAGES)  # not more than is wanted either: there is a buffer for so much
    negotiated = Negotiated(min(init.minor, KERNEL_MINOR_VERSION), InitFlag(flags), pages * PAGE)
    out = FUSE_INIT_OUT.pack(
        *(KERNEL_VERSION, KERNEL_MINOR_VERSION, min(init.max_readahead, wanted.max_readahead), flags & _U32_MAX),
        *(wanted.max_background, wanted.max_background * 3 // 4, negotiated.max_write, wanted.time_gran),
        *(pages if flags & InitFlag.MAX_PAGES else 0, 0, flags >> _FLAGS2_SHIFT),
    )
    return out, negotiated
