"""One place writes to the terminal, and nothing comes out of it that does not stand for itself."""

from __future__ import annotations

import ast
import io
import json
import logging
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from dfsfs.cli import output
from dfsfs.cli.logs import Printable
from tests.support.fakes.evil import EVIL, SHOWN, spoils
from tests.unit.test_layering import FILES, module_name

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# -- nothing else writes ----------------------------------------------------------------------------------------------

PLACE = "dfsfs.cli.output"
NAMES = frozenset({"print", "input", "breakpoint"})
ATTRIBUTES = frozenset(
    {
        *("sys.stdout", "sys.stderr", "sys.__stdout__", "sys.__stderr__", "sys.excepthook", "sys.displayhook"),
        *("logging.StreamHandler", "logging.basicConfig", "logging.lastResort", "os.system", "os.popen"),
        *("warnings.warn", "subprocess.call", "subprocess.check_call"),
    }
)
MODULES = frozenset({"getpass", "pprint", "curses", "termios", "click", "rich", "warnings", "fileinput", "pdb"})
PRINTS = ("print_exc", "print_exception", "print_stack", "print_tb", "print_usage", "dump_traceback")
DEVICES = ("/dev/tty", "/dev/stdout", "/dev/stderr", "/dev/fd/", "/proc/self/fd/1", "/proc/self/fd/2")
LETS_CHILDREN_WRITE = ("subprocess.run", "subprocess.Popen", "trio.run_process", "trio.lowlevel.open_process")
MAY_DRAW = ("dfsfs.cli.progress", "dfsfs.cli.terminal")
"""Bars and tables are drawn by rich, with names made printable: test_progress below, and test_tables.py."""


def writes(source: str) -> Iterator[str]:
    """What in a source writes to stdout, stderr or the terminal."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Name(id=name) if name in NAMES:
                yield name
            case ast.Import(names=aliases):
                yield from (alias.name for alias in aliases if alias.name.split(".")[0] in MODULES)
            case ast.ImportFrom(module=str() as module, names=aliases):
                yield from ({module.split(".")[0]} & MODULES)
                yield from ({f"{module}.{alias.name}" for alias in aliases} & ATTRIBUTES)
            case ast.Attribute(attr=name) if ast.unparse(node) in ATTRIBUTES or name in PRINTS:
                yield ast.unparse(node)
            case ast.Constant(value=str() as text) if text.startswith(DEVICES):
                yield text
            case ast.Call(func=function, args=args, keywords=keywords):
                called, given = ast.unparse(function), {keyword.arg for keyword in keywords}
                if called in ("os.write", "os.fdopen", "open") and args and ast.unparse(args[0]) in ("1", "2"):
                    yield called
                if called in LETS_CHILDREN_WRITE and not ({"capture_output", "capture_stdout", "stdout"} & given):
                    yield f"{called} without stdout"


@pytest.mark.parametrize("file", FILES, ids=module_name)
def test_one_place_writes(file: Path) -> None:
    found = set(writes(file.read_text()))
    allowed = {PLACE: found, **{name: {"rich"} for name in MAY_DRAW}}.get(module_name(file), set())
    assert found <= allowed, f"only {PLACE} may write"


@pytest.mark.parametrize(
    "source",
    [
        "print('x')",
        "f = print",
        "import sys\nsys.stdout.write('x')",
        "import sys\nprint_to = sys.stderr",
        "from sys import stdout",
        "import sys\nsys.__stderr__.flush()",
        "import os\nos.write(1, b'x')",
        "open(2, 'w')",
        "open('/dev/tty', 'w')",
        "import getpass",
        "from rich.console import Console",
        "import logging\nlogging.StreamHandler()",
        "import traceback\ntraceback.print_exc()",
        "import subprocess\nsubprocess.run(['ls'])",
        "parser.print_usage()",
    ],
)
def test_the_rule_bites(source: str) -> None:
    assert list(writes(source))


def test_the_rule_lets_pass_what_is_right() -> None:
    source = "import os, sys, subprocess\nos.write(fd, b'x')\nsys.argv\nsubprocess.run(['ls'], capture_output=True)"
    assert not list(writes(source))


# -- and that one escapes ---------------------------------------------------------------------------------------------


def test_lines(capsys: pytest.CaptureFixture[str]) -> None:
    output.show(["head", EVIL])
    output.complain("dfsfs", EVIL)
    assert capsys.readouterr() == (f"head\n{SHOWN}\n", f"dfsfs: {SHOWN}\n")


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    output.show_json([{EVIL: EVIL, "ä": "ö"}])
    shown = capsys.readouterr().out
    assert json.loads(shown) == [{EVIL: EVIL, "ä": "ö"}] and "ö" in shown
    assert not spoils(shown)


@pytest.mark.parametrize("encoding", ["ascii", "iso-8859-15", "utf-8"])
def test_what_a_terminal_can_not_show_is_no_error(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(data, encoding))
    output.show(["└── 日本€"])
    output.show_json({"a": "日本€"})
    text, _, rest = data.getvalue().decode(encoding).partition("\n")
    assert "日本€" in text or "\\u65e5\\u672c" in text
    assert json.loads(rest) == {"a": "日本€"}


def test_nobody_listens() -> None:
    script = "from dfsfs.cli.main import main; import sys; sys.exit(main(['status', '/']))"
    done = subprocess.run(["sh", "-c", 'exec "$0" -c "$1" >&- 2>&-', sys.executable, script], check=False, timeout=60)
    assert done.returncode == 1


def test_log_messages(capsys: pytest.CaptureFixture[str]) -> None:
    handler = output.StderrHandler()
    handler.setFormatter(Printable("%(levelname)s %(message)s"))
    try:
        raise ValueError(f"{EVIL}\nERROR a line that nobody has written")
    except ValueError:
        record = logging.LogRecord("dfsfs", logging.ERROR, "x", 1, "of %s", (EVIL,), sys.exc_info())
    record.dfsfs_details = f"stack\n{EVIL}"
    handler.emit(record)
    first, *rest = capsys.readouterr().err.splitlines()
    assert first == f"ERROR of {SHOWN}"
    assert rest[-3].startswith("    ") and all(line.startswith("    ") for line in rest)
    assert not spoils("".join(rest))


def test_a_traceback_that_nobody_expected() -> None:
    script = (
        "from dfsfs.cli import main\n"
        f"def find(name): raise RuntimeError({EVIL!r})\n"
        "main.find = find\n"
        "main.main(['status'])\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False, timeout=60)
    assert done.returncode == 1
    before, after = SHOWN.split("\\n")  # Python has line ends of its own in a traceback
    assert done.stderr.decode().splitlines()[-2:] == [f"RuntimeError: {before}", after]


def test_progress(capsys: pytest.CaptureFixture[str]) -> None:
    from dfsfs.cli.progress import of_bytes, of_counts

    name = f"[/b][red]{EVIL}"
    with of_bytes(name, 10) as report:
        report(10)
    with of_counts() as bars:
        bars.begin(name)
        bars.advance(name)
        bars.end(name, 1)
    shown = capsys.readouterr().err
    assert "[/b][red]a\\x1b" in shown and not spoils(shown)
