"""The commands' end of a control socket: one question, one answer, without a loop of events."""

from __future__ import annotations

import os
import socket
from typing import Any

from dfsfs.control.places import MountEntry, mount_of, our_mounts, socket_of
from dfsfs.control.protocol import MAX_ANSWER, WRONG, ControlError, Request, decode_answer, encode_request

CONNECTING = 5.0
"""Seconds until a mount that takes no connection is given up: its program hangs, or is busy with others."""
ANSWERING = 310.0
"""A little more than what a mount gives a command."""


def ask(entry: MountEntry, command: str, **arguments: str) -> Any:
    """The answer of a mount to a command. Raises ControlError: it has none, refuses, or can't be asked."""
    path = socket_of(entry)
    if path is None:
        raise ControlError(f"the mount on {entry.mountpoint} has no control socket: XDG_RUNTIME_DIR names no folder")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as connection:
        connection.settimeout(CONNECTING)
        try:
            connection.connect(path)
            connection.settimeout(ANSWERING)
            connection.sendall(encode_request(Request(command, arguments)))
            line = _receive(connection)
        except TimeoutError:
            raise ControlError(f"the mount on {entry.mountpoint} does not answer") from None
        except (FileNotFoundError, ConnectionRefusedError):
            gone = f"nobody answers for the mount on {entry.mountpoint} ({path}): its program has ended, or another"
            raise ControlError(f"{gone} version of dfsfs runs it; if the mount hangs, umount -l it") from None
        except PermissionError:
            raise ControlError(
                f"only user {entry.owner}, who owns the mount on {entry.mountpoint}, or root may ask it", WRONG
            ) from None
        except OSError as error:
            raise ControlError(f"the mount on {entry.mountpoint} can't be asked: {error.strerror or error}") from None
    return decode_answer(line)


def _receive(connection: socket.socket) -> bytes:
    parts, size = [], 0
    while data := connection.recv(1 << 20):
        parts.append(data)
        size += len(data)
        if size > MAX_ANSWER:
            raise ControlError("the mount's answer is too long")
    line = b"".join(parts)
    if not line.endswith(b"\n"):
        raise ControlError("the mount has ended in the middle of its answer")
    return line


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
        whole = os.path.realpath(path)
        entry = mount_of(whole, found)
    if entry is None:
        raise ControlError(f"{path} is not in a mount of dfsfs", WRONG)
    return entry, whole[len(entry.mountpoint.rstrip("/")) :].strip("/")
