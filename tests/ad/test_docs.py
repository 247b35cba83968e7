"""README.md and docs/: their commands do what stands there, in the domain's lab.

A block of ```console is a session of root on a computer of the company: lines after `$ ` are run in one shell, in
order, and what stands below them has to come out. `...` stands for anything, also for whole lines. Each file gets a
computer of its own: a mount namespace on the lab's client in which /etc, /mnt and /usr are its own.
"""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.kernel.mounts import COMMAND
from tests.support.lab.enter import REAL_ETC
from tests.support.lab.topology import ALICE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.lab.domain.lab import DomainLab

pytestmark = [pytest.mark.domain, pytest.mark.mount]

ROOT = Path(__file__).parent.parent.parent
FILES = sorted(path for path in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")) if "```console" in path.read_text())
MARK = "--next-command--"


@dataclass(slots=True)
class Step:
    """A command of a document, and what should come out."""

    command: str
    expected: list[str] = field(default_factory=list)


def steps_of(text: str) -> Iterator[Step]:
    for block in re.findall(r"(?ms)^```console\n(.*?)^```", text):
        step: Step | None = None
        for line in block.splitlines():
            if line.startswith("$ "):
                if step is not None:
                    yield step
                step = Step(line[2:])
            elif line.startswith("> ") and step is not None:
                step.command += "\n" + line[2:]
            elif step is not None:
                step.expected.append(line)
        if step is not None:
            yield step


def matches(expected: list[str], found: str) -> bool:
    """Whether an output is what a document says; nothing expected is nothing said about it."""
    anything = r"(?:.*\n)*?"
    parts = [anything if line == "..." else ".*".join(map(re.escape, line.split("..."))) + r" *\n" for line in expected]
    return not expected or re.fullmatch("".join(parts), found) is not None


def prelude(domain: DomainLab, folder: Path) -> str:
    """What makes the computer: see the module's text."""
    program = Path(COMMAND).parent
    return f"""
        set -e
        mount --make-rprivate /
        for other in $(findmnt -rn -t fuse.dfsfs -o TARGET); do umount -l "$other"; done  # here alone
        mount -t tmpfs tmpfs {folder}
        cd {folder}
        mkdir seen
        cp /etc/resolv.conf /etc/hosts /etc/nsswitch.conf seen/
        cover() {{
            mkdir -p up/$2 work/$2
            mount -t overlay overlay -o lowerdir=$1,upperdir=up/$2,workdir=work/$2 /$2
        }}
        cover /etc/{REAL_ETC} etc
        cover /usr/sbin usr/sbin
        cover /usr/bin usr/bin
        ln -sf {program}/mount.dfsfs /usr/sbin/mount.dfsfs
        ln -sf {program}/dfsfs /usr/bin/dfsfs
        cp {domain.keytab} /etc/svc-mount.keytab
        cp seen/* /etc/
        : > /etc/fstab
        mount -t tmpfs tmpfs /mnt
        mkdir home
        export HOME={folder}/home
        cd
        unset PASSWD
        export KRB5CCNAME=FILE:{folder}/tickets
        printf '%s\\n' '{ALICE.password}' > {folder}/password
        chmod 600 {folder}/password
        sudo() {{ "$@"; }}
        kinit() {{ printf '%s\\n' '{ALICE.password}' | command kinit "$@" > /dev/null; }}
        trap 'umount -l /mnt/* {folder}/home/* 2>/dev/null || true' EXIT
        set +e
    """


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_document(domain: DomainLab, tmp_path: Path, path: Path) -> None:
    steps = list(steps_of(path.read_text()))
    assert steps
    script = prelude(domain, tmp_path)
    for step in steps:
        is_asked = " -o username=" in step.command or step.command.startswith("dfsfs login")
        asked = f"export PASSWD_FILE={tmp_path}/password" if is_asked else "unset PASSWD_FILE"
        script += f"\n{asked}\n{{ {step.command}\n}} 2>&1\ncode=$?; echo; echo {MARK} $code\n"
    words = domain.client.entered("unshare", "--mount", "bash", "-c", script)
    done = subprocess.run(
        words,
        env={**os.environ, **domain.environment()},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stderr
    outputs = re.split(rf"\n{MARK} (\d+)\n", done.stdout)
    for step, output, code in zip(steps, outputs[0::2], outputs[1::2], strict=False):
        told = f"{path.name}: {step.command}\n{output}"
        assert code == "0", told
        assert matches(step.expected, output), told
    assert len(outputs) == 2 * len(steps) + 1, done.stdout
