"""Starts and stops a lab: one smbd per host, each in its own mount namespace, all in one state folder.

    with Lab(net=free_net()) as lab:
        user, password = lab.credentials
        ...  # lab.root_unc is //127.a.b.10/dfs
        lab.host("fs1").stop()

Everything of a host (configuration, users, databases, logs, shares) lies in STATE/NAME; nothing outside the state
folder is written. The processes of a host are found by the tag of its namespace (processes.py), never by name or by a
stored number, so a lab can also be stopped by another program than the one that started it: `Lab(net, state).stop()`.

After stop() or kill() of a host its processes are gone, those that serve single clients included, and its port refuses
connections. Needs root. Standard library only, Python 3.11.
"""

from __future__ import annotations

import functools
import hashlib
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from enum import Enum, auto
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tests.support.lab import content, processes, smbconf
from tests.support.lab.topology import ALICE, GROUP, STANDALONE, USERS, Host, Link, Topology

if TYPE_CHECKING:
    from types import TracebackType

PORT = 445
START_TIMEOUT = 10.0
"""Seconds for all hosts of a lab together to accept connections; about one is normal."""
END_TIMEOUT = 3.0
"""Seconds for the processes of a host to end after SIGTERM, and again after SIGKILL."""
POLL_INTERVAL = 0.02
"""Seconds between two attempts to connect to a host that starts."""
MAX_STATE_PATH = 60
"""Characters. Samba's sockets lie below the state folder, and the path of a Unix socket may have 107."""
PROGRAMS = ("smbd", "pdbedit")
LOG_TAIL = 30
"""Lines of a log that an error shows."""

SYSTEM = Path("/")
"""The root folder of the Samba that is installed: Debian 12 has 4.17."""
BACKPORTS = Path(__file__).parents[3] / ".venv" / "samba-backports"
"""That of the one from bookworm-backports, which scripts/setup has unpacked: 4.22 or later."""

_ENTER = Path(__file__).with_name("enter.py")


class LabError(Exception):
    """The lab cannot do what was asked for; the text says why, with the end of the log where a server did not start."""


class Credentials(NamedTuple):
    user: str
    password: str


class Lifetime(Enum):
    """How long the servers of a lab run."""

    OF_CALLER = auto()
    """Until stop(), or until the program that started them ends, however it ends."""
    UNTIL_STOPPED = auto()
    """Until somebody stops the lab."""


@functools.cache
def is_before_4_22(samba: Path = SYSTEM) -> bool:
    """Whether the Samba in that root folder is Debian 12's: since then it has special files, lets nobody replace what
    another client has open, and has its own way of making folders.
    """
    if samba != SYSTEM:
        return False
    said = subprocess.run(["smbd", "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"(\d+)\.(\d+)", said)
    assert found is not None, f"smbd --version says {said!r}"
    return (int(found[1]), int(found[2])) < (4, 22)


def requirements_missing(samba: Path = SYSTEM) -> list[str]:
    """Why no lab of the Samba in that root folder can run here, in words; empty if one can."""
    if os.geteuid() != 0:
        return ["a lab needs root"]
    if not samba.exists():
        return [f"there is no Samba in {samba} (scripts/setup unpacks it)"]
    missing = [f"{name} is not installed" for name in PROGRAMS if shutil.which(name) is None]
    with tempfile.TemporaryDirectory(prefix="dfsfs-lab-") as folder:
        for name in ("etc", "ns"):
            os.mkdir(os.path.join(folder, name))
        command = _enter("dfsfs-lab-probe", Path(folder), samba, "true")
        probe = subprocess.run(command, capture_output=True, text=True, check=False)
    if probe.returncode != 0:
        missing.append(f"no mount namespaces here ({probe.stderr.strip()})")
    return missing


def free_net() -> str:
    """The first three octets of a loopback network where nothing listens, by chance, so that labs do not meet."""
    dice = random.SystemRandom()
    while True:
        net = f"127.{dice.randint(1, 250)}.{dice.randint(1, 250)}"
        if not any(address.startswith(f"{net}.") for address, _ in _sockets(_TCP_LISTEN)):
            return net


def _enter(tag: str, folder: Path, samba: Path, *command: str) -> list[str]:
    return [sys.executable, "-I", "-S", str(_ENTER), tag, str(folder), str(samba), *command]


_TCP_ESTABLISHED = "01"
_TCP_LISTEN = "0A"


def _sockets(state: str) -> list[tuple[str, int]]:
    """Local address and port of the IPv4 TCP sockets in a state, as /proc/net/tcp writes it."""
    found = []
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[3] == state:
            address, port = fields[1].split(":")
            # One 32-bit number in the byte order of the machine.
            octets = int(address, 16).to_bytes(4, sys.byteorder)
            found.append((".".join(map(str, octets)), int(port, 16)))
    return found


def _answers(address: str) -> bool:
    try:
        with socket.create_connection((address, PORT), timeout=1):
            return True
    except OSError:
        return False


class LabHost:
    """One server of a lab. Made by Lab; usable whether or not the server runs."""

    def __init__(self, description: Host, address: str, folder: Path, lifetime: Lifetime, samba: Path) -> None:
        self.name = description.name
        self.address = address
        self.folder = folder
        self.description = description
        self._lifetime = lifetime
        self.samba = samba
        """The root folder of the Samba that it runs."""
        self._tag = f"dfsfs-lab-{hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]}-{description.name}"
        self._child: subprocess.Popen[bytes] | None = None

    def __repr__(self) -> str:
        return f"<LabHost {self.name} {self.address}>"

    @property
    def smb_conf(self) -> Path:
        """For smbstatus -s and the like."""
        return self.folder / "smb.conf"

    @property
    def running(self) -> bool:
        """Whether it has processes; true also while it is paused."""
        # All processes of the machine are looked at only if our child, if we have one, can't answer for itself.
        return (self._child is not None and self._child.poll() is None) or bool(self.pids())

    def pids(self) -> list[int]:
        """Its processes: smbd, its helpers, and one per connected client."""
        return processes.pids(self._tag)

    def connections(self) -> int:
        """How many clients are connected: tells which of several targets is in use."""
        return _sockets(_TCP_ESTABLISHED).count((self.address, PORT))

    def share_path(self, share: str) -> Path:
        """The folder on this machine that a share serves; KeyError if the host has no such share."""
        if share not in {known.name for known in self.description.shares}:
            raise KeyError(share)
        return self.folder / "shares" / share

    def start(self) -> None:
        """Starts the server and returns when it accepts connections. LabError if it does not."""
        self.launch()
        self.wait_ready(time.monotonic() + START_TIMEOUT)

    def launch(self) -> None:
        """Starts the server without waiting for it. LabError if it runs already."""
        if self.running:
            raise LabError(f"{self.name} is running already")
        # It leads a session already, which smbd would take for a failure to become the leader of a process group.
        options = ("--foreground", "--no-process-group", "--configfile", str(self.smb_conf))
        command = _enter(self._tag, self.folder, self.samba, "smbd", *options)
        # An smbd in the foreground that has a pipe as its standard input ends when the pipe is closed: by us, or by our
        # death.
        stdin = subprocess.PIPE if self._lifetime is Lifetime.OF_CALLER else subprocess.DEVNULL
        with open(self.folder / "log" / "output", "ab") as output:
            self._child = subprocess.Popen(
                command, stdin=stdin, stdout=output, stderr=output, cwd="/", start_new_session=True
            )

    def wait_ready(self, deadline: float) -> None:
        """Returns when the server accepts connections. LabError if it ends, or at the deadline (monotonic seconds)."""
        while not _answers(self.address):
            if self._child is not None and self._child.poll() is not None:
                raise LabError(f"{self.name}: smbd ended with status {self._child.returncode}\n{self.log_tail()}")
            if time.monotonic() > deadline:
                raise LabError(f"{self.name}: no answer from {self.address} port {PORT}\n{self.log_tail()}")
            time.sleep(POLL_INTERVAL)

    def stop(self) -> None:
        """Ends the server with all its processes; does nothing if none runs. Clients see their connections closed."""
        if not processes.end_all(self._tag, signal.SIGTERM, END_TIMEOUT):
            self.kill()
        self._ended()

    def kill(self) -> None:
        """Like stop(), at once and without the server's knowing: SIGKILL to all its processes."""
        if not processes.end_all(self._tag, signal.SIGKILL, END_TIMEOUT):
            raise LabError(f"{self.name}: processes {self.pids()} do not end")
        self._ended()

    def pause(self) -> None:
        """Freezes the server: connections stay and new ones are accepted by the kernel, but nothing answers."""
        # A process that is running stops a little later, and one that it forks meanwhile needs the signal, too.
        deadline = time.monotonic() + END_TIMEOUT
        processes.signal_all(self._tag, signal.SIGSTOP)
        while not processes.all_stopped(self._tag):
            if time.monotonic() > deadline:
                raise LabError(f"{self.name} does not stop: {self.pids()}")
            time.sleep(0.005)
            processes.signal_all(self._tag, signal.SIGSTOP)

    def resume(self) -> None:
        """Ends pause()."""
        processes.signal_all(self._tag, signal.SIGCONT)

    def reset_connections(self) -> int:
        """Breaks the connection of every client while the server goes on; returns how many there were."""
        count = self.connections()
        query = ["ss", "-K", "-t", "-n", "state", "established", "src", f"{self.address}:{PORT}"]
        subprocess.run(query, check=True, capture_output=True)
        if self.connections():
            raise LabError("ss -K closed no connection: this kernel lacks CONFIG_INET_DIAG_DESTROY")
        return count

    def log_tail(self) -> str:
        """The last lines of what the server wrote."""
        lines: list[str] = []
        for name in ("output", "smbd.log"):
            file = self.folder / "log" / name
            if file.exists():
                lines += file.read_text(errors="replace").splitlines()[-LOG_TAIL:]
        return "\n".join(lines) or "(it wrote no log)"

    def _ended(self) -> None:
        """Collects our child, if there is one, and makes sure that the port is closed."""
        if self._child is not None:
            if self._child.stdin is not None:
                self._child.stdin.close()
            # Still there if it was stopped before it could enter its namespace.
            self._child.kill()
            self._child.wait()
            self._child = None
        if _answers(self.address):
            raise LabError(f"{self.name} has ended, but something else listens on {self.address} port {PORT}")


class Lab:
    """A DFS namespace on this machine. `net` is the first three octets of its addresses, `state` its folder.

    Without `state` a new folder in /tmp is used. stop() removes the folder. As a context manager it starts and stops.
    `samba` is the root folder of the Samba to run.
    """

    def __init__(
        self,
        net: str = "127.0.0",
        state: Path | None = None,
        topology: Topology = STANDALONE,
        lifetime: Lifetime = Lifetime.OF_CALLER,
        samba: Path = SYSTEM,
    ) -> None:
        self.net = net
        self.samba = samba
        self.topology = topology
        own = Path(tempfile.gettempdir(), f"dfsfs-lab-{net}-{os.getpid()}")
        self.state = (state or own).absolute()
        self.hosts = {
            host.name: LabHost(host, self.address(host.name), self.state / host.name, lifetime, samba)
            for host in topology.hosts
        }

    def __repr__(self) -> str:
        return f"<Lab {self.net} in {self.state}>"

    def __enter__(self) -> Lab:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def host(self, name: str) -> LabHost:
        """A server by its name in the topology."""
        return self.hosts[name]

    def address(self, name: str) -> str:
        """The IPv4 address of a host, or of one of the dead targets, by name."""
        return f"{self.net}.{self.topology.octet(name)}"

    def connections(self) -> dict[str, int]:
        """How many clients are connected to each host, by its name; one look for all, as the kernel goes through all
        sockets of the machine for each.
        """
        connected = Counter(_sockets(_TCP_ESTABLISHED))
        return {host.name: connected[host.address, PORT] for host in self.hosts.values()}

    @property
    def root_unc(self) -> str:
        """What to mount: //ADDRESS/dfs."""
        return f"//{self.address(self.topology.root.host)}/{self.topology.root.share}"

    @property
    def credentials(self) -> Credentials:
        """The user who may do everything but look into link-denied."""
        return Credentials(ALICE.name, ALICE.password)

    def start(self) -> None:
        """Builds the state folder and starts all hosts; if that fails, nothing is left. LabError says why."""
        missing = requirements_missing(self.samba)
        if missing:
            raise LabError("; ".join(missing))
        if len(str(self.state)) > MAX_STATE_PATH:
            raise LabError(f"the path of the state folder {self.state} is longer than {MAX_STATE_PATH} characters")
        names = [*self.hosts, *(name for name, _ in self.topology.dead)]
        taken = [self.address(name) for name in names if _answers(self.address(name))]
        if taken:
            which = ", ".join(taken)
            raise LabError(f"something listens already on port {PORT} of {which} (another lab? the system's smbd?)")
        try:
            self.state.mkdir()
        except OSError as error:
            raise LabError(f"cannot make the state folder: {error}") from error
        try:
            self._build()
            for host in self.hosts.values():
                host.launch()
            deadline = time.monotonic() + START_TIMEOUT
            for host in self.hosts.values():
                host.wait_ready(deadline)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Ends all hosts and removes the state folder. LabError if some host does not end; the others do."""
        errors = []
        for host in self.hosts.values():
            try:
                host.stop()
            except LabError as error:
                errors.append(str(error))
        shutil.rmtree(self.state, ignore_errors=True)
        if self.state.exists():
            errors.append(f"cannot remove {self.state}")
        if errors:
            raise LabError("; ".join(errors))

    def link_text(self, link: Link) -> str:
        """A link as Samba stores it, the text of a symlink."""
        targets = ("\\".join((self.address(to.host), to.share, *to.below)) for to in link.targets)
        return "msdfs:" + ",".join(targets)

    def set_link(self, link: Link) -> None:
        """Makes or changes a link of the root namespace. Clients see it when their referral expires."""
        path = self.host(self.topology.root.host).share_path(self.topology.root.share) / link.path
        path.unlink(missing_ok=True)
        path.symlink_to(self.link_text(link))

    def _build(self) -> None:
        self.state.chmod(0o755)  # whatever the umask is: the users of the lab have to get to their files
        etc = smbconf.etc_files({name: host.address for name, host in self.hosts.items()})
        owner = (ALICE.uid, GROUP[1])
        for host in self.hosts.values():
            for name in (*smbconf.DIRECTORIES, "etc", "ns", "shares"):
                (host.folder / name).mkdir(parents=True)
            (host.folder / "private").chmod(0o700)
            host.folder.chmod(0o755)
            (host.folder / "shares").chmod(0o755)
            for name, text in etc.items():
                (host.folder / "etc" / name).write_text(text)
                (host.folder / "etc" / name).chmod(0o644)
            host.smb_conf.write_text(smbconf.smb_conf(host.description, host.address, host.folder))
            for share in host.description.shares:
                path = host.share_path(share.name)
                content.write_share(share, path, owner)
                content.write_links({link.path: self.link_text(link) for link in share.links}, path)
        self._add_users()

    def _add_users(self) -> None:
        """Fills the password database of one host and copies it to the others."""
        first, *others = self.hosts.values()
        database = first.folder / "private" / "passdb.tdb"
        for user in USERS:
            backend = ("-b", f"tdbsam:{database}")
            command = ("pdbedit", "-s", str(first.smb_conf), *backend, "-a", "-t", "-u", user.name)
            entered = _enter(f"{first.name}-users", first.folder, self.samba, *command)
            twice = f"{user.password}\n{user.password}\n"
            done = subprocess.run(entered, input=twice, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                raise LabError(f"pdbedit cannot add {user.name}: {done.stdout}{done.stderr}")
        for host in others:
            shutil.copy2(database, host.folder / "private")
