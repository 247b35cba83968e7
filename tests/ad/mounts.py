"""Real mounts on a client of the domain's lab: seen by the tests under the same path."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
from typing import TYPE_CHECKING

from tests.kernel.mounts import COMMAND, PATIENCE, clean_up, unmount, wait_until
from tests.support.lab.domain import config

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from tests.support.lab.domain.lab import DomainLab
    from tests.support.lab.topology import User

PUBLIC = "//contoso.test/public"
DFSFS = COMMAND.replace("mount.dfsfs", "dfsfs")
ERROR_LINE = re.compile(r"^\S+ \S+ (?:ERROR|CRITICAL) dfsfs.*", re.MULTILINE)
"""What a mount in front writes of an error: the time, its level, who says it."""


def on_client(
    lab: DomainLab, *words: str, host: str = "client", uid: int = 0, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs a program on a client to its end."""
    who = () if uid == 0 else ("setpriv", "--reuid", str(uid), "--regid", str(config.GROUP), "--clear-groups")
    return subprocess.run(
        lab.hosts[host].entered(*who, *words),
        env={**os.environ, **lab.environment(), **(environment or {})},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def mount_command(
    lab: DomainLab,
    unc: str,
    mountpoint: Path,
    options: str,
    *,
    host: str = "client",
    password: str = "",
    environment: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Runs mount.dfsfs on a client to its end."""
    mountpoint.mkdir(exist_ok=True)
    known = {"PASSWD": password} if password else {}
    words = (COMMAND, unc, str(mountpoint), "-o", options)
    return on_client(lab, *words, host=host, environment={**known, **(environment or {})})


@contextlib.contextmanager
def mounted(
    lab: DomainLab,
    unc: str = PUBLIC,
    options: str = "sec=krb5",
    *,
    name: str = "m",
    host: str = "client",
    password: str = "",
    environment: Mapping[str, str] | None = None,
) -> Iterator[Path]:
    """A mount made on a client, below `lab.mounts`; unmounted at the end whatever happens."""
    mountpoint = lab.mounts / name
    try:
        result = mount_command(lab, unc, mountpoint, options, host=host, password=password, environment=environment)
        assert result.returncode == 0, result.stderr
        yield mountpoint
        unmount(mountpoint)
    finally:
        clean_up(mountpoint)


def as_user(uid: int, *words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Runs a program as one of the lab's people, to its end."""
    return subprocess.run(
        words,
        user=uid,
        group=config.GROUP,
        extra_groups=(),
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
        stdin=subprocess.DEVNULL,
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent"},
    )


@contextlib.contextmanager
def in_front(domain: DomainLab, log: Path, options: str, name: str = "front") -> Iterator[Path]:
    """A mount whose messages go to a file, all of them."""
    mountpoint = domain.mounts / name
    mountpoint.mkdir(exist_ok=True)
    command = (DFSFS, "mount", PUBLIC, str(mountpoint), "-v", "-o", f"{options},foreground")
    with open(log, "wb") as output:
        daemon = subprocess.Popen(
            domain.client.entered(*command), stderr=output, env={**os.environ, **domain.environment()}
        )
    try:
        wait_until(lambda: os.path.ismount(mountpoint), "it is mounted")
        yield mountpoint
    finally:
        subprocess.run(["umount", "-l", str(mountpoint)], check=False, capture_output=True)
        try:
            daemon.wait(timeout=20)
        finally:
            daemon.kill()
            daemon.wait()
    errors = ERROR_LINE.findall(log.read_text(errors="replace"))
    assert not errors, f"the daemon has logged what is not expected: {errors}"


def does(user: User, *words: str, cwd: Path | None = None) -> str:
    """What a program of one of the lab's people writes; it must not fail."""
    result = as_user(user.uid, *words, cwd=cwd)
    assert result.returncode == 0, f"{user.name}: {words}: {result.stdout}{result.stderr}"
    return result.stdout


def may_not(user: User, *words: str) -> None:
    """Runs a program that has to be refused for lack of permission."""
    result = as_user(user.uid, *words)
    assert result.returncode != 0 and "Permission denied" in result.stderr, f"{user.name}: {words}: {result}"
