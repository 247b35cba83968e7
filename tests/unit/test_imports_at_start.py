"""What the start of a mount imports: nothing that it can do without.

Each of these modules takes milliseconds, of each mount and of each test that makes one. Times differ too much to be
tested, so this is about names.
"""

from __future__ import annotations

import ast
import json
import subprocess
import sys

import pytest
import trio

from dfsfs.mount import laterimports
from tests.unit.test_layering import FILES, layer, module_name, within

FOR_LOGINS = ("spnego", "gssapi", "smbprotocol.session", "dfsfs.smb.auth.gss")
"""Imported in a thread, while the servers are connected to."""
FOR_DOMAINS = ("dns",)
FOR_QUESTIONS = (
    *("dfsfs.control.answers", "dfsfs.control.commands", "dfsfs.control.explaining", "dfsfs.control.report"),
    *("dfsfs.control.remount", "dfsfs.namespace.explain"),
)
"""Imported when a mount is asked by the commands of dfsfs."""
FOR_OPTIONS = (
    *("dfsfs.control.metrics", "prometheus_client", "h11", "dfsfs.fuse.libfuse"),
    *("dfsfs.dfsc.static", "tomllib", "dfsfs.cli.remount", "dfsfs.cli.kerberos"),
)
FOR_MISTAKES = ("difflib",)
FOR_OTHER_PROGRAMS = ("argparse", "asyncio", "rich", "getpass", "logging.handlers", "dfsfs.cli.command")
SCRIPT = """
import json, sys
import dfsfs.cli.mount
import dfsfs.mount.assembly
print(json.dumps(sorted(sys.modules)))
"""

ONLY_WITH_AN_OPTION = {
    "dfsfs.control.metrics": "metrics=",
    "dfsfs.control.report": "a service of systemd, whose status line it makes",
    "dfsfs.dfsc.static": "dfs_static=",
    "dfsfs.fuse.libfuse": "loop=pyfuse3",
}
"""Imported at the start of mounts that have this, and by no others ever."""


@pytest.fixture(scope="module")
def imported() -> set[str]:
    """The modules that are there when a mount begins to connect."""
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True, timeout=60)
    return set(json.loads(done.stdout))


@pytest.mark.parametrize(
    "name", [*FOR_LOGINS, *FOR_DOMAINS, *FOR_QUESTIONS, *FOR_OPTIONS, *FOR_MISTAKES, *FOR_OTHER_PROGRAMS]
)
def test_what_a_start_does_without(name: str, imported: set[str]) -> None:
    assert "trio" in imported
    assert name not in imported


def imports_in_functions(source: str) -> set[str]:
    """The modules of dfsfs that are imported within functions."""
    functions = [
        node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    found = [node for function in functions for node in ast.walk(function)]
    names = {node.module or "" for node in found if isinstance(node, ast.ImportFrom)}
    names |= {alias.name for node in found if isinstance(node, ast.Import) for alias in node.names}
    return {name for name in names if within(name, "dfsfs")}


def test_a_running_mount_has_all_that_it_may_need() -> None:
    """A module that is imported when it is needed has to be imported soon after the start, or at the start."""
    late = set.union(*(imports_in_functions(file.read_text()) for file in FILES if layer(module_name(file)) != "cli"))
    assert late == {*laterimports.MODULES, *ONLY_WITH_AN_OPTION}


async def test_they_are_imported_soon_after_the_start(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(laterimports, "MODULES", ("dfsfs.mount.laterimports", "xml.sax.saxutils"))
    monkeypatch.delitem(sys.modules, "xml.sax.saxutils", raising=False)
    before = trio.current_time()
    await laterimports.serve()
    assert "xml.sax.saxutils" in sys.modules
    assert laterimports.SETTLED <= trio.current_time() - before < 2 * laterimports.SETTLED
