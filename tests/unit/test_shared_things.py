"""The table of docs/security.md of what users of one mount share: each row has a test, and each test a row."""

from __future__ import annotations

import ast
import re
from pathlib import Path

HERE = Path(__file__).parent.parent
TABLE = (HERE.parent / "docs" / "security.md").read_text(encoding="utf-8").split("## What users of one mount share")[1]
ROWS = [line for line in TABLE.split("\n## ")[0].splitlines() if re.match(r"\| [^*-]", line)][1:]
TESTS = {
    inode.name
    for inode in ast.parse((HERE / "kernel" / "test_many_users.py").read_text(encoding="utf-8")).body
    if isinstance(inode, ast.FunctionDef) and inode.name.startswith("test_")
}


def test_each_row_has_a_test_and_each_test_a_row() -> None:
    assert len(ROWS) > 20
    named = [re.findall(r"`(test_\w+)`", row.split("|")[-2]) for row in ROWS]
    assert all(named), "a row without a test"
    assert {name for names in named for name in names} == TESTS
