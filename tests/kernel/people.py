"""Two people on one mount of many users: a lab whose folders they have different rights to, and programs of theirs.

They log in with what they have stored in their keyrings, by NTLM, so no domain is needed. What a person's program does
is said by the test, line by line, and the program stands where it stands until the test ends it.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dfsfs.smb.auth import keyring
from dfsfs.smb.auth.credentials import Credentials, Secret
from dfsfs.smb.auth.identity import Account, as_user
from tests.kernel.mounts import mounted, wait_until
from tests.support.lab.topology import ALICE, BOB, GROUP, USERS, Content, Host, Link, Share, Target, Topology, User

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from tests.support.lab.samba import Lab

GID = GROUP[1]
STRANGER = User("nobody-knows", "", 20009)
"""A user of this computer who has stored no login."""

SHARING = Topology(
    hosts=(
        Host(
            "ns1",
            10,
            (
                Share(
                    "dfs",
                    Content.ROOT,
                    links=(
                        Link("docs", (Target("fs1", "docs"),)),
                        Link("hiding", (Target("fs1", "hiding"),)),
                        Link("vetoed", (Target("fs1", "vetoed"),)),
                        Link("denied", (Target("fs1", "bobonly"),)),
                    ),
                ),
            ),
        ),
        Host(
            "fs1",
            12,
            (
                Share("docs", Content.SMALL),
                Share("hiding", Content.SMALL, (("hide unreadable", "yes"),)),
                Share("vetoed", Content.SMALL, (("veto files", "/not-for-%U-*/"),)),
                Share("bobonly", Content.SMALL, (("valid users", "bob"),)),
            ),
        ),
    ),
    dead=(),
    root=Target("ns1", "dfs"),
)
SHARES = ("docs", "hiding", "vetoed")
"""Links to shares that show what one may not read, that hide it from listings, and that deny it altogether."""

_PROGRAM = """
import array, ctypes, errno, json, os, socket, stat, struct, sys
channel = socket.socket(fileno=int(sys.argv[1]))
libc = ctypes.CDLL(None, use_errno=True)
known = {}
def checked(result):
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
def watch(path):
    notes = checked(libc.inotify_init1(os.O_NONBLOCK))
    checked(libc.inotify_add_watch(notes, os.fsencode(path), 0x100))
    return notes
def heard(notes):
    data, names = os.read(notes, 65536), []
    while data:
        length = struct.unpack_from("iIII", data)[3]
        names.append(data[16:16 + length].rstrip(bytes(1)).decode())
        data = data[16 + length:]
    return names
def give(descriptor):
    socket.send_fds(channel, [b"."], [descriptor])
def take():
    return socket.recv_fds(channel, 1, 1)[1][0]
def cached_size(path):
    buffer = ctypes.create_string_buffer(256)
    checked(libc.statx(-100, os.fsencode(path), 0x4000, 0x7ff, buffer))
    return struct.unpack_from("Q", buffer, 40)[0]
def birth_time(descriptor):
    buffer = ctypes.create_string_buffer(256)
    checked(libc.statx(descriptor, b"", 0x1000, 0x800, buffer))
    return struct.unpack_from("q", buffer, 80)[0]
print("ready", flush=True)
for line in sys.stdin:
    try:
        code = json.loads(line)
        try:
            answer = [0, eval(code, globals())]
        except SyntaxError:
            exec(code, globals())
            answer = [0, None]
    except OSError as error:
        answer = [error.errno, None]
    print(json.dumps(answer, default=repr), flush=True)
"""


class Person:
    """A program of one of the people. Use as a context manager."""

    def __init__(self, user: User) -> None:
        self.user = user
        self._ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                ["/usr/bin/python3", "-I", "-c", _PROGRAM, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                user=user.uid,
                group=GID,
                extra_groups=(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                cwd="/",
            )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"

    def __enter__(self) -> Person:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()
        self._ours.close()

    def does(self, code: str) -> Any:
        """The value of an expression, or nothing of a statement, in the person's program. Raises OSError as that."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(code) + "\n")
        self._process.stdin.flush()
        number, value = json.loads(self._process.stdout.readline())
        if number:
            raise OSError(number, f"{self.user.name}: {code}: {os.strerror(number)}")
        return value

    def fails(self, code: str) -> str:
        """The name of the error that an expression ends with."""
        try:
            value = self.does(code)
        except OSError as error:
            return errno.errorcode[error.errno or 0]
        return f"no error, but {value!r}"

    def gives(self, descriptor: str, to: Person) -> None:
        """Hands a descriptor to another one's program, where it is called `given`."""
        self.does(f"give({descriptor})")
        _, (passed, *_), *_ = socket.recv_fds(self._ours, 1, 1)
        try:
            socket.send_fds(to._ours, [b"."], [passed])
        finally:
            os.close(passed)
        to.does("given = take()")


@contextlib.contextmanager
def shared_mount(lab: Lab, options: str = "") -> Iterator[Path]:
    """The namespace, mounted for many users by root, where everybody can get at it; alice and bob have logins."""
    place = lab.address("ns1")
    for user in USERS:
        with as_user(Account(user.uid, GID)):
            keyring.store(place, Credentials(user.name, Secret(user.password)))
    try:
        with tempfile.TemporaryDirectory(prefix="dfsfs-people-") as folder:
            os.chmod(folder, 0o755)
            words = ",".join(word for word in ("multiuser", options) if word)
            with mounted(lab, Path(folder) / "m", words) as mount:
                yield mount
    finally:
        for user in USERS:
            with as_user(Account(user.uid, GID)):
                keyring.remove(place)


@contextlib.contextmanager
def private_folder(lab: Lab, mount: Path, share: str, mode: int = 0o700) -> Iterator[str]:
    """A folder on the server that only alice may look into: `sub/` and `file.txt` are in it. Gives its name."""
    folder = Path(tempfile.mkdtemp(prefix="not-for-bob-", dir=lab.host("fs1").share_path(share)))
    (folder / "sub").mkdir()
    (folder / "file.txt").write_text("only for one\n")
    for path in (folder, folder / "sub", folder / "file.txt"):
        os.chown(path, ALICE.uid, GID)
    folder.chmod(mode)
    (folder / "sub").chmod(0o700)
    (folder / "file.txt").chmod(0o600)
    try:
        with Person(ALICE) as alice:  # she may have listed the share not longer ago than actimeo
            wait_until(lambda: bool(alice.does(f"os.path.exists('{mount / share / folder.name}')")), "alice sees it")
        yield folder.name
    finally:
        subprocess.run(["rm", "-rf", str(folder)], check=True)


__all__ = ["ALICE", "BOB", "GID", "SHARES", "SHARING", "STRANGER", "Person", "private_folder", "shared_mount"]
