"""The pieces of serving a mount that need no mount."""

from __future__ import annotations

import trio
import trio.testing

from dfsfs.fuse.kernel import device_of
from dfsfs.fuse.stacks import describe_stacks

MOUNTINFO = """\
22 28 0:21 / /proc rw,nosuid shared:13 - proc proc rw
60 28 0:50 / /mnt/ns rw,relatime shared:31 - tmpfs tmpfs rw
61 60 0:51 / /mnt/ns rw,relatime shared:32 - fuse.dfsfs //dfs/ns rw
62 28 0:52 / /mnt/with\\040space rw - fuse.dfsfs //dfs/other rw
"""


def test_the_device_is_that_of_the_mount_on_top() -> None:
    assert device_of(MOUNTINFO, "/mnt/ns") == "0:51"
    assert device_of(MOUNTINFO, "/mnt/with space") == "0:52"
    assert device_of(MOUNTINFO, "/mnt") is None
    assert device_of("", "/mnt") is None


async def test_the_stacks_show_every_task() -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep_forever, name="the one that sleeps")
        await trio.testing.wait_all_tasks_blocked()
        text = describe_stacks()
        nursery.cancel_scope.cancel()
    assert "task the one that sleeps" in text
    assert "in sleep_forever" in text
    assert "thread MainThread" in text
