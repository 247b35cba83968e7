"""Messages to the kernel that it has not asked for. In their header, `unique` is 0 and the error is a NotifyCode."""

from __future__ import annotations

from struct import Struct

from dfsfs.fuse.abi.constants import NotifyCode
from dfsfs.fuse.abi.replies import FUSE_OUT_HEADER

FUSE_NOTIFY_INVAL_INODE_OUT = Struct("=Qqq")


def pack_inval_inode(ino: int) -> bytes:
    """The kernel drops the attributes and all pages of a node."""
    return _pack(NotifyCode.INVAL_INODE, FUSE_NOTIFY_INVAL_INODE_OUT.pack(ino, 0, 0))


def pack_inval_attributes(ino: int) -> bytes:
    """The kernel drops the attributes of a node, and keeps its pages."""
    return _pack(NotifyCode.INVAL_INODE, FUSE_NOTIFY_INVAL_INODE_OUT.pack(ino, -1, 0))


def _pack(code: NotifyCode, body: bytes) -> bytes:
    return FUSE_OUT_HEADER.pack(FUSE_OUT_HEADER.size + len(body), code, 0) + body
