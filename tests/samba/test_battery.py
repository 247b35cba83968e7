"""The checks that the server in memory has to pass, on real servers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.samba.battery import CHECKS, Bench
from tests.samba.clients import open_pool, scratch_folder

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.support.lab.samba import Lab

pytestmark = [pytest.mark.lab]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
async def test_a_real_server(lab: Lab, check: Callable[[Bench], Awaitable[None]]) -> None:
    with scratch_folder(lab) as scratch:
        async with open_pool(lab) as pool, open_pool(lab) as other:
            await check(
                Bench(await pool.connect_tree(scratch.share), await other.connect_tree(scratch.share), scratch.path)
            )
