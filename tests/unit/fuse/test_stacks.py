"""The pieces of serving a mount that need no mount."""

from __future__ import annotations

import trio
import trio.testing

from dfsfs.fuse.stacks import describe_stacks


async def test_the_stacks_show_every_task() -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep_forever, name="the one that sleeps")
        await trio.testing.wait_all_tasks_blocked()
        text = describe_stacks()
        nursery.cancel_scope.cancel()
    assert "task the one that sleeps" in text
    assert "in sleep_forever" in text
    assert "thread MainThread" in text
