"""Results between runs: what comes back from the files is what the page needs."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.suites.kept import FOLDER, load, note, save, small
from tests.suites.reasons import Rule, Why, reasons
from tests.suites.render import render, unexplained
from tests.suites.results import Outcome, Result, Results

if TYPE_CHECKING:
    from pathlib import Path

RUN = "Monday, Samba 1, dfsfs abc"
GOOD = Result(Outcome.PASSED, 1.5, circumstances=RUN)
SLOW = Result(Outcome.TIMED_OUT, 120.0, "begun\nand so on", circumstances=RUN)
REFUSED = Result(Outcome.NOT_APPLICABLE, 3.0, "no /tmp/a.b/disk", circumstances=RUN)
NEVER = Result(Outcome.NOT_APPLICABLE, 0, "_require_disk: no disk")
WRONG = Result(Outcome.FAILED, 2.0, "@@ -1 +1 @@\n-a\n+b", circumstances=RUN)
ASKED = Result(
    Outcome.FAILED,
    2.0,
    "1 tried 'chown a'",
    9,
    ("1 tried 'chown a', got EPERM", "2 tried 'mkdir a', got EIO", "3 tried 'chown a', got EIO"),
    RUN,
)
RESULTS: Results = {
    "stable": {
        "xfstests": {
            "generic/001": GOOD,
            "generic/002": SLOW,
            "generic/003": WRONG,
            "generic/004": REFUSED,
            "generic/005": NEVER,
            "generic/006": Result(Outcome.NOT_RUN, 0),
        },
        "pjdfstest": {"chown/00": ASKED},
    },
    "backports": {"xfstests": {"generic/001": replace(GOOD, circumstances="Tuesday")}},
}
RULES = (
    Rule("pjdfstest", "chown/*", Why.OWNERS, "chown a"),
    Rule("xfstests", "generic/003", Why.CTIME),
)


def test_the_page_of_what_was_kept_is_that_of_the_run(tmp_path: Path) -> None:
    save(tmp_path, RESULTS, RULES)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "pjdfstest-stable.json",
        "xfstests-backports.json",
        "xfstests-stable.json",
    ]
    kept = load(tmp_path)
    assert render(kept, RULES) == render(RESULTS, RULES)
    assert sorted(unexplained(kept, RULES)) == ["stable pjdfstest chown/00", "stable xfstests generic/002"]


def test_what_was_kept_once_stays_as_it_is(tmp_path: Path) -> None:
    save(tmp_path, RESULTS, RULES)
    texts = {path.name: path.read_text() for path in tmp_path.iterdir()}
    save(tmp_path, load(tmp_path), RULES)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == texts


def test_a_test_is_one_line_of_a_file(tmp_path: Path) -> None:
    save(tmp_path, RESULTS, RULES)
    lines = (tmp_path / "xfstests-stable.json").read_text().splitlines()
    assert '   "generic/001": {"outcome": "passed", "seconds": 2},' in lines
    assert '   "generic/003": {"outcome": "failed", "seconds": 2},' in lines, "it has its reason, so no output is kept"
    assert '   "generic/002": {"outcome": "timed out", "seconds": 120, "detail": "begun"},' in lines
    assert '  "no disk": ["generic/005"]' in lines


def test_questions_are_kept_by_reason_and_the_others_by_wording() -> None:
    put_away = small("pjdfstest", "chown/00", "stable", ASKED, RULES)
    assert (put_away.explained, put_away.failures) == ((("OWNERS", 2),), ("2 tried 'mkdir a', got EIO",))
    later = (*RULES, Rule("pjdfstest", "chown/*", Why.FOLLOWS, "mkdir a"))
    assert reasons("pjdfstest", "chown/00", "stable", put_away, later) == {Why.OWNERS: 2, Why.FOLLOWS: 1}
    assert small("pjdfstest", "chown/00", "stable", put_away, later).failures == ()


@pytest.mark.parametrize("gone", [(), (Rule("pjdfstest", "chown/*", Why.FOLLOWS, "chown a"),)])
def test_what_no_rule_explains_any_more_is_unexplained(gone: tuple[Rule, ...]) -> None:
    put_away = small("pjdfstest", "chown/00", "stable", ASKED, RULES)
    assert reasons("pjdfstest", "chown/00", "stable", put_away, gone) == {"": 3}


def test_no_file_is_no_result(tmp_path: Path) -> None:
    assert load(tmp_path) == {}
    assert note(tmp_path) == ""


@pytest.mark.parametrize(
    "found",
    [
        {},
        {"runs": {RUN: {"generic/001": {"outcome": "passed"}}}, "not applicable": {}, "not run": []},
        {
            "runs": {RUN: {"generic/001": {"outcome": "passed", "seconds": 1, "checks": "x"}}},
            "not applicable": {},
            "not run": [],
        },
    ],
)
def test_another_file_is_refused(found: dict[str, object], tmp_path: Path) -> None:
    (tmp_path / "xfstests-stable.json").write_text(json.dumps(found))
    with pytest.raises(ValueError, match=r"xfstests-stable\.json"):
        load(tmp_path)


def test_the_files_in_the_repository_are_as_a_run_writes_them(tmp_path: Path) -> None:
    save(tmp_path, load(FOLDER))
    for path in FOLDER.glob("*.json"):
        assert (tmp_path / path.name).read_text() == path.read_text()
