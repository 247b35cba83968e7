"""The ways to reach a share that are compared: dfsfs, the other FUSE clients that the machine has, and smbclient.

A FUSE client is mounted anew for each measurement, so that nothing is cached, and everything it starts carries a mark
in its environment, by which its processes are found, measured and ended.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from tests.kernel.mounts import is_mounted
from tests.support.lab.marked import end_marked, marked

if TYPE_CHECKING:
    from collections.abc import Iterator

MARK = "DFSFS_BENCH"
PATIENCE = 20.0
"""Seconds for a client to mount, and to end."""


class ClientError(Exception):
    """A client cannot do what is asked of it; the text says why."""


@dataclass(frozen=True)
class Place:
    """The same share twice: behind a DFS link, and by its server's own address, for clients that know no DFS."""

    root: str
    """//HOST/NAMESPACE"""
    link: str
    host: str
    share: str
    user: str
    password: str
    seal: bool


class FuseClient(Protocol):
    """A file system that can be mounted."""

    name: str
    packages: tuple[str, ...]

    def missing(self) -> str:
        """What is not installed; empty if everything is."""

    def mounted(self, place: Place, folder: Path) -> contextlib.AbstractContextManager[Path]:
        """Mounts in an empty folder; gives the path at which the share's content is. ClientError if that fails."""


def all_clients(before: Path | None = None) -> list[FuseClient]:
    """`before`: another checkout of dfsfs, with a .venv, that is measured as well."""
    own = [Dfsfs(), Dfsfs("pyfuse3", options=",loop=pyfuse3")]
    if before is not None:
        own.append(Dfsfs("before", program=before / ".venv" / "bin" / "mount.dfsfs"))
    return [*own, Smbnetfs(), Rclone(), Gvfs()]


# -- processes --------------------------------------------------------------------------------------------------------


def cpu_seconds(folder: Path) -> float:
    """Seconds of processor time that the processes of a client have taken so far."""
    total = 0
    for pid in marked(f"{MARK}={folder}"):
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += int(fields[11]) + int(fields[12])
    return total / os.sysconf("SC_CLK_TCK")


def peak_memory(folder: Path) -> float:
    """MiB that the processes of a client have had at their most, added up."""
    total = 0
    for pid in marked(f"{MARK}={folder}"):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                if line.startswith("VmHWM"):
                    total += int(line.split()[1])
    return total / 1024


def _environment(folder: Path, **more: str) -> dict[str, str]:
    return {**os.environ, MARK: str(folder), "HOME": str(folder.parent), **more}


@contextlib.contextmanager
def _cleaned(folder: Path, mountpoint: Path) -> Iterator[None]:
    """Unmounts and ends what was started for a folder, however the body ends."""
    try:
        yield
    finally:
        for command in (["umount"], ["umount", "-l"]):
            if is_mounted(mountpoint):
                subprocess.run([*command, str(mountpoint)], capture_output=True, check=False)
        end_marked(f"{MARK}={folder}", PATIENCE)


def _wait_for(path: Path, process: subprocess.Popen[bytes] | None, what: str) -> None:
    """Returns once there is something at a path."""
    deadline = time.monotonic() + PATIENCE
    while True:
        with contextlib.suppress(OSError):
            if os.listdir(path):
                return
        if process is not None and process.poll() is not None:
            raise ClientError(f"{what} ended with status {process.returncode}")
        if time.monotonic() > deadline:
            raise ClientError(f"{what} shows nothing after {PATIENCE:g} s")
        time.sleep(0.05)


def _without(*programs: str) -> str:
    return ", ".join(name for name in programs if shutil.which(name) is None)


def _libsmbclient_settings(place: Place, home: Path) -> Path:
    """Writes what libsmbclient reads in a home; the folder of its files."""
    settings = home / ".smb"
    settings.mkdir(exist_ok=True)
    (settings / "smb.conf").write_text(
        "[global]\nclient min protocol = SMB3\nclient signing = required\n"
        + ("client smb encrypt = required\n" if place.seal else "")
    )
    return settings


# -- clients ----------------------------------------------------------------------------------------------------------


class Dfsfs:
    """`program`: its mount.dfsfs; `options`: more mount options, with a comma before each."""

    packages: tuple[str, ...] = ()

    def __init__(self, name: str = "dfsfs", program: Path | None = None, options: str = "") -> None:
        self.name = name
        self._program = program or Path(sys.executable).parent / "mount.dfsfs"
        self._options = options

    def missing(self) -> str:
        return ""

    @contextlib.contextmanager
    def mounted(self, place: Place, folder: Path) -> Iterator[Path]:
        command = [str(self._program), place.root, str(folder)]
        command += ["-o", f"username={place.user}" + (",seal" if place.seal else "") + self._options]
        with _cleaned(folder, folder):
            environment = _environment(folder, PASSWD=place.password)
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
            if done.returncode:
                raise ClientError(done.stderr.strip())
            yield folder / place.link


class Smbnetfs:
    """libsmbclient behind FUSE; follows DFS links."""

    name = "smbnetfs"
    packages: tuple[str, ...] = ("smbnetfs",)

    def missing(self) -> str:
        return _without("smbnetfs")

    @contextlib.contextmanager
    def mounted(self, place: Place, folder: Path) -> Iterator[Path]:
        settings = _libsmbclient_settings(place, folder.parent)
        (settings / "smbnetfs.auth").write_text(f'auth "{place.user}" "{place.password}"\n')
        (settings / "smbnetfs.auth").chmod(0o600)
        (settings / "smbnetfs.conf").write_text(
            'include "smbnetfs.auth"\nlocal_charset "UTF-8"\nsmb_tree_scan_period 0\n'
        )
        with _cleaned(folder, folder):
            process = subprocess.Popen(
                ["smbnetfs", "-f", str(folder)],
                env=_environment(folder),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            host, share = place.root.strip("/").split("/")
            shown = folder / host / share / place.link
            _wait_for(shown, process, self.name)
            yield shown


class Rclone:
    """Knows no DFS. Needs its cache of files for programs that do more than write a file from start to end: it takes
    data without sending it, also for fsync."""

    name = "rclone"
    packages: tuple[str, ...] = ("rclone",)

    def missing(self) -> str:
        return _without("rclone")

    @contextlib.contextmanager
    def mounted(self, place: Place, folder: Path) -> Iterator[Path]:
        if place.seal:
            raise ClientError("cannot be told to encrypt")
        obscured = subprocess.run(
            ["rclone", "obscure", "-"], input=place.password, capture_output=True, text=True, check=True
        ).stdout.strip()
        settings = {"TYPE": "smb", "HOST": place.host, "USER": place.user, "PASS": obscured, "DOMAIN": "LAB"}
        remote = {f"RCLONE_CONFIG_BENCH_{key}": value for key, value in settings.items()}
        cache = folder.parent / "rclone-cache"
        command = ["rclone", "mount", f"bench:{place.share}", str(folder), "--vfs-cache-mode", "writes"]
        command += ["--cache-dir", str(cache), "--dir-cache-time", "1s", "--vfs-write-back", "1s"]
        with _cleaned(folder, folder):
            shutil.rmtree(cache, ignore_errors=True)
            process = subprocess.Popen(
                command, env=_environment(folder, **remote), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            _wait_for(folder, process, self.name)
            yield folder


class Gvfs:
    """GNOME's: libsmbclient in gvfsd-smb, behind D-Bus, behind FUSE."""

    name = "gvfs-fuse"
    packages: tuple[str, ...] = ("gvfs-fuse", "gvfs-backends", "dbus", "libglib2.0-bin")

    def missing(self) -> str:
        return _without("dbus-run-session", "gio", "/usr/libexec/gvfsd", "/usr/libexec/gvfsd-fuse")

    @contextlib.contextmanager
    def mounted(self, place: Place, folder: Path) -> Iterator[Path]:
        _libsmbclient_settings(place, folder.parent)
        host, share = place.root.strip("/").split("/")
        script = (
            f"/usr/libexec/gvfsd --no-fuse & sleep 0.5; /usr/libexec/gvfsd-fuse -f {folder} & sleep 0.5; "
            f"printf '%s\\nLAB\\n%s\\n' {place.user} {place.password} | gio mount smb://{host}/{share} && sleep 100000"
        )
        runtime = folder.parent / "gvfs-runtime"
        runtime.mkdir(mode=0o700, exist_ok=True)
        with _cleaned(folder, folder):
            process = subprocess.Popen(
                ["dbus-run-session", "--", "sh", "-c", script],
                env=_environment(folder, XDG_RUNTIME_DIR=str(runtime)),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            shown = folder / f"smb-share:server={host},share={share}" / place.link
            _wait_for(shown, process, self.name)
            yield shown


# -- without FUSE -----------------------------------------------------------------------------------------------------


def smbclient(place: Place, commands: str) -> None:
    """Runs commands of smbclient in the share, for the reference. Raises ClientError."""
    command = ["smbclient", place.root, "-U", f"{place.user}%{place.password}", "--client-protection"]
    command += ["encrypt" if place.seal else "sign", "-c", f"cd {place.link}; {commands}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode or "NT_STATUS" in done.stdout:
        raise ClientError((done.stdout + done.stderr).strip()[-300:])
