"""What is denied through a real mount, and by whom: read-only mounts, shares and files, ACLs, other openers."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio

from tests.kernel.mounts import mounted, refused
from tests.kernel.posix.harness import as_nobody
from tests.samba.clients import close_raw, open_pool, open_raw, share_of
from tests.support.lab.topology import BOB

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.lab.samba import Lab

pytestmark = [pytest.mark.lab, pytest.mark.mount]


def test_a_read_only_mount(lab: Lab, work: Path, tmp_path: Path) -> None:
    (work / "file").write_text("text")
    with mounted(lab, tmp_path / "dfs", "ro") as top:
        file = top / "link-single" / work.name / "file"
        assert file.read_text() == "text"
        refused(errno.EROFS, lambda: file.write_text("x"))
        refused(errno.EROFS, file.unlink)
        refused(errno.EROFS, lambda: (file.parent / "new").mkdir())
        refused(errno.EROFS, lambda: os.utime(file))
        refused(errno.EROFS, lambda: os.setxattr(file, "user.x", b"1"))
        assert not os.access(file, os.W_OK)


def test_a_read_only_share(mount: Path) -> None:
    share = mount / "link-readonly"
    assert (share / "hello.txt").read_text() == "hello from readonly\n"
    refused(errno.EACCES, lambda: (share / "hello.txt").write_text("x"))
    refused(errno.EACCES, (share / "hello.txt").unlink)
    refused(errno.EACCES, lambda: (share / "hello.txt").rename(share / "other"))
    refused(errno.EACCES, lambda: (share / "new").mkdir())
    refused(errno.EACCES, lambda: (share / "new").touch())
    refused(errno.EACCES, lambda: os.utime(share / "hello.txt"))
    refused(errno.EACCES, lambda: os.symlink("x", share / "link"))
    refused(errno.EACCES, lambda: os.link(share / "hello.txt", share / "second"))
    assert sorted(os.listdir(share)) == ["folder", "hello.txt"]


def test_what_belongs_to_somebody_else(lab: Lab, tmp_path: Path) -> None:
    folder = lab.host("fs1").share_path("extra") / "of-bob"
    folder.mkdir()
    with mounted(lab, tmp_path / "dfs") as top:
        try:
            _look_at_what_belongs_to_bob(folder, top / "dir" / "sub" / "link" / "of-bob")
        finally:
            shutil.rmtree(folder)


def _look_at_what_belongs_to_bob(folder: Path, work: Path) -> None:
    (folder / "secret").write_text("text")
    (folder / "secret").chmod(0o600)
    (folder / "closed").mkdir(mode=0o700)
    (folder / "closed" / "file").touch()
    for name in ("secret", "closed"):
        shutil.chown(folder / name, BOB.uid)
    refused(errno.EACCES, lambda: (work / "secret").read_text())
    refused(errno.EACCES, lambda: (work / "secret").write_text("x"))
    refused(errno.EACCES, lambda: os.listdir(work / "closed"))
    refused(errno.EACCES, lambda: os.stat(work / "closed" / "file"))


def test_a_file_that_is_read_only(work: Path) -> None:
    file = work / "file"
    file.write_text("text")
    file.chmod(0o444)
    refused(errno.EACCES, lambda: file.write_text("x"))  # root of this machine is not root of the server
    assert file.read_text() == "text"
    (work / "new").write_text("new")
    (work / "new").rename(file)
    assert file.read_text() == "new"
    file.chmod(0o444)
    file.unlink()
    file.write_text("made again")


@pytest.fixture
def public_place() -> Iterator[Path]:
    """A folder that everybody may enter; those of pytest are not."""
    with tempfile.TemporaryDirectory(prefix="dfsfs-test-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


def test_modes_and_owners_are_those_of_the_mount(lab: Lab, public_place: Path) -> None:
    with mounted(lab, public_place / "dfs", "uid=nobody,gid=20,file_mode=0640,dir_mode=0750") as top:
        file, folder = (top / "readme.txt").stat(), (top / "dir").stat()
        assert (file.st_uid, file.st_gid, file.st_mode & 0o7777) == (65534, 20, 0o640)
        assert (folder.st_uid, folder.st_gid, folder.st_mode & 0o7777) == (65534, 20, 0o750)
        assert as_nobody(lambda: (top / "readme.txt").read_text()) == repr("the root of the namespace\n")
        assert as_nobody(lambda: [os.access(top / "readme.txt", mode) for mode in (os.R_OK, os.W_OK, os.X_OK)]) == (
            "[True, True, False]"
        )
    with mounted(lab, public_place / "dfs", "uid=1,file_mode=0600,dir_mode=0700") as top:
        assert as_nobody(lambda: os.listdir(top)) == repr("EACCES")
    with mounted(lab, public_place / "dfs", "uid=1,file_mode=0600,dir_mode=0700,noperm") as top:
        assert "readme.txt" in as_nobody(lambda: os.listdir(top))


def test_only_the_owner_sets_an_acl(lab: Lab, public_place: Path) -> None:
    with mounted(lab, public_place / "dfs", "uid=1,file_mode=0666") as top:
        file = top / "link-rich" / "hello.txt"
        descriptor = os.getxattr(file, "system.cifs_acl")
        assert as_nobody(lambda: os.setxattr(file, "system.cifs_acl", descriptor)) == repr("EPERM")
        assert as_nobody(lambda: os.setxattr(file, "user.note", b"x")) == repr(None)
        os.removexattr(file, "user.note")


def test_a_file_that_somebody_has_for_himself_is_busy(work: Path, lab: Lab) -> None:
    (work / "file").write_text("text")
    share = share_of(lab, "fs1", "data")

    async def main() -> None:
        async with open_pool(lab) as pool:
            tree = await pool.connect_tree(share)
            file_id = await open_raw(tree, share.join([work.name, "file"]), share_access=0)
            try:
                await trio.to_thread.run_sync(attempt)
            finally:
                await close_raw(tree, file_id)

    def attempt() -> None:
        refused(errno.EBUSY, lambda: (work / "file").read_text())
        refused(errno.EBUSY, lambda: (work / "file").write_text("x"))
        refused(errno.EBUSY, (work / "file").unlink)

    trio.run(main)
    assert (work / "file").read_text() == "text"


def test_du_and_df_tell_the_truth(work: Path, lab: Lab) -> None:
    (work / "file").write_bytes(b"x" * 1_000_000)
    on_server = os.stat(lab.host("fs1").share_path("data") / work.name / "file")
    stat = os.stat(work / "file")
    assert (stat.st_blocks, stat.st_size) == (on_server.st_blocks, on_server.st_size)
    subprocess.run(["truncate", "--size=100000", work / "file"], check=True, timeout=30)
    stat = os.stat(work / "file")
    on_server = os.stat(lab.host("fs1").share_path("data") / work.name / "file")
    assert (stat.st_blocks, stat.st_size) == (on_server.st_blocks, on_server.st_size)
    with open(work / "sparse", "wb") as file:
        file.truncate(100_000_000)
        file.seek(50_000_000)
        file.write(b"x")
    assert os.stat(work / "sparse").st_blocks * 512 < 5_000_000
    usage = os.statvfs(work)
    root = os.statvfs(lab.host("ns1").share_path("dfs"))
    assert usage.f_frsize * usage.f_blocks == root.f_frsize * root.f_blocks
    assert "dfsfs" in subprocess.run(["df", "-T", work], check=True, capture_output=True, text=True, timeout=30).stdout


def test_a_time_that_the_server_can_not_keep_is_shown_as_it_is_kept(work: Path, lab: Lab) -> None:
    """ext4 has no time before 1901 or after 2446, and SMB none before 1601."""
    on_disk = lab.host("fs1").share_path("data") / work.name
    for number, year in enumerate((-500, 1500, 1601, 1900, 1950, 1969, 1970, 2037, 2038, 2400, 2500, 9999)):
        path = work / f"of-{number}"
        path.write_bytes(b"x")
        time_ns = int((year - 1970) * 365.2425 * 86400) * 10**9
        os.utime(path, ns=(time_ns, time_ns))
        kept, shown = (on_disk / path.name).stat(), path.stat()
        assert (shown.st_mtime_ns, shown.st_atime_ns) == (kept.st_mtime_ns, kept.st_atime_ns), year
        with path.open("rb") as file:
            assert os.fstat(file.fileno()).st_mtime_ns == kept.st_mtime_ns
