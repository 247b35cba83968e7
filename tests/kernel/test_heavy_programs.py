"""Programs that use a file system hard: fio, bonnie++, compilers, databases with several writers, editors."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.conftest import LONG

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.lab, pytest.mark.mount]

FIO = "16m" if LONG else "6m"
"""What each of fio's processes writes and reads."""
COMMITS = 30 if LONG else 12


def run(*words: str | Path, cwd: Path | None = None, **environment: str) -> str:
    """Runs a program to its end; what it printed."""
    result = subprocess.run(
        list(map(str, words)),
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert result.returncode == 0, f"{words}: {result.stdout}{result.stderr}"
    return result.stdout


@pytest.mark.parametrize(
    ("engine", "direct"), [("psync", "0"), ("psync", "1"), ("mmap", "0"), ("io_uring", "0"), ("io_uring", "1")]
)
def test_fio_reads_what_it_wrote(work: Path, engine: str, direct: str) -> None:
    run(
        *("fio", "--name=verify", f"--directory={work}", "--rw=randrw", "--bsrange=512-128k", f"--size={FIO}"),
        *("--numjobs=3", f"--ioengine={engine}", "--iodepth=8", f"--direct={direct}", "--blockalign=4096"),
        *("--verify=crc32c", "--verify_fatal=1", "--do_verify=1", "--verify_backlog=64"),
        *("--verify_state_save=0", "--group_reporting"),
    )


def test_bonnie(work: Path) -> None:
    # Files by the thousand, which is the least that it makes, take most of the time.
    files = "1:2000:10:4" if LONG else "0"
    run("bonnie++", "-d", work, "-u", "root", "-s", "32", "-r", "16", "-f", "-n", files, "-q")
    assert os.listdir(work) == []


PROJECT = {
    "Makefile": "program: main.o one.o two.o\n\tcc -o $@ $^\n"
    "%.o: %.c parts.h\n\tcc -O0 -MMD -c -o $@ $<\nclean:\n\trm -f *.o *.d program\n",
    "parts.h": "int one(void);\nint two(void);\n",
    "one.c": '#include "parts.h"\nint one(void) { return 1; }\n',
    "two.c": '#include "parts.h"\nint two(void) { return 2; }\n',
    "main.c": '#include <stdio.h>\n#include "parts.h"\nint main(void) { printf("%d\\n", one() + two()); return 0; }\n',
}


def test_a_c_project_is_built_and_rebuilt(work: Path) -> None:
    for name, text in PROJECT.items():
        (work / name).write_text(text)
    run("make", "-j2", cwd=work)
    assert run(work / "program") == "3\n"
    assert "up to date" in run("make", "-j2", cwd=work)
    (work / "two.c").write_text(PROJECT["two.c"].replace("return 2", "return 20"))
    os.utime(work / "two.c")
    rebuilt = run("make", "-j2", cwd=work)
    assert "two.c" in rebuilt and "one.c" not in rebuilt
    assert run(work / "program") == "21\n"
    run("make", "clean", cwd=work)
    assert sorted(os.listdir(work)) == sorted(PROJECT)


WRITER = """
import sqlite3, sys
database = sqlite3.connect(sys.argv[1], timeout=60)
for number in range(40):
    with database:
        database.execute("insert into rows values (?, ?)", (sys.argv[2], number))
"""


@pytest.mark.parametrize("journal", ["delete", "truncate", "persist"])
def test_sqlite_with_several_writers(work: Path, journal: str) -> None:
    import sqlite3

    path = work / "database"
    with sqlite3.connect(path) as database:
        database.execute(f"pragma journal_mode={journal}")
        database.execute("create table rows (writer, number)")
    database.close()
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(path), str(index)]) for index in range(3)]
    assert [writer.wait(timeout=120) for writer in writers] == [0, 0, 0]
    database = sqlite3.connect(path)
    assert database.execute("pragma integrity_check").fetchall() == [("ok",)]
    assert database.execute("select count(*), count(distinct writer) from rows").fetchall() == [(120, 3)]
    database.close()


def test_git_gc_and_worktrees(work: Path) -> None:
    identity = {f"GIT_{who}_{what}": "a@b" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    run("git", "init", "-q", work)
    for number in range(COMMITS):
        (work / f"file-{number}").write_text(f"{number}\n" * 100)
        run("git", "add", "-A", cwd=work)
        run("git", "commit", "-qm", f"commit {number}", cwd=work, **identity)
    run("git", "gc", "-q", "--aggressive", "--prune=now", cwd=work)
    run("git", "fsck", "--strict", cwd=work)
    run("git", "worktree", "add", "-q", work / "tree", "HEAD~5", cwd=work)
    assert run("git", "status", "--porcelain", cwd=work / "tree") == ""
    run("git", "clone", "-q", work, work / "clone")  # with hard links
    run("git", "fsck", cwd=work / "clone")
    run("git", "worktree", "remove", work / "tree", cwd=work)


def test_vim_with_its_swap_file_and_backup(work: Path) -> None:
    file = work / "text"
    file.write_text("one\ntwo\n")
    for backupcopy in ("yes", "no", "auto"):
        settings = f"set backup writebackup backupcopy={backupcopy} directory=. backupdir=. backupskip= swapfile"
        run("vim", "-u", "NONE", "-es", "-c", settings, "-c", "normal Gothree", "-c", "wq", file, TERM="dumb")
    assert file.read_text() == "one\ntwo\nthree\nthree\nthree\n"
    assert sorted(os.listdir(work)) == ["text", "text~"]


def test_an_office_program_saves(work: Path) -> None:
    """Lock file, new version beside the old one, the old one kept as backup, the new one renamed over it."""
    document = work / "Angebot 2024.odt"
    document.write_bytes(b"old" * 1000)
    lock = work / ".~lock.Angebot 2024.odt#"
    for version in range(5):
        with lock.open("x") as held:
            held.write("alice")
        with document.open("rb") as reader, (work / "lu123.tmp").open("xb") as writer:
            reader.read()
            writer.write(b"%d" % version * 5000)
            writer.flush()
            os.fsync(writer.fileno())
        os.replace(document, work / "Angebot 2024.bak")
        os.replace(work / "lu123.tmp", document)
        lock.unlink()
        assert document.read_bytes() == b"%d" % version * 5000
    assert sorted(os.listdir(work)) == ["Angebot 2024.bak", "Angebot 2024.odt"]
