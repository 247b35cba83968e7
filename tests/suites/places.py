"""Where the suites run: two shares of a lab behind DFS links, and what they need to mount them by themselves.

xfstests mounts and unmounts its file systems itself, as `mount -t fuse.dfsfs SOURCE FOLDER`, and wants to hear from df
that a mount of FSTYP=fuse has just that type. An installation would put a helper into /sbin; here `mount` and `df` are
two small programs that come first in PATH, so that nothing outside of the run's own folder is written.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.kernel.mounts import is_mounted
from tests.support.lab.marked import end_marked
from tests.support.lab.topology import ALICE, GROUP

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.support.lab.samba import Lab

MARK = "DFSFS_SUITES"
"""In the environment of all that a run starts, daemons included, with the run's folder: by it they are found again."""
PATIENCE = 20.0
"""Seconds for the processes of a test to end, once they are told to."""

_MOUNT = """#!/bin/sh
# Mounts dfsfs without a helper in /sbin; all else is mount(8)'s, also what dfsfs itself asks of it with -i.
options= type= arguments= expect=
for word in "$@"; do
    case $expect in
        type) type=$word expect=; continue ;;
        options) options=$options${options:+,}$word expect=; continue ;;
    esac
    case $word in
        -t) expect=type ;;
        -o) expect=options ;;
        -i) exec REAL "$@" ;;
        -t*) type=${word#-t} ;;
        -o*) options=$options${options:+,}${word#-o} ;;
        -*) ;;
        *) arguments="$arguments $word" last=$word ;;
    esac
done
if [ "$type" = fuse.dfsfs ]; then
    exec "$DFSFS_SUITES_MOUNT" $arguments -o "${options:+$options,}username=$DFSFS_SUITES_USER"
fi
case ",$options," in
    *,remount,*)
        source=$(awk -v at="$last" '$2 == at && $3 == "fuse.dfsfs" { print $1 }' /proc/mounts)
        [ -z "$source" ] || exec "$DFSFS_SUITES_MOUNT" "$source" "$last" -o "$options"
        ;;
esac
exec REAL "$@"
"""
_DF = """#!/bin/sh
# The type of a mount as FSTYP has it. Of all mounts only the run's own are asked: another one may hang.
own="$DFSFS_SUITES/test $DFSFS_SUITES/scratch"
for word in "$@"; do
    case $word in -*) ;; *) own= ;; esac
done
REAL "$@" $own | sed 's/ fuse\\.dfsfs / fuse /'
"""


def write_programs(folder: Path, real: Mapping[str, str]) -> None:
    """Makes a folder with the `mount` and the `df` of a run; `real` says where those of the system are."""
    folder.mkdir()
    for name, text in (("mount", _MOUNT), ("df", _DF)):
        (folder / name).write_text(text.replace("REAL", real[name]))
        (folder / name).chmod(0o755)


@dataclass(frozen=True)
class Spot:
    """One share that a suite may fill: its name in the namespace, its folder on the server's disk, a mount point."""

    unc: str
    disk: Path
    mountpoint: Path

    def clear(self) -> None:
        """Empties it on the server's disk; nothing may be mounted."""
        shutil.rmtree(self.disk, ignore_errors=True)
        self.disk.mkdir()
        os.chown(self.disk, ALICE.uid, GROUP[1])


class Place:
    """A lab's two spots, and the environment in which a suite finds them."""

    def __init__(self, lab: Lab, folder: Path, options: str) -> None:
        # Tests act as other users, who have to get to the mounts. A temporary folder is for its owner only.
        folder.chmod(0o711)
        self.folder = folder
        self.options = options
        data, extra = lab.host("fs1").share_path("data"), lab.host("fs1").share_path("extra")
        self.test = Spot(f"{lab.root_unc}/link-single/test", data / "test", folder / "test")
        self.scratch = Spot(f"{lab.root_unc}/dir/sub/link/scratch", extra / "scratch", folder / "scratch")
        self._user, self._password = lab.credentials
        write_programs(folder / "bin", {name: shutil.which(name) or name for name in ("mount", "df")})
        for spot in (self.test, self.scratch):
            spot.mountpoint.mkdir()

    def environment(self, more: Mapping[str, str]) -> dict[str, str]:
        """What a suite is started with, so that its processes are found again and its mounts work."""
        return {
            **os.environ,
            MARK: str(self.folder),
            "DFSFS_SUITES_MOUNT": str(Path(sys.executable).parent / "mount.dfsfs"),
            "DFSFS_SUITES_USER": self._user,
            "PASSWD": self._password,
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
            **more,
        }

    def clear(self) -> None:
        """Unmounts both spots, ends what an earlier test has left, and empties the shares."""
        for spot in (self.test, self.scratch):
            for command in (["umount"], ["umount", "-l"]):
                # Once for each mount on top of another.
                while is_mounted(spot.mountpoint):
                    done = subprocess.run([*command, str(spot.mountpoint)], capture_output=True, check=False)
                    if done.returncode:
                        break
        end_marked(f"{MARK}={self.folder}", PATIENCE)
        for spot in (self.test, self.scratch):
            spot.clear()

    @contextlib.contextmanager
    def mounted(self, more: str = "") -> Iterator[Path]:
        """The test spot, mounted anew and empty, for suites that do not mount by themselves. `more` are options."""
        self.clear()
        options = ",".join(word for word in (more, self.options) if word)
        mount = str(self.folder / "bin" / "mount")
        command = [mount, "-t", "fuse.dfsfs", self.test.unc, str(self.test.mountpoint)]
        command += ["-o", options] if options else []
        subprocess.run(command, env=self.environment({}), check=True, capture_output=True)
        try:
            yield self.test.mountpoint
        finally:
            self.clear()

    def run(
        self, command: list[str], cwd: Path, limit: float, more: Mapping[str, str] | None = None
    ) -> tuple[int | None, str, float]:
        """Runs a test: its exit status, None if it took longer than `limit` seconds; what it printed; its seconds."""
        log = self.folder / "output"
        begin = time.monotonic()
        status: int | None
        with log.open("wb") as output:
            process = subprocess.Popen(
                command,
                cwd=cwd,
                env=self.environment(more or {}),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                status = process.wait(limit)
            except subprocess.TimeoutExpired:
                status = None
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        seconds = time.monotonic() - begin
        return status, log.read_text(errors="replace"), seconds
