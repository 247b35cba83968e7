"""Names through a real mount: case, characters that SMB has no room for, and what is refused."""

from __future__ import annotations

import ctypes
import errno
import os
import subprocess
from functools import partial
from typing import TYPE_CHECKING

import pytest

from tests.kernel.mounts import mounted, refused
from tests.support.lab.samba import is_before_4_22

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.lab.samba import Lab

pytestmark = [pytest.mark.lab, pytest.mark.mount]


# -- case -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_mv_changes_the_case_of_a_name(work: Path, kind: str) -> None:
    if kind == "file":
        (work / "readme").write_text("text")
    else:
        (work / "readme").mkdir()
    subprocess.run(["mv", "readme", "ReadMe"], cwd=work, check=True, timeout=30)
    assert os.listdir(work) == ["ReadMe"]
    (work / "ReadMe").rename(work / "README")
    assert os.listdir(work) == ["README"]
    os.rename(f"{work}/README", f"{work}/readme/" if kind == "folder" else f"{work}/readme")
    assert os.listdir(work) == ["readme"]


def test_mv_of_a_name_in_another_case_finds_it(work: Path) -> None:
    (work / "readme").write_text("text")
    subprocess.run(["mv", "README", "other"], cwd=work, check=True, timeout=30)
    assert os.listdir(work) == ["other"]


def test_cp_to_the_same_name_in_another_case_is_refused_and_loses_nothing(work: Path) -> None:
    (work / "readme").write_text("text")
    result = subprocess.run(
        ["cp", "readme", "README"], cwd=work, check=False, timeout=30, capture_output=True, text=True
    )
    assert result.returncode and "same file" in result.stderr
    assert (work / "readme").read_text() == "text"


def test_names_are_the_same_in_any_case(work: Path) -> None:
    (work / "Folder").mkdir()
    (work / "Folder" / "Ünïcode.TXT").write_text("text")
    assert (work / "FOLDER" / "üNÏCODE.txt").read_text() == "text"
    assert os.stat(work / "folder").st_ino == os.stat(work / "FOLDER").st_ino
    refused(errno.EEXIST, lambda: os.open(work / "FOLDER" / "ünïcode.txt", os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    refused(errno.EEXIST, lambda: (work / "FOLDER").mkdir())
    assert os.listdir(work / "Folder") == ["Ünïcode.TXT"]


# -- characters -------------------------------------------------------------------------------------------------------

ODD = [':*?<>|"\\', "ends with a dot.", "ends with a space ", "...", " ", "a:b", "tab\there", "new\nline", "é😀"]


@pytest.mark.parametrize("name", ODD)
def test_every_posix_name_is_kept(work: Path, name: str) -> None:
    (work / name).write_text(name)
    assert os.listdir(work) == [name]
    (work / name).rename(work / f"{name}x")
    (work / f"{name}x").rename(work / name)
    assert (work / name).read_text() == name
    (work / name).unlink()
    (work / name).mkdir()
    (work / name / name).symlink_to(name)
    assert os.readlink(work / name / name) == name


@pytest.mark.parametrize("name", ["CON", "aux", "nul.txt", "COM1", "LPT9.log"])
def test_names_that_are_reserved_on_windows_are_left_to_the_server(work: Path, name: str) -> None:
    """Samba keeps them, and lists them under a name that Windows can use."""
    (work / name).write_text("text")
    assert (work / name).read_text() == "text"
    (listed,) = os.listdir(work)
    assert (work / listed).read_text() == "text"
    (work / name).unlink()
    assert os.listdir(work) == []


def test_dot_and_dot_dot(work: Path) -> None:
    (work / "folder").mkdir()
    assert os.stat(work / "folder" / "..").st_ino == os.stat(work).st_ino
    assert os.stat(f"{work}/folder/.").st_ino == os.stat(work / "folder").st_ino
    refused(errno.EINVAL, lambda: os.rmdir(f"{work}/folder/."))
    refused(errno.ENOTEMPTY, lambda: os.rmdir(f"{work}/folder/.."))
    refused(errno.EBUSY, lambda: os.rename(f"{work}/folder/.", work / "other"))


def test_names_that_can_not_be_kept_are_refused(work: Path) -> None:
    refused(errno.EILSEQ, lambda: os.mkdir(os.fsencode(work) + b"/\xff\xfe"))
    refused(errno.EILSEQ, lambda: os.stat(os.fsencode(work) + b"/latin-\xe9"))
    refused(errno.ENAMETOOLONG, lambda: (work / ("x" * 256)).mkdir())
    refused(errno.ENAMETOOLONG, lambda: (work / ("😀" * 128)).touch())
    (work / ("x" * (255 if is_before_4_22() else 200))).mkdir()  # 4.22 makes a folder under a longer name first
    (work / ("ü" * 127)).touch()
    for name in ("ü" * 128, ":" * 86):  # 256 and 258 bytes on the disk of a server that counts these
        path = work / name
        refused(errno.ENOENT, path.stat)  # so the server says
        refused(errno.ENAMETOOLONG, path.touch)
        refused(errno.ENAMETOOLONG, path.mkdir)
        refused(errno.ENAMETOOLONG, partial(os.mkfifo, path))
        refused(errno.ENAMETOOLONG, partial(path.symlink_to, "x"))
        refused(errno.ENAMETOOLONG, partial(os.link, work / ("ü" * 127), path))
        refused(errno.ENAMETOOLONG, partial(os.rename, work / ("ü" * 127), path))


def test_what_others_named_is_shown_and_can_be_opened(work: Path, lab: Lab) -> None:
    share = lab.host("fs1").share_path("data") / work.name
    (share / "from\uf022the\uf03fserver").write_text("text")
    assert [name.encode() for name in os.listdir(work)] == ["from:the\uf03fserver".encode()]


# -- renameat2 --------------------------------------------------------------------------------------------------------

NOREPLACE, EXCHANGE, WHITEOUT = 1, 2, 4
AT_FDCWD = -100


def renameat2(old: Path, new: Path, flags: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(AT_FDCWD, os.fsencode(old), AT_FDCWD, os.fsencode(new), flags):
        raise OSError(ctypes.get_errno(), "renameat2")


def test_rename_noreplace_and_exchange(work: Path) -> None:
    (work / "a").write_text("a")
    (work / "b").write_text("b")
    refused(errno.EEXIST, lambda: renameat2(work / "a", work / "b", NOREPLACE))
    refused(errno.EINVAL, lambda: renameat2(work / "a", work / "b", EXCHANGE))
    refused(errno.EINVAL, lambda: renameat2(work / "a", work / "b", WHITEOUT))
    assert ((work / "a").read_text(), (work / "b").read_text()) == ("a", "b")
    renameat2(work / "a", work / "c", NOREPLACE)
    assert sorted(os.listdir(work)) == ["b", "c"]


def test_inode_numbers_are_the_same_after_a_remount_and_differ_between_servers(
    work: Path, lab: Lab, tmp_path: Path
) -> None:
    """In mounts that know no file that had the number of one of these before, and is gone."""
    (work / "file").touch()
    with mounted(lab, tmp_path / "once") as top:
        before = [os.stat(top / "link-single" / work.name / name).st_ino for name in ("file", "")]
    with mounted(lab, tmp_path / "again") as top:
        assert [os.stat(top / "link-single" / work.name / name).st_ino for name in ("file", "")] == before
        numbers = {
            os.stat(top / link / "hello.txt").st_ino for link in ("link-single", "link-deadfirst", "link-secret")
        }
        assert len(numbers) == 3


@pytest.mark.parametrize("options", ["mapchars", "nomapposix"])
def test_other_ways_to_send_names(work: Path, lab: Lab, tmp_path: Path, options: str) -> None:
    share = lab.host("fs1").share_path("data") / work.name
    with mounted(lab, tmp_path / "dfs", options) as top:
        folder = top / "link-single" / work.name
        if options == "mapchars":
            (folder / "a:b?").touch()
            assert os.listdir(folder) == ["a:b?"]
            assert os.listdir(share) == ["a\uf03ab\uf03f"]
        else:
            refused(errno.EILSEQ, lambda: (folder / "a:b").touch())
            refused(errno.EILSEQ, lambda: (folder / "a\\b").touch())
            refused(errno.ENOENT, lambda: (folder / "a:b").stat())
            assert os.listdir(share) == []


def test_nocase_is_always_so(lab: Lab, tmp_path: Path) -> None:
    with mounted(lab, tmp_path / "dfs", "nocase") as top:
        assert (top / "README.TXT").exists()
