"""What is installed here: `dfsfs --version`. Versions come from the metadata of packages; none of them is imported."""

from __future__ import annotations

import ctypes
import os
import platform
from importlib import metadata

import dfsfs

REQUIRED = (
    *("pyfuse3", "trio", "smbprotocol", "pyspnego", "krb5", "gssapi", "cryptography", "dnspython"),
    *("rich", "h11", "prometheus-client"),
)
"""Packages that dfsfs does not work without: those of pyproject.toml, and gssapi, which pyspnego needs for Kerberos."""
LIBFUSE = ("libfuse3.so.4", "libfuse3.so.3")
"""What libfuse is called from 3.17 on (Debian 13), and before (Debian 12)."""
NOT_INSTALLED = "not installed"


def find_versions() -> dict[str, str]:
    """The versions of dfsfs and of what it stands on, by name."""
    return {
        "dfsfs": dfsfs.__version__,
        "Python": platform.python_version(),
        **{name: _version_of(name) for name in REQUIRED},
        "libfuse": _version_of_libfuse(),
        "kernel": os.uname().release,
    }


def format_versions() -> list[str]:
    """The same, a line each."""
    return [f"{name} {version}" for name, version in find_versions().items()]


def _version_of(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return NOT_INSTALLED


def _version_of_libfuse() -> str:
    """The version that the library itself gives."""
    for name in LIBFUSE:
        try:
            library = ctypes.CDLL(name)
            library.fuse_pkgversion.restype = ctypes.c_char_p
            return str(library.fuse_pkgversion().decode())
        except (OSError, AttributeError):
            continue
    return NOT_INSTALLED
