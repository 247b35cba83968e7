"""Tables in a pipe and on a terminal."""

from __future__ import annotations

import io
import os
import pty
import re
import subprocess
import sys
import termios

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfsfs.cli import output
from dfsfs.cli.tables import GAP, Column, Table, plain_lines, width_of
from dfsfs.cli.terminal import draw
from tests.support.fakes.evil import EVIL, SHOWN, spoils

STYLE = re.compile(r"\x1b\[[0-9;]*m")
"""What rich writes for colours (ECMA-48, SGR)."""
LINKS = Table(
    (Column("LINK"), Column("OF"), Column("STATE", wraps=True, style=lambda text: "red" if "not" in text else "")),
    [("日本/x[red]", 2, "not connected, failed over"), (f"b{EVIL}", 10, "connected")],
)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "COLORTERM", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "80")


def test_in_a_pipe_a_row_is_a_line() -> None:
    first, *rows = plain_lines(LINKS, "utf-8")
    width = len("b") + len(SHOWN)
    assert first == "LINK".ljust(width) + "  OF  STATE"
    assert rows == ["日本/x[red]" + " " * (width - 11) + "   2  not connected, failed over", f"b{SHOWN}  10  connected"]
    assert [line.split()[-1] for line in plain_lines(LINKS, "ascii")] == ["STATE", "over", "connected"]
    assert plain_lines(Table((Column("A"), Column("B")), []), "utf-8") == ["A  B"]


def test_what_an_encoding_does_not_have_is_as_wide_as_it_is_shown() -> None:
    lines = plain_lines(LINKS, "ascii")
    assert "\\u65e5\\u672c/x[red]" in lines[1]
    assert len({line.index(word) for line, word in zip(lines, ("STATE", "not c", "connected"), strict=True)}) == 1


def test_on_a_terminal_words_wrap_and_names_are_no_markup(terminal: None, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = draw(LINKS, "utf-8")
    assert drawn is not None and "\x1b[31mnot connected" in drawn and "\x1b[1m" in drawn
    plain = STYLE.sub("", drawn)
    assert [line.rstrip() for line in plain.splitlines()] == plain_lines(LINKS, "utf-8") and not spoils(plain)
    monkeypatch.setenv("COLUMNS", str(width_of(f"b{SHOWN}") + 2 * GAP + len("OF" + "not connected,")))
    wrapped = STYLE.sub("", draw(LINKS, "utf-8") or "").splitlines()
    assert [line.split()[-1] for line in wrapped] == ["STATE", "connected,", "over", "connected"]
    assert wrapped[2].strip() == "failed over"


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_without_colours(name: str, value: str, terminal: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    drawn = draw(LINKS, "utf-8")
    assert drawn is not None and "\x1b" not in drawn and "日本/x[red]" in drawn


def test_a_path_is_never_wrapped(terminal: None) -> None:
    path = "//server/namespace/a folder with spaces/" + "x" * 30
    table = Table((Column("LINK"), Column("TARGET")), [(path, "//fs1/data")])
    assert draw(table, "utf-8") is None
    shown = draw(Table((Column("LINK"),), [(path,)]), "utf-8")
    assert shown is not None and path in shown


cells = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from([EVIL, "[b]x[/b]"])
tables = st.integers(1, 4).flatmap(
    lambda count: st.builds(
        Table,
        st.tuples(*[st.builds(Column, st.sampled_from(["A", "LONGER"]), st.booleans())] * count),
        st.lists(st.tuples(*[cells | st.integers(0, 10**6)] * count), max_size=4),
    )
)


@given(table=tables, width=st.integers(20, 120), encoding=st.sampled_from(["utf-8", "ascii"]))
def test_any_table_fits_or_has_a_line_for_each_row(table: Table, width: int, encoding: str) -> None:
    lines = plain_lines(table, encoding)
    assert len(lines) == len(table.rows) + 1 and not any(map(spoils, lines))
    os.environ.update({"COLUMNS": str(width), "NO_COLOR": "1", "TERM": "xterm"})
    try:
        drawn = draw(table, encoding)
    finally:
        del os.environ["COLUMNS"], os.environ["NO_COLOR"]
    if drawn is None:
        assert max(map(width_of, lines)) > width
        return
    shown = drawn.splitlines()
    assert max(map(width_of, shown), default=0) <= width and not any(map(spoils, shown))
    for row in table.texts(encoding):
        for cell, column in zip(row, table.columns, strict=True):
            assert column.wraps or cell.rstrip() in drawn


class Screen(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def test_show_asks_what_is_at_the_other_end(
    terminal: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    output.show(["head", LINKS, "", EVIL])
    assert capsys.readouterr().out.splitlines() == ["head", *plain_lines(LINKS, "utf-8"), "", SHOWN]
    monkeypatch.setattr(sys, "stdout", screen := Screen())
    output.show(["head", LINKS, "", EVIL])
    shown = screen.getvalue()
    assert shown.startswith("head\n\x1b[1mLINK") and shown.endswith(f"\n\n{SHOWN}\n")


def test_on_a_real_terminal(terminal: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS")
    script = (
        "from dfsfs.cli.output import show\nfrom dfsfs.cli.tables import Column, Table\n"
        "show([Table((Column('LINK'), Column('STATE', wraps=True)), [('a' * 60, 'connected, failed over')])])"
    )
    ours, theirs = pty.openpty()
    try:
        termios.tcsetwinsize(theirs, (24, 80))
        subprocess.run([sys.executable, "-c", script], stdin=theirs, stdout=theirs, check=True, timeout=60)
        shown = STYLE.sub("", os.read(ours, 4096).decode()).replace("\r\n", "\n").splitlines()
    finally:
        os.close(ours)
        os.close(theirs)
    assert [line.split() for line in shown] == [["LINK", "STATE"], ["a" * 60, "connected,", "failed"], ["over"]]
    assert max(map(len, shown)) <= 80
