"""What makes no sense on a share is said once, and not without end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dfsfs.smb.tree.oddities import LIMIT, Oddities
from dfsfs.unc import UncPath

if TYPE_CHECKING:
    import pytest

SHARE = UncPath(("fs1", "data"))


def test_each_thing_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    oddities = Oddities()
    for _ in range(3):
        oddities.note(SHARE.join(["a"]), "it is odd", "it is left out")
        oddities.note(SHARE.join(["b"]), "it is odd", "it is left out")
    assert [record.getMessage() for record in caplog.records] == [
        "//fs1/data/a: it is odd; it is left out",
        "//fs1/data/b: it is odd; it is left out",
    ]


def test_a_share_full_of_them_does_not_fill_the_log(caplog: pytest.LogCaptureFixture) -> None:
    oddities = Oddities()
    for number in range(5 * LIMIT):
        oddities.note(SHARE.join([str(number)]), "it is odd", "it is left out")
    assert len(caplog.records) == LIMIT + 1
    assert (
        caplog.records[-1].getMessage() == "//fs1/data: more of its content makes no sense, which is not said any more"
    )
