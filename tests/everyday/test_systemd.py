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
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from dfsfs.control.client import mount_at
from tests.everyday.conftest import PROGRAM
from tests.integration.mounts import clean_up, is_mounted, unmount

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.lab.samba import Lab

UNITS = Path(__file__).parent.parent.parent / "systemd"
SERVICE = UNITS / "dfsfs@.service"


def settings(unit: Path) -> dict[str, list[str]]:
    """The settings of a unit's file, each with all its values."""
    found: dict[str, list[str]] = {}
    for line in unit.read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            name, _, value = line.partition("=")
            found.setdefault(name, []).append(value)
    return found


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
    assert not re.search(r"[%$]", text), text
    return shlex.split(text)


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


@pytest.mark.lab
@pytest.mark.mount
def test_the_capabilities_that_are_left_are_enough(lab: Lab, tmp_path: Path) -> None:
    kept = settings(SERVICE)["CapabilityBoundingSet"][0].lower().replace("cap_", "+").split()
    user, password = lab.credentials
    (tmp_path / "m").mkdir()
    bound = ["setpriv", f"--bounding-set=-all,{','.join(kept)}", "--no-new-privs"]
    words = [*bound, PROGRAM, "mount", lab.root_unc, str(tmp_path / "m"), "-o", f"username={user}"]
    done = subprocess.run(
        words, env={**os.environ, "PASSWD": password}, capture_output=True, text=True, check=False, timeout=60
    )
    try:
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "m" / "link-multi" / "hello.txt").read_bytes()
        entry, _ = mount_at(str(tmp_path / "m"))
        assert entry.owner == 0
        unmount(tmp_path / "m")
    finally:
        clean_up(tmp_path / "m")


def test_the_units_name_what_there_is() -> None:
    service = settings(SERVICE)
    assert service["Type"] == ["notify"] and service["NoNewPrivileges"] == ["yes"]
    mount = settings(UNITS / "mnt-public.mount")
    automount = settings(UNITS / "mnt-public.automount")
    assert mount["Where"] == automount["Where"] == ["/mnt/public"]
    assert mount["Type"] == ["dfsfs"]
