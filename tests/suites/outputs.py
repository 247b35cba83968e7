"""Reads what the suites print. Pure: text in, Result out."""

from __future__ import annotations

import re

from tests.suites.results import Outcome, Result

DETAIL_LINES = 12
"""Of an output that differs, what is kept."""

_NOT_RUN = re.compile(r"^(\S+)\s.*\[not run\]\s*(.*)$", re.MULTILINE)
_EXPUNGED = re.compile(r"^(\S+)\s.*\[expunged\]", re.MULTILINE)
_FAILED = re.compile(r"^Failures: (.+)$", re.MULTILINE)
_PASSED = re.compile(r"^Passed all \d+ tests?$", re.MULTILINE)
_DIFFERS = re.compile(r"^ {4}(.*)$", re.MULTILINE)
_TAP_PLAN = re.compile(r"^1\.\.(\d+)(?:\s+#\s*SKIP\s*(.*))?\s*$", re.IGNORECASE)
_TAP_LINE = re.compile(r"^(not )?ok\b\s*(\d*)\s*(?:- )?(.*)$")


def of_xfstests(output: str, seconds: float) -> Result:
    """What `./check TEST` says of one test. An output without an ending is a failure, since nothing vouches for it."""
    if found := _NOT_RUN.search(output):
        return Result(Outcome.NOT_APPLICABLE, seconds, found[2].strip())
    if _EXPUNGED.search(output):
        return Result(Outcome.NOT_APPLICABLE, seconds, "expunged")
    if _FAILED.search(output) is None and _PASSED.search(output) is not None:
        return Result(Outcome.PASSED, seconds)
    differing = [line for line in _DIFFERS.findall(output) if not line.startswith(("---", "+++", "...", "(Run"))]
    return Result(Outcome.FAILED, seconds, "\n".join(differing[:DETAIL_LINES]) or tail(output) or "no output")


def tail(output: str) -> str:
    """The end of an output, without what bash says of a line of `check` itself."""
    lines = [line for line in output.strip().splitlines() if not line.startswith("./check: line ")]
    return "\n".join(lines[-DETAIL_LINES:])


def of_tap(output: str, seconds: float) -> Result:
    """What a test of pjdfstest says: the Test Anything Protocol. Questions that were announced and not answered failed;
    `# TODO` marks what the suite itself does not expect to hold.
    """
    announced, answered, failures = None, 0, []
    for line in output.splitlines():
        if plan := _TAP_PLAN.match(line):
            announced = int(plan[1])
            if announced == 0:
                return Result(Outcome.NOT_APPLICABLE, seconds, (plan[2] or "nothing to ask here").strip(), 0)
        elif answer := _TAP_LINE.match(line):
            answered += 1
            if answer[1] and "# TODO" not in answer[3]:
                failures.append(f"{answer[2]} {answer[3]}".strip())
    if announced is None:
        failures.append("no plan: the test did not begin")
    elif answered < announced:
        failures.append(f"{announced - answered} of {announced} questions were not answered")
    outcome = Outcome.FAILED if failures else Outcome.PASSED
    detail = "\n".join(failures[:DETAIL_LINES])
    return Result(outcome, seconds, detail, max(announced or 0, answered, 1), tuple(failures))


def of_status(status: int, output: str, seconds: float) -> Result:
    """What a program of LTP says: its exit status; 32 stands for a test that cannot be run here (TCONF)."""
    if status == 0:
        return Result(Outcome.PASSED, seconds)
    detail = tail(output)
    if status == 32:
        return Result(Outcome.NOT_APPLICABLE, seconds, detail)
    return Result(Outcome.FAILED, seconds, f"exit status {status}\n{detail}".strip())


def in_kind(detail: str) -> str:
    """A reason without what differs from run to run: paths, addresses, and the line that requires something."""
    first = detail.splitlines()[0] if detail else "not said"
    if first.startswith(("_require", "_scratch")) and ": " in first:
        return first.split(": ", 1)[1]
    first = re.sub(r"//127(\.\d+){3}\S*", "the share", first)
    return re.sub(r"(/\w[\w.-]*)+/(\w[\w.-]*)", r"\2", first)
