"""What may keep a server from answering with SUCCESS, or at once."""

from __future__ import annotations


class Refused(Exception):
    """The answer is a failure."""

    def __init__(self, status: int) -> None:
        super().__init__(f"{status:#x}")
        self.status = status


class MustWait(Exception):
    """The request can be carried out when a client has acknowledged a break. Nothing was changed by it."""
