"""Entering every kind of link, and what nobody can do to one."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import subprocess
import threading
import time
from typing import TYPE_CHECKING

import pytest

from tests.kernel.mounts import mounted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.lab.samba import Lab

pytestmark = [pytest.mark.lab, pytest.mark.mount, pytest.mark.every_samba]


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("readme.txt", ""),
        ("link-single/hello.txt", "hello from data"),
        ("link-multi/hello.txt", "hello from data"),
        ("dir/sub/link/hello.txt", "hello from extra"),
        ("link-sub/inside.txt", ""),
        ("LINK-SINGLE/Hello.TXT", "hello from data"),
        ("interlink/readme.txt", ""),
        ("interlink/deep/deep.txt", ""),
        ("interlink/deep/link/hello.txt", "hello from"),
        ("interlink-deep/link/hello.txt", "hello from"),
        ("link-deadfirst/hello.txt", "hello from data"),
        ("link-secret/hello.txt", "hello from secret"),
    ],
)
def test_a_file_behind_a_link_can_be_read(mount: Path, path: str, text: str) -> None:
    content = (mount / path).read_text()
    assert content
    assert text in content


@pytest.mark.parametrize("link", ["loop-self", "loop-a", "interlink/loop-b"])
def test_c050_a_loop_is_eloop(mount: Path, link: str) -> None:
    with pytest.raises(OSError, match=r".") as caught:
        os.listdir(mount / link)
    assert caught.value.errno == errno.ELOOP


def test_a_target_that_denies_is_an_answer(mount: Path) -> None:
    with pytest.raises(PermissionError):
        os.listdir(mount / "link-denied")


def test_a_dead_link_shows_in_the_listing_and_fails_quickly_while_others_go_on(mount: Path) -> None:
    assert "link-dead" in os.listdir(mount)
    assert (mount / "link-dead").is_dir()
    ended, reads = threading.Event(), [0]

    def read_on() -> None:
        while not ended.is_set():
            started = time.monotonic()
            assert (mount / "link-single/hello.txt").read_text()
            if time.monotonic() - started < 1:
                reads[0] += 1

    reader = threading.Thread(target=read_on)
    reader.start()
    try:
        started = time.monotonic()
        with pytest.raises(OSError, match=r".") as caught:
            os.listdir(mount / "link-dead")
        assert time.monotonic() - started < 10
        assert caught.value.errno in (errno.EHOSTUNREACH, errno.ECONNREFUSED, errno.ETIMEDOUT)
    finally:
        ended.set()
        reader.join()
    assert reads[0] > 0


def test_a_listing_enters_no_link(lab: Lab, mount: Path) -> None:
    subprocess.run(["ls", "-lR", str(mount / "dir")], check=True, capture_output=True, timeout=30)


def of_coreutils(*words: str) -> Callable[[Path], object]:
    """An attack with a program, the link put in where the word LINK stands."""

    def attack(link: Path) -> None:
        command = [word.replace("LINK", str(link)) for word in words]
        subprocess.run(command, check=True, capture_output=True, timeout=30)

    return attack


ATTACKS: dict[str, Callable[[Path], object]] = {
    "rmdir": os.rmdir,
    "unlink": os.unlink,
    "rm -d": of_coreutils("rm", "-d", "LINK"),
    "rm -r": of_coreutils("rm", "-r", "LINK"),
    "mv": of_coreutils("mv", "-T", "LINK", "LINK-moved"),
    "mv onto": lambda link: os.rename(link.parent / "in-the-way", link),
    "truncate": lambda link: os.truncate(link, 0),
    "create": lambda link: os.close(os.open(link, os.O_CREAT | os.O_EXCL | os.O_WRONLY)),
    "mkdir": os.mkdir,
}


@pytest.fixture
def victim(lab: Lab) -> Iterator[str]:
    """A link to a folder of its own that holds one file, for `rm -r` to empty."""
    folder = lab.host("fs1").share_path("data") / "victim"
    folder.mkdir()
    shutil.copystat(folder.parent / "folder", folder)
    os.chmod(folder, 0o777)
    (folder / "file").write_text("gone after rm -r, as on any mount point")
    os.chmod(folder / "file", 0o666)
    link = lab.host("ns1").share_path("dfs") / "link-victim"
    link.symlink_to(f"msdfs:{lab.host('fs1').address}\\data\\victim")
    yield link.name
    link.unlink()
    shutil.rmtree(folder)


@pytest.mark.parametrize("entered", [False, True], ids=["new", "entered"])
@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("name", ["link-victim", "link-dead", "dir/sub/link"])
def test_nothing_that_is_sent_can_damage_the_namespace(
    lab: Lab, mount: Path, victim: str, name: str, attack: str, entered: bool
) -> None:
    if attack == "rm -r" and name == "dir/sub/link":
        name = victim
    link, on_disk = mount / name, lab.host("ns1").share_path("dfs") / name
    before = os.readlink(on_disk)
    if entered:
        with contextlib.suppress(OSError):
            os.listdir(link)
    obstacle = link.parent / "in-the-way"
    if attack == "mv onto":
        obstacle.mkdir()
    try:
        with pytest.raises((OSError, subprocess.CalledProcessError)):
            ATTACKS[attack](link)
    finally:
        if obstacle.exists():
            shutil.rmtree(obstacle)
    assert os.readlink(on_disk) == before
    assert link.name in os.listdir(link.parent)


def test_chmod_of_a_link_is_ebusy_until_it_is_entered_and_then_about_its_target(lab: Lab, tmp_path: Path) -> None:
    """As on any mount point: `rsync -a` into a link sets the mode and the times of the folder behind it."""
    with mounted(lab, tmp_path / "dfs") as mount:
        on_disk = lab.host("ns1").share_path("dfs") / "link-single"
        before = os.readlink(on_disk)
        with pytest.raises(OSError, match=r".") as caught:
            os.chmod(mount / "link-single", 0o700)
        assert caught.value.errno == errno.EBUSY
        os.listdir(mount / "link-single")
        os.utime(mount / "link-single", (1_000_000_000, 1_000_000_000))
        assert os.stat(lab.host("fs1").share_path("data")).st_mtime == 1_000_000_000
        os.chmod(mount / "link-single", 0o700)
        assert os.readlink(on_disk) == before


def test_rename_from_one_share_to_another_is_exdev(mount: Path, work: Path) -> None:
    (work / "a").write_text("text")
    with pytest.raises(OSError, match=r".") as caught:
        os.rename(work / "a", mount / "link-secret" / "a")
    assert caught.value.errno == errno.EXDEV
    assert (work / "a").read_text() == "text"
