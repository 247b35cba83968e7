"""Results and reasons, and the page that is made of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tests.suites.kept import FOLDER, load, note
from tests.suites.reasons import RULES, Rule, Why, reasons
from tests.suites.render import render, unexplained
from tests.suites.results import Outcome, Result, Results

GOOD = Result(Outcome.PASSED, 1.5)
SLOW = Result(Outcome.TIMED_OUT, 120.0, "begun")
NOT_HERE = Result(Outcome.NOT_APPLICABLE, 0.0, "no //127.1.2.10/dfs/x in /tmp/a.b/disk")
WRONG = Result(Outcome.FAILED, 2.0, "@@ -1 +1 @@\n-a\n+b")
ASKED = Result(
    Outcome.FAILED, 2.0, "1 tried 'chown a'", 9, ("1 tried 'chown a', got EPERM", "2 tried 'mkdir a', got EIO")
)

RESULTS: Results = {
    "stable": {
        "xfstests": {"generic/001": GOOD, "generic/002": SLOW, "generic/003": WRONG, "generic/004": NOT_HERE},
        "pjdfstest": {"chown/00": ASKED},
    },
    "backports": {"xfstests": {"generic/001": GOOD, "generic/003": WRONG}},
}
OWNERS = Rule("pjdfstest", "chown/*", Why.OWNERS, "chown a")
TIMES = Rule("xfstests", "generic/003 generic/9*", Why.CTIME)
SIZE = Rule("xfstests", "generic/002", Why.NAMES, server="stable")


def test_each_question_has_its_own_reason() -> None:
    assert reasons("pjdfstest", "chown/00", "stable", ASKED, [OWNERS]) == {Why.OWNERS: 1, "": 1}
    assert reasons("xfstests", "generic/003", "backports", WRONG, [OWNERS, TIMES]) == {Why.CTIME: 1}
    assert reasons("xfstests", "generic/002", "backports", SLOW, [SIZE]) == {"": 1}


def test_what_has_no_reason_is_named() -> None:
    assert unexplained(RESULTS, [OWNERS, TIMES]) == ["stable xfstests generic/002", "stable pjdfstest chown/00"]
    everything = [Rule(suite, "*", why) for suite in ("xfstests", "pjdfstest") for why in (Why.FOLLOWS, Why.NAMES)]
    assert unexplained(RESULTS, everything) == []


def test_the_page() -> None:
    page = render(RESULTS, [OWNERS, TIMES, SIZE])
    assert "| pjdfstest | Samba 4.17 | 1 (9 questions) | 0 | 0 | 0 (2 questions) | 1 | 0 |" in page
    assert "| xfstests | Samba 4.17 | 4 | 1 | 1 | 2 | 0 | 0 |" in page
    assert "| xfstests | Samba 4.22 | 2 | 1 | 0 | 1 | 0 | 0 |" in page
    assert "- chown/00, Samba 4.17, failed: `2 tried 'mkdir a', got EIO`" in page
    assert f"| {Why.OWNERS} | chown/00 1 |" in page
    assert f"| {Why.NAMES} | generic/002 (Samba 4.17, ended after 120 s) |" in page
    assert f"| {Why.CTIME} | generic/003 |" in page
    assert "| no the share in disk | generic/004 (Samba 4.17) |" in page
    assert page == render(RESULTS, [OWNERS, TIMES, SIZE])


def test_a_test_that_applies_to_no_server_is_named_without_them() -> None:
    refused = {"a/1": NOT_HERE, "a/2": NOT_HERE, "a/3": NOT_HERE}
    results: Results = {"stable": {"xfstests": refused}, "backports": {"xfstests": {**refused, "a/2": GOOD}}}
    assert "| no the share in disk | a/1, 2 (Samba 4.17), 3 |" in render(results, [])


def test_the_page_says_of_when_its_figures_are() -> None:
    monday, tuesday = replace(GOOD, circumstances="Monday, Samba 1"), replace(WRONG, circumstances="Tuesday, Samba 1")
    results: Results = {"stable": {"xfstests": {"a/1": monday, "a/2": monday, "a/3": tuesday, "a/4": NOT_HERE}}}
    page = render(results, [])
    assert "| Monday, Samba 1 | xfstests | 2 |\n| Tuesday, Samba 1 | xfstests | 1 |\n\n## How" in page
    assert "## When" not in render(RESULTS, [])


def test_a_suite_in_which_nothing_failed() -> None:
    assert "Nothing failed." in render({"stable": {"ltp": {"gf01": GOOD}}}, [])


def test_what_passed_too_slowly_needs_a_reason_too() -> None:
    slow: Results = {"stable": {"xfstests": {"generic/002": Result(Outcome.PASSED, 121.0)}}}
    assert unexplained(slow, []) == ["stable xfstests generic/002"]
    page = render(slow, [SIZE])
    assert "| xfstests | Samba 4.17 | 1 | 0 | 0 | 1 | 0 | 0 |" in page
    assert f"| {Why.NAMES} | generic/002 (passed after 121 s) |" in page


def test_why_a_test_takes_long_is_no_reason_for_one_that_fails() -> None:
    wrong = replace(SLOW, outcome=Outcome.FAILED)
    assert reasons("xfstests", "generic/002", "stable", SLOW, [SIZE]) == {Why.NAMES: 1}
    assert reasons("xfstests", "generic/002", "stable", wrong, [SIZE]) == {"": 1}
    assert reasons("xfstests", "generic/003", "stable", SLOW, [TIMES]) == {"": 1}


def test_what_nobody_has_run_is_neither_good_nor_bad() -> None:
    untried: Results = {"stable": {"xfstests": {"generic/001": GOOD, "generic/005": Result(Outcome.NOT_RUN, 0)}}}
    assert unexplained(untried, []) == []
    assert "| xfstests | Samba 4.17 | 2 | 1 | 0 | 0 | 0 | 1 |" in render(untried, [])


def test_no_reason_is_hidden_by_one_before_it() -> None:
    """A rule for everything in front of others would make them mean nothing."""
    assert all(rule.about or "*" not in rule.tests for rule in RULES)
    assert len(set(RULES)) == len(RULES)


def test_rules_for_tests_that_ask_one_question_do_not_look_at_what_they_say() -> None:
    """It is not kept (kept.py), so such a rule would fit in the run and not on the next day."""
    assert not [rule for rule in RULES if rule.about and rule.suite != "pjdfstest"]


def test_the_page_in_docs_is_that_of_the_results_in_the_repository() -> None:
    """`scripts/suites` without a checkout writes it."""
    page = Path(__file__).parents[2] / "docs" / "suites.md"
    assert page.read_text() == render(load(FOLDER), note=note(FOLDER))
