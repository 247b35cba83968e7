"""The programs of the first tests once more, with Kerberos, signed and sealed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.ad.mounts import mounted
from tests.kernel import test_programs
from tests.kernel.mounts import scratch
from tests.kernel.test_programs import (
    odd_tree,
    run,
    test_a_large_file_in_across_and_out,
    test_cp_of_a_tree_with_odd_names,
    test_editors_save_by_rename,
    test_git,
    test_rsync_transfers_nothing_the_second_time,
    test_sqlite,
    test_tar,
)
from tests.support.lab.topology import ALICE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.lab.domain.lab import DomainLab

__all__ = [
    "odd_tree",
    "test_a_large_file_in_across_and_out",
    "test_cp_of_a_tree_with_odd_names",
    "test_editors_save_by_rename",
    "test_git",
    "test_rsync_transfers_nothing_the_second_time",
    "test_sqlite",
    "test_tar",
]

pytestmark = [pytest.mark.domain, pytest.mark.mount]


@pytest.fixture(scope="module", autouse=True)
def in_small() -> Iterator[None]:
    """Less data than in the first tests: what is new here is who logs in, and how."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("LARGE", 32 * 1024 * 1024), ("FILES", 150), ("FOLDERS", 30)):
            patch.setattr(test_programs, name, value)
        yield


@pytest.fixture(scope="module", params=["sec=krb5", "sec=krb5p"])
def mount(request: pytest.FixtureRequest, domain: DomainLab) -> Iterator[Path]:
    domain.login(ALICE, uid=0)
    with mounted(domain, options=request.param, name="programs") as path:
        yield path
    domain.logout(0)


@pytest.fixture
def work(mount: Path) -> Iterator[Path]:
    """An empty folder on a member server."""
    with scratch(mount / "docs") as folder:
        yield folder


@pytest.fixture
def other(mount: Path) -> Iterator[Path]:
    """The same on another one."""
    with scratch(mount / "alone") as folder:
        yield folder


def test_find_over_the_namespace(mount: Path) -> None:
    found = run("find", mount, "-name", "hello.txt").split("\n")
    for link in ("docs", "short", "sealed", "alone", "dir/one", "inter/one"):
        assert f"{mount}/{link}/hello.txt" in found
