"""Which letters a real server takes for one: the table of dfsfs/upcase.py against what it finds."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from dfsfs.errors import SmbError
from dfsfs.ntstatus import NtStatus
from dfsfs.unc import fold_name
from dfsfs.upcase import UPPER
from tests.conftest import LONG
from tests.samba.clients import open_pool, scratch_folder

if TYPE_CHECKING:
    from dfsfs.smb.tree.tree import Tree
    from dfsfs.unc import UncPath
    from tests.support.lab.samba import Lab

pytestmark = [pytest.mark.lab, pytest.mark.every_samba]

SAMPLE = 12
"""Every so many pairs are tried if there is no time for all."""
IN_A_FOLDER = 100
"""A server reads a whole folder to say that no name in it fits."""
KNOWN = ("ıI", "µΜ", "șȘ", "țȚ", "ſS", "ßẞ", "ςΣ", "ÿŸ", "äÄ", "𐐨𐐀")


def pairs() -> list[str]:
    """Two letters each that the table or any Unicode might take for one: all that this Python knows to have case."""
    found = {chr(code) + chr(upper) for code, upper in UPPER.items()}
    for char in map(chr, range(sys.maxunicode + 1)):
        for other in (char.upper(), char.lower(), char.title(), char.casefold()):
            if len(other) == 1 and other != char:
                found |= {char + other}
    return sorted(found)


async def is_found(tree: Tree, path: UncPath) -> bool:
    try:
        await tree.stat(path)
    except SmbError as error:
        if error.status != NtStatus.OBJECT_NAME_NOT_FOUND:
            raise
        return False
    return True


async def test_the_server_takes_the_same_letters_for_one(lab: Lab) -> None:
    tried = pairs() if LONG else sorted({*pairs()[::SAMPLE], *KNOWN})
    differ = []
    with scratch_folder(lab) as scratch:
        for start in range(0, len(tried), IN_A_FOLDER):
            (scratch.local / f"{start}").mkdir()
            for number, pair in enumerate(tried[start : start + IN_A_FOLDER]):
                (scratch.local / f"{start}" / f"{number}x{pair[0]}").touch()
        async with open_pool(lab) as pool:
            tree = await pool.connect_tree(scratch.share)
            for start in range(0, len(tried), IN_A_FOLDER):
                for number, pair in enumerate(tried[start : start + IN_A_FOLDER]):
                    found = await is_found(tree, scratch.path.join([f"{start}", f"{number}X{pair[1]}"]))
                    if found != (fold_name(pair[0]) == fold_name(pair[1])):
                        differ.append((pair, found))
    assert differ == []
    assert len(tried) > len(KNOWN)
