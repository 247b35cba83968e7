"""One mount, two users with different rights: what one of them may not see changes nothing that the other has.

The table of docs/security.md, "What users of one mount share", names a test of this file for each of its rows.
"""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.kernel.mounts import is_mounted
from tests.kernel.people import ALICE, BOB, SHARES, SHARING, STRANGER, Person, private_folder, shared_mount
from tests.support.lab.samba import Lab, free_net

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.lab, pytest.mark.mount]


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab(free_net(), topology=SHARING) as running:
        for share in SHARES:
            running.host("fs1").share_path(share).chmod(0o777)
        yield running


@pytest.fixture(scope="module")
def mount(lab: Lab) -> Iterator[Path]:
    with shared_mount(lab) as path:
        yield path


@pytest.fixture
def alice() -> Iterator[Person]:
    with Person(ALICE) as person:
        yield person


@pytest.fixture
def bob() -> Iterator[Person]:
    with Person(BOB) as person:
        yield person


@pytest.fixture(params=SHARES)
def folder(request: pytest.FixtureRequest, lab: Lab, mount: Path) -> Iterator[Path]:
    """A folder of alice's, on a share that shows it to bob and on one that hides it."""
    with private_folder(lab, mount, request.param) as name:
        yield mount / request.param / name


def refused(folder: Path) -> set[str]:
    """How bob is refused what is in alice's folder."""
    return {"ENOENT"} if folder.parent.name == "vetoed" else {"EACCES"}


# -- names that the kernel has ---------------------------------------------------------------------------------------


def test_where_somebody_stands_stays_where_it_is(folder: Path, alice: Person, bob: Person) -> None:
    alice.does(f"os.chdir('{folder}/sub')")
    for what in ("sub", "sub/none", "file.txt", ""):
        error = bob.fails(f"os.listdir('{folder}/{what}')")
        assert error in refused(folder) | {"ENOTDIR"}, what
        bob.fails(f"os.stat('{folder}/{what}')")
        assert alice.does("os.getcwd()") == f"{folder}/sub", what
    assert bob.fails(f"os.stat('{folder}/sub')") in refused(folder)
    alice.does("os.mkdir('made')")
    assert alice.does("os.listdir('.')") == ["made"]
    assert alice.does(f"os.listdir('{folder}/sub')") == ["made"]


@pytest.fixture
def mounted_below(folder: Path, alice: Person) -> Iterator[Path]:
    """Another file system, mounted in alice's folder: nothing else shows so well that the kernel has kept the names."""
    alice.does(f"os.stat('{folder}/sub')")
    place = folder / "sub"
    subprocess.run(["mount", "-t", "tmpfs", "none", str(place)], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=False, capture_output=True)


def test_what_is_mounted_below_stays_mounted(folder: Path, mounted_below: Path, bob: Person) -> None:
    for what in ("file.txt", "", "none", "sub/x"):
        bob.fails(f"os.stat('{folder}/{what}')")
        bob.fails(f"os.listdir('{folder}/{what}')")
        bob.fails(f"open('{folder}/{what}')")
        bob.fails(f"os.rename('{folder}/{what}', '{folder}/other')")
        bob.fails(f"os.rmdir('{folder}/{what}')")
        assert is_mounted(mounted_below), what


def test_one_who_cannot_log_in_takes_nothing_away(folder: Path, mounted_below: Path) -> None:
    with Person(STRANGER) as stranger:
        for what in (mounted_below / "x", folder / "file.txt", folder, folder.parent):
            assert stranger.fails(f"os.listdir('{what}')") == ("EACCES" if what != mounted_below / "x" else "ENOENT")
            assert stranger.fails(f"os.stat('{what}')") == ("EACCES" if what != mounted_below / "x" else "ENOENT")
            assert is_mounted(mounted_below), what


def test_what_somebody_else_removes_is_gone_for_all(lab: Lab, mount: Path, alice: Person, bob: Person) -> None:
    """Also for one who was told of it later, or never, and now wants to make it."""
    with private_folder(lab, mount, "docs") as name:
        folder, there = mount / "docs" / name, lab.host("fs1").share_path("docs") / name
        alice.does(f"os.chdir('{folder}')")
        alice.does(f"os.stat('{folder}/sub')")
        subprocess.run(["rm", "-r", str(there)], check=True)
        assert bob.fails(f"os.stat('{folder}')") == "ENOENT"
        bob.does(f"os.mkdir('{folder}')")
        there.chmod(0o777)
        bob.does(f"os.mkdir('{folder}/his')")
        assert alice.does(f"os.listdir('{folder}')") == ["his"]
        assert alice.fails("os.listdir('.')") == "ESTALE"


def test_absence_is_of_who_was_told_so(lab: Lab, mount: Path, alice: Person, bob: Person) -> None:
    """Negative entries."""
    with private_folder(lab, mount, "vetoed") as name:
        folder = mount / "vetoed" / name
        for _ in range(3):
            assert bob.fails(f"os.stat('{folder}')") == "ENOENT"
            assert name not in bob.does(f"os.listdir('{folder.parent}')")
            assert bob.fails(f"os.stat('{folder}')") == "ENOENT"
            assert alice.does(f"sorted(os.listdir('{folder}'))") == ["file.txt", "sub"]
            assert name in alice.does(f"os.listdir('{folder.parent}')")
        assert bob.fails(f"os.mkdir('{folder}')") == "EEXIST"
        assert bob.fails(f"os.rmdir('{folder}')") in ("ENOENT", "EACCES")
        assert bob.fails(f"os.rename('{folder}', '{folder}-x')") in ("ENOENT", "EACCES")
        assert alice.does(f"sorted(os.listdir('{folder}'))") == ["file.txt", "sub"]
    assert bob.fails(f"os.stat('{folder}')") == "ENOENT"
    assert alice.fails(f"os.stat('{folder}')") == "ENOENT", "asked for bob's sake"


# -- what the kernel has of files ------------------------------------------------------------------------------------


def test_attributes_are_told_to_who_may_have_them(folder: Path, alice: Person, bob: Person) -> None:
    file = folder / "file.txt"
    for _ in range(3):
        assert alice.does(f"os.stat('{file}').st_size") == 13
        assert bob.fails(f"os.stat('{file}')") in refused(folder)
        assert bob.fails(f"os.utime('{file}')") in refused(folder)
        assert bob.fails(f"os.truncate('{file}', 0)") in refused(folder)
    assert alice.does(f"os.stat('{file}').st_size") == 13


def test_attributes_that_the_kernel_is_asked_for_alone(folder: Path, alice: Person, bob: Person) -> None:
    """A limit: AT_STATX_DONT_SYNC asks for what the kernel has, and that is one for all."""
    file = folder / "file.txt"
    alice.does(f"f = open('{file}')")  # so that the kernel does not forget it
    assert bob.does(f"cached_size('{file}')") == 13


def test_data_that_the_kernel_has_is_got_by_an_open_only(folder: Path, alice: Person, bob: Person) -> None:
    file = folder / "file.txt"
    alice.does(f"f = open('{file}')")
    assert alice.does("f.read()") == "only for one\n"
    for flags in ("os.O_RDONLY", "os.O_WRONLY", "os.O_RDWR", "os.O_RDONLY | os.O_NOATIME", "os.O_WRONLY | os.O_CREAT"):
        assert bob.fails(f"os.open('{file}', {flags})") in refused(folder) | {"EPERM"}, flags
    assert bob.does(f"p = os.open('{file}', os.O_PATH)") is None
    assert bob.fails("os.open(f'/proc/self/fd/{p}', os.O_RDONLY)") in refused(folder)
    assert bob.fails("os.fstat(p)") in refused(folder), "such a descriptor gives no right to anything"
    assert bob.fails(f"os.execv('{file}', ['x'])") in refused(folder)


def test_what_a_listing_has_told_one_is_not_told_the_other(folder: Path, alice: Person, bob: Person) -> None:
    """readdirplus, and the view that is kept of a listing."""
    for _ in range(2):
        found = alice.does(f"sorted((entry.name, entry.stat().st_size) for entry in os.scandir('{folder}'))")
        assert found[0] == ["file.txt", 13]
        assert bob.fails(f"os.listdir('{folder}')") in refused(folder)
        assert bob.fails(f"os.stat('{folder}/file.txt')") in refused(folder)
        assert bob.fails(f"os.stat('{folder}/nothing')") in refused(folder)


def test_where_a_symbolic_link_leads(folder: Path, alice: Person, bob: Person) -> None:
    link = folder / "link"
    alice.does(f"os.symlink('file.txt', '{link}')")
    for _ in range(2):
        assert alice.does(f"os.readlink('{link}')") == "file.txt"
        assert alice.does(f"open('{link}').read()") == "only for one\n"
        assert bob.fails(f"os.readlink('{link}')") in refused(folder)
        assert bob.fails(f"open('{link}')") in refused(folder)
    assert alice.does(f"os.readlink('{link}')") == "file.txt"


def test_extended_attributes(folder: Path, alice: Person, bob: Person) -> None:
    file = folder / "file.txt"
    alice.does(f"os.setxattr('{file}', 'user.colour', b'blue')")
    for name in ("user.colour", "user.dosattrib", "user.dfsfs.btime", "user.dfsfs.sddl", "system.cifs_acl"):
        alice.does(f"len(os.getxattr('{file}', '{name}'))")
        assert bob.fails(f"os.getxattr('{file}', '{name}')") in refused(folder), name
    assert alice.does(f"os.listxattr('{file}')") == ["user.colour"]
    assert bob.fails(f"os.listxattr('{file}')") in refused(folder)
    assert bob.fails(f"os.setxattr('{file}', 'user.colour', b'red')") in refused(folder)
    assert bob.fails(f"os.removexattr('{file}', 'user.colour')") in refused(folder)
    assert alice.does(f"os.getxattr('{file}', 'user.colour').decode()") == "blue"


def test_what_is_behind_a_dfs_link(mount: Path, alice: Person, bob: Person) -> None:
    """Its target's root is shown to those who may enter it; others see a link."""
    link = mount / "denied"
    for _ in range(2):
        assert bob.does(f"sorted(os.listdir('{link}'))") == ["folder", "hello.txt"]
        times = bob.does(f"os.stat('{link}').st_mtime")
        assert alice.does(f"os.stat('{link}').st_mtime") != times
        assert alice.fails(f"os.listdir('{link}')") == "EACCES"
        assert alice.fails(f"os.stat('{link}/hello.txt')") == "EACCES"
        assert bob.does(f"open('{link}/hello.txt').read()") == "hello from bobonly\n"


# -- what we keep of files, folders and answers ----------------------------------------------------------------------


def test_nothing_is_fetched_for_others(lab: Lab, folder: Path, alice: Person, bob: Person) -> None:
    """Data that comes along with an open, and files that are opened because of a guess."""
    files = [folder / f"small-{number}" for number in range(12)]
    alice.does(f"os.listdir('{folder}')")
    for file in files:
        alice.does(f"open('{file}', 'w').write('of alice')")
    for file in files:
        assert alice.does(f"open('{file}').read()") == "of alice"
        for other in files:
            assert bob.fails(f"open('{other}')") in refused(folder)


def test_no_lease_is_shared(lab: Lab, mount: Path, alice: Person, bob: Person) -> None:
    """What one writes the other reads at once; who may only read does not get the handle of one who may write."""
    with private_folder(lab, mount, "docs", mode=0o755) as name:
        file = mount / "docs" / name / "file.txt"
        there = lab.host("fs1").share_path("docs") / name / "file.txt"
        there.chmod(0o644)
        alice.does(f"f = os.open('{file}', os.O_RDWR)")
        for number in range(10):
            assert bob.does(f"len(open('{file}').read())") >= 4
            alice.does(f"os.pwrite(f, b'{number:04}', 0)")
            assert bob.does(f"open('{file}').read()[:4]") == f"{number:04}"
            assert bob.fails(f"open('{file}', 'r+')") == "EACCES"
            assert bob.fails(f"os.truncate('{file}', 0)") == "EACCES"
        there.chmod(0o600)
        assert bob.fails(f"open('{file}')") == "EACCES", "what bob was given before is no answer now"
        assert alice.does("os.pread(f, 4, 0).decode()") == "0009"


def test_what_one_may_do_in_a_folder_of_another(lab: Lab, mount: Path, alice: Person, bob: Person) -> None:
    """One who may enter a folder and not list it gets at what has a name that he knows, and at no other name."""
    with private_folder(lab, mount, "docs", mode=0o711) as name:
        folder = mount / "docs" / name
        (lab.host("fs1").share_path("docs") / name / "file.txt").chmod(0o644)
        for _ in range(2):
            assert sorted(alice.does(f"os.listdir('{folder}')")) == ["file.txt", "sub"]
            assert bob.fails(f"os.listdir('{folder}')") == "EACCES"
            assert bob.does(f"open('{folder}/file.txt').read()") == "only for one\n"
            assert bob.fails(f"os.stat('{folder}/nothing')") in ("ENOENT", "EACCES")  # as its server says
            assert bob.fails(f"os.mkdir('{folder}/his')") == "EACCES"
            assert bob.fails(f"os.unlink('{folder}/file.txt')") == "EACCES"


# -- what is open ----------------------------------------------------------------------------------------------------


def test_a_descriptor_works_for_whom_it_is_given_to(folder: Path, alice: Person, bob: Person) -> None:
    alice.does(f"f = os.open('{folder}/file.txt', os.O_RDWR)")
    assert bob.fails(f"os.stat('{folder}/file.txt')") in refused(folder)
    alice.gives("f", bob)
    assert bob.does("os.read(given, 100).decode()") == "only for one\n"
    assert bob.does("os.fstat(given).st_size") == 13
    assert bob.does("birth_time(given)") > 0
    assert bob.does("os.lseek(given, 0, os.SEEK_END)") == 13
    assert bob.does("os.pwrite(given, b'ONLY', 0)") == 4
    bob.does("os.ftruncate(given, 4)")
    assert bob.does("os.fstat(given).st_size") == 4
    bob.does("os.fsync(given)")
    alice.does("os.close(f)")
    assert bob.does("os.pread(given, 100, 0).decode()") == "ONLY"
    assert bob.fails(f"open('{folder}/file.txt')") in refused(folder)
    bob.does("os.close(given)")
    assert bob.fails(f"os.stat('{folder}/file.txt')") in refused(folder)
    assert alice.does(f"open('{folder}/file.txt').read()") == "ONLY"


def test_so_does_one_of_a_folder(folder: Path, alice: Person, bob: Person) -> None:
    alice.does(f"d = os.open('{folder}', os.O_RDONLY | os.O_DIRECTORY)")
    alice.gives("d", bob)
    assert bob.does("sorted(os.listdir(given))") == ["file.txt", "sub"]
    assert bob.does("os.fstat(given).st_nlink") >= 1
    assert bob.fails("os.open('file.txt', os.O_RDONLY, dir_fd=given)") in refused(folder)
    assert bob.fails("os.stat('file.txt', dir_fd=given)") in refused(folder)


def test_descriptors_of_others_give_no_right(folder: Path, alice: Person, bob: Person) -> None:
    """That somebody has it open is nothing to those who have no descriptor of it."""
    alice.does(f"f = os.open('{folder}/file.txt', os.O_RDWR)")
    alice.does(f"d = os.open('{folder}/sub', os.O_RDONLY)")
    for what in ("file.txt", "sub"):
        assert bob.fails(f"os.stat('{folder}/{what}')") in refused(folder)
        assert bob.fails(f"os.fstat(os.open('{folder}/{what}', os.O_PATH))") in refused(folder)


# -- what can't be kept from others ----------------------------------------------------------------------------------


def test_who_may_not_list_a_folder_cannot_open_it(folder: Path, bob: Person) -> None:
    for flags in ("os.O_RDONLY", "os.O_RDONLY | os.O_DIRECTORY"):
        assert bob.fails(f"os.open('{folder}', {flags})") in refused(folder)


def test_names_are_heard_by_who_watches_the_folder(folder: Path, alice: Person, bob: Person) -> None:
    """A limit: the kernel asks nobody whether a user may watch what they can name."""
    alice.does(f"os.chdir('{folder}/sub')")
    bob.does(f"notes = watch('{folder}/sub')")
    alice.does(f"os.mkdir('{folder}/sub/made')")
    assert bob.does("heard(notes)") == ["made"]
