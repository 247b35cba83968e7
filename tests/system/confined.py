"""Runs a program as a unit's settings would have it: systemd's part, where no systemd runs.

    python confined.py UNIT COMMAND...

System call filters are made by libseccomp of the sets that `systemd-analyze syscall-filter` names, as in systemd 252;
capabilities and the umask are set as well. Device access (DevicePolicy=) is a matter of control groups, and not
here. Standard library only, as it runs on hosts of labs, too.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import subprocess
import sys
from pathlib import Path

ALLOW = 0x7FFF0000
NEWUTS = 0x04000000
NAMESPACES = (0x00000080, 0x00020000, 0x02000000, NEWUTS, 0x08000000, 0x10000000, 0x20000000, 0x40000000)
"""CLONE_NEWTIME, NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID and NEWNET."""
PROT_WRITE, PROT_EXEC = 2, 4
LESS, EQUAL, GREATER, MASKED = 2, 4, 6, 7
"""SCMP_CMP_LT, EQ, GT and MASKED_EQ."""


class Comparison(ctypes.Structure):
    """struct scmp_arg_cmp: what an argument of a call has to be."""

    _fields_ = (
        ("argument", ctypes.c_uint),
        ("how", ctypes.c_int),
        ("first", ctypes.c_uint64),
        ("second", ctypes.c_uint64),
    )


class Filter:
    """A filter that answers with `otherwise` to whatever no rule is for."""

    def __init__(self, otherwise: int) -> None:
        self._library = ctypes.CDLL("libseccomp.so.2")
        self._library.seccomp_init.restype = ctypes.c_void_p
        self._context = ctypes.c_void_p(self._library.seccomp_init(ctypes.c_uint32(otherwise)))

    def add(self, action: int, name: str, *comparisons: tuple[int, int, int, int]) -> None:
        """Calls that this machine does not have are left out."""
        number = self._library.seccomp_syscall_resolve_name(name.encode())
        if number < 0:
            return
        array = (Comparison * len(comparisons))(*(Comparison(*each) for each in comparisons))
        words = (self._context, ctypes.c_uint32(action), number, len(comparisons), array)
        if self._library.seccomp_rule_add_array(*words) not in (0, -errno.EACCES):  # EACCES: what it does anyway
            raise SystemExit(f"no rule for {name}")

    def load(self) -> None:
        if self._library.seccomp_load(self._context) != 0:
            raise SystemExit("the kernel does not take the filter")


def refuse(number: int = errno.EPERM) -> int:
    return 0x00050000 | number


def calls_of(words: str) -> set[str]:
    """The system calls that the words of a SystemCallFilter= stand for."""
    found: set[str] = set()
    for word in words.split():
        if not word.startswith("@"):
            found.add(word)
            continue
        # Of systemd 257, it would tell whoever waits for the service how it has ended itself.
        clean = {name: value for name, value in os.environ.items() if name != "NOTIFY_SOCKET"}
        command = ("systemd-analyze", "syscall-filter", word)
        shown = subprocess.run(command, capture_output=True, text=True, check=True, env=clean).stdout
        lines = [line.strip() for line in shown.splitlines()[1:]]
        found |= calls_of(" ".join(line for line in lines if line and not line.startswith("#")))
    return found


def settings(unit: Path) -> dict[str, list[str]]:
    """The settings of a unit's file, each with all its values."""
    found: dict[str, list[str]] = {}
    for line in unit.read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            name, _, value = line.partition("=")
            found.setdefault(name, []).append(value)
    return found


def _refusing(service: dict[str, list[str]], libc: ctypes.CDLL) -> Filter:
    """All that is refused by name or by argument."""
    refusing = Filter(ALLOW)
    if service.get("ProtectClock") == ["yes"]:
        for name in calls_of("@clock"):
            refusing.add(refuse(), name)
    if service.get("ProtectHostname") == ["yes"]:
        assert libc.unshare(NEWUTS) == 0
        for name in ("sethostname", "setdomainname"):
            refusing.add(refuse(), name)
    if service.get("RestrictNamespaces") == ["yes"]:
        refusing.add(refuse(errno.ENOSYS), "clone3")
        refusing.add(refuse(), "setns")
        for flag in NAMESPACES:
            refusing.add(refuse(), "clone", (0, MASKED, flag, flag))
            refusing.add(refuse(), "unshare", (0, MASKED, flag, flag))
    if service.get("MemoryDenyWriteExecute") == ["yes"]:
        both = PROT_WRITE | PROT_EXEC
        refusing.add(refuse(), "mmap", (2, MASKED, both, both))
        for name in ("mprotect", "pkey_mprotect"):
            refusing.add(refuse(), name, (2, MASKED, PROT_EXEC, PROT_EXEC))
    families = sorted(getattr(socket, name).value for name in service["RestrictAddressFamilies"][0].split())
    none = refuse(errno.EAFNOSUPPORT)
    refusing.add(none, "socket", (0, LESS, families[0], 0))
    refusing.add(none, "socket", (0, GREATER, families[-1], 0))
    for family in set(range(families[0], families[-1])) - set(families):
        refusing.add(none, "socket", (0, EQUAL, family, 0))
    for line in service["SystemCallFilter"]:
        for name in calls_of(line.removeprefix("~")) if line.startswith("~") else ():
            refusing.add(refuse(), name)
    return refusing


def main(unit: str, *command: str) -> None:
    service = settings(Path(unit))
    os.umask(int(service["UMask"][0], 8))
    kept = service["CapabilityBoundingSet"][0].lower().replace("cap_", "+").split()
    bound = ("setpriv", f"--bounding-set=-all,{','.join(kept)}", "--no-new-privs")
    allowing = Filter(refuse())
    for line in service["SystemCallFilter"]:
        for name in calls_of(f"@default {line}") if not line.startswith("~") else ():
            allowing.add(ALLOW, name)
    _refusing(service, ctypes.CDLL(None, use_errno=True)).load()
    allowing.load()
    os.execvp(bound[0], [*bound, *command])


if __name__ == "__main__":
    main(*sys.argv[1:])
