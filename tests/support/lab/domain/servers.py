"""One host of the domain's lab: its folder, its processes, and how they are started and ended."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.lab import processes, smbconf
from tests.support.lab.domain import config
from tests.support.lab.domain.network import NAMESPACES
from tests.support.lab.samba import END_TIMEOUT, LOG_TAIL, LabError, Lifetime

if TYPE_CHECKING:
    from tests.support.lab.domain.network import Network

ENTER = Path(__file__).parents[1] / "enter.py"
START_TIMEOUT = 30.0
"""Seconds for one host to answer."""


class DomainHost:
    """A host of the lab. `folder` holds everything that it keeps."""

    def __init__(self, name: str, folder: Path, network: Network, lifetime: Lifetime) -> None:
        self.name = name
        self.folder = folder
        self.address = config.ADDRESSES[name]
        self.fqdn = f"{name}.{config.DOMAIN}"
        self._network = network
        self._lifetime = lifetime
        self._tag = f"dfsfs-ad-{hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]}"
        self._children: list[subprocess.Popen[bytes]] = []

    @property
    def smb_conf(self) -> Path:
        return self.folder / "smb.conf"

    def make_folders(self) -> None:
        """Everything but what the domain is about."""
        for name in (*smbconf.DIRECTORIES, "etc", "ns", "shares", "ntp", "run"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        for name in ("", "shares", "etc"):
            (self.folder / name).chmod(0o755)
        (self.folder / "private").chmod(0o700)
        for name, text in config.etc_files().items():
            (self.folder / "etc" / name).write_text(text)
        net = self.folder / "net"
        net.unlink(missing_ok=True)
        net.symlink_to(NAMESPACES / self._network.namespace(self.name))
        if self.name not in config.CLIENTS:
            self.smb_conf.write_text(config.Folders(self.folder).smb_conf(self.name))

    def entered(self, *command: str) -> list[str]:
        """The command that runs another one on this host."""
        return [sys.executable, "-I", "-S", str(ENTER), self._tag, str(self.folder), "/", *command]

    def run(self, *command: str, text: str = "", timeout: float = 60, environment: dict[str, str] | None = None) -> str:
        """Runs a command on this host and returns what it writes. LabError if it fails."""
        done = subprocess.run(
            self.entered(*command),
            input=text,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            env={**os.environ, **(environment or {})},
        )
        if done.returncode != 0:
            raise LabError(f"{self.name}: {' '.join(command)}: {done.stdout}{done.stderr}")
        return done.stdout

    # -- life -------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Starts the host's servers and returns when they answer."""
        self.launch()
        self.wait_ready()

    def launch(self) -> None:
        """Starts the host's servers without waiting for them."""
        if self.name in config.CONTROLLERS:
            self._spawn("samba", "--foreground", "--no-process-group")
        else:
            self._spawn("winbindd", "--foreground", "--no-process-group")
            self._spawn("smbd", "--foreground", "--no-process-group")

    def _spawn(self, *command: str) -> None:
        words = self.entered(*command, "--configfile", str(self.smb_conf))
        with open(self.folder / "log" / "output", "ab") as output:
            # Each of them ends when a pipe that it reads from closes: by us, or by our death.
            stdin = subprocess.PIPE if self._lifetime is Lifetime.OF_CALLER else subprocess.DEVNULL
            child = subprocess.Popen(words, stdin=stdin, stdout=output, stderr=output, cwd="/", start_new_session=True)
        self._children.append(child)

    def wait_ready(self) -> None:
        """Returns when every port of the host answers. LabError if that takes too long, or a server ends."""
        ports = (53, 88, 389, 445) if self.name in config.CONTROLLERS else (445,)
        deadline = time.monotonic() + START_TIMEOUT
        for port in ports:
            while not self._answers(port):
                ended = next((child for child in self._children if child.poll() is not None), None)
                if ended is not None or time.monotonic() > deadline:
                    raise LabError(f"{self.name}: nothing answers on port {port}\n{self.log_tail()}")
                time.sleep(0.05)
        if self.name in config.MEMBERS:
            self._wait_for_trust(deadline)

    def _wait_for_trust(self, deadline: float) -> None:
        """Returns when a member lets users in, for which it has to have found a controller."""
        while True:
            probe = subprocess.run(self.entered("wbinfo", "-t"), capture_output=True, text=True, check=False)
            if probe.returncode == 0:
                return
            if time.monotonic() > deadline:
                raise LabError(f"{self.name}: {probe.stdout}{probe.stderr}\n{self.log_tail()}")
            time.sleep(0.1)

    def _answers(self, port: int) -> bool:
        with suppress(OSError), self._network.inside(self.name), socket.socket() as probe:
            probe.settimeout(1)
            probe.connect((self.address, port))
            return True
        return False

    def pids(self) -> list[int]:
        """The host's processes."""
        return processes.pids(self._tag)

    def stop(self) -> None:
        """Ends the host's processes; clients see their connections closed."""
        if not processes.end_all(self._tag, signal.SIGTERM, END_TIMEOUT):
            self.kill()
        self._ended()

    def kill(self) -> None:
        """Like `stop`, without the servers' knowing."""
        if not processes.end_all(self._tag, signal.SIGKILL, END_TIMEOUT):
            raise LabError(f"{self.name}: processes {self.pids()} do not end")
        self._ended()

    def _ended(self) -> None:
        for child in self._children:
            if child.stdin is not None:
                child.stdin.close()
            child.kill()
            child.wait()
        self._children.clear()

    def cut(self) -> None:
        """Pulls the plug: what is sent to the host is lost."""
        self._network.cut(self.name)

    def heal(self) -> None:
        """Ends `cut`."""
        self._network.heal(self.name)

    def pause(self) -> None:
        """Freezes the host's processes."""
        processes.signal_all(self._tag, signal.SIGSTOP)

    def resume(self) -> None:
        processes.signal_all(self._tag, signal.SIGCONT)

    def share_path(self, share: str) -> Path:
        """The folder that a share serves."""
        return self.folder / "shares" / share

    def log_tail(self) -> str:
        """The last lines of what the servers wrote."""
        output = self.folder / "log" / "output"
        return "\n".join(output.read_text(errors="replace").splitlines()[-LOG_TAIL:]) if output.exists() else ""

    def clear_runtime(self) -> None:
        """Takes away what only running servers need, before the folder is kept."""
        for name in ("pid", "ncalrpc", "winbind", "log", "ntp", "run"):
            shutil.rmtree(self.folder / name, ignore_errors=True)
        for socket_file in (self.folder / "private").glob("**/*"):
            if socket_file.is_socket():
                socket_file.unlink()
