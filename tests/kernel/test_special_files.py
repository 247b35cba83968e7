"""Hard links, symbolic links, devices, fifos and sockets through a real mount, on servers with and without them."""

from __future__ import annotations

import errno
import os
import socket
import stat as posix
import struct
import subprocess
import uuid
from typing import TYPE_CHECKING

import pytest
import trio

from dfsfs.smb.wire import messages
from dfsfs.smb.wire.constants import Access, CreateDisposition, CtlCode, ReparseTag
from tests.kernel.mounts import mounted, refused, scratch
from tests.samba.clients import open_pool, share_of
from tests.support.lab.samba import is_before_4_22

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from dfsfs.unc import UncPath
    from tests.support.lab.samba import Lab

pytestmark = [pytest.mark.lab, pytest.mark.mount]


@pytest.fixture(scope="module")
def uncached(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A mount for tests that need another Samba, which believes nothing for long."""
    with mounted(lab, tmp_path_factory.mktemp("mounts") / "dfs", "actimeo=0") as top:
        yield top


@pytest.fixture
def here(uncached: Path) -> Iterator[Path]:
    """An empty folder in link-single of that mount."""
    with scratch(uncached / "link-single") as folder:
        yield folder


# -- hard links -------------------------------------------------------------------------------------------------------


def test_hard_links_are_one_file(work: Path) -> None:
    (work / "a").write_text("text")
    os.link(work / "a", work / "b")
    (work / "folder").mkdir()
    os.link(work / "b", work / "folder" / "c")
    stats = [os.stat(path) for path in (work / "a", work / "b", work / "folder" / "c")]
    assert len({stat.st_ino for stat in stats}) == 1
    assert [stat.st_nlink for stat in stats] == [3, 3, 3]
    (work / "b").write_text("changed")
    assert (work / "folder" / "c").read_text() == "changed"
    (work / "a").unlink()
    assert os.stat(work / "b").st_nlink == 2
    os.utime(work / "b", (1, 1))
    assert os.stat(work / "folder" / "c").st_mtime == 1


def test_hard_links_that_others_made_are_one_file_after_a_remount(work: Path, lab: Lab, tmp_path: Path) -> None:
    (work / "a").write_text("text")
    share = lab.host("fs1").share_path("data") / work.name
    os.link(share / "a", share / "b")
    with mounted(lab, tmp_path / "again") as top:
        again = top / "link-single" / work.name
        assert os.listdir(again)
        assert os.stat(again / "a").st_ino == os.stat(again / "b").st_ino == os.stat(work / "a").st_ino


def test_what_can_not_be_linked(work: Path, other: Path) -> None:
    (work / "a").write_text("text")
    (work / "b").write_text("text")
    (work / "folder").mkdir()
    refused(errno.EPERM, lambda: os.link(work / "folder", work / "c"))
    refused(errno.EEXIST, lambda: os.link(work / "a", work / "b"))
    refused(errno.EXDEV, lambda: os.link(work / "a", other / "a"))
    refused(errno.ENOENT, lambda: os.link(work / "nothing", work / "c"))


# -- symbolic links ---------------------------------------------------------------------------------------------------


@pytest.mark.every_samba
@pytest.mark.parametrize(
    "target", ["file", "../up", "/absolute/path", "a:b\\c", "folder/", ".", "ü/😀", "msdfs:a\\b", "x" * 1000]
)
def test_symbolic_links_keep_their_target(here: Path, target: str) -> None:
    link = here / "link"
    link.symlink_to(target)
    assert os.readlink(link) == target
    assert posix.S_ISLNK(link.lstat().st_mode)
    assert link.lstat().st_size == len(target.encode())
    assert [entry.is_symlink() for entry in os.scandir(here)] == [True]
    link.rename(here / "renamed")
    assert os.readlink(here / "renamed") == target
    os.link(here / "renamed", here / "second", follow_symlinks=False)
    assert os.readlink(here / "second") == target
    os.utime(here / "second", (7, 7), follow_symlinks=False)
    assert (here / "second").lstat().st_mtime == 7
    refused(errno.EEXIST, lambda: os.symlink("x", here / "second"))
    (here / "renamed").unlink()
    (here / "second").unlink()
    assert os.listdir(here) == []


@pytest.mark.every_samba
def test_symbolic_links_are_followed(here: Path) -> None:
    (here / "folder").mkdir()
    (here / "folder" / "file").write_text("text")
    (here / "to-folder").symlink_to("folder")
    (here / "to-file").symlink_to("to-folder/file")
    assert (here / "to-file").read_text() == "text"
    (here / "to-file").write_text("changed")
    assert (here / "folder" / "file").read_text() == "changed"
    (here / "loop").symlink_to("loop")
    refused(errno.ELOOP, lambda: (here / "loop").read_text())
    refused(errno.ELOOP, lambda: os.open(here / "to-file", os.O_RDONLY | os.O_NOFOLLOW))
    refused(errno.EINVAL, lambda: os.readlink(here / "folder"))


def test_a_file_of_the_size_of_a_link_is_a_file(work: Path) -> None:
    (work / "file").write_bytes(b"x" * 1067)
    assert posix.S_ISREG((work / "file").lstat().st_mode)
    assert (work / "file").read_bytes() == b"x" * 1067


def test_links_that_other_clients_keep_in_files_are_links_with_mfsymlinks_only(lab: Lab, tmp_path: Path) -> None:
    text = b"XSym\n0009\n2d2abd92e8a0e575228f8bea80e8f77d\nsome/path\n".ljust(1067)
    file = lab.host("fs1").share_path("data") / f"upload-{uuid.uuid4().hex[:8]}"
    file.write_bytes(text)
    with mounted(lab, tmp_path / "one", "mfsymlinks") as top:
        assert os.readlink(top / "link-single" / file.name) == "some/path"
    with mounted(lab, tmp_path / "two") as top:
        path = top / "link-single" / file.name
        assert [entry.is_symlink() for entry in os.scandir(path.parent) if entry.name == file.name] == [False]
        assert not path.is_symlink() and path.read_bytes() == text
    file.unlink()


def test_the_option_mfsymlinks_makes_files_of_links(lab: Lab, tmp_path: Path) -> None:
    with mounted(lab, tmp_path / "dfs", "mfsymlinks") as top:
        link = top / "link-single" / f"link-{uuid.uuid4().hex[:8]}"
        link.symlink_to("target")
        raw = (lab.host("fs1").share_path("data") / link.name).read_bytes()
        assert raw.startswith(b"XSym\n0006\n") and len(raw) == 1067
        link.unlink()


def windows_target(target: str) -> bytes:
    """The data of a link of Windows to an absolute target."""
    encoded = target.encode("utf-16-le")
    return struct.pack("<HHHHI", 0, len(encoded), 0, 0, 0) + encoded


# -- everything else --------------------------------------------------------------------------------------------------

KINDS = {posix.S_IFIFO: (0, 0), posix.S_IFSOCK: (0, 0), posix.S_IFCHR: (1, 3), posix.S_IFBLK: (7, 300)}


@pytest.mark.every_samba
@pytest.mark.parametrize("kind", KINDS)
def test_special_files_where_the_server_has_them(here: Path, lab: Lab, kind: int) -> None:
    path, device = here / "special", KINDS[kind]
    if is_before_4_22(lab.host("fs1").samba):  # Samba 4.17 has no reparse points
        refused(errno.EPERM, lambda: os.mknod(path, kind | 0o644, os.makedev(*device)))
        assert os.listdir(here) == []
        return
    os.mknod(path, kind | 0o644, os.makedev(*device))
    stat = path.lstat()
    assert posix.S_IFMT(stat.st_mode) == kind
    assert (os.major(stat.st_rdev), os.minor(stat.st_rdev)) == device
    os.rename(path, here / "renamed")
    assert [posix.S_IFMT(entry.stat(follow_symlinks=False).st_mode) for entry in os.scandir(here)] == [kind]
    (here / "renamed").unlink()
    assert os.listdir(here) == []


def test_tar_and_rsync_carry_links(lab: Lab, tmp_path: Path) -> None:
    options = "file_mode=0644,dir_mode=0755"
    with mounted(lab, tmp_path / "dfs", options) as top, scratch(top / "link-single") as work:
        _carry_links(work, tmp_path / "source", tmp_path / "all.tar")


def _carry_links(work: Path, source: Path, archive: Path) -> None:
    (source / "folder").mkdir(parents=True)
    (source / "folder" / "file").write_text("text")
    os.link(source / "folder" / "file", source / "second")
    (source / "link").symlink_to("folder/file")
    os.setxattr(source / "second", "user.note", b"value")
    command = ["rsync", "-aHAX", "--checksum", "--itemize-changes", f"{source}/", f"{work}/copy"]
    assert subprocess.run(command, check=True, capture_output=True, timeout=60).stdout
    assert subprocess.run(command, check=True, capture_output=True, timeout=60).stdout == b""
    assert os.stat(work / "copy" / "second").st_ino == os.stat(work / "copy" / "folder" / "file").st_ino
    assert os.readlink(work / "copy" / "link") == "folder/file"
    assert os.getxattr(work / "copy" / "second", "user.note") == b"value"
    subprocess.run(["tar", "-C", str(source), "-cf", str(archive), "."], check=True, timeout=60)
    (work / "untarred").mkdir()
    subprocess.run(["tar", "-C", str(work / "untarred"), "-xf", str(archive)], check=True, timeout=60)
    assert os.stat(work / "untarred" / "second").st_nlink == 2
    assert os.readlink(work / "untarred" / "link") == "folder/file"


@pytest.mark.every_samba
def test_a_dfs_link_is_no_symbolic_link_and_can_not_be_harmed(lab: Lab, tmp_path: Path) -> None:
    """On Samba 4.22 a client that opens it with FILE_OPEN_REPARSE_POINT can remove it."""
    with mounted(lab, tmp_path / "dfs", "actimeo=0") as top:
        link = top / "link-single"
        for _ in range(2):  # before and after it was entered
            assert posix.S_ISDIR(link.lstat().st_mode)
            refused(errno.EINVAL, lambda: os.readlink(link))
            refused(errno.EISDIR, lambda: os.unlink(link))
            refused(errno.EBUSY, lambda: os.rmdir(link))
            refused(errno.EBUSY, lambda: os.rename(link, top / "elsewhere"))
            refused(errno.EPERM, lambda: os.link(link, top / "second"))
            refused(errno.EEXIST, lambda: os.symlink("x", link))
            os.listdir(link)
        assert (lab.host("ns1").share_path("dfs") / "link-single").is_symlink()


def test_a_socket_can_be_bound_where_the_server_has_them(here: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        if is_before_4_22():
            refused(errno.EPERM, lambda: listener.bind(str(here / "s")))
        else:
            listener.bind(str(here / "s"))
            assert (here / "s").is_socket()


async def make_reparse_point(lab: Lab, path: UncPath, tag: int, data: bytes) -> None:
    """Makes a file that is a reparse point, whatever is in it, with the numbers of a device beside it."""
    async with open_pool(lab) as pool:
        tree = await pool.connect_tree(path.share)
        access = Access.WRITE | Access.DELETE
        file = await tree.open(path, access=access, disposition=CreateDisposition.FILE_CREATE)
        await file.close()
        await tree.xattrs.set_ea(path, b"$LXDEV", struct.pack("<II", 4, 64))
        file = await tree.open(path, access=access, disposition=CreateDisposition.FILE_OPEN)
        reparse = struct.pack("<IHH", tag, len(data), 0) + data
        (answer,) = await tree.channel.call(
            [messages.encode_ioctl(CtlCode.FSCTL_SET_REPARSE_POINT, reparse, 0, file._file_id)]
        )
        tree.channel.check(answer, "making it")
        await file.close()


FORMS = {
    "a link of Windows to another server": (
        ReparseTag.IO_REPARSE_TAG_SYMLINK,
        windows_target("\\??\\UNC\\fs9\\data\\x"),
        "//fs9/data/x",
    ),
    "a link of Windows to a drive": (ReparseTag.IO_REPARSE_TAG_SYMLINK, windows_target("\\??\\C:\\x"), "/??/C:/x"),
    "a link of an NFS server": (
        ReparseTag.IO_REPARSE_TAG_NFS,
        struct.pack("<Q", 0x14B4E4C) + "a/b".encode("utf-16-le"),
        "a/b",
    ),
    "a link of the Linux subsystem": (ReparseTag.IO_REPARSE_TAG_LX_SYMLINK, struct.pack("<I", 2) + b"a/b", "a/b"),
    "a fifo of the Linux subsystem": (ReparseTag.IO_REPARSE_TAG_LX_FIFO, b"", posix.S_IFIFO),
    "a socket of the Linux subsystem": (ReparseTag.IO_REPARSE_TAG_AF_UNIX, b"", posix.S_IFSOCK),
    "a device of the Linux subsystem": (ReparseTag.IO_REPARSE_TAG_LX_CHR, b"", posix.S_IFCHR),
}


@pytest.mark.parametrize("form", FORMS)
def test_what_others_have_made_is_shown_and_not_followed(labs: Callable[[str], Lab], tmp_path: Path, form: str) -> None:
    lab, name, (tag, data, shown) = labs("backports"), f"made-{uuid.uuid4().hex[:8]}", FORMS[form]
    share = share_of(lab, "fs1", "data")

    trio.run(make_reparse_point, lab, share.join([name]), tag, data)
    with mounted(lab, tmp_path / "dfs") as top:
        path = top / "link-single" / name
        assert name in os.listdir(path.parent)
        stat = path.lstat()
        if isinstance(shown, str):
            assert os.readlink(path) == shown
            refused(errno.ENOENT, path.read_bytes)
        else:
            assert posix.S_IFMT(stat.st_mode) == shown
            assert stat.st_rdev == (os.makedev(4, 64) if tag == ReparseTag.IO_REPARSE_TAG_LX_CHR else 0)
        path.unlink()
        assert name not in os.listdir(path.parent)


NONSENSE = {
    "half a pair of surrogates": struct.pack("<Q", 0x14B4E4C) + b"a\0\x00\xd8",
    "a major number of 32 bits": struct.pack("<QII", 0x524843, 2**32 - 1, 0),
    "a minor number of 21 bits": struct.pack("<QII", 0x4B4C42, 0, 2**20),
    "half a character": struct.pack("<Q", 0x14B4E4C) + b"odd",
    "an empty target": struct.pack("<Q", 0x14B4E4C),
}


def test_nonsense_in_a_reparse_point_harms_that_file_alone(labs: Callable[[str], Lab], tmp_path: Path) -> None:
    lab, folder = labs("backports"), f"nonsense-{uuid.uuid4().hex[:8]}"
    with mounted(lab, tmp_path / "dfs", "actimeo=0") as top:
        path = top / "link-single" / folder
        path.mkdir()
        (path / "good").write_text("text")
        target = os.getxattr(path, "user.dfsfs.target")
        for name, data in NONSENSE.items():
            place = share_of(lab, "fs1", "data").join([folder, name])
            trio.run(make_reparse_point, lab, place, ReparseTag.IO_REPARSE_TAG_NFS, data)
        for _ in range(2):
            assert sorted(os.listdir(path)) == sorted([*NONSENSE, "good"])
        for name in NONSENSE:
            assert posix.S_ISREG((path / name).lstat().st_mode)
            with pytest.raises(OSError, match="Errno"):
                (path / name).read_bytes()
        assert os.getxattr(path, "user.dfsfs.target") == target
        assert (path / "good").read_text() == "text"
        for name in NONSENSE:
            (path / name).unlink()
        assert os.listdir(path) == ["good"]
