"""Extended attributes through a real mount."""

from __future__ import annotations

import errno
import os
import shutil
import struct
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from tests.kernel.mounts import mounted, refused, scratch

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.lab.samba import Lab

pytestmark = [pytest.mark.lab, pytest.mark.mount]


@pytest.fixture
def rich(mount: Path) -> Iterator[Path]:
    """A folder on a share with alternate data streams and Windows ACLs."""
    with scratch(mount / "link-rich") as folder:
        yield folder


# -- EAs --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_eas_are_kept(work: Path, lab: Lab, kind: str) -> None:
    path = work / kind
    path.touch() if kind == "file" else path.mkdir()
    assert os.listxattr(path) == []
    refused(errno.ENODATA, lambda: os.getxattr(path, "user.one"))
    os.setxattr(path, "user.one", b"1")
    os.setxattr(path, "user.two", bytes(range(256)))
    assert sorted(os.listxattr(path)) == ["user.one", "user.two"]
    assert os.getxattr(path, "user.two") == bytes(range(256))
    on_server = lab.host("fs1").share_path("data") / work.name / kind
    assert os.getxattr(on_server, "user.one") == b"1"
    refused(errno.EEXIST, lambda: os.setxattr(path, "user.one", b"x", os.XATTR_CREATE))
    refused(errno.ENODATA, lambda: os.setxattr(path, "user.three", b"x", os.XATTR_REPLACE))
    os.setxattr(path, "user.one", b"2", os.XATTR_REPLACE)
    assert os.getxattr(path, "user.one") == b"2"
    os.removexattr(path, "user.one")
    refused(errno.ENODATA, lambda: os.removexattr(path, "user.one"))
    assert os.listxattr(path) == ["user.two"]


def test_what_a_folder_got_is_there_after_a_name_in_it_was_changed(work: Path) -> None:
    """The change of a name brings the folder's attributes along, which say nothing of its EAs."""
    folder = work / "folder"
    for what in ("unlink", "rename", "rmdir"):
        folder.mkdir()
        (folder / "file").touch()
        (folder / "sub").mkdir()
        os.listdir(work)
        assert os.listxattr(folder) == []
        os.setxattr(folder, "user.two", b"value")
        if what == "unlink":
            (folder / "file").unlink()
        elif what == "rename":
            (folder / "file").rename(folder / "other")
        else:
            (folder / "sub").rmdir()
        assert "user.two" in os.listxattr(folder), what
        os.removexattr(folder, "user.two")
        shutil.rmtree(folder)


def test_the_limits_of_eas(work: Path) -> None:
    path = work / "file"
    path.touch()
    refused(errno.EINVAL, lambda: os.setxattr(path, "user.empty", b""))
    refused(errno.E2BIG, lambda: os.setxattr(path, "user.large", bytes(65536)))
    os.setxattr(path, "user." + "n" * 200, b"long name")
    assert os.getxattr(path, "user." + "n" * 200) == b"long name"
    with pytest.raises(OSError, match="Errno") as caught:  # ext4 below Samba has 4 KiB for all of them
        os.setxattr(path, "user.medium", bytes(60_000))
    assert caught.value.errno in (errno.ENOSPC, errno.E2BIG, errno.EACCES), caught.value


@pytest.mark.parametrize("name", ["security.x", "trusted.x"])
def test_namespaces_that_smb_does_not_have(work: Path, name: str) -> None:
    (work / "file").touch()
    refused(errno.EOPNOTSUPP, lambda: os.getxattr(work / "file", name))
    refused(errno.EOPNOTSUPP, lambda: os.setxattr(work / "file", name, b"value"))


def test_there_are_no_posix_acls(work: Path) -> None:
    (work / "file").touch()
    refused(errno.EOPNOTSUPP, lambda: os.getxattr(work / "file", "system.posix_acl_access"))
    subprocess.run(["cp", "-p", "file", "copy"], cwd=work, check=True, timeout=30)


def test_cp_a_carries_eas(work: Path) -> None:
    (work / "file").write_text("text")
    os.setxattr(work / "file", "user.note", b"value")
    subprocess.run(["cp", "-a", "file", "copy"], cwd=work, check=True, timeout=30)
    assert os.getxattr(work / "copy", "user.note") == b"value"


def test_nouser_xattr_has_none(lab: Lab, tmp_path: Path) -> None:
    with mounted(lab, tmp_path / "dfs", "nouser_xattr") as top:
        refused(errno.EOPNOTSUPP, lambda: os.getxattr(top / "readme.txt", "user.dfsfs.path"))
        refused(errno.EOPNOTSUPP, lambda: os.listxattr(top / "readme.txt"))


# -- streams ----------------------------------------------------------------------------------------------------------


def test_streams_are_attributes(rich: Path) -> None:
    path = rich / "file"
    path.write_text("data")
    os.setxattr(path, "user.stream.Zone.Identifier", b"[ZoneTransfer]\r\nZoneId=3\r\n")
    os.setxattr(path, "user.ea", b"1")
    assert sorted(os.listxattr(path)) == ["user.ea", "user.stream.Zone.Identifier"]
    assert os.getxattr(path, "user.stream.Zone.Identifier") == b"[ZoneTransfer]\r\nZoneId=3\r\n"
    os.setxattr(path, "user.stream.Zone.Identifier", b"short")
    assert os.getxattr(path, "user.stream.Zone.Identifier") == b"short"
    assert path.read_text() == "data"
    os.removexattr(path, "user.stream.Zone.Identifier")
    refused(errno.ENODATA, lambda: os.getxattr(path, "user.stream.Zone.Identifier"))
    refused(errno.EINVAL, lambda: os.setxattr(path, "user.stream.a:b", b"x"))
    refused(errno.EINVAL, lambda: os.setxattr(path, "user.stream.a/b", b"x"))


def test_a_stream_on_a_share_without_streams(work: Path) -> None:
    (work / "file").touch()
    refused(errno.ENODATA, lambda: os.getxattr(work / "file", "user.stream.x"))
    with pytest.raises(OSError, match="Errno"):
        os.setxattr(work / "file", "user.stream.x", b"x")


# -- what SMB knows of a file -----------------------------------------------------------------------------------------


def test_dos_attributes(rich: Path) -> None:
    path = rich / "file"
    path.touch()
    assert os.getxattr(path, "user.dosattrib") == b"0x20"
    os.setxattr(path, "user.dosattrib", b"0x23")
    assert os.getxattr(path, "user.dosattrib") == b"0x23"
    assert os.getxattr(path, "user.cifs.dosattrib") == struct.pack("<I", 0x23)
    assert not path.stat().st_mode & 0o222
    os.setxattr(path, "user.cifs.dosattrib", struct.pack("<I", 0x20))
    assert path.stat().st_mode & 0o200
    refused(errno.EINVAL, lambda: os.setxattr(path, "user.dosattrib", b"0x30"))
    refused(errno.EINVAL, lambda: os.setxattr(path, "user.dosattrib", b"hidden"))


def test_the_security_descriptor(rich: Path) -> None:
    path = rich / "file"
    path.touch()
    descriptor = os.getxattr(path, "system.cifs_acl")
    assert descriptor[0] == 1 and len(descriptor) > 20
    sddl = os.getxattr(path, "user.dfsfs.sddl").decode()
    assert sddl.startswith("O:S-1-5-21-") and "D:" in sddl and "(A;;FA;;;S-1-5-21-" in sddl
    os.setxattr(path, "system.cifs_acl", descriptor)
    assert os.getxattr(path, "user.dfsfs.sddl").decode() == sddl


def test_an_acl_that_denies_is_obeyed(rich: Path) -> None:
    path = rich / "file"
    path.write_text("text")
    descriptor = bytearray(os.getxattr(path, "system.cifs_acl"))
    acl = struct.unpack_from("<I", descriptor, 16)[0]
    assert struct.unpack_from("<B", descriptor, acl + 8)[0] == 0  # its first entry allows something: now nothing
    struct.pack_into("<I", descriptor, acl + 12, 0x00060080)  # but reading attributes and setting the ACL
    os.setxattr(path, "system.cifs_acl", bytes(descriptor))
    try:
        refused(errno.EACCES, lambda: path.write_text("x"))
    finally:
        struct.pack_into("<I", descriptor, acl + 12, 0x001F01FF)
        os.setxattr(path, "system.cifs_acl", bytes(descriptor))
    path.write_text("x")


def test_birth_time(work: Path) -> None:
    path = work / "file"
    path.write_text("text")
    os.utime(path, (1, 1))
    seconds = float(os.getxattr(path, "user.dfsfs.btime"))
    assert abs(seconds - time.time()) < 60


# -- what DFS knows of it ---------------------------------------------------------------------------------------------


def test_where_a_file_is(mount: Path, lab: Lab) -> None:
    def value(path: Path, name: str) -> str:
        return os.getxattr(path, f"user.dfsfs.{name}").decode()

    file = mount / "link-deadfirst" / "folder" / "inside.txt"
    assert value(file, "path") == f"{lab.root_unc}/link-deadfirst/folder/inside.txt"
    assert value(file, "target") == f"//{lab.address('fs2')}/data/folder/inside.txt"
    assert value(file, "targets").split("\n") == [f"//{lab.address(host)}/data" for host in ("dead1", "fs2")]
    assert value(file, "referral") == f"{lab.root_unc}/link-deadfirst"
    assert 0 < int(value(file, "ttl")) <= 600
    assert value(mount, "target") == lab.root_unc
    refused(errno.ENODATA, lambda: os.getxattr(file, "user.dfsfs.nothing"))
    refused(errno.EPERM, lambda: os.setxattr(file, "user.dfsfs.target", b"//elsewhere"))
    assert os.listxattr(file) == []


def test_a_link_whose_targets_are_dead_says_so(mount: Path) -> None:
    assert os.listxattr(mount / "link-dead") == []
    assert os.getxattr(mount / "link-dead", "user.dfsfs.path").endswith(b"/link-dead")
    refused(errno.ECONNREFUSED, lambda: os.getxattr(mount / "link-dead", "user.dfsfs.target"))
