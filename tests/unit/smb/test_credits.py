"""CreditWindow: ids are used once and in order, nothing is sent that was not granted."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfsfs.smb.connection.credits import MAX_GRANTED, CreditWindow


def test_a_new_connection_has_one_credit() -> None:
    window = CreditWindow(100)
    assert window.can_take(1)
    assert not window.can_take(2)
    assert window.take(1) == 0
    with pytest.raises(ValueError, match="0 in hand"):
        window.take(1)


def test_a_request_of_charge_n_takes_n_ids() -> None:
    window = CreditWindow(100)
    window.grant(20)
    assert [window.take(1), window.take(16), window.take(1)] == [0, 1, 17]


def test_it_asks_for_its_target_and_no_more() -> None:
    window = CreditWindow(64)
    assert window.wanted(1) == 64
    window.take(1)
    window.settle(1)
    window.grant(64)
    assert window.wanted(4) == 4


def test_a_server_that_grants_for_ever_is_cut_off() -> None:
    window = CreditWindow(64)
    for _ in range(3):
        window.grant(65535)
    assert window.statistics().available == MAX_GRANTED


@given(
    st.lists(
        st.one_of(st.tuples(st.just("take"), st.integers(1, 20)), st.tuples(st.just("answer"), st.integers(0, 40)))
    )
)
def test_ids_are_unique_and_charge_never_exceeds_what_was_granted(steps: list[tuple[str, int]]) -> None:
    window = CreditWindow(64)
    granted, used = 1, 0
    flight: list[int] = []
    ids: list[int] = []
    for step, number in steps:
        if step == "take" and window.can_take(number):
            first = window.take(number)
            ids += range(first, first + number)
            used += number
            flight.append(number)
        elif step == "answer" and flight:
            window.settle(flight.pop(0))
            window.grant(number)
            granted += number
        window.check_invariants()
        assert used <= granted
        assert window.statistics().outstanding == sum(flight)
    assert ids == list(range(len(ids)))
