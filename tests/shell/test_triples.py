"""Three operations at once, in orders that Hypothesis chooses and, where it finds a wrong one, makes shorter."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio
import trio.testing
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import LONG
from tests.shell.elsewhere import ELSEWHERE
from tests.shell.explorer import deterministic
from tests.shell.meeting import Meeting
from tests.shell.operations import OPERATIONS, Operation

if TYPE_CHECKING:
    from tests.shell.explorer import Action
    from tests.shell.meeting import Verdict

EXAMPLES = 20_000 if LONG else 150
_operation = st.sampled_from([*OPERATIONS, *ELSEWHERE])


def _fit(operations: tuple[Operation, ...]) -> bool:
    """Whether a descriptor that one closes is none that another one uses, and at most one is another client's."""
    closed = [fd for operation in operations if operation.name.startswith("close") for fd in operation.needs]
    used = [fd for operation in operations for fd in operation.needs]
    return all(used.count(fd) == 1 for fd in closed) and sum(operation.elsewhere for operation in operations) < 2


class Drawn:
    """Chooses what Hypothesis draws."""

    def __init__(self, data: st.DataObject) -> None:
        self._data = data

    def choose(self, enabled: list[Action]) -> Action:
        return enabled[self._data.draw(st.integers(0, len(enabled) - 1))] if len(enabled) > 1 else enabled[0]


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    derandomize=not LONG,
)
@given(operations=st.tuples(_operation, _operation, _operation).filter(_fit), data=st.data())
def test_three_operations(operations: tuple[Operation, ...], data: st.DataObject) -> None:
    meeting, clock = Meeting(operations), trio.testing.MockClock()
    verdicts: list[Verdict | None] = []

    async def main() -> None:
        verdicts.append(await meeting.play(clock, Drawn(data), talks=True))

    with deterministic():
        trio.run(main, clock=clock, strict_exception_groups=True)
    (verdict,) = verdicts
    assert verdict is not None
    if verdict.problems:
        raise AssertionError("\n" + verdict.text(str(meeting)))
