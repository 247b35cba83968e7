"""The commands' end of a control socket: one question, one answer, without a loop of events.

A mount of another user answers with what that user likes, while root waits. So its socket has to be that user's, its
answer is short and comes within a time, and is read by its shape: answers.py.
"""

from __future__ import annotations

import os
import shlex
import socket
import struct
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from dfsfs.control.places import MountEntry, mount_of, our_mounts, sockets_of
from dfsfs.control.protocol import MAX_ANSWER, WRONG, ControlError, DeadMount, Request, decode_answer, encode_request
from dfsfs.control.shapes import ShapeError, from_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

T = TypeVar("T")

CONNECTING = 5.0
"""Seconds until a mount that takes no connection is given up: its program hangs, or is busy with others."""
ANSWERING = 310.0
"""A little more than what a mount gives a command."""
AT_ONCE = 10.0
"""Seconds for a command that waits for no server, as status."""
MAX_OTHERS_ANSWER = 4 * 1024 * 1024
"""Bytes of an answer of another user's mount: 5,000 links in use."""
MAX_LINKS = 40
"""Symbolic links that are followed in a path, as by the kernel."""
_PEER = struct.Struct("3i")
"""pid, uid, gid (unix(7), SO_PEERCRED)."""


@dataclass(frozen=True, slots=True)
class Answer(Generic[T]):
    """What a mount has said. `raw`: for --json, with what newer versions may have added."""

    said: T
    raw: Any


@dataclass(frozen=True, slots=True)
class Patience:
    """How long mounts may take, in seconds: each of the user's own and of root's; those of another user together."""

    seconds: float
    _others: dict[int, float] = field(default_factory=dict)

    def until(self, entry: MountEntry) -> float:
        """When an answer has to be there, by time.monotonic."""
        deadline = time.monotonic() + self.seconds
        return deadline if is_trusted(entry) else self._others.setdefault(entry.owner, deadline)


def is_trusted(entry: MountEntry) -> bool:
    """Whether the program of a mount is one that we run, or root: no answer of it is to our harm."""
    return entry.owner in (0, os.geteuid())


def ask(kind: type[T], entry: MountEntry, command: str, **arguments: str) -> Answer[T]:
    """The answer of a mount to a command. Raises ControlError: it has none, refuses, or can't be asked."""
    return ask_with(Patience(ANSWERING), kind, entry, command, **arguments)


def ask_with(patience: Patience, kind: type[T], entry: MountEntry, command: str, **arguments: str) -> Answer[T]:
    """The same, with a time of its own."""
    raw = _answer(entry, Request(command, arguments), patience.until(entry))
    try:
        return Answer(from_json(kind, raw), raw)
    except ShapeError as error:
        raise ControlError(f"the answer of the mount on {entry.mountpoint} makes no sense: {error}") from None


def ask_each(
    patience: Patience, kind: type[T], entries: Iterable[MountEntry], command: str, **arguments: str
) -> Iterator[tuple[MountEntry, Answer[T] | ControlError]]:
    """The answers of several mounts, one after the other; each that has none comes with the error, which names it."""
    for entry in entries:
        try:
            yield entry, ask_with(patience, kind, entry, command, **arguments)
        except ControlError as error:
            is_named = entry.mountpoint in str(error)
            yield entry, error if is_named else ControlError(f"{entry.mountpoint}: {error}", error.code)


def _answer(entry: MountEntry, request: Request, deadline: float) -> Any:
    with _connect(entry, deadline) as connection:
        try:
            connection.settimeout(_seconds_until(deadline))
            connection.sendall(encode_request(request))
            line = _receive(connection, deadline, MAX_ANSWER if is_trusted(entry) else MAX_OTHERS_ANSWER)
        except OSError as error:
            raise _failure(entry, error) from None
    return decode_answer(line)


def _connect(entry: MountEntry, deadline: float) -> socket.socket:
    """A connection to the program of a mount. Raises ControlError."""
    if os.geteuid() not in (0, entry.owner):
        text = f"only user {entry.owner}, who owns the mount on {entry.mountpoint}, or root may ask it"
        raise ControlError(text, WRONG)
    places = sockets_of(entry)
    for path in places:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            connection.settimeout(min(CONNECTING, _seconds_until(deadline)))
            connection.connect(path)
            _check_peer(connection, entry)
        except (FileNotFoundError, ConnectionRefusedError):
            connection.close()  # what a mount that was killed has left; the device number is another's now
        except OSError as error:
            connection.close()
            raise _failure(entry, error) from None
        except ControlError:
            connection.close()
            raise
        else:
            return connection
    why = "its program has ended" + ("" if places else ", or has no control socket (see its log)")
    take = f"umount -l {shlex.quote(entry.mountpoint)} takes it away"
    raise DeadMount(entry.mountpoint, f"{why}; {take}")


def _failure(entry: MountEntry, error: OSError) -> ControlError:
    if isinstance(error, TimeoutError):
        return ControlError(f"the mount on {entry.mountpoint} does not answer")
    return ControlError(f"the mount on {entry.mountpoint} can't be asked: {error.strerror or error}")


def _check_peer(connection: socket.socket, entry: MountEntry) -> None:
    """Raises ControlError: another user than the owner listens. A user may have made a link to the socket of another
    user, whose program would be asked for what the first one wants.
    """
    _, uid, _ = _PEER.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
    if uid != entry.owner:
        raise ControlError(f"user {uid} answers for the mount on {entry.mountpoint}, which is user {entry.owner}'s")


def _seconds_until(deadline: float) -> float:
    """The seconds until then. Raises TimeoutError."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _receive(connection: socket.socket, deadline: float, limit: int) -> bytes:
    line = bytearray()
    while data := connection.recv(1 << 20):
        line += data
        if len(line) > limit:
            raise ControlError(f"the mount's answer is longer than {limit} bytes")
        connection.settimeout(_seconds_until(deadline))  # or else a byte now and then would go on for ever
    if not line.endswith(b"\n"):
        raise ControlError("the mount has ended in the middle of its answer")
    return bytes(line)


def mount_at(path: str) -> tuple[MountEntry, str]:
    """The dfsfs mount that a path is in, and the rest of the path below the mount point.

    Links in the path are followed, but not those inside of a mount of ours, which may not answer.

    Raises:
        ControlError: it is in none.
    """
    try:
        found = our_mounts()
    except OSError as error:
        raise ControlError(f"/proc/self/mountinfo can't be read: {error.strerror}") from None
    whole = os.path.abspath(path)
    entry = mount_of(whole, found)
    if entry is None:
        whole = _follow_links(path, found)
        entry = mount_of(whole, found)
    if entry is None:
        raise ControlError(f"{path} is not in a mount of dfsfs", WRONG)
    return entry, whole[len(entry.mountpoint.rstrip("/")) :].strip("/")


def _follow_links(path: str, ours: list[MountEntry]) -> str:
    """An absolute path, whose links are followed up to where it enters one of our mounts."""
    done, rest, links = "/", deque(os.path.join(os.getcwd(), path).split("/")), 0
    while rest:
        name = rest.popleft()
        here = os.path.normpath(os.path.join(done, name))
        if mount_of(here, ours) is not None:
            return os.path.normpath(os.path.join(here, *rest))
        try:
            target = os.readlink(here)
        except OSError:
            done = here
            continue
        links += 1
        if links > MAX_LINKS:
            return os.path.join(here, *rest)
        rest.extendleft(reversed(target.split("/")))
        done = "/" if target.startswith("/") else done
    return done
