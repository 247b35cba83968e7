"""docs/suites.md, from what the runs found and the reasons. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from tests.suites.outputs import in_kind
from tests.suites.reasons import RULES, Rule, reasons, why
from tests.suites.results import Outcome, Result, Results

if TYPE_CHECKING:
    from collections.abc import Iterable

NAMES = {"stable": "Samba 4.17", "backports": "Samba 4.22"}
"""What the servers of tests/conftest.py are."""

HEAD = """\
# Suites of others

File system test suites that nobody here wrote, on mounts of the lab's servers: xfstests' generic tests as FSTYP=fuse,
pjdfstest, and LTP's fsx-linux and growfiles. `scripts/suites` runs them from checkouts that you name, each test on a
mount and a share of its own, and writes this file; the reasons are in tests/suites/reasons.py. A test of pjdfstest is a
file of many questions. A test counts as slow after 120 s, whether it passed or was ended.

| suite | server | tests | passed | not applicable | failed or slow, with a reason | unexplained | not run |
|---|---|---|---|---|---|---|---|
"""
HOW = """
## How to go on

What the runs found is in tests/suites/results, one small file for each suite and server, and is committed: of each test
its outcome and seconds, by day, kernel, Samba and commit of dfsfs. This page is made of these files. A run adds to them
what it ran, test by test, and may be ended at any time, so nobody has to begin again:

    git clone https://git.kernel.org/pub/scm/fs/xfs/xfstests-dev.git /srv/xfstests && make -C /srv/xfstests
    scripts/suites --xfstests /srv/xfstests --new --limit 300                    # what nobody has run yet
    scripts/suites --xfstests /srv/xfstests --again 'failed,timed out'           # what did not pass
    scripts/suites --xfstests /srv/xfstests --tests 'generic/0*' --samba stable  # these, on Samba 4.17
    scripts/suites                                                               # only the page, with other reasons

Debian's packages for the builds: automake libtool gettext pkg-config bison flex xfslibs-dev uuid-dev libacl1-dev
libattr1-dev libaio-dev libgdbm-dev libgdbm-compat-dev libcap-dev; for the runs: xfsprogs attr acl bc fio quota psmisc.
Of LTP only `make autotools && ./configure` is needed, and `make` in lib, testcases/kernel/fs/doio and
testcases/kernel/fs/fsx-linux; of pjdfstest `autoreconf -ifs && ./configure && make pjdfstest`. The users that xfstests
wants are in `scripts/suites --help`.

A test that failed or was slow and has no reason is listed as unexplained, with the first line of what it said. Run it
alone with `--limit 900`: either it shows a bug, or its reason goes into tests/suites/reasons.py. Of a test with many
questions those that have a reason are kept by reason only; when such a reason turns out wrong, the test is run again.
"""


def render(results: Results, rules: Iterable[Rule] = RULES, note: str = "") -> str:
    """The text of the file; `note`, on the circumstances of the runs, comes below the table."""
    rules = tuple(rules)
    suites = sorted({suite for tests in results.values() for suite in tests})
    servers = [server for server in NAMES if server in results]
    lines = [
        _summary(suite, server, results[server][suite], rules)
        for suite in suites
        for server in servers
        if suite in results[server]
    ]
    text = HEAD + "\n".join(lines) + "\n" + (f"\n{note}\n" if note else "") + _when(results) + HOW
    for suite in suites:
        per_server = {server: results[server][suite] for server in servers if suite in results[server]}
        text += f"\n## {suite}\n"
        text += _failed(suite, per_server, rules) + _not_applicable(per_server)
    return text


def unexplained(results: Results, rules: Iterable[Rule] = RULES) -> list[str]:
    """What did not pass and has no reason: server, suite and test of each."""
    rules = tuple(rules)
    return [
        f"{server} {suite} {test}"
        for server, suites in results.items()
        for suite, tests in suites.items()
        for test, one in tests.items()
        if one.needs_reason and "" in reasons(suite, test, server, one, rules)
    ]


def _summary(suite: str, server: str, tests: dict[str, Result], rules: tuple[Rule, ...]) -> str:
    bad = {test: reasons(suite, test, server, one, rules) for test, one in tests.items() if one.needs_reason}
    unknown = sum("" in why for why in bad.values())
    passed = sum(one.outcome is Outcome.PASSED and not one.is_slow for one in tests.values())
    refused = sum(one.outcome is Outcome.NOT_APPLICABLE for one in tests.values())
    untried = sum(one.outcome is Outcome.NOT_RUN for one in tests.values())
    questions = sum(one.checks for one in tests.values() if one.outcome is not Outcome.NOT_RUN)
    asked = f" ({questions} questions)" if questions > len(tests) - untried else ""
    wrong = sum(one.wrong for one in tests.values())
    failed = f" ({wrong} questions)" if wrong else ""
    name = NAMES.get(server, server)
    cells = (suite, name, f"{len(tests)}{asked}", passed, refused, f"{len(bad) - unknown}{failed}", unknown, untried)
    return f"| {' | '.join(map(str, cells))} |"


def _when(results: Results) -> str:
    """How many tests were run in which circumstances. Nothing, if that is not known of any."""
    counts = Counter(
        (one.circumstances, suite)
        for suites in results.values()
        for suite, tests in suites.items()
        for one in tests.values()
        if one.circumstances
    )
    if not counts:
        return ""
    rows = "".join(f"| {_cell(when)} | {suite} | {count} |\n" for (when, suite), count in sorted(counts.items()))
    return f"\n## When, and what of\n\n| day, and versions | suite | tests run |\n|---|---|---|\n{rows}"


def _failed(suite: str, per_server: dict[str, dict[str, Result]], rules: tuple[Rule, ...]) -> str:
    """A table of reasons; what has none comes first, with its output."""
    by_reason: dict[str, dict[str, dict[str, int]]] = defaultdict(lambda: defaultdict(dict))
    for server, tests in per_server.items():
        for test, one in sorted(tests.items()):
            if one.needs_reason:
                for reason, count in reasons(suite, test, server, one, rules).items():
                    by_reason[reason][test][server] = count
    if not by_reason:
        return "\nNothing failed.\n"
    unknown = by_reason.pop("", {})
    text = "\n"
    if unknown:
        text += "### Unexplained\n\n" + "".join(_with_output(suite, per_server, test, rules) for test in unknown) + "\n"
    if by_reason:
        many = any(one.wrong for tests in per_server.values() for one in tests.values())
        text += f"### Failed, and why\n\n| why | {'questions of ' if many else ''}tests |\n|---|---|\n"
        for reason, found in sorted(by_reason.items(), key=lambda item: (-len(item[1]), item[0])):
            shown = ", ".join(_with_servers(test, counts, per_server, many) for test, counts in sorted(found.items()))
            text += f"| {_cell(reason)} | {shown} |\n"
    return text


def _with_servers(test: str, counts: dict[str, int], per_server: dict[str, dict[str, Result]], many: bool) -> str:
    """A test's name, with the server if it failed on one only, and the number of its questions that failed."""
    text = test
    slowest = max((per_server[server][test] for server in counts), key=lambda one: one.seconds * one.is_slow)
    if many:
        numbers = sorted(set(counts.values()))
        text += f" {numbers[0]}" if len(numbers) == 1 else f" {'/'.join(str(counts[server]) for server in counts)}"
    notes = [] if len(counts) == len(per_server) else [NAMES.get(server, server) for server in counts]
    if slowest.is_slow:
        ended = "passed after" if slowest.outcome is Outcome.PASSED else "ended after"
        notes.append(f"{ended} {slowest.seconds:.0f} s")
    return f"{text} ({', '.join(notes)})" if notes else text


def _with_output(suite: str, per_server: dict[str, dict[str, Result]], test: str, rules: tuple[Rule, ...]) -> str:
    """What a test said first that has no reason, on each server."""
    text = ""
    for server, tests in per_server.items():
        one = tests.get(test)
        if one and one.needs_reason and "" in reasons(suite, test, server, one, rules):
            asked = (said for said in one.failures if why(suite, test, server, one, said, rules) is None)
            said = next(asked, one.detail).partition("\n")[0][:100].replace("`", "'")
            text += f"- {test}, {NAMES.get(server, server)}, {one.outcome}: `{said}`\n"
    return text


def _not_applicable(per_server: dict[str, dict[str, Result]]) -> str:
    by_reason: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for server, tests in per_server.items():
        for test, one in tests.items():
            if one.outcome is Outcome.NOT_APPLICABLE:
                by_reason[in_kind(one.detail)][test].append(NAMES.get(server, server))
    if not by_reason:
        return ""
    text = "\n### Not applicable, and why\n\n| why | tests |\n|---|---|\n"
    for reason, tests_of in sorted(by_reason.items(), key=lambda item: (-len(item[1]), item[0])):
        text += f"| {_cell(reason)} | {_shortened(tests_of, len(per_server))} |\n"
    return text


def _shortened(tests: dict[str, list[str]], servers: int) -> str:
    """Names, each folder named once: generic/001, 002; with the servers of a test, if those are not all."""
    shown, folder = [], None
    for test, of in sorted(tests.items()):
        head, _, tail = test.rpartition("/")
        name = tail if head and head == folder else test
        shown.append(name if len(of) == servers else f"{name} ({', '.join(of)})")
        folder = head
    return ", ".join(shown)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
