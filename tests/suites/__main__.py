"""The command `scripts/suites`: file system test suites of others, on mounts of the lab's servers.

Exit status: 0 if every test passed or has its reason in tests/suites/reasons.py, 1 if not, 2 if it cannot begin.
"""

from __future__ import annotations

import argparse
import fnmatch
import signal
import sys
import tempfile
import textwrap
from dataclasses import replace
from pathlib import Path

from tests.conftest import SAMBAS
from tests.suites.circumstances import circumstances
from tests.suites.kept import FOLDER, load, note, save
from tests.suites.places import Place
from tests.suites.render import render, unexplained
from tests.suites.results import Outcome, Result, Results
from tests.suites.suites import Ltp, Pjdfstest, Suite, Xfstests
from tests.support.lab.samba import Lab, free_net, requirements_missing

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "suites.md"

NEEDS = """
what has to be there (this project neither has nor builds any of it):

  --xfstests   a checkout of xfstests that `make` has built; the programs that it wants (attr, acl, bc, xfs_io and the
               like); the users fsgqa, fsgqa2 and 123456-fsgqa, as its README says. Make them while no lab is running
               on the machine: useradd replaces /etc/passwd, and that takes their own one away from a lab's servers
  --pjdfstest  a checkout of pjdfstest with its program `pjdfstest`; openssl
  --ltp        a checkout of LTP with growfiles and fsx-linux built in testcases/kernel/fs

Each test has a mount of its own, of an empty share. What it found is added to the files in --results, from which
docs/suites.md is written; without a checkout only that is done. What an earlier run has found stays: --new goes on.
"""


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="scripts/suites",
        description="File system test suites of others, on mounts of the lab's servers.",
        epilog=NEEDS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--xfstests", type=Path, metavar="CHECKOUT", help="run xfstests' generic tests, as FSTYP=fuse")
    made.add_argument("--pjdfstest", type=Path, metavar="CHECKOUT", help="run pjdfstest")
    made.add_argument("--ltp", type=Path, metavar="CHECKOUT", help="run LTP's fsx-linux and growfiles")
    made.add_argument("--samba", default=",".join(SAMBAS), help="which servers, comma separated; default %(default)s")
    made.add_argument("--tests", default="*", help="only these, comma separated, with * and ?, as generic/00*")
    made.add_argument("--without", default="", help="not these, comma separated, with * and ?")
    made.add_argument("--again", help="only those that ended so before, comma separated, as failed,timed out")
    made.add_argument("--new", action="store_true", help="only those that nobody has run yet")
    made.add_argument(
        "--ask-all", action="store_true", help="run also tests of xfstests that require what FUSE has not"
    )
    made.add_argument("--limit", type=float, default=120, help="seconds for one test; default 120")
    made.add_argument("--options", default="", help="options of the mounts")
    made.add_argument("--results", type=Path, default=FOLDER, help="where they are kept; default tests/suites/results")
    made.add_argument("--document", type=Path, default=DOCUMENT, help="what to write; default docs/suites.md")
    return made


def named(options: argparse.Namespace) -> list[Suite]:
    """The suites whose checkouts were named."""
    suites: list[Suite] = []
    if options.xfstests:
        suites.append(Xfstests(options.xfstests.absolute(), options.ask_all))
    if options.pjdfstest:
        suites.append(Pjdfstest(options.pjdfstest.absolute()))
    if options.ltp:
        suites.append(Ltp(options.ltp.absolute()))
    return suites


def chosen(suite: Suite, options: argparse.Namespace, before: dict[str, Result]) -> list[str]:
    """The tests of a suite that a run is about."""
    names = [name for name in suite.tests() if _matches(name, options.tests) and not _matches(name, options.without)]
    if options.again:
        wanted = {Outcome(word) for word in options.again.split(",")}
        names = [name for name in names if name in before and before[name].outcome in wanted]
    if options.new:
        names = [name for name in names if name not in before or before[name].outcome is Outcome.NOT_RUN]
    return names


def _matches(name: str, patterns: str) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns.split(","))


def run(suites: list[Suite], server: str, options: argparse.Namespace, results: Results) -> None:
    """All the chosen tests on one kind of server; each result is kept at once."""
    with Lab(free_net(), samba=SAMBAS[server]) as lab, tempfile.TemporaryDirectory(prefix="dfsfs-suites-") as folder:
        place = Place(lab, Path(folder), options.options)
        try:
            for suite in suites:
                of_server = results.setdefault(server, {})
                before = of_server.get(suite.name, {})
                # Of another checkout there may be tests that this one has no more.
                found = of_server[suite.name] = {
                    test: before.get(test, Result(Outcome.NOT_RUN, 0)) for test in suite.tests()
                }
                state = circumstances(suite.name, suite.checkout, lab.host("fs1").folder / "log" / "smbd.log")
                for test in chosen(suite, options, found):
                    result = suite.run(test, place, options.limit)
                    found[test] = replace(result, circumstances=state) if result.seconds else result
                    save(options.results, {server: of_server})
                    print(f"{server} {suite.name} {test}: {result.outcome}, {result.seconds:.0f} s", flush=True)
                    if result.detail:
                        print(textwrap.indent(result.detail, "    "), flush=True)
        finally:
            place.clear()


def main() -> int:
    options = parser().parse_args()
    suites = named(options)
    servers = options.samba.split(",")
    for suite in suites:
        if missing := suite.missing():
            print(f"scripts/suites: {suite.name} lacks {missing}", file=sys.stderr)
            return 2
    for server in servers:
        if server not in SAMBAS or (lacking := requirements_missing(SAMBAS[server])):
            print(f"scripts/suites: {server}: {lacking if server in SAMBAS else 'no such server'}", file=sys.stderr)
            return 2
    results = load(options.results)
    signal.signal(signal.SIGTERM, lambda _signal, _frame: sys.exit(1))  # so that mounts and servers are taken down
    for server in servers if suites else ():
        run(suites, server, options, results)
    results = load(options.results)  # once more: another run may have ended in the meantime
    save(options.results, results)  # what has got a reason since then is not kept by its wording
    options.document.write_text(render(results, note=note(options.results)))
    unknown = unexplained(results)
    print(f"{options.document}: written; without a reason: {', '.join(unknown) or 'none'}")
    return int(bool(unknown))


if __name__ == "__main__":
    sys.exit(main())
