"""Whether a link of a namespace is in order: all its targets, and what all servers of the namespace say of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import trio

from dfsfs.errors import DfsfsError
from dfsfs.namespace.explain import PROBE_TIMEOUT, ask_all_roots

if TYPE_CHECKING:
    from dfsfs.namespace.client import Namespace
    from dfsfs.namespace.survey import FoundLink
    from dfsfs.smb.pool import Pool
    from dfsfs.unc import UncPath


async def check_link(namespace: Namespace, pool: Pool, link: FoundLink) -> dict[str, Any]:
    """Tests a link. Raises nothing of DfsfsError: what is wrong stands in `problems`."""
    problems = [link.problem] if link.problem else []
    targets = [] if link.resolution is None else [target.path for target in link.resolution.targets]
    rows: dict[UncPath, dict[str, Any]] = {}

    async def one(target: UncPath) -> None:
        seconds, problem = await _list(pool, target)
        rows[target] = {"path": str(target), "seconds": seconds, "problem": problem or None}

    async with trio.open_nursery() as nursery:
        for target in targets:
            nursery.start_soon(one, target)
    problems += [f"{row['path']}: {row['problem']}" for row in map(rows.__getitem__, targets) if row["problem"]]
    problems += await _differences(namespace, link.path)
    return {"path": str(link.path), "targets": [rows[target] for target in targets], "problems": problems}


async def _list(pool: Pool, target: UncPath) -> tuple[float | None, str]:
    """The seconds until a target had listed the beginning of its folder, connecting included; and why it has not."""
    begun = trio.current_time()
    try:
        with trio.move_on_after(PROBE_TIMEOUT):
            tree = await pool.tree(target.share)
            async for _ in tree.list(target):
                break
            return round(trio.current_time() - begun, 6), ""
    except DfsfsError as error:
        return None, str(error)
    return None, f"no answer within {PROBE_TIMEOUT:g} s"


async def _differences(namespace: Namespace, path: UncPath) -> list[str]:
    """What the servers of the namespace do not agree on."""
    try:
        answers = await ask_all_roots(namespace, path)
    except DfsfsError as error:
        return [f"the servers of the namespace can't be compared: {error}"]
    problems = [f"namespace server {answer.host}: {answer.problem}" for answer in answers if answer.problem]
    said = {
        answer.host: sorted(str(entry.network_address) for entry in answer.response.entries)
        for answer in answers
        if answer.response is not None
    }
    if len({tuple(map(str.casefold, targets)) for targets in said.values()}) > 1:
        shown = "; ".join(f"{host} says {', '.join(targets) or 'none'}" for host, targets in said.items())
        problems.append(f"the servers of the namespace differ: {shown}")
    return problems
