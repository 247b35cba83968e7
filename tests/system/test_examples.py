"""The outputs that docs/ shows are those that the commands write today.

With DFSFS_EXAMPLES=write in the environment they are written anew instead.
"""

from __future__ import annotations

import html
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from rich.console import Console
from rich.text import Text

from tests.kernel.mounts import mounted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.lab.samba import Lab
    from tests.system.conftest import Dfsfs

pytestmark = [pytest.mark.lab, pytest.mark.mount]

FOLDER = Path(__file__).parent.parent.parent / "docs" / "examples"
HOSTS = ("ns1", "ns2", "fs1", "fs2", "fs3", "dead1", "dead2")


@pytest.fixture(scope="module")
def public(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A mount that two links were used in, one of which has failed over."""
    with mounted(lab, tmp_path_factory.mktemp("mounts") / "public", "actimeo=0") as path:
        (path / "link-multi" / "hello.txt").read_bytes()
        (path / "link-single" / "hello.txt").read_bytes()
        lab.host("fs1").kill()
        try:
            (path / "link-multi" / "hello.txt").read_bytes()
        finally:
            lab.host("fs1").start()
        (path / "link-single" / "hello.txt").read_bytes()
        yield path


def named(text: str, lab: Lab, mount: Path) -> str:
    """An output with names instead of addresses, its tables set anew."""
    text = text.replace(str(mount), "/mnt/public")
    for host in HOSTS:
        text = text.replace(lab.address(host), host)
    lines: list[str] = []
    for block in text.split("\n\n"):
        rows = [re.split(" {2,}", line.rstrip()) for line in block.splitlines()]
        if rows and rows[0][0].isupper() and len(rows[0]) > 2:
            ends = next((number for number, row in enumerate(rows) if len(row) != len(rows[0])), len(rows))
            widths = [max(len(row[column]) for row in rows[:ends]) for column in range(len(rows[0]))]
            table = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows[:ends]]
            block = "\n".join([*table, *block.splitlines()[ends:]])
        lines.append(block.rstrip("\n"))
    return "\n\n".join(lines) + "\n"


def clean(text: str) -> str:
    """An output without what is different each time: times, numbers of processes and of requests, widths of columns."""
    text = re.sub(r" *-?\d+(\.\d+)? (ms|s|min)\b", "  1 \\2", text)
    text = re.sub(r"process \d+", "process 1234", text)
    text = re.sub(r"dfsfs \d+\.\d+\.\d+", "dfsfs 1.0", text)
    text = re.sub(r"\d+(\.\d+)? (B|KiB|MiB) (read|written)", r"16 B \3", text)
    lines = [re.sub(r" {2,}", "  ", line).rstrip() for line in text.splitlines()]
    return "\n".join(lines).rstrip() + "\n"


def without_figures(text: str) -> str:
    """The lines of a status whose numbers are the machine's business, with these as `-`, and its age."""
    text = re.sub(r"; for +\S+ (ms|s|min|h); process", "; for - ; process", text)
    return re.sub(r"(?m)(?<=  )\d+(\.\d+)?(?=  |$)", "-", text)


COMMANDS = {
    "status": ["status", "MOUNT"],
    "explain": ["explain", "MOUNT/link-multi/hello.txt"],
    "explain-unc": ["explain", "UNC/link-deadfirst", "--all-roots", "LOGIN"],
    "check": ["check", "UNC", "LOGIN"],
    "tree": ["tree", "UNC", "LOGIN"],
    "cache": ["cache", "show", "MOUNT/link-multi"],
    "target": ["target", "list", "MOUNT/link-multi"],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_an_example(dfsfs: Dfsfs, lab: Lab, public: Path, name: str) -> None:
    words: list[str] = []
    for word in COMMANDS[name]:
        text = word.replace("MOUNT", str(public)).replace("UNC", lab.root_unc)
        words += dfsfs.login if word == "LOGIN" else [text]
    result = dfsfs(*words)
    shown = named(result.stdout, lab, public)
    if name == "status":
        shown = shown[: shown.index("\n\nREQUEST")] + "\n"  # which requests there were is the kernel's business
    path = FOLDER / f"{name}.txt"
    if os.environ.get("DFSFS_EXAMPLES") == "write":
        path.write_text(shown)
    expected, found = (without_figures(clean(text)) for text in (path.read_text(), shown))
    assert found == expected, f"docs/examples/{name}.txt is not what the command writes"


PICTURED = {"status": "status /mnt/public", "target": "target list /mnt/public/link-multi", "tree": "tree //ns1/dfs"}
PICTURE = FOLDER.parent / "terminal.svg"


def test_the_picture_of_the_terminal_shows_the_examples() -> None:
    """Runs after those above, so that it is drawn of what they have written."""
    if os.environ.get("DFSFS_EXAMPLES") == "write":
        with open(os.devnull, "w", encoding="utf-8") as nowhere:
            console = Console(record=True, width=110, file=nowhere)
            for name, words in PICTURED.items():
                console.print(Text(f"$ dfsfs {words}", style="bold"))
                console.print(Text((FOLDER / f"{name}.txt").read_text()))
            console.save_svg(str(PICTURE), title="dfsfs", unique_id="dfsfs")
    shown = html.unescape(PICTURE.read_text()).replace("\N{NO-BREAK SPACE}", " ")
    for name in PICTURED:
        for line in (FOLDER / f"{name}.txt").read_text().splitlines():
            assert line.strip() in shown
