"""The table itself: complete, and as it is in the repository."""

from __future__ import annotations

import pytest

from tests.conformance.duties import DUTIES, NOT_HERE
from tests.conformance.table import DOCUMENT, document, duties_in, shown_by, summary


def test_the_document_is_up_to_date() -> None:
    assert DOCUMENT.read_text() == document(), "run python -m tests.conformance.table"


@pytest.mark.parametrize("number", DUTIES)
def test_every_duty_has_a_test_or_a_reason(number: str) -> None:
    assert (number in shown_by()) != (number in NOT_HERE)


def test_no_test_names_a_duty_that_there_is_not() -> None:
    assert set(shown_by()) <= set(DUTIES)


def test_numbers_in_names() -> None:
    assert duties_in("test_c014_f10_h01_of_c020") == ["C-014", "F-10", "H-01"]


def test_a_failure_shows_in_the_summary() -> None:
    outcomes = {number: ["passed", "passed"] for number in DUTIES if number not in NOT_HERE}
    assert "FAILED" not in "".join(summary(outcomes))
    outcomes["C-050"] = ["passed", "failed"]
    assert [line.split()[0] for line in summary(outcomes) if "FAILED" in line] == ["C-050"]
    assert summary({"C-050": ["failed"]}) == []
