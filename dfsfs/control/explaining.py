"""The answer to `explain`: how a path was resolved, what its targets say, and what the servers of its namespace say.

A mount answers it for a path of its own, `dfsfs explain` makes it itself for a UNC path.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from dfsfs.control import answers
from dfsfs.control.report import session_of
from dfsfs.errormessages import describe_error
from dfsfs.namespace.explain import ask_all_roots, explain
from dfsfs.unc import UncPath

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dfsfs.config.model import MountConfig
    from dfsfs.errors import DfsfsError
    from dfsfs.namespace.client import Namespace
    from dfsfs.namespace.explain import Explanation, Probe, RootAnswer
    from dfsfs.smb.pool import Pool
    from dfsfs.smb.sessioninfo import SessionInfo
    from dfsfs.smb.userpools import UserPools
    from dfsfs.telemetry import Event


async def explain_path(
    config: MountConfig, namespace: Namespace, pool: Pool | UserPools, path: UncPath, *, all_roots: bool
) -> answers.Explanation:
    """Resolves a path as an access to it would, and tries all its targets; `all_roots`: every server of the namespace
    is asked as well. Errors of servers are part of the answer.

    Raises:
        DfsfsError: with `all_roots`, no server says which these are.
    """
    found = await explain(namespace, pool, path)
    answer = explanation_of(found, pool.sessions(), config)
    if all_roots:
        said = await ask_all_roots(namespace, found.link or path)
        answer = dataclasses.replace(answer, all_roots=roots_of(said, config))
    return answer


def explanation_of(found: Explanation, sessions: Sequence[SessionInfo], config: MountConfig) -> answers.Explanation:
    """The answer, without what the servers of the namespace say."""
    return answers.Explanation(
        path=str(found.path),
        kind=found.kind or None,
        problem=_text_of(found.problem, config),
        steps=tuple(step_of(seconds, event) for seconds, event in found.events),
        link=None if found.link is None else str(found.link),
        seconds_left=None if found.seconds_left is None else round(found.seconds_left, 1),
        targets=tuple(_target(probe, sessions, config) for probe in found.probes),
    )


def _target(probe: Probe, sessions: Sequence[SessionInfo], config: MountConfig) -> answers.TriedTarget:
    host = UncPath((probe.target.host,))
    session = next((session for session in sessions if UncPath((session.host,)) == host), None)
    return answers.TriedTarget(
        path=str(probe.target),
        in_use=probe.in_use,
        seconds=None if probe.seconds is None else round(probe.seconds, 6),
        problem=_text_of(probe.problem, config),
        remark=probe.remark,
        session=None if session is None else session_of(session),
    )


def step_of(seconds: float, event: Event) -> answers.Step:
    """An event, so many seconds after the beginning."""
    details = {field.name: _plain_value(getattr(event, field.name)) for field in dataclasses.fields(event)}
    return answers.Step(round(seconds, 6), type(event).__name__, details, str(event))


def _plain_value(value: Any) -> Any:
    """A field of an event as what JSON has."""
    if isinstance(value, UncPath):
        return str(value)
    return list(value) if isinstance(value, tuple) else value


def roots_of(said: Sequence[RootAnswer], config: MountConfig) -> answers.Roots:
    """What each server of a namespace says of one path, and whether they all say the same."""
    different = {
        (frozenset(entry.network_address for entry in answer.response.entries), answer.response.ttl)
        if answer.response is not None
        else _text_of(answer.problem, config)
        for answer in said
    }
    return answers.Roots(tuple(_root(answer, config) for answer in said), differ=len(different) > 1)


def _root(answer: RootAnswer, config: MountConfig) -> answers.Root:
    found = answer.response
    return answers.Root(
        host=answer.host,
        asked=str(answer.asked),
        problem=_text_of(answer.problem, config),
        covered=str(found.covered) if found is not None and found.covered is not None else None,
        ttl=found.ttl if found is not None else None,
        targets=tuple(str(entry.network_address) for entry in found.entries) if found is not None else (),
    )


def _text_of(problem: DfsfsError | None, config: MountConfig) -> str | None:
    return None if problem is None else describe_error(problem, config)
