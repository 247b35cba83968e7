"""A hostile server behind a real mount: answers that never end, and what they cost.

The server is the one in memory, on a socket. Whatever it says, the mount's memory stays bounded, its loop answers
others at once, and a program that waits can be killed.
"""

from __future__ import annotations

import errno
import os
import statistics
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from dfsfs.smb.tree.bounds import MAX_EMPTY, MAX_ENTRIES, MAX_SECONDS_WITHOUT_NEW_NAMES
from dfsfs.smb.wire.reparse import encode_mfsymlink
from tests.conftest import LONG
from tests.kernel.mounts import clean_up, daemons, mount_command, refused, unmount, wait_until
from tests.support.fakes.server import hostile
from tests.support.fakes.server.hostile import Lies
from tests.support.fakes.server.listener import DOMAIN, PASSWORD, USER, Listener
from tests.support.fakes.server.server import Server
from tests.support.lab.samba import free_net

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.mount

LIST = "import os, sys\nprint(sum(1 for _ in os.scandir(sys.argv[1])))"
MIB = 1 << 20
PROMPT = 2.0
"""Seconds within which others are answered while a server misbehaves; the machine of the tests may be busy."""
PATIENCE = 10.0
"""Seconds for what has to be done soon."""


@pytest.fixture
def lies() -> Lies:
    return Lies()


@pytest.fixture
def listener(lies: Lies) -> Iterator[Listener]:
    server = Server()
    server.lie = lies
    for name in ("endless", "same", "drip", "nothing", "dots", "odd", "good", "many"):
        server.volume.add_folder(name)
    server.volume.add_file("good/file", b"content")
    with Listener(server, f"{free_net()}.2") as found:
        yield found


@contextmanager
def mounted(listener: Listener, mountpoint: Path, options: str = "") -> Iterator[Path]:
    """The share of the server on a folder."""
    mountpoint.mkdir()
    words = ",".join(word for word in (f"username={USER},domain={DOMAIN},nodfs", options) if word)
    try:
        result = mount_command(f"//{listener.address}/data", mountpoint, words, PASSWORD)
        assert result.returncode == 0, result.stderr
        yield mountpoint
        unmount(mountpoint)
    finally:
        clean_up(mountpoint)


@pytest.fixture
def mount(listener: Listener, tmp_path: Path) -> Iterator[Path]:
    with mounted(listener, tmp_path / "mnt", "actimeo=0") as top:
        yield top


def memory(mountpoint: Path) -> int:
    """Bytes that the mount's process has in memory now."""
    (pid,) = daemons(mountpoint)
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("the process has no memory")


@contextmanager
def listing(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A program that lists a folder."""
    with subprocess.Popen(
        [sys.executable, "-c", LIST, str(folder)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def latencies(file: Path, goes_on: Callable[[], bool]) -> list[float]:
    """How long the mount's loop took for a question that no server is asked, again and again while it goes on."""
    found = []
    while goes_on():
        begun = time.perf_counter()
        os.getxattr(file, "user.dfsfs.path")
        found.append(time.perf_counter() - begun)
        time.sleep(0.005)
    return found


def test_it_is_a_server_like_any_other(mount: Path) -> None:
    assert sorted(os.listdir(mount)) == sorted(["endless", "same", "drip", "nothing", "dots", "odd", "good", "many"])
    assert (mount / "good" / "file").read_bytes() == b"content"
    (mount / "good" / "new").write_bytes(b"x" * 3 * MIB)
    assert (mount / "good" / "new").read_bytes() == b"x" * 3 * MIB


def test_a_root_that_is_called_a_file_for_a_moment_is_a_folder_again(
    lies: Lies, listener: Listener, mount: Path
) -> None:
    """The kernel never again believes in an inode whose type has changed, and of the root there is only one."""
    lies.all_of = listener.server.volume.add_file("what the root is", b"content")
    refused(errno.EIO, lambda: os.stat(mount))
    lies.all_of = None
    assert "good" in os.listdir(mount)
    assert (mount / "good" / "file").read_bytes() == b"content"


ENDINGS = {"same": hostile.same, "drip": hostile.drip, "nothing": hostile.nothing, "dots": hostile.dots}


@pytest.mark.parametrize("name", ENDINGS)
def test_a_listing_without_anything_new_ends_with_one_error(lies: Lies, mount: Path, name: str) -> None:
    lies.listings[name] = ENDINGS[name]
    (mount / "good" / "file").stat()
    before = memory(mount)
    with listing(mount / name) as process:
        took = latencies(mount / "good" / "file", lambda: process.poll() is None)
        assert b"Errno 5" in (process.stderr.read() if process.stderr else b"")
    assert max(took) < PROMPT
    assert memory(mount) - before < 64 * MIB
    if name in ("nothing", "dots"):
        assert lies.asked[name] <= MAX_EMPTY + 4


def test_a_listing_that_goes_on_for_ever_takes_little_for_each_entry(lies: Lies, mount: Path) -> None:
    lies.listings["endless"] = hostile.endless
    (mount / "good" / "file").stat()
    before, answers = memory(mount), 150 if LONG else 20
    with listing(mount / "endless") as process:
        took = latencies(
            mount / "good" / "file", lambda: process.poll() is None and lies.asked.get("endless", 0) < answers
        )
        grown = memory(mount) - before
        process.kill()
        begun = time.monotonic()
        process.wait(60)
        killed = time.monotonic() - begun
    count = lies.asked["endless"] * MIB // hostile.CROWD_STEP
    told = (
        f"{grown / MIB:.0f} MiB for {count} entries; answers after {statistics.median(took):.4f} s, {max(took):.3f} s"
    )
    print(f"{told} at most; killed after {killed:.2f} s")
    assert grown < count * 1000 + 64 * MIB
    assert max(took) < PROMPT and killed < PATIENCE


@pytest.mark.long
@pytest.mark.parametrize("answers", [130, 1000])
def test_a_listing_of_a_million_entries_goes_to_its_end(lies: Lies, mount: Path, answers: int) -> None:
    """To the server's, or to that of our patience; what is held for it is bounded all the way."""
    given = 0

    def until(count: int, size: int) -> bytes | None:
        nonlocal given
        if count == answers:
            return None
        given += size // hostile.CROWD_STEP
        return hostile.endless(count, size)

    lies.listings["endless"] = until
    (mount / "good" / "file").stat()
    before, largest = memory(mount), 0
    with listing(mount / "endless") as process:
        while process.poll() is None:
            largest = max(largest, memory(mount))
            time.sleep(0.05)
        said = process.stdout.read() + process.stderr.read() if process.stdout and process.stderr else b""
    print(f"{given} entries, {(largest - before) / MIB:.0f} MiB at most")
    if given < MAX_ENTRIES:
        assert int(said) == given
    else:
        assert b"Errno 5" in said
        assert given < MAX_ENTRIES + 10 * MIB // hostile.CROWD_STEP
    assert largest - before < 300 * MIB


def test_a_program_that_waits_for_it_can_be_killed(listener: Listener, lies: Lies, mount: Path) -> None:
    lies.listings["drip"], listener.server.pause = hostile.drip, 0.05
    with listing(mount / "drip") as process:
        wait_until(lambda: lies.asked.get("drip", 0) > 5, "the listing is under way")
        begun = time.monotonic()
        process.kill()
        process.wait(60)
        took = time.monotonic() - begun
    print(f"killed after {took:.2f} s")
    assert took < MAX_SECONDS_WITHOUT_NEW_NAMES + PATIENCE


def test_entries_that_no_file_can_have_are_left_out(lies: Lies, mount: Path) -> None:
    lies.listings["odd"] = hostile.odd
    assert sorted(os.listdir(mount / "odd")) == ["fine", "good"]


# -- other answers that never end -------------------------------------------------------------------------------------


def test_a_list_of_snapshots_that_grows_is_given_up(lies: Lies, mount: Path) -> None:
    lies.snapshots = 100
    refused(errno.EIO, lambda: os.listdir(mount / "good" / ".snapshots"))


def test_a_login_that_is_never_done_ends(listener: Listener, tmp_path: Path) -> None:
    listener.never_done = True
    mountpoint = tmp_path / "mnt"
    mountpoint.mkdir()
    try:
        begun = time.monotonic()
        options = f"username={USER},domain={DOMAIN},nodfs"
        result = mount_command(f"//{listener.address}/data", mountpoint, options, PASSWORD)
        assert result.returncode != 0 and time.monotonic() - begun < 30
        assert listener.logins < 40
    finally:
        clean_up(mountpoint)


def test_a_session_that_expires_at_every_open_ends_with_an_error(
    listener: Listener, lies: Lies, tmp_path: Path
) -> None:
    with mounted(listener, tmp_path / "mnt", "actimeo=0,failover_timeout=5") as top:
        (top / "good" / "file").read_bytes()
        lies.expires = lambda: True
        before, begun = listener.logins, time.monotonic()
        with pytest.raises(OSError, match="Errno"):
            (top / "good" / "file").read_bytes()
        print(f"{listener.logins - before} SESSION_SETUPs, {time.monotonic() - begun:.1f} s")
        assert time.monotonic() - begun < 60
        lies.expires = lambda: False
        assert (top / "good" / "file").read_bytes() == b"content"


def test_a_server_that_grants_no_credits_is_an_error(listener: Listener, tmp_path: Path) -> None:
    with mounted(listener, tmp_path / "mnt", "actimeo=0,failover_timeout=5") as top:
        listener.server.grants = False

        def use_up() -> None:
            for _ in range(2000):
                os.stat(top / "good" / "file")

        with pytest.raises(OSError, match="Errno"):
            use_up()
        listener.server.grants = True
        wait_until(lambda: _works(lambda: os.stat(top / "good" / "file")), "it works again")


def _works(action: Callable[[], object]) -> bool:
    try:
        action()
    except OSError:
        return False
    return True


# -- links in files ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("options", "is_link"), [("", False), ("mfsymlinks", True)])
def test_a_file_with_the_form_of_a_link_is_one_only_if_somebody_asked(
    listener: Listener, tmp_path: Path, options: str, is_link: bool
) -> None:
    content = encode_mfsymlink("/etc/shadow")
    assert content is not None
    listener.server.volume.add_file("good/upload", content)
    with mounted(listener, tmp_path / "mnt", options) as top:
        path = top / "good" / "upload"
        assert [entry.is_symlink() for entry in os.scandir(top / "good") if entry.name == "upload"] == [is_link]
        assert path.is_symlink() is is_link
        if not is_link:
            assert path.read_bytes() == content


def test_a_link_of_dfsfs_is_one_until_somebody_else_writes_into_it(listener: Listener, tmp_path: Path) -> None:
    with mounted(listener, tmp_path / "mnt", "actimeo=0") as top:
        link = top / "good" / "link"
        link.symlink_to("file")
        assert link.is_symlink() and link.read_bytes() == b"content"
        assert os.listxattr(link, follow_symlinks=False) == []
        other = encode_mfsymlink("/etc/shadow")
        assert other is not None
        with listener.lock:
            listener.server.volume.at("good/link").data[:] = other
        assert not link.is_symlink() and link.read_bytes() == other


def test_the_option_nosymfollow_shows_links_and_follows_none(listener: Listener, tmp_path: Path) -> None:
    with mounted(listener, tmp_path / "mnt", "nosymfollow") as top:
        link, folder = top / "good" / "link", top / "to-folder"
        link.symlink_to("file")
        folder.symlink_to("good")
        assert os.readlink(link) == "file" and link.is_symlink()
        refused(errno.ELOOP, link.read_bytes)
        refused(errno.ELOOP, (folder / "file").read_bytes)
        assert (top / "good" / "file").read_bytes() == b"content"
        remount(listener, top, "ro")
        refused(errno.ELOOP, link.read_bytes)
        remount(listener, top, "symfollow")
        assert link.read_bytes() == b"content"
        remount(listener, top, "nosymfollow")
        refused(errno.ELOOP, link.read_bytes)


def remount(listener: Listener, mountpoint: Path, words: str) -> None:
    done = mount_command(f"//{listener.address}/data", mountpoint, f"remount,{words}", PASSWORD)
    assert done.returncode == 0, done.stderr
