"""The request that a task handles, as the kernel has described it: known with our own session only.

pyfuse3 passes a RequestContext to some handlers, and says nothing of the process to those of an open file.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dfsfs.fuse.abi.requests import InHeader

current_request: ContextVar[InHeader | None] = ContextVar("current_request", default=None)
"""The header of the request that this task handles."""
