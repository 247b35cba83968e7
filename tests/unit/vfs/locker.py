"""A process that locks a file as it is told, for test_linux_locks.py: one JSON list a line, and one answer a line.

    ["open", slot]  ["close", slot]
    ["setlk", slot, ofd, kind, start, end]  ["getlk", slot, ofd, kind, start, end]
    ["flock", slot, kind]
    ["wait", slot, ofd, kind, start, end]      a thread waits for the lock; another line says how that ended
    ["interrupt"]                              a signal for that thread

Answers: {"code": 0 or errno, ...}; of what has waited: {"ended": 0 or errno}.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import signal
import struct
import sys
import threading
from typing import Any

OFD_GETLK, OFD_SETLK, OFD_SETLKW = 36, 37, 38
"""<fcntl.h> of Linux; fcntl has no names for them before Python 3.14."""
FLOCK = struct.Struct("hhqqi4x")
"""struct flock: l_type, l_whence, l_start, l_len, l_pid."""
OFFSET_MAX = 2**63 - 1
_LIBC = ctypes.CDLL(None, use_errno=True)


def pack(kind: int, start: int, end: int) -> bytes:
    return FLOCK.pack(kind, os.SEEK_SET, start, 0 if end == OFFSET_MAX else end - start + 1, 0)


class Locker:
    def __init__(self, path: str) -> None:
        self._path = path
        self._files: dict[int, int] = {}
        self._thread: threading.Thread | None = None
        self._output = threading.Lock()

    def say(self, **answer: object) -> None:
        with self._output:
            print(json.dumps(answer), flush=True)

    def do(self, call: str, *arguments: Any) -> dict[str, object]:
        return getattr(self, call)(*arguments) or {}

    def open(self, slot: int) -> None:
        self._files[slot] = os.open(self._path, os.O_RDWR)

    def close(self, slot: int) -> None:
        os.close(self._files.pop(slot))

    def setlk(self, slot: int, ofd: bool, kind: int, start: int, end: int) -> None:
        fcntl.fcntl(self._files[slot], OFD_SETLK if ofd else fcntl.F_SETLK, pack(kind, start, end))

    def getlk(self, slot: int, ofd: bool, kind: int, start: int, end: int) -> dict[str, object]:
        answer = fcntl.fcntl(self._files[slot], OFD_GETLK if ofd else fcntl.F_GETLK, pack(kind, start, end))
        found, _, first, length, pid = FLOCK.unpack(answer)
        if found == fcntl.F_UNLCK:
            return {"lock": None}
        return {"lock": [found, first, first + length - 1 if length else OFFSET_MAX, pid]}

    def flock(self, slot: int, kind: int) -> None:
        operation = {fcntl.F_RDLCK: fcntl.LOCK_SH, fcntl.F_WRLCK: fcntl.LOCK_EX, fcntl.F_UNLCK: fcntl.LOCK_UN}[kind]
        fcntl.flock(self._files[slot], operation | fcntl.LOCK_NB)

    def wait(self, slot: int, ofd: bool, kind: int, start: int, end: int) -> None:
        lock = ctypes.create_string_buffer(pack(kind, start, end))
        call = OFD_SETLKW if ofd else fcntl.F_SETLKW

        def work() -> None:  # not fcntl.fcntl, which goes on after a signal
            failed = _LIBC.fcntl(self._files[slot], call, lock)
            self.say(ended=ctypes.get_errno() if failed else 0)

        self._thread = threading.Thread(target=work, daemon=True)
        self._thread.start()

    def interrupt(self) -> None:
        assert self._thread is not None and self._thread.ident is not None
        signal.pthread_kill(self._thread.ident, signal.SIGUSR1)


def main() -> None:
    signal.signal(signal.SIGUSR1, lambda *_: None)
    locker = Locker(sys.argv[1])
    for line in sys.stdin:
        try:
            locker.say(code=0, **locker.do(*json.loads(line)))
        except OSError as error:
            locker.say(code=error.errno)


if __name__ == "__main__":
    main()
