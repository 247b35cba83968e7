"""Fixtures of the tests in the domain."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from tests.lab.domain.lab import DomainLab
from tests.lab.topology import ALICE, BOB

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def domain() -> Iterator[DomainLab]:
    """A running domain, one for the whole session: a test that stops or changes something puts it right again."""
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


@pytest.fixture
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
