"""The systemd units: what systemd-analyze says of them, and their command lines and the notify protocol as systemd uses
them, for no systemd runs here.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.kernel.mounts import clean_up, is_mounted
from tests.system import confined
from tests.system.confined import settings
from tests.system.conftest import PROGRAM

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.support.lab.samba import Lab

UNITS = Path(__file__).parent.parent.parent / "systemd"
SERVICE = UNITS / "dfsfs@.service"
CONFINED = (sys.executable, "-I", "-S", confined.__file__, str(SERVICE))
"""Begins the command line of a program that is to run as the unit has it."""
EXPOSURE = 4.9
"""What systemd-analyze security says of the service, of 10: docs/security.md names it, and what it was before."""


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A folder with the units, and the manual pages that they name where man(1) finds them."""
    for unit in UNITS.iterdir():
        (tmp_path / unit.name).write_text(unit.read_text().replace("/usr/bin/dfsfs", PROGRAM))
    return tmp_path


@pytest.mark.skipif(not Path("/usr/bin/systemd-analyze").exists(), reason="there is no systemd-analyze")
def test_systemd_analyze_verify(installed: Path, manual_path: Mapping[str, str]) -> None:
    units = [str(path) for path in sorted(installed.iterdir()) if path.suffix in (".service", ".mount", ".automount")]
    (installed / "dfsfs@mnt-public.service").write_text((installed / "dfsfs@.service").read_text())
    words = ["systemd-analyze", "verify", "--man=yes", *units, str(installed / "dfsfs@mnt-public.service")]
    done = subprocess.run(words, capture_output=True, text=True, check=False, env={**os.environ, **manual_path})
    assert (done.returncode, done.stderr) == (0, "")


def command_of(name: str, mountpoint: Path, variables: Mapping[str, str], which: int = -1) -> list[str]:
    """The command line of a setting of the service, as systemd makes it for an instance."""
    text = settings(SERVICE)[name][which].removeprefix("-").replace("/usr/bin/dfsfs", PROGRAM)
    text = text.replace("%f", str(mountpoint))
    for variable, value in variables.items():
        text = text.replace(f"${{{variable}}}", shlex.quote(value))
    assert not re.search(r"[%$]", text.replace("$$", "")), text
    return [*CONFINED, *shlex.split(text.replace("$$", "$"))]


class Instance:
    """A service that a test runs in systemd's place."""

    def __init__(self, lab: Lab, folder: Path, options: str = "", watchdog: str = "3000000") -> None:
        user, password = lab.credentials
        self.mountpoint = folder / "mnt"
        self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notify.bind(str(folder / "notify"))
        self.notify.settimeout(30)
        (folder / "password").write_text(password + "\n")
        (folder / "password").chmod(0o400)
        self.variables = {"DFSFS_UNC": lab.root_unc, "DFSFS_OPTIONS": f"username={user}{options}"}
        for which, _ in enumerate(settings(SERVICE)["ExecStartPre"]):
            subprocess.run(command_of("ExecStartPre", self.mountpoint, {}, which), check=False, capture_output=True)
        clean = {name: value for name, value in os.environ.items() if not name.startswith("PASSWD")}
        self.log = (folder / "log").open("wb")
        self.process = subprocess.Popen(
            command_of("ExecStart", self.mountpoint, self.variables),
            env={
                **clean,
                "NOTIFY_SOCKET": str(folder / "notify"),
                "WATCHDOG_USEC": watchdog,
                "PASSWD_FILE": str(folder / "password"),
            },
            stderr=self.log,
            stdin=subprocess.DEVNULL,
        )

    def told(self) -> dict[str, str]:
        """The next message to systemd."""
        return dict(line.split("=", 1) for line in self.notify.recv(4096).decode().splitlines())

    def until(self, name: str, pattern: str = "") -> str:
        """Waits for a message with a field that a pattern matches; its value."""
        while True:
            value = self.told().get(name)
            if value is not None and re.search(pattern, value):
                return value

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        self.notify.close()
        self.log.close()
        clean_up(self.mountpoint)


def devices_of(pid: int) -> set[str]:
    """The device files that a process has open, or the names that it opened them by."""
    opened = (os.readlink(entry.path) for entry in os.scandir(f"/proc/{pid}/fd"))
    return {path for path in opened if path.startswith("/dev/")}


@pytest.mark.lab
@pytest.mark.mount
def test_a_service_from_its_start_to_its_end(lab: Lab, tmp_path: Path) -> None:
    instance = Instance(lab, tmp_path, ",actimeo=0")
    try:
        first = instance.told()
        assert first["READY"] == "1" and first["MAINPID"] == str(instance.process.pid)
        assert first["STATUS"] == f"{lab.root_unc} on {instance.mountpoint}: 1 target"
        assert is_mounted(instance.mountpoint), "ready means that programs can use it"
        begun = time.monotonic()
        for _ in range(3):
            instance.until("WATCHDOG")
        assert time.monotonic() - begun < 3 * 1.5, "systemd would have ended it"
        (instance.mountpoint / "link-multi" / "hello.txt").read_bytes()
        instance.until("STATUS", "2 targets$")
        lab.host("fs1").kill()
        try:
            (instance.mountpoint / "link-multi" / "hello.txt").read_bytes()
            instance.until("STATUS", "2 targets, 1 failed over")
        finally:
            lab.host("fs1").start()
        assert devices_of(instance.process.pid) <= {"/dev/fuse", "/dev/null", "/dev/urandom"}, "DeviceAllow="
        written = instance.mountpoint / "link-multi" / "written"
        written.write_bytes(b"by the service")
        assert written.read_bytes() == b"by the service"
        written.unlink()
        reload = subprocess.run(
            command_of("ExecReload", instance.mountpoint, {}), capture_output=True, text=True, check=True
        )
        assert "referrals forgotten" in reload.stdout
        instance.process.send_signal(signal.SIGTERM)
        instance.until("STOPPING", "1")
        assert instance.process.wait(timeout=20) == 0
        assert not is_mounted(instance.mountpoint)
    finally:
        instance.end()


@pytest.mark.lab
@pytest.mark.mount
def test_after_a_crash_the_next_start_clears_what_is_left(lab: Lab, tmp_path: Path) -> None:
    first = Instance(lab, tmp_path)
    try:
        first.until("READY")
        first.process.kill()
        first.process.wait()
        assert is_mounted(first.mountpoint), "the kernel does not take it down by itself"
        first.notify.close()
        (tmp_path / "notify").unlink()
        (tmp_path / "password").unlink()
        second = Instance(lab, tmp_path)
        try:
            second.until("READY")
            assert (second.mountpoint / "link-multi" / "hello.txt").read_bytes()
            subprocess.run(command_of("ExecStopPost", second.mountpoint, {}), check=True)
            assert second.process.wait(timeout=20) == 0
        finally:
            second.end()
    finally:
        first.end()


def test_the_confinement_of_these_tests_confines() -> None:
    """Each of the calls works here without it."""
    probe = """
import ctypes, mmap, os, socket
libc = ctypes.CDLL(None, use_errno=True)
def refused(call):
    try:
        return call() == -1
    except OSError:
        return True
print([
    refused(lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_WRITE | mmap.PROT_EXEC)),
    refused(lambda: libc.unshare(0x00020000)),
    refused(lambda: os.setpriority(os.PRIO_PROCESS, 0, 1)),
    refused(lambda: socket.socket(socket.AF_UNIX)),
    refused(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW)),
    refused(lambda: os.chroot("/")),
    os.umask(0) == 0o77,
])
"""
    for words, expected in (((), [False] * 7), (CONFINED, [True, True, True, False, True, True, True])):
        command = [*words, sys.executable, "-c", probe]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30, umask=0o22)
        assert done.stdout.strip() == str(expected)


@pytest.mark.skipif(not Path("/usr/bin/systemd-analyze").exists(), reason="there is no systemd-analyze")
def test_how_exposed_the_service_is(tmp_path: Path) -> None:
    unit = tmp_path / "dfsfs@.service"
    unit.write_text(SERVICE.read_text())
    words = ("systemd-analyze", "security", "--offline=true", "--no-pager", str(unit))
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    level = re.search(r"Overall exposure level for \S+: (\d+\.\d)", done.stdout)
    assert level is not None
    assert float(level[1]) <= EXPOSURE
    assert f" {EXPOSURE} " in (UNITS.parent / "docs" / "security.md").read_text()


def test_nothing_gives_the_service_mounts_of_its_own() -> None:
    """It alone would see what it mounts. As exec_needs_mount_namespace of systemd has it."""
    ruled_out = (
        r"(Private(?!Users)|Protect(?!Clock|Hostname)|ProcSubset|ReadOnly|ReadWrite|Inaccessible|Bind|Temporary|Root)"
    )
    assert [name for name in settings(SERVICE) if re.match(ruled_out, name)] == []


def test_the_units_name_what_there_is() -> None:
    service = settings(SERVICE)
    assert service["Type"] == ["notify"] and service["NoNewPrivileges"] == ["yes"]
    assert service["LimitCORE"] == ["0"] and service["MemoryMax"] == ["2G"]
    assert int(service.get("OOMScoreAdjust", ["0"])[0]) >= 0, "others would be killed for what servers make it remember"
    mount = settings(UNITS / "mnt-public.mount")
    automount = settings(UNITS / "mnt-public.automount")
    assert mount["Where"] == automount["Where"] == ["/mnt/public"]
    assert mount["Type"] == ["dfsfs"]
