"""Fixtures of the tests in the domain."""

from __future__ import annotations

import shutil
import subprocess
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tests.ad.mounts import in_front
from tests.support.lab.domain import config
from tests.support.lab.domain.config import DAVE, ERIN
from tests.support.lab.domain.lab import DomainLab
from tests.support.lab.topology import ALICE, BOB

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="package")
def domain() -> Iterator[DomainLab]:
    """A running domain, one for all tests of this folder: one that stops or changes something puts it right again."""
    with DomainLab() as lab:
        for host in lab.members:
            # The lab's people may all make files there; whose they are decides who may read them.
            host.share_path("docs").chmod(0o777)
        yield lab


@pytest.fixture
def alice(domain: DomainLab) -> Iterator[None]:
    """Root on the client has alice's ticket."""
    domain.login(ALICE, uid=0)
    yield
    domain.logout(0)


@pytest.fixture
def tickets(domain: DomainLab) -> Iterator[None]:
    """alice and bob have a ticket each, on their own accounts; nobody else has one."""
    domain.login(ALICE)
    domain.login(BOB)
    yield
    domain.logout(ALICE.uid, BOB.uid)


@pytest.fixture(scope="module")
def private(domain: DomainLab) -> Iterator[dict[str, Path]]:
    """A folder of alice's and one of bob's in docs, on both servers, each with a file that nobody else may read."""
    made = []
    for user in (ALICE, BOB):
        for host in domain.members:
            folder = host.share_path("docs") / f"of-{user.name}"
            folder.mkdir()
            made.append(folder)
            file = folder / "secret.txt"
            file.write_text(f"only for {user.name}\n")
            for path, mode in ((file, 0o600), (folder, 0o700)):
                shutil.chown(path, user.uid, 20000)
                path.chmod(mode)
    yield {folder.name: folder for folder in made}
    for folder in made:
        shutil.rmtree(folder)


SHORT = "125s"
"""A little more than what the controllers refuse to give out."""


@dataclass(frozen=True)
class Ending:
    """Two users whose tickets end in two minutes, and what they do: all the time something, while other tests run.

    erin gets another ticket after a minute, as a login that is kept up would get it for her; dave gets none.
    """

    mount: Path
    log: Path
    errors: Path
    started: float
    his: subprocess.Popen[bytes]
    hers: subprocess.Popen[bytes]


@pytest.fixture(scope="package", autouse=True)
def ending(domain: DomainLab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ending]:
    folder = tmp_path_factory.mktemp("ending")
    log, errors = folder / "log", folder / "errors"
    options = f"sec=krb5,multiuser,keytab={domain.keytab},principal=svc-mount"
    with in_front(domain, log, options, name="ending") as mount, errors.open("wb") as sink:
        for user in (DAVE, ERIN):
            domain.login(user, lifetime=SHORT)
        started = time.time()
        renewal = threading.Timer(60, domain.login, [ERIN])
        renewal.start()
        script = (
            f"cd {mount}/alone && exec 3>held-$(id -u) && "
            "while cat hello.txt folder/inside.txt && echo x >&3 && ls -l && sleep 0.4; do true; done; "
            "echo refused at $(date +%s) >&2"
        )
        his, hers = (
            subprocess.Popen(
                ["sh", "-c", script],
                user=user.uid,
                group=config.GROUP,
                extra_groups=(),
                stdout=subprocess.DEVNULL,
                stderr=sink,
            )
            for user in (DAVE, ERIN)
        )
        try:
            yield Ending(mount, log, errors, started, his, hers)
        finally:
            renewal.cancel()
            renewal.join()
            for load in (his, hers):
                load.kill()
                load.wait()
            domain.logout(DAVE.uid, ERIN.uid)
            for user in (DAVE, ERIN):
                (mount / "alone" / f"held-{user.uid}").unlink(missing_ok=True)
