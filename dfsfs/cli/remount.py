"""`mount -o remount`: has a running mount change its options, and the kernel those that are its business."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

from dfsfs.cli.configure import login_name, terminal
from dfsfs.cli.exitcodes import MOUNT_FAILURE, SUCCESS, SYSTEM_ERROR, USAGE
from dfsfs.cli.messages import MountError, Verdict
from dfsfs.cli.output import join_lines
from dfsfs.cli.secrets import Surroundings, fields_in_restart, find_new_login
from dfsfs.config.options import fields_of
from dfsfs.config.redaction import extract_secrets
from dfsfs.control.answers import Remounted
from dfsfs.control.client import ask, is_trusted
from dfsfs.control.places import our_mounts
from dfsfs.control.protocol import WRONG, ControlError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dfsfs.config.model import ParsedOptions
    from dfsfs.unc import UncPath

CHANGING = 30.0
"""Seconds for mount(8). Before a mount is read only, the kernel waits until what was written is there."""
_LOGIN = {"username", "password", "password2", "domain", "credentials_file", "guest"}
_KERNELS = {
    "read_only": ("rw", "ro"),
    "suid": ("nosuid", "suid"),
    "dev": ("nodev", "dev"),
    "execute": ("noexec", "exec"),
    "follow_symlinks": ("nosymfollow", "symfollow"),
}
"""Fields of ParsedOptions, and what mount(8) calls them when they are false and true."""


def remount(
    unc: UncPath, mountpoint: str, texts: Sequence[str], options: ParsedOptions, warn: Callable[[str], None]
) -> Verdict:
    """Changes the mount on a mount point.

    Raises:
        ConfigError: what is given to log in with makes no sense.
        MountError: there is no such mount, or it refuses.
    """
    place = os.path.realpath(mountpoint)
    entry = next((entry for entry in reversed(our_mounts()) if entry.mountpoint == place), None)
    if entry is None:
        raise MountError(MOUNT_FAILURE, f"nothing of dfsfs is mounted on {mountpoint}")
    named = fields_of(texts) | fields_in_restart(os.environ)
    arguments = {"options": ",".join(clean for clean, _ in map(extract_secrets, texts) if clean)}
    if named & _LOGIN:
        if not is_trusted(entry):
            raise MountError(USAGE, f"user {entry.owner} has mounted {mountpoint}, and is told no password")
        surroundings = Surroundings(os.environ, login_name, terminal(), warn)
        arguments |= find_new_login(options, named, str(unc), surroundings)
    try:
        ask(Remounted, entry, "remount", **arguments)
    except ControlError as error:
        raise MountError(USAGE if error.code == WRONG else MOUNT_FAILURE, str(error)) from None
    words = [pair[getattr(options, name)] for name, pair in _KERNELS.items() if name in named]
    if words:
        _change_in_kernel(place, words)
    return Verdict(SUCCESS)


def _change_in_kernel(mountpoint: str, words: list[str]) -> None:
    """Raises: MountError: the kernel does not take them, or says nothing."""
    # -i: or else it would call us again. By mount(2), as FUSE takes no change by fsconfig(2), which mount(8) of
    # util-linux 2.39 and later calls (Debian 13): it hands on all options that the mount has, and FUSE refuses these.
    command = ["mount", "-i", "-o", ",".join(["remount", *words]), mountpoint]
    environment = {**os.environ, "LIBMOUNT_FORCE_MOUNT2": "always"}
    wanted = ",".join(words)
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            env=environment,
            timeout=CHANGING,
        )
    except subprocess.TimeoutExpired:
        text = f"the kernel was to take {wanted}, and nothing has come of it after {CHANGING:g} seconds"
        raise MountError(SYSTEM_ERROR, text) from None
    except OSError as error:
        raise MountError(SYSTEM_ERROR, f"the kernel does not take {wanted}: {error.strerror}: mount") from None
    if done.returncode != 0:
        raise MountError(SYSTEM_ERROR, f"the kernel does not take {wanted}: {join_lines(done.stderr)}")
