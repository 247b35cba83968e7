"""A hostile server behind one DFS link of a mount, and what programs see of it that use another one: nothing.

Both servers, and that of the namespace, are the one in memory, on sockets; the namespace is a file (dfs_static=).
DFSFS_LONG=1 tries all that the server can say.
"""

from __future__ import annotations

import os
import subprocess
import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from itertools import islice
from typing import TYPE_CHECKING

import pytest

from tests.conftest import LONG
from tests.kernel.mounts import clean_up, mount_command, unmount, wait_until
from tests.support.fakes.server import hostile
from tests.support.fakes.server.hostile import Lies
from tests.support.fakes.server.listener import DOMAIN, PASSWORD, USER, Listener
from tests.support.fakes.server.server import Server
from tests.support.lab.samba import free_net

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.mount

NAMESPACE = """
[[namespace]]
path = "//company/files"
targets = ["//{root}/data"]

[[namespace.link]]
path = "bad"
targets = ["//{bad}/data"]

[[namespace.link]]
path = "good"
targets = ["//{good}/data"]
"""
PROMPT = 5.0
"""Seconds within which the other link answers: less than anything that the bad one is waited for. It takes 0.2, but the
machine of the tests may be busy, and all the servers are in this very process."""
ENOUGH = 40 if LONG else 4
"""Rounds of a program on the other link while the server misbehaves."""
PATIENCE = 90.0
"""Seconds for what is tried on the bad link to end."""


class Neighbour:
    """A program that uses the good link all the time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self.took: list[float] = []
        self.error: BaseException | None = None

    def __enter__(self) -> Neighbour:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(PATIENCE)

    def _work(self) -> None:
        try:
            while not self._stop.is_set():
                for step in (self._read, self._write, self._list):
                    begun = time.perf_counter()
                    step()
                    self.took.append(time.perf_counter() - begun)
                time.sleep(0.005)
        except BaseException as error:
            self.error = error

    def _read(self) -> None:
        assert (self._folder / "file").read_bytes() == b"content"

    def _write(self) -> None:
        (self._folder / "new").write_bytes(b"new")
        (self._folder / "new").unlink()

    def _list(self) -> None:
        assert "file" in os.listdir(self._folder)

    def rounds(self) -> int:
        assert self.error is None, self.error
        return len(self.took) // 3


class Company:
    """The mount and its servers."""

    def __init__(self, top: Path, bad: Listener, lies: Lies) -> None:
        self.top = top
        self.bad = bad
        self.lies = lies

    def disturbs_nobody(self, action: Callable[[], object]) -> None:
        """Does something on the bad link, again and again, while a neighbour works on the other one."""
        with Neighbour(self.top / "good" / "folder") as neighbour:
            wait_until(lambda: neighbour.rounds() > 2, "the neighbour works")
            before, begun, tries = len(neighbour.took), time.monotonic(), 0
            while tries == 0 or (neighbour.rounds() < before // 3 + ENOUGH and time.monotonic() < begun + PATIENCE):
                with suppress(OSError):
                    action()
                tries += 1
            assert neighbour.rounds() >= before // 3 + ENOUGH
            took = neighbour.took[before:]
        print(f"{tries} tries in {time.monotonic() - begun:.1f} s; the neighbour waited {max(took):.3f} s at most")
        assert max(took) < PROMPT


def populated(lies: Lies | None = None) -> Server:
    server = Server()
    server.lie = lies
    for name in ("bad", "good", "folder"):
        server.volume.add_folder(name)
    server.volume.add_file("folder/file", b"content")
    for name in ("endless", "same", "drip", "nothing", "dots", "odd"):
        server.volume.add_folder(f"folder/{name}")
    return server


@contextmanager
def company(tmp_path: Path, options: str = "") -> Iterator[Company]:
    lies, net, mountpoint = Lies(), free_net(), tmp_path / "mnt"
    mountpoint.mkdir()
    with ExitStack() as stack:
        stack.callback(clean_up, mountpoint)
        servers = (populated(), populated(lies), populated())
        root, bad, good = (
            stack.enter_context(Listener(server, f"{net}.{number}")) for number, server in enumerate(servers, 2)
        )
        static = tmp_path / "namespace.toml"
        static.write_text(NAMESPACE.format(root=root.address, bad=bad.address, good=good.address))
        words = f"username={USER},domain={DOMAIN},dfs_static={static},actimeo=0,failover_timeout=4,timeout=10{options}"
        result = mount_command("//company/files", mountpoint, words, PASSWORD)
        assert result.returncode == 0, result.stderr
        for link in ("bad", "good"):
            assert (mountpoint / link / "folder" / "file").read_bytes() == b"content"
        yield Company(mountpoint, bad, lies)
        unmount(mountpoint)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Company]:
    with company(tmp_path_factory.mktemp("company")) as found:
        yield found


def reads(found: Company) -> object:
    return (found.top / "bad" / "folder" / "file").read_bytes()


def lists(found: Company, name: str) -> None:
    """A listing, or the first 5,000 entries of it."""
    with os.scandir(found.top / "bad" / "folder" / name) as entries:
        for _ in islice(entries, 5_000):
            pass


@contextmanager
def honest_again(found: Company) -> Iterator[None]:
    """Ends what a test has the server do, and waits until the link works."""
    yield
    found.lies.expires = lambda: False
    found.lies.snapshots = None
    found.lies.listings.clear()
    found.bad.server.grants, found.bad.never_done = True, False

    def works() -> bool:
        with suppress(OSError):
            return reads(found) == b"content"
        return False

    wait_until(works, "the link works again")


def test_a_session_that_expires_at_every_open(shared: Company) -> None:
    with honest_again(shared):
        shared.lies.expires = lambda: True
        shared.disturbs_nobody(lambda: reads(shared))


@pytest.mark.long
def test_a_session_that_expires_at_every_open_of_a_mount_that_waits(tmp_path: Path) -> None:
    with company(tmp_path, ",hard") as found, honest_again(found):
        found.lies.expires = lambda: True
        found.disturbs_nobody(lambda: reads(found))


LISTINGS = {
    "nothing": hostile.nothing,
    "drip": hostile.drip,
    "same": hostile.same,
    "dots": hostile.dots,
    "odd": hostile.odd,
    "endless": hostile.endless,
}


@pytest.mark.parametrize("name", list(LISTINGS) if LONG else ["nothing", "drip"])
def test_listings_without_end(shared: Company, name: str) -> None:
    with honest_again(shared):
        shared.lies.listings[name] = LISTINGS[name]
        shared.disturbs_nobody(lambda: lists(shared, name))


def test_snapshots_that_grow(shared: Company) -> None:
    with honest_again(shared):
        shared.lies.snapshots = 100
        shared.disturbs_nobody(lambda: os.listdir(shared.top / "bad" / "folder" / ".snapshots"))


def test_no_credits(shared: Company) -> None:
    def use_up() -> None:
        for _ in range(100):
            reads(shared)

    with honest_again(shared):
        shared.bad.server.grants = False
        shared.disturbs_nobody(use_up)


def test_logins_without_end(shared: Company) -> None:
    with honest_again(shared):
        shared.bad.never_done = True
        shared.bad.cut()
        shared.disturbs_nobody(lambda: reads(shared))


def test_silence(shared: Company) -> None:
    def waits() -> None:
        with subprocess.Popen(["cat", shared.top / "bad" / "folder" / "file"], stdout=subprocess.DEVNULL) as program:
            with suppress(subprocess.TimeoutExpired):
                program.wait(0.5)
            program.kill()

    with honest_again(shared), shared.bad.lock:
        shared.disturbs_nobody(waits)
