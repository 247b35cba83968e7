"""What the suites print, read."""

from __future__ import annotations

import pytest

from tests.suites.outputs import of_status, of_tap, of_xfstests
from tests.suites.requirements import unmet
from tests.suites.results import Outcome

HEAD = "FSTYP         -- fuse\nPLATFORM      -- Linux/x86_64 here\n\n"


def test_a_test_of_xfstests_that_passed() -> None:
    output = HEAD + "generic/001 4s ...  3s\nRan: generic/001\nPassed all 1 tests\n"
    assert of_xfstests(output, 3.0).outcome is Outcome.PASSED


def test_one_that_cannot_be_run_says_why() -> None:
    output = HEAD + "generic/900 [not run] needs a disk that is blue\nRan: generic/900\nNot run: generic/900\n"
    result = of_xfstests(output + "Passed all 1 tests\n", 1.0)
    assert (result.outcome, result.detail) == (Outcome.NOT_APPLICABLE, "needs a disk that is blue")


def test_one_that_was_run_before_and_cannot_be_now() -> None:
    output = HEAD + "generic/900 4s ... [not run] no disk\nRan: generic/900\nNot run: generic/900\nPassed all 1 tests\n"
    assert of_xfstests(output, 1.0).detail == "no disk"


def test_one_that_failed_says_what_differs() -> None:
    output = HEAD + (
        "generic/901 - output mismatch (see /tmp/x/901.out.bad)\n"
        "    --- tests/generic/901.out\t2026-01-01\n"
        "    +++ /tmp/x/901.out.bad\t2026-01-01\n"
        "    @@ -1,2 +1,2 @@\n"
        "    -four\n"
        "    +five\n"
        "    ...\n"
        "    (Run 'diff -u a b'  to see the entire diff)\n"
        "Ran: generic/901\nFailures: generic/901\nFailed 1 of 1 tests\n"
    )
    result = of_xfstests(output, 1.0)
    assert (result.outcome, result.detail) == (Outcome.FAILED, "@@ -1,2 +1,2 @@\n-four\n+five")


@pytest.mark.parametrize("output", ["", HEAD, HEAD + "generic/902 4s ... ", "check: could not mount the share\n"])
def test_an_output_without_an_ending_is_a_failure(output: str) -> None:
    result = of_xfstests(output, 1.0)
    assert result.outcome is Outcome.FAILED
    assert result.detail


def test_the_questions_of_pjdfstest_are_counted() -> None:
    result = of_tap("1..3\nok 1\nnot ok 2 - tried 'mkdir a 0755', expected 0, got EPERM\nok 3\n", 1.0)
    assert (result.outcome, result.checks) == (Outcome.FAILED, 3)
    assert result.failures == ("2 tried 'mkdir a 0755', expected 0, got EPERM",)


def test_questions_that_were_not_answered_failed() -> None:
    assert of_tap("1..3\nok 1\n", 1.0).failures == ("2 of 3 questions were not answered",)
    assert of_tap("sh: no such program\n", 1.0).outcome is Outcome.FAILED
    assert of_tap("1..2\nok 1\nok 2 # TODO not everywhere\n", 1.0).outcome is Outcome.PASSED
    assert of_tap("1..1\nnot ok 1 # TODO not everywhere\n", 1.0).outcome is Outcome.PASSED


def test_a_file_without_questions_does_not_apply() -> None:
    result = of_tap("1..0 # SKIP no flags here\n", 1.0)
    assert (result.outcome, result.detail) == (Outcome.NOT_APPLICABLE, "no flags here")


def test_exit_statuses_of_ltp() -> None:
    assert of_status(0, "PASS\n", 1.0).outcome is Outcome.PASSED
    assert of_status(32, "TCONF: no\n", 1.0).outcome is Outcome.NOT_APPLICABLE
    failed = of_status(2, "TBROK: no space\n", 1.0)
    assert (failed.outcome, failed.detail) == (Outcome.FAILED, "exit status 2\nTBROK: no space")


def test_the_first_requirement_that_cannot_be_met_is_named() -> None:
    text = (
        '_require_test\n_require_xfs_io_command "fpunch"\n_require_xfs_io_command "fiemap"\n_require_scratch_reflink\n'
    )
    assert unmet(text) == '_require_xfs_io_command "fiemap": FUSE passes on no FIEMAP'
    assert unmet("_require_test\n_require_odirect\n") == ""
    assert unmet("# _require_scratch_reflink is not said here\n") == ""
