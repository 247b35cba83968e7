"""Hidden files: removed by a program while it, or another one here, still had them open.

They keep their data under a name that nobody is shown, and their last close removes them (entries.py, files.py). A
mount that ends before that leaves them behind. The next listing of their folder by any mount finds and removes them:
not those that somebody still has open, as the server tells.
"""

from __future__ import annotations

import logging
import re
import secrets
from typing import TYPE_CHECKING

from dfsfs.errors import DfsfsError

if TYPE_CHECKING:
    from dfsfs.vfs.nodes import Node
    from dfsfs.vfs.places import Places

log = logging.getLogger("dfsfs.vfs")

_PREFIX = ".dfsfs_deleted_"
_RANDOM = 8
"""Bytes of chance in a name."""
_HIDDEN = re.compile(re.escape(_PREFIX) + f"[0-9a-f]{{{2 * _RANDOM}}}")


def new_hidden_name() -> str:
    """A name that no file has."""
    return _PREFIX + secrets.token_hex(_RANDOM)


def is_hidden_name(name: str) -> bool:
    """Whether a file of that name is not to be shown."""
    return name.startswith(_PREFIX) and _HIDDEN.fullmatch(name) is not None


async def remove_leftover(places: Places, folder: Node, name: str) -> None:
    """Removes a hidden file unless somebody here or elsewhere has it open."""
    known = places.table.child(folder, name)
    if known is not None and known.is_hidden_as(folder, name):
        return
    try:
        await places.run_in(folder, name, lambda attempt: attempt.tree.remove_unused(attempt.path))
    except DfsfsError as error:
        log.debug("%s stays: %s", name, error)
    else:
        log.info("%s was left behind by a mount that has ended; it is removed", name)
