"""Imports what a running mount may need one day, and its start does not.

A mount would also work if each was imported when it is needed. But it may run for months, and meanwhile a newer release
be installed over the files of this one: then a module of that would come to those of this one. So all are there soon
after the start, when programs have begun their work: in a thread, one after the other.
"""

from __future__ import annotations

from functools import partial
from importlib import import_module

import trio

from dfsfs.threads import import_in_thread

SETTLED = 10.0
"""Seconds after the start of a mount at which this begins."""
MODULES = ("dfsfs.smb.auth.gss", "dfsfs.control.commands", "dfsfs.namespace.dnsclient")
"""In the order in which they are likely to be needed."""


async def serve() -> None:
    """Imports them, and returns."""
    await trio.sleep(SETTLED)
    for name in MODULES:
        await import_in_thread(partial(import_module, name))
