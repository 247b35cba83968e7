"""The bug report has no passwords, whatever the lines that it quotes look like."""

from __future__ import annotations

import pytest

from dfsfs.cli.commands.bugreport import clean_fstab


@pytest.mark.parametrize(
    ("line", "clean"),
    [
        ("//srv/ns /mnt dfsfs ro,password=geheim,uid=5 0 0", "//srv/ns /mnt dfsfs ro,password=***,uid=5 0 0"),
        ("# //srv/ns /mnt dfsfs ro,pass=geheim 0 0", "# //srv/ns /mnt dfsfs ro,pass=*** 0 0"),
        ("#//srv/ns /mnt dfsfs password2=geheim", "#//srv/ns /mnt dfsfs password2=***"),
        ("# was: ro,password=geheim # //srv/ns /mnt dfsfs ro", "# was: ro,password=*** # //srv/ns /mnt dfsfs ro"),
        ("//srv/a name /mnt dfsfs password=geheim,ro", "//srv/a name /mnt dfsfs password=***,ro"),
        (r"//srv/ns /mnt dfsfs ro,pass\075geheim,uid=5", "//srv/ns /mnt dfsfs ro,pass=***,uid=5"),
        (r"//srv/ns /mnt dfsfs password=ge\040heim,domain=a\040b", r"//srv/ns /mnt dfsfs password=***,domain=a\040b"),
        ("//srv/ns /mnt dfsfs password=ge,heim,ro", "//srv/ns /mnt dfsfs password=***,ro"),
        ("//srv/ns /mnt dfsfs password=ge,,heim,ro", "//srv/ns /mnt dfsfs password=***,ro"),
        (r"//srv/a\040b,,c /mnt\040x dfsfs ro,,uid=5 0 0", r"//srv/a\040b,,c /mnt\040x dfsfs ro,,uid=5 0 0"),
    ],
)
def test_a_line_of_fstab(line: str, clean: str) -> None:
    assert clean_fstab(line) == clean
