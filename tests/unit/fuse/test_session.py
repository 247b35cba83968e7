"""How a mount is put together, without mounting."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from typing import TYPE_CHECKING, cast

import pytest
import trio

from dfsfs.caller import Caller
from dfsfs.config.assembly import Mounter, make_config
from dfsfs.config.options import parse_options
from dfsfs.config.place import parse_unc
from dfsfs.control.places import TYPE, MountEntry
from dfsfs.errors import ConnectError, PosixError, SmbError
from dfsfs.fuse.libfuse import escape
from dfsfs.mount import assembly, settings
from dfsfs.mount.assembly import find_root
from dfsfs.mount.parts import make_filesystem, make_pool, make_user_pools
from dfsfs.mount.settings import get_given_names, make_serve_settings
from dfsfs.namespace.assembly import transport_settings
from dfsfs.namespace.junction import Junction, Location
from dfsfs.ntstatus import NtStatus
from dfsfs.smb.auth import keyring
from dfsfs.smb.auth.credentials import Credentials, Secret
from dfsfs.smb.wire.constants import Dialect
from dfsfs.unc import UncPath
from dfsfs.vfs.data.caching import NoKernelCache
from tests.support.fakes.memory_namespace import MemoryNamespace

if TYPE_CHECKING:
    from dfsfs.config.model import MountConfig
    from dfsfs.namespace.client import Namespace
    from dfsfs.smb.pool import Pool


def config(options: str = "", unc: str = "//srv/ns") -> MountConfig:
    mounter = Mounter(uid=0, gid=0, find_user=lambda name: 0, find_group=lambda name: 0)
    return make_config(parse_unc(unc), parse_options([options]), Credentials("me", Secret("pw")), mounter)


class ScriptedRoot:
    """A namespace whose root is found after some time, and a pool that has heard of a server or not."""

    def __init__(self, *, seconds: float, heard: bool, error: Exception | None = None) -> None:
        self.seconds, self.heard, self.error = seconds, heard, error
        self.location = Location(Junction(UncPath.parse("//srv/ns")))

    async def mount_root(self, path: UncPath, moment: int | None = None) -> Location:
        await trio.sleep(self.seconds)
        if self.error is not None:
            raise self.error
        return self.location

    knows_domain = False

    def statistics(self) -> dict[str, str]:
        return {"srv": "connected"} if self.heard else {}

    async def found(self) -> Location:
        return await find_root(config(), cast("Pool", self), cast("Namespace", self))


async def test_the_root_is_found(autojump_clock: object) -> None:
    script = ScriptedRoot(seconds=1, heard=True)
    assert await script.found() is script.location


async def test_a_server_that_does_not_answer_fails_the_mount_in_time(autojump_clock: object) -> None:
    with pytest.raises(ConnectError) as caught:
        await ScriptedRoot(seconds=60, heard=False).found()
    assert caught.value.status == NtStatus.IO_TIMEOUT
    assert trio.current_time() == 10


async def test_once_a_server_has_answered_the_others_are_waited_for(autojump_clock: object) -> None:
    script = ScriptedRoot(seconds=30, heard=True)
    assert await script.found() is script.location


async def test_what_a_server_says_is_the_error_of_the_mount(autojump_clock: object) -> None:
    with pytest.raises(PosixError) as caught:
        await ScriptedRoot(seconds=1, heard=True, error=PosixError(errno.ENOTDIR, "a file")).found()
    assert caught.value.errno == errno.ENOTDIR


def test_an_unexpected_end_is_an_error_of_ours(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(*arguments: object) -> None:
        raise ExceptionGroup("x", [LookupError("as the test wants it")])

    monkeypatch.setattr(assembly, "_run", broken)
    with pytest.raises(PosixError) as caught:
        assembly.run(config(), "/nowhere", lambda: None)
    assert caught.value.errno == errno.EIO
    assert "LookupError" in caplog.text


def test_what_was_mounted_during_the_login_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    other = MountEntry("0:51", "/mnt", TYPE, "//other/ns", 0)
    monkeypatch.setattr(assembly, "mount_on", lambda path: (path, other))
    with pytest.raises(PosixError, match=r"//other/ns has been mounted on /mnt meanwhile") as caught:
        assembly.refuse_to_hide_mount(config(), "/mnt")
    assert caught.value.errno == errno.EBUSY
    assembly.refuse_to_hide_mount(config("nonempty"), "/mnt")
    monkeypatch.setattr(assembly, "mount_on", lambda path: (path, replace(other, kind="ext4")))
    assembly.refuse_to_hide_mount(config(), "/mnt")


def test_options_for_the_transport() -> None:
    found = transport_settings(config("vers=3,port=4455,seal,timeout=4,hosts=fs1:10.0.0.1,rsize=65536"))
    assert found.dialects == (Dialect.SMB_3_0, Dialect.SMB_3_0_2, Dialect.SMB_3_1_1)
    assert (found.port, found.seal, found.read_size) == (4455, True, 65536)
    assert (found.request_timeout, found.silence_timeout) == (4, 4)
    assert transport_settings(config()).silence_timeout == 10, "docs/decisions/006-ten-seconds-of-silence.md"
    assert dict(found.hosts) == {"FS1": "10.0.0.1"}


def test_options_for_the_kernel() -> None:
    spec = make_serve_settings(config("ro,noperm", "//srv/name space/a,b"), "/mnt").spec
    assert (spec.mountpoint, spec.source, spec.subtype) == ("/mnt", "//srv/name space/a,b", "dfsfs")
    assert {"ro", "allow_other"} <= spec.words
    assert "default_permissions" not in spec.words
    assert "default_permissions" in make_serve_settings(config(), "/mnt").spec.words


def test_names_that_an_option_can_not_hold_are_escaped() -> None:
    assert escape("//srv/ü\\a,b") == "//srv/\\303\\274\\134a\\054b"


def test_the_loop_is_ours_unless_asked_otherwise() -> None:
    assert not make_serve_settings(config(), "/mnt").uses_pyfuse3
    for name in ("loop", "fuse_loop"):
        assert make_serve_settings(config(f"{name}=pyfuse3"), "/mnt").uses_pyfuse3


async def test_options_for_the_file_system(autojump_clock: object) -> None:
    namespace = MemoryNamespace()
    store = namespace.add_share("//srv/ns")
    store.add_file("a:b", b"1")
    asked = config("uid=5,gid=6,file_mode=0640,dir_mode=0750,actimeo=7,acdirmax=3,nomapposix")
    filesystem = make_filesystem(asked, namespace.as_namespace(), namespace.root("//srv/ns"), NoKernelCache())
    shown = await filesystem.lookup(1, b"a:b")
    assert (shown.uid, shown.gid, shown.mode & 0o777) == (5, 6, 0o640)
    assert filesystem.timeouts(shown.ino) == (7, 7)
    assert (await filesystem.getattr(1)).mode & 0o777 == 0o750
    assert filesystem.timeouts(1) == (3, 3)


# -- whose word is taken for the names of stored logins ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "unc", "expected"),
    [
        ("", "//Contoso.Test/ns", ("contoso.test",)),
        ("domain=CONTOSO", "//contoso.test/ns", ("contoso.test", "contoso")),
        ("domain=corp.test,dns_suffix=a.test;b.test", "//FS1/x", ("fs1", "corp.test", "a.test", "b.test")),
    ],
)
def test_names_for_stored_logins_are_those_that_were_given(
    options: str, unc: str, expected: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "get_default_realm", lambda: "")
    assert get_given_names(config(options, unc)) == expected
    monkeypatch.setattr(settings, "get_default_realm", lambda: "REALM.TEST")
    assert get_given_names(config(options, unc)) == (*expected, "realm.test")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root finds out about others")
def test_no_login_is_looked_for_under_a_name_that_was_only_heard_of() -> None:
    place = f"heard-of-{os.getpid()}.test"
    asked = config("multiuser")
    pool = make_pool(asked)
    find_login = make_user_pools(asked, pool)._find_login
    pool.names.suffixes, pool.names.controllers_of = (place,), {place.upper(): ("dc1.contoso.test",)}
    who = Caller(os.geteuid(), os.getegid(), os.getpid())
    keyring.store(place, Credentials("me", Secret("pw")))
    try:
        with pytest.raises(SmbError, match="dfsfs login //srv"):
            find_login(who)
        keyring.store("srv", Credentials("me too", Secret("pw")))
        try:
            assert find_login(who).principal == "me too"
        finally:
            keyring.remove("srv")
    finally:
        keyring.remove(place)
