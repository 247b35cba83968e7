"""docs/posix.md: for each call, what of the cases is as on a local file system, and what is not, and why.

python -m tests.kernel.posix.table      writes it
"""

from __future__ import annotations

from pathlib import Path

from tests.kernel.posix.cases import CASES
from tests.kernel.posix.differences import DIFFERENCES

TABLE = Path(__file__).parents[3] / "docs" / "posix.md"

HEAD = """\
# POSIX, call by call

Each of these was asked of a mount (Samba 4.17) and of a local file system (ext4), by tests/kernel/posix. "As local"
counts the questions whose answers are the same: results, errno, and what is there afterwards. The rest is below, with
its reason.
This file is written by `python -m tests.kernel.posix.table`; docs/semantics.md has the whole picture.

| call | questions | as local |
|---|---|---|
"""

DIFFERENT = """

## What differs

| call | question | on a mount | why |
|---|---|---|---|
"""


def render() -> str:
    """The text of the file."""
    calls: dict[str, list[tuple[str, str]]] = {}
    for case in CASES:
        calls.setdefault(case[0], []).append(case)
    lines = [
        f"| {call} | {len(cases)} | {sum(case not in DIFFERENCES for case in cases)} |" for call, cases in calls.items()
    ]
    text = HEAD + "\n".join(lines) + DIFFERENT
    for (call, about), difference in DIFFERENCES.items():
        shown = str(difference.mounted).replace("|", "\\|")
        text += f"| {call} | {about} | `{shown}` | {difference.reason} |\n"
    return text


if __name__ == "__main__":
    TABLE.write_text(render())
