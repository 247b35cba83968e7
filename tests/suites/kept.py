"""Results between runs: small files in the repository, one for each suite and server.

    results/xfstests-stable.json:
    {
     "runs": {"2026-11-29, ..., dfsfs d0f1ed6, ...": {"generic/001": {"outcome": "passed", "seconds": 3}, ...}},
     "not applicable": {"no disk": ["generic/018", ...]},
     "not run": ["generic/013", ...]
    }

A run adds to the file what it ran, so a test can be run again alone, and runs on two servers write two files. What the
suites print is not kept: of a failed question with a reason (reasons.py) the reason's name, of one without its wording.
Standard library only.
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tests.suites.outputs import in_kind
from tests.suites.reasons import RULES, Rule, why
from tests.suites.results import Outcome, Result, Results

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

FOLDER = Path(__file__).parent / "results"
NOTE = "note.txt"
"""In such a folder: a paragraph for the page, on the circumstances of the runs."""
WORDING = 200
"""Of what a suite says of one question, so many characters are kept."""

_PLAIN = Result(Outcome.PASSED, 0)


def load(folder: Path) -> Results:
    """What earlier runs have found; empty without such files. ValueError for a file that is not one of them."""
    results: Results = {}
    for path in sorted(folder.glob("*.json")):
        suite, _, server = path.stem.rpartition("-")
        results.setdefault(server, {})[suite] = _unpacked(json.loads(path.read_text()), path.name)
    return results


def note(folder: Path) -> str:
    """The paragraph that somebody has written on the circumstances of the runs; empty if nobody has."""
    path = folder / NOTE
    return path.read_text().strip() if path.exists() else ""


def save(folder: Path, results: Results, rules: Iterable[Rule] = RULES) -> None:
    """Writes all of it, in an order that does not depend on that of the runs. An old file stays whole until then."""
    folder.mkdir(exist_ok=True)
    for server, suites in results.items():
        for suite, tests in suites.items():
            put_away = {name: small(suite, name, server, one, rules) for name, one in tests.items()}
            path = folder / f"{suite}-{server}.json"
            text = _text(put_away)
            if path.exists() and path.read_text() == text:
                continue
            beside = path.with_name(f"{path.name}.new")
            beside.write_text(text)
            os.replace(beside, path)


def small(suite: str, test: str, server: str, result: Result, rules: Iterable[Rule] = RULES) -> Result:
    """A result without what need not be kept."""
    rules = tuple(rules)
    seconds = float(round(result.seconds))
    if result.outcome is Outcome.NOT_APPLICABLE:
        return replace(result, seconds=seconds, detail=in_kind(result.detail))
    if not result.needs_reason:
        return replace(result, seconds=seconds, detail="")
    explained, wordings = defaultdict(int, result.explained), []
    for wording in result.failures:
        if reason := why(suite, test, server, result, wording, rules):
            explained[reason.name] += 1
        else:
            wordings.append(wording[:WORDING])
    known = result.wrong or why(suite, test, server, result, result.detail, rules)
    return replace(
        result,
        seconds=seconds,
        detail="" if known else result.detail.partition("\n")[0][:WORDING],
        failures=tuple(wordings),
        explained=tuple(sorted(explained.items())),
    )


def _text(tests: Mapping[str, Result]) -> str:
    """The text of a file: a line for each test that was run, since that is what changes."""
    runs: dict[str, dict[str, Result]] = defaultdict(dict)
    refused: dict[str, list[str]] = defaultdict(list)
    for name, one in sorted(tests.items()):
        if one.circumstances:
            runs[one.circumstances][name] = one
        elif one.outcome is Outcome.NOT_APPLICABLE:
            refused[one.detail].append(name)
    of_runs = [
        f"  {json.dumps(when)}: {{\n"
        + ",\n".join(f"   {json.dumps(name)}: {json.dumps(_packed(one))}" for name, one in found.items())
        + "\n  }"
        for when, found in sorted(runs.items())
    ]
    of_refused = [f"  {json.dumps(why)}: {json.dumps(names)}" for why, names in sorted(refused.items())]
    untried = json.dumps(sorted(name for name, one in tests.items() if one.outcome is Outcome.NOT_RUN))
    return (
        '{\n "runs": {\n' + ",\n".join(of_runs) + "\n },\n"
        ' "not applicable": {\n' + ",\n".join(of_refused) + "\n },\n"
        f' "not run": {untried}\n}}\n'
    )


def _packed(one: Result) -> dict[str, object]:
    """Its fields, without those that say nothing."""
    fields: dict[str, object] = {"outcome": one.outcome, "seconds": int(one.seconds)}
    if one.detail:
        fields["detail"] = one.detail
    if one.checks != _PLAIN.checks:
        fields["checks"] = one.checks
    if one.explained:
        fields["explained"] = dict(one.explained)
    if one.failures:
        fields["failures"] = one.failures
    return fields


def _unpacked(read: object, file: str) -> dict[str, Result]:
    match read:
        case {"runs": dict(runs), "not applicable": dict(refused), "not run": list(untried)}:
            found = {str(name): Result(Outcome.NOT_RUN, 0) for name in untried}
            for why, names in refused.items():
                found.update({str(name): Result(Outcome.NOT_APPLICABLE, 0, why) for name in names})
            for when, tests in runs.items():
                found.update({str(name): _result(fields, when, f"{file}: {name}") for name, fields in tests.items()})
            return found
    raise ValueError(f"{file}: no results")


def _result(fields: object, when: str, where: str) -> Result:
    match fields:
        case {"outcome": str(outcome), "seconds": int(seconds), **rest}:
            pass
        case _:
            raise ValueError(f"{where}: not a result: {fields}")
    match {"detail": "", "checks": 1, "explained": {}, "failures": [], **rest}:
        case {"detail": str(detail), "checks": int(checks), "explained": dict(explained), "failures": list(failures)}:
            pass
        case _:
            raise ValueError(f"{where}: not a result: {fields}")
    counts = tuple(sorted((str(name), int(count)) for name, count in explained.items()))
    return Result(Outcome(outcome), float(seconds), detail, checks, tuple(map(str, failures)), when, counts)
