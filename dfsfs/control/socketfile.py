"""Unix sockets at paths.

The file of a socket outlives its program, and bind(2) refuses a path that has one. So what a program that was killed
has left is removed; a program that listens keeps the place. A program that ends removes its file only if no other one
listens there since.
"""

from __future__ import annotations

import errno
import os
import socket
import stat


def listen_at(path: str, mask: int, backlog: int) -> socket.socket:
    """A listening Unix socket at a path, in the place of a dead one of ours. `mask` as in umask(2).

    Raises:
        OSError: it can't be had. EADDRINUSE if a program listens there, or what is there is another user's; EEXIST if
            it is no socket.
    """
    if not remove_dead(path):
        about = os.lstat(path)
        if not stat.S_ISSOCK(about.st_mode):
            raise FileExistsError(errno.EEXIST, "there is something that is no socket", path)
        if about.st_uid != os.geteuid():
            raise OSError(errno.EADDRINUSE, "there is a socket of another user", path)
        raise OSError(errno.EADDRINUSE, "a program listens there", path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        before = os.umask(mask)
        try:
            listener.bind(path)
        finally:
            os.umask(before)
        listener.listen(backlog)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener


def remove_dead(path: str) -> bool:
    """Removes a socket of ours at which no program listens. Returns whether there is nothing at the path now."""
    try:
        about = os.lstat(path)
        if stat.S_ISSOCK(about.st_mode) and about.st_uid == os.geteuid() and _is_dead(path):
            os.unlink(path)
            return True
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return False


def _is_dead(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            return True
        except OSError:  # a queue that is full, a socket of another kind, one that only others may use
            return False
        return False
