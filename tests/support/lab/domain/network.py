"""A network of its own on this machine: one network namespace per host, joined by a bridge in one more.

Nothing of it is in the network of the machine: no address, route or name server of it can be seen from outside, so that
several such networks may have the same addresses. Names of namespaces begin with a tag; whatever has the tag belongs
to the network and goes with it.

Needs root and ip(8). Standard library only.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

PREFIX = 16
"""Bits of an address that are the same for the whole network."""
NAMESPACES = Path("/run/netns")
"""Where ip(8) keeps the names of namespaces."""


class Network:
    """A network; `tag` is the beginning of the names of its namespaces, eight characters at most."""

    def __init__(self, tag: str) -> None:
        self.tag = tag

    def namespace(self, host: str) -> str:
        """The name of a host's network namespace."""
        return f"{self.tag}-{host}"

    def create(self, hosts: dict[str, tuple[str, ...]]) -> None:
        """Makes the network. `hosts`: addresses by name of the host. Raises CalledProcessError, with nothing left."""
        switch = self.namespace("switch")
        commands = [f"netns add {switch}", f"-n {switch} link add br0 type bridge", f"-n {switch} link set br0 up"]
        for number, (host, addresses) in enumerate(hosts.items()):
            own = self.namespace(host)
            commands += [
                f"netns add {own}",
                f"-n {own} link add eth0 type veth peer name port{number} netns {switch}",
                f"-n {own} link set lo up",
                *(f"-n {own} addr add {address}/{PREFIX} dev eth0" for address in addresses),
                f"-n {own} link set eth0 up",
                f"-n {switch} link set port{number} master br0 up",
            ]
        try:
            for command in commands:
                _ip(*command.split())
        except BaseException:
            self.remove()
            raise

    def remove(self) -> None:
        """Takes the network away, as far as it is there."""
        for path in NAMESPACES.glob(f"{self.tag}-*"):
            subprocess.run(["ip", "netns", "delete", path.name], check=False, capture_output=True, timeout=10)

    def cut(self, host: str) -> None:
        """Pulls the host's plug: what is sent to it is lost without a word."""
        _ip("-n", self.namespace(host), "link", "set", "eth0", "down")

    def heal(self, host: str) -> None:
        """Ends `cut`."""
        _ip("-n", self.namespace(host), "link", "set", "eth0", "up")

    @contextmanager
    def inside(self, host: str) -> Iterator[None]:
        """Moves this thread into the host's network for the length of the block: sockets made there stay there."""
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        there = os.open(NAMESPACES / self.namespace(host), os.O_RDONLY)
        try:
            _set_namespace(there)
            try:
                yield
            finally:
                _set_namespace(home)
        finally:
            os.close(there)
            os.close(home)


_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def _set_namespace(fd: int) -> None:
    if _libc.setns(fd, _CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True, timeout=10)
