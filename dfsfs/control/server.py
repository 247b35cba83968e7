"""The mount's end of the control socket.

The socket belongs to the owner of the mount and may be used by them and by root only. The kernel says which user
is at the other end (unix(7), SO_PEERCRED). A connection is one request and one answer, has a time limit, and runs in a
task of its own beside the file system, which never waits for one. More than CONNECTIONS at a time wait their turn.

What is left of a mount that was killed is a socket at which no program listens. The next mount takes it away.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import struct
import time
from functools import partial
from typing import TYPE_CHECKING

import trio

from dfsfs.background import keep_going
from dfsfs.control.listening import next_connection, takes_of_reserve
from dfsfs.control.places import folders_for, private_folder, socket_name, why_unsafe
from dfsfs.control.protocol import (
    MAX_ANSWER,
    MAX_REQUEST,
    WRONG,
    ControlError,
    Request,
    decode_request,
    encode_error,
    encode_result,
)
from dfsfs.control.shapes import to_json
from dfsfs.control.socketfile import listen_at, remove_dead
from dfsfs.errors import DfsfsError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Answer = Callable[[Request], Awaitable[object]]
    """Carries a request out; its answer is one that shapes.to_json takes. Raises ControlError or DfsfsError."""

log = logging.getLogger("dfsfs.control")

CONNECTIONS = 8
BACKLOG = 128
"""Connections that may wait for their turn. One more is refused at once: connect(2) on such a socket does not wait."""
AT_ONCE = 200
"""Items of a list that are encoded at once: about a millisecond."""
YOUNG = 60.0
"""Seconds."""
RECEIVING = 5.0
"""Seconds for a request to come, and for the answer to be taken."""
ANSWERING = 300.0
"""Seconds for a command: one that tries all targets of a link waits for those that are down."""
_PEER = struct.Struct("3i")
"""pid, uid, gid (unix(7))."""


class NoPlace(Exception):
    """There is no folder for the socket, or none that is safe. The text says why."""


def open_socket(device: str, owner: int) -> tuple[socket.socket, str]:
    """A listening socket for the mount with a device number, and its path.

    Raises:
        NoPlace: there is no folder for it, or only such as others may change.
    """
    reasons = []
    for folder in folders_for(owner):
        try:
            return _open_in(folder, device, owner)
        except OSError as error:
            reasons.append(f"{folder}: {error.strerror or error}")
        except NoPlace as reason:
            reasons.append(str(reason))
    raise NoPlace("; ".join(reasons))


def _open_in(folder: str, device: str, owner: int) -> tuple[socket.socket, str]:
    path = os.path.join(folder, socket_name(device))
    try:
        _make_safe(folder, owner)
        return _listen(path)
    except FileNotFoundError:  # another mount has just ended, and removed the folder
        _make_safe(folder, owner)
        return _listen(path)


def _listen(path: str) -> tuple[socket.socket, str]:
    with contextlib.suppress(FileNotFoundError):
        # The program that listens there, if any, is of a mount that has ended: the kernel has given us its number.
        os.unlink(path)
    return listen_at(path, 0o177, BACKLOG), path


def sweep(folder: str, age: float = YOUNG) -> None:
    """Removes the sockets at which no program listens. Those younger than `age` seconds may belong to a mount that
    is just beginning.
    """
    for name in os.listdir(folder):
        if name.endswith(".sock"):
            path = os.path.join(folder, name)
            with contextlib.suppress(OSError):  # another program was faster
                if time.time() - os.lstat(path).st_mtime >= age:
                    remove_dead(path)


def _make_safe(folder: str, owner: int) -> None:
    """Makes a folder for sockets if there is none. Raises NoPlace, OSError."""
    with contextlib.suppress(FileExistsError):
        os.mkdir(folder, 0o700)
        if folder != private_folder(owner):
            os.chmod(folder, 0o755)  # whatever the umask is: who may talk to a mount is a matter of its socket
    if reason := why_unsafe(folder, owner):
        raise NoPlace(reason)
    sweep(folder)


async def serve(listener: socket.socket, path: str, owner: int, answer: Answer) -> None:
    """Answers at a socket until cancelled, then removes it."""
    accepting = trio.socket.from_stdlib_socket(listener)
    try:
        await keep_going("control socket", partial(_accept, accepting, path, owner, answer))
    finally:
        accepting.close()
        remove_dead(path)
        folder = os.path.dirname(path)
        if folder == private_folder(owner):
            with contextlib.suppress(OSError):  # there are others
                os.rmdir(folder)


async def _accept(accepting: trio.socket.SocketType, path: str, owner: int, answer: Answer) -> None:
    limit = trio.CapacityLimiter(CONNECTIONS)
    async with trio.open_nursery() as nursery:
        while True:
            await limit.acquire_on_behalf_of(token := object())
            try:
                connection = await next_connection(accepting, f"the control socket {path}")
            except BaseException:
                limit.release_on_behalf_of(token)
                raise
            nursery.start_soon(_attend, connection, owner, answer, limit, token)


async def _attend(
    connection: trio.socket.SocketType, owner: int, answer: Answer, limit: trio.CapacityLimiter, token: object
) -> None:
    """One connection from its beginning to its end."""
    try:
        with connection:
            line = await _reply(connection, owner, answer)
            with trio.move_on_after(RECEIVING):
                await trio.SocketStream(connection).send_all(line)
    except (OSError, trio.BrokenResourceError):
        log.debug("the program that asked at the control socket has ended")
    except Exception:
        log.exception("a request at the control socket failed in an unexpected way")
    finally:
        limit.release_on_behalf_of(token)


async def _reply(connection: trio.socket.SocketType, owner: int, answer: Answer) -> bytes:
    """The line to answer with."""
    _, uid, _ = _PEER.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
    try:
        line = await _receive(connection)  # in any case: what is not read takes the answer with it
        if uid not in (0, owner):
            log.warning("user %d may not use the control socket of user %d's mount", uid, owner)
            raise ControlError("only the owner of the mount, or root, may ask it", WRONG)
        if takes_of_reserve(connection.fileno()):
            raise ControlError("the mount has hardly any file descriptors left, and keeps them for servers and files")
        request = decode_request(line)
        with trio.move_on_after(ANSWERING):
            return await _encode(await answer(request))
        raise ControlError(f"not done within {ANSWERING:g} seconds")
    except ControlError as error:
        return encode_error(error)
    except DfsfsError as error:
        return encode_error(ControlError(str(error)))
    except Exception as error:
        log.exception("a request at the control socket failed in an unexpected way")
        return encode_error(ControlError(f"the mount failed in a way that it should not: {error!r}"))


async def _encode(answer: object) -> bytes:
    """The line of an answer. That of a long list is made piece by piece, as programs wait for the loop meanwhile."""
    if not isinstance(answer, list) or len(answer) <= AT_ONCE:
        return _check_length(encode_result(to_json(answer)))
    head, tail = encode_result([]).split(b"[]")
    pieces, size = [], 0
    for start in range(0, len(answer), AT_ONCE):
        whole = encode_result(to_json(answer[start : start + AT_ONCE]))
        pieces.append(whole[len(head) + 1 : -len(tail) - 1])
        size += len(whole)
        if size > MAX_ANSWER:
            break
        await trio.lowlevel.checkpoint()
    return _check_length(head + b"[" + b", ".join(pieces) + b"]" + tail)


def _check_length(line: bytes) -> bytes:
    if len(line) > MAX_ANSWER:
        raise ControlError("the answer is too long")
    return line


async def _receive(connection: trio.socket.SocketType) -> bytes:
    line = b""
    with trio.move_on_after(RECEIVING):
        while not line.endswith(b"\n"):
            data = await connection.recv(MAX_REQUEST)
            line += data
            if not data or len(line) > MAX_REQUEST:
                raise ControlError("a request is one line of at most 64 KiB", WRONG)
        return line
    raise ControlError(f"no request within {RECEIVING:g} seconds", WRONG)
