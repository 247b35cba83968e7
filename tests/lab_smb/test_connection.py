"""One connection to a real server: every dialect, credits, compounds, what is held pending, and every kind of end."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import trio

from dfsfs.errors import ConnectionLost, Disposition, NtStatus, SmbError
from dfsfs.smb import wire
from dfsfs.smb.pool import TransportSettings
from dfsfs.smb.security import Cipher, Dialect, SigningAlgorithm
from dfsfs.smb.wire import RELATED_FILE_ID, Access, Command, CreateDisposition, FileInfoClass, InfoType
from tests.fakes.proxy import NEGOTIATE, READ, SESSION_SETUP, Proxy, command, messages
from tests.lab import content
from tests.lab_smb.clients import (
    BATCH_OPLOCK,
    PATIENCE,
    SEALED,
    SPOKEN,
    change_notify,
    close_raw,
    echo,
    encode_open,
    eventually,
    idle,
    open_pool,
    open_raw,
    paused,
    scratch_folder,
    share_of,
    to_be_restored,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from dfsfs.smb.connection import Connection
    from dfsfs.smb.pool import Pool
    from dfsfs.smb.tree import Tree
    from dfsfs.unc import UncPath
    from tests.lab.samba import Lab

pytestmark = pytest.mark.lab

CREDITS = 64
EXPECTED = {
    "2.1": (Dialect.SMB_2_1, SigningAlgorithm.HMAC_SHA256, None),
    "3.0": (Dialect.SMB_3_0, SigningAlgorithm.AES_CMAC, Cipher.AES128_CCM),
    "3.0.2": (Dialect.SMB_3_0_2, SigningAlgorithm.AES_CMAC, Cipher.AES128_CCM),
    "3.1.1": (Dialect.SMB_3_1_1, SigningAlgorithm.AES_GMAC, Cipher.AES128_GCM),
}
every_way = pytest.mark.parametrize("spoken", SPOKEN)


def proxied(lab: Lab) -> str:
    """An address of the lab's network where a proxy may listen."""
    return f"{lab.net}.77"


async def read_hello(tree: Tree) -> bytes:
    file = await tree.open(
        tree.share.join(["hello.txt"]), access=Access.READ, disposition=CreateDisposition.OPEN
    )
    data = bytes(await file.read(0, 1000))
    await file.close()
    return data


def available(connection: Connection) -> int:
    return connection.statistics().credits.available


async def full_of_credits(connection: Connection) -> None:
    """Asks until the connection has as many credits as it wants."""
    for _ in range(10):
        await connection.call([echo()], await_route(connection))
        if available(connection) == CREDITS:
            return
    pytest.fail(f"the server gives no more than {available(connection)} credits")
