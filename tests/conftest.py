"""What all tests share: the runner of async tests, what happens to a test that cannot run here, and the lab.

`async def` tests run in trio.run. With the fixture `autojump_clock` their time is virtual and jumps ahead whenever
every task waits; without it they end after ASYNC_TIMEOUT seconds.

Tests of one file run in one process, one after the other, and so do all tests in the domain: with `pytest -n 2
--dist loadgroup` each process has labs of its own (tests/support/distribution.py).

A test marked `lab`, `domain` or `mount` is skipped, with the reason, where it cannot run. A skip proves nothing, so
where such tests are meant to run it counts as a failure: with DFSFS_REQUIRE_LAB=1, and in CI (CI=true) on a machine
where we are root and have /dev/fuse.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import logging
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing
from hypothesis import HealthCheck, settings

from dfsfs import background
from dfsfs.cli.logs import JOURNAL_VARIABLE
from dfsfs.control.places import ROOTS_FOLDER
from dfsfs.control.server import sweep
from tests.conformance.table import duties_in, summary
from tests.support import distribution
from tests.support.daemonlog import ERROR, Journal
from tests.support.lab.domain import lab as domain_lab
from tests.support.lab.samba import BACKPORTS, SYSTEM, Lab, free_net, requirements_missing

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from xdist.remote import Producer

LONG = os.environ.get("DFSFS_LONG") == "1"
"""Whether tests of what happens rarely go on for as long as it takes to be sure; each run has a sample of it."""
CHANCE = int(os.environ.get("DFSFS_CHANCE", "6" if LONG else "1"))
"""How many times as much as in each run is tried of what is left to chance: inputs of the fuzzer, a minute for each
decoder, and examples of Hypothesis, 100 where a test does not say another number. 60 is an hour for each."""
ASYNC_TIMEOUT = 120
"""Seconds that an async test without a virtual clock may take."""
SAMBAS = {"stable": SYSTEM, "backports": BACKPORTS}
"""The Samba releases of the tests, by name: Debian's own, and a newer one that is stricter about DFS paths."""

# A machine that is busy is no failure: nothing here is timed.
settings.register_profile("chance", max_examples=100 * CHANCE, deadline=None, suppress_health_check=[*HealthCheck])
settings.load_profile("chance")
OFTEN = settings(max_examples=600 * CHANCE)
"""For what a peer could do harm with: some ten seconds for each test."""


@pytest.fixture(autouse=True)
def background_goes_on() -> Iterator[None]:
    """What fails in the background ends no mount, but the test in which it does."""
    background.failures.clear()
    yield
    assert not background.failures, "the log has the traceback"


class _Warnings(logging.Handler):
    """Keeps what dfsfs logs that an administrator would be worried by."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.seen: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.seen.append(f"{record.levelname} {record.name}: {record.getMessage()}")


@pytest.fixture(scope="session", autouse=True)
def daemon_log(request: pytest.FixtureRequest) -> Iterator[Journal | None]:
    """What the daemons log that are started from now on; None if no test starts one."""
    if not any(map(_needs_servers_or_mounts, request.session.items)):
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="dfsfs-journal-") as folder, pytest.MonkeyPatch.context() as patch:
        address = Path(folder) / "socket"
        journal = Journal(address)
        patch.setenv(JOURNAL_VARIABLE, str(address))
        yield journal
        journal.close()


@pytest.fixture(autouse=True)
def nothing_unexpected_is_logged(request: pytest.FixtureRequest, daemon_log: Journal | None) -> Iterator[None]:
    """A warning or an error in the log of dfsfs fails a test that does not look at the log, by `caplog`, or expects it:
    `@pytest.mark.logs("a regular expression")`. With real servers, which may be slow, an error in the log of a daemon
    does.
    """
    expected = [re.compile(text) for mark in request.node.iter_markers("logs") for text in mark.args]
    if daemon_log is not None and _needs_servers_or_mounts(request.node):
        yield
        errors = [str(record) for record in daemon_log.take() if record.priority <= ERROR]
        unexpected = [line for line in errors if not any(each.search(line) for each in expected)]
        assert not unexpected, "a daemon has logged what is not expected:\n" + "\n".join(unexpected)
        return
    if "caplog" in request.fixturenames:
        yield
        return
    handler, logger = _Warnings(), logging.getLogger("dfsfs")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
    unexpected = [line for line in handler.seen if not any(each.search(line) for each in expected)]
    assert not unexpected, f"logged, and not expected: {unexpected}"


@pytest.fixture
def autojump_clock() -> trio.testing.MockClock:
    """The virtual clock of an async test: a sleep takes no time."""
    return trio.testing.MockClock(autojump_threshold=0)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Runs a test that is an async function."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = inspect.signature(pyfuncitem.obj).parameters
    arguments = {name: pyfuncitem.funcargs[name] for name in names}
    test = functools.partial(pyfuncitem.obj, **arguments)
    clock = next((value for value in pyfuncitem.funcargs.values() if isinstance(value, trio.testing.MockClock)), None)

    async def within_timeout() -> None:
        with trio.fail_after(ASYNC_TIMEOUT):
            await test()

    trio.run(test if clock is not None else within_timeout, clock=clock, strict_exception_groups=True)
    return True


@functools.cache
def _lab_missing(samba: Path) -> tuple[str, ...]:
    missing = requirements_missing(samba)
    if shutil.which("smbclient") is None:
        missing.append("smbclient is not installed")
    return tuple(missing)


@functools.cache
def _mount_missing() -> tuple[str, ...]:
    missing = [] if os.geteuid() == 0 else ["mounting needs root"]
    if not os.path.exists("/dev/fuse"):
        missing.append("there is no /dev/fuse")
    if shutil.which("fusermount3") is None:
        missing.append("fusermount3 is not installed")
    return tuple(missing)


@functools.cache
def _domain_missing() -> tuple[str, ...]:
    return tuple(domain_lab.requirements_missing())


def _samba_of(item: pytest.Item) -> Path:
    callspec = getattr(item, "callspec", None)
    return SAMBAS[callspec.params.get("lab", "stable") if callspec is not None else "stable"]


def _needs_servers_or_mounts(item: pytest.Item) -> bool:
    return any(item.get_closest_marker(name) for name in ("lab", "domain", "mount"))


def _must_not_skip() -> bool:
    if os.environ.get("DFSFS_REQUIRE_LAB") == "1":
        return True
    return os.environ.get("CI") == "true" and os.geteuid() == 0 and os.path.exists("/dev/fuse")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out what takes too long, and orders what runs in more than one process."""
    left_out = [] if LONG else [item for item in items if item.get_closest_marker("long")]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]
    if hasattr(config, "workerinput"):
        distribution.longest_first(items)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> distribution.GroupScheduling | None:
    """Keeps tests together that share servers, with --dist loadgroup."""
    return distribution.GroupScheduling(config, log) if config.getvalue("dist") == "loadgroup" else None


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skips what cannot run here."""
    missing: tuple[str, ...] = ()
    if item.get_closest_marker("lab"):
        missing += _lab_missing(_samba_of(item))
    if item.get_closest_marker("domain"):
        missing += _domain_missing()
    if item.get_closest_marker("mount"):
        missing += _mount_missing()
    if missing:
        pytest.skip("; ".join(missing))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Makes a skip a failure where it must not happen; see the top of this file.

    What a test has printed may be no valid Unicode, and has to get from one process to the other.
    """
    report = yield
    report.sections = [
        (name, text.encode("utf-8", "backslashreplace").decode("utf-8")) for name, text in report.sections
    ]
    expected_failure = hasattr(report, "wasxfail")
    if report.skipped and not expected_failure and _needs_servers_or_mounts(item) and _must_not_skip():
        report.outcome = "failed"
        report.longrepr = f"skipped, which CI=true or DFSFS_REQUIRE_LAB=1 do not allow here: {report.longrepr}"
    return report


OUTCOMES = pytest.StashKey[dict[str, list[str]]]()
"""How the tests of each duty of a DFS client ended, by its number."""


def pytest_configure(config: pytest.Config) -> None:
    """Collects how the tests go that are named after duties."""
    outcomes = config.stash[OUTCOMES] = {}
    config.pluginmanager.register(_Duties(outcomes), "duties")


class _Duties:
    def __init__(self, outcomes: dict[str, list[str]]) -> None:
        self._outcomes = outcomes

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or report.outcome != "passed":
            for duty in duties_in(report.nodeid.split("::")[-1].split("[")[0]):
                self._outcomes.setdefault(duty, []).append(report.outcome)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Mounts whose programs were killed have left their control sockets; the next mount would take them away."""
    if hasattr(session.config, "workerinput"):
        return  # The process that started this one does it, once.
    if os.path.isdir(ROOTS_FOLDER) and os.access(ROOTS_FOLDER, os.W_OK):
        sweep(ROOTS_FOLDER, 1.0)  # not at once: somebody else's mount may be about to listen at its own


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """What a run shows of the duties of a DFS client."""
    outcomes: dict[str, list[str]] = config.stash[OUTCOMES]
    for line in summary(outcomes):
        terminalreporter.write_line(line)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Runs tests marked `every_samba` once for each release, unless they name releases themselves."""
    named = any(mark.args[0] == "lab" for mark in metafunc.definition.iter_markers("parametrize"))
    if metafunc.definition.get_closest_marker("every_samba") and "lab" in metafunc.fixturenames and not named:
        metafunc.parametrize("lab", SAMBAS, indirect=True, scope="session")


@pytest.fixture(scope="session")
def labs() -> Iterator[Callable[[str], Lab]]:
    """Gives the lab of a Samba release, which starts when it is first asked for, and ends with the session."""
    running: dict[str, Lab] = {}
    with contextlib.ExitStack() as stack:

        def of(name: str) -> Lab:
            if name not in running:
                running[name] = stack.enter_context(Lab(free_net(), samba=SAMBAS[name]))
            return running[name]

        yield of


@pytest.fixture(scope="session")
def lab(request: pytest.FixtureRequest, labs: Callable[[str], Lab]) -> Lab:
    """A running lab, one for the whole session: a test that stops or changes something puts it right again.

    The tests that use it are marked `lab`, and `every_samba` if they are about what releases do differently.
    """
    return labs(getattr(request, "param", "stable"))
