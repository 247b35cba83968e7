"""tests/support/distribution.py: which tests stay together in a process, and that the longest begin."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tests.support import distribution

REPOSITORY = Path(__file__).parents[2]
OUTPUT = """
............ [100%]
============================== slowest durations ===============================
1.50s call     tests/unit/test_a.py::test_one[setup of it]
0.25s setup    tests/unit/test_a.py::test_one[setup of it]
2.00s call     tests/ad/test_b.py::test_two
2.00s teardown tests/ad/test_c.py::test_three

(20 durations < 0.005s hidden.  Use -vv to show these durations.)
"""


def test_a_file_stays_together_and_so_does_the_domain() -> None:
    assert distribution.group_of("tests/unit/test_a.py::test_one[a::b]") == "tests/unit/test_a.py"
    assert distribution.group_of("tests/ad/test_b.py::test_two") == distribution.group_of("tests/ad/test_c.py::test_x")


def test_what_pytest_has_measured() -> None:
    found = distribution.measured(OUTPUT)
    assert found == {"tests/ad": 4.0, "tests/unit/test_a.py": 1.8}
    assert list(found) == ["tests/ad", "tests/unit/test_a.py"]


def test_the_longest_begin_and_tests_of_one_group_stay_in_order() -> None:
    known = list(json.loads(distribution.DURATIONS.read_text()))
    longest, shortest = known[0], known[-1]
    names = [f"{shortest}::b", f"{longest}::b", "tests/test_new.py::a", f"{shortest}::a", f"{longest}::a"]
    items: list[Any] = [SimpleNamespace(nodeid=name) for name in names]
    distribution.longest_first(items)
    in_order = [f"{longest}::b", f"{longest}::a", "tests/test_new.py::a", f"{shortest}::b", f"{shortest}::a"]
    assert [item.nodeid for item in items] == in_order


def test_the_groups_that_were_measured_are_there() -> None:
    missing = [group for group in json.loads(distribution.DURATIONS.read_text()) if not (REPOSITORY / group).exists()]
    assert not missing, "measure again: see tests/README.md"
