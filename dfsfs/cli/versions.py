"""What is installed here: `dfsfs --version`."""

from __future__ import annotations

import ctypes
import os
import platform
from importlib import metadata

import dfsfs

LIBRARIES = ("pyfuse3", "trio", "pyspnego", "krb5", "cryptography", "dnspython")
LIBFUSE = ("libfuse3.so.4", "libfuse3.so.3")
"""What libfuse is called from 3.17 on (Debian 13), and before (Debian 12)."""


def versions() -> dict[str, str]:
    """The versions of dfsfs and of what it stands on, by name; what is not installed says so."""
    found = {"dfsfs": dfsfs.__version__, "Python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return {**found, "libfuse": _libfuse(), "kernel": os.uname().release}


def versions_lines() -> list[str]:
    """The same, a line each."""
    return [f"{name} {version}" for name, version in versions().items()]


def _libfuse() -> str:
    """The library's own word for its version."""
    for name in LIBFUSE:
        try:
            library = ctypes.CDLL(name)
            library.fuse_pkgversion.restype = ctypes.c_char_p
            return str(library.fuse_pkgversion().decode())
        except (OSError, AttributeError):
            continue
    return "not installed"
