"""The suites: which tests each has, and how one of them is run. What they print is read by outputs.py."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from tests.suites import outputs
from tests.suites.requirements import unmet
from tests.suites.results import Outcome, Result

if TYPE_CHECKING:
    from pathlib import Path

    from tests.suites.places import Place

START_UP = 20.0
"""Seconds that `check` of xfstests may need besides a test: it mounts, looks for programs, reads its lists."""
GROWFILES_SLACK = 60.0
"""Seconds that a growfiles may take besides those that it is told to run."""
FSX_LINUX = {
    "fsx": "",
    "fsx-many": "-N 20000",
    "fsx-large": "-l 4000000 -o 500000 -N 2000",
    "fsx-aligned": "-N 10000 -r 4096 -w 4096 -t 4096",
}
"""Of LTP's fsx-linux: a name, and what is given to it."""

DEVICES = "dev"
"""For xfstests, which opens the devices that it makes: mounts have nodev without it."""
ANYBODY = "file_mode=0777,dir_mode=0777"
"""For pjdfstest, which acts as users whom it has made owners of folders: on a mount they own nothing."""


class Suite(Protocol):
    """A checkout that is built."""

    @property
    def name(self) -> str:
        """As it is called in the file of results."""

    @property
    def checkout(self) -> Path:
        """Where it is."""

    def missing(self) -> str:
        """What is not there; empty if it can be run."""

    def tests(self) -> list[str]:
        """The names of its tests."""

    def run(self, test: str, place: Place, limit: float) -> Result:
        """Runs one on an empty share. `limit` is in seconds; a test that takes longer is ended, and timed out."""


@dataclass(frozen=True)
class Xfstests:
    """https://git.kernel.org/pub/scm/fs/xfs/xfstests-dev.git: the generic group."""

    checkout: Path
    ask_all: bool = False
    """Whether tests are run whose requirements can't be met."""
    name: str = "xfstests"

    def missing(self) -> str:
        needed = ("check", "src/t_dir_type", "ltp/fsx", "tests/generic/group.list")
        return ", ".join(name for name in needed if not (self.checkout / name).exists())

    def tests(self) -> list[str]:
        return sorted(
            f"generic/{path.name}"
            for path in (self.checkout / "tests" / "generic").iterdir()
            if re.fullmatch(r"\d+", path.name)
        )

    def run(self, test: str, place: Place, limit: float) -> Result:
        text = (self.checkout / "tests" / test).read_text(errors="replace")
        if not self.ask_all and (why := unmet(text)):
            return Result(Outcome.NOT_APPLICABLE, 0, why)
        place.clear()
        config, kept = place.folder / "local.config", place.folder / "results"
        shutil.rmtree(kept, ignore_errors=True)
        options = ",".join(word for word in (DEVICES, place.options) if word)
        settings = {
            "FSTYP": "fuse",
            "FUSE_SUBTYP": ".dfsfs",
            "TEST_DEV": place.test.unc,
            "TEST_DIR": str(place.test.mountpoint),
            "SCRATCH_DEV": place.scratch.unc,
            "SCRATCH_MNT": str(place.scratch.mountpoint),
            "RESULT_BASE": str(kept),
            "MOUNT_OPTIONS": f"-o {options}",
            "TEST_FS_MOUNT_OPTS": f"-o {options}",
        }
        config.write_text("".join(f'export {key}="{value}"\n' for key, value in settings.items()))
        more = {"HOST_OPTIONS": str(config)}
        status, output, seconds = place.run(["./check", test], self.checkout, limit + START_UP, more)
        if status is None:
            return Result(Outcome.TIMED_OUT, seconds, outputs.tail(output))
        return outputs.of_xfstests(output, seconds)


@dataclass(frozen=True)
class Pjdfstest:
    """https://github.com/pjd/pjdfstest."""

    checkout: Path
    name: str = "pjdfstest"

    def missing(self) -> str:
        return ", ".join(name for name in ("pjdfstest", "tests/conf") if not (self.checkout / name).exists())

    def tests(self) -> list[str]:
        folder = self.checkout / "tests"
        return sorted(str(path.relative_to(folder).with_suffix("")) for path in folder.rglob("*.t"))

    def run(self, test: str, place: Place, limit: float) -> Result:
        with place.mounted(ANYBODY) as mountpoint:
            command = ["sh", str(self.checkout / "tests" / f"{test}.t")]
            status, output, seconds = place.run(command, mountpoint, limit)
        if status is None:
            return Result(Outcome.TIMED_OUT, seconds, outputs.tail(output))
        return outputs.of_tap(output, seconds)


@dataclass(frozen=True)
class Ltp:
    """https://github.com/linux-test-project/ltp: growfiles, as runtest/fs runs it, and fsx-linux."""

    checkout: Path
    name: str = "ltp"

    @property
    def _programs(self) -> list[Path]:
        kernel = self.checkout / "testcases" / "kernel" / "fs"
        return [kernel / "doio" / "growfiles", kernel / "fsx-linux" / "fsx-linux"]

    def missing(self) -> str:
        return ", ".join(str(path) for path in (*self._programs, self.checkout / "runtest" / "fs") if not path.exists())

    def _commands(self) -> dict[str, str]:
        lines = (self.checkout / "runtest" / "fs").read_text().splitlines()
        words = [line.split(maxsplit=1) for line in lines if "growfiles" in line and not line.startswith("#")]
        return {**dict(words), **{k: f"fsx-linux {v}" for k, v in FSX_LINUX.items()}}

    def tests(self) -> list[str]:
        return sorted(self._commands())

    def run(self, test: str, place: Place, limit: float) -> Result:
        command = self._commands()[test]
        own = re.search(r"growfiles.* -L (\d+)", command)
        limit = max(limit, float(own[1]) + GROWFILES_SLACK if own else 0)
        with place.mounted() as mountpoint:
            path = ":".join(str(program.parent) for program in self._programs)
            more = {"TMPDIR": str(mountpoint), "PATH": f"{path}:{place.environment({})['PATH']}"}
            status, output, seconds = place.run(["sh", "-c", command], mountpoint, limit, more)
        if status is None:
            return Result(Outcome.TIMED_OUT, seconds, outputs.tail(output))
        return outputs.of_status(status, output, seconds)
