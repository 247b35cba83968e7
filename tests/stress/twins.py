"""Twins: a folder of a mount and a local folder, on which any program of operations has to come to the same.

A Hypothesis state machine: whatever it does, it does to both, and compares what each call returned, or its errno. At
the end of each program the two trees have to be equal, as they are and through a new mount. What it finds it makes
small.

What differs from a local file system on purpose (docs/semantics.md) it does not do or does not compare: permissions,
the sizes and link counts of folders, times that nobody has set.

    python -m tests.stress.twins MOUNTED_FOLDER LOCAL_FOLDER [--programs N] [--steps N] [--shrink]
"""

from __future__ import annotations

import argparse
import errno
import inspect
import mmap
import os
import shutil
import stat as posix
import sys
import uuid
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

NAMES = st.sampled_from(["a", "b", "c", "d"])
PATHS = st.one_of(NAMES, NAMES, st.tuples(NAMES, NAMES).map("/".join), st.tuples(NAMES, NAMES, NAMES).map("/".join))
FLAGS = st.tuples(
    st.sampled_from([os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_RDWR]),
    st.sampled_from([0, os.O_CREAT, os.O_CREAT, os.O_CREAT | os.O_EXCL]),
    st.sampled_from([0, 0, os.O_TRUNC]),
    st.sampled_from([0, 0, 0, os.O_APPEND, os.O_SYNC, os.O_NOFOLLOW, os.O_DIRECTORY]),
).map(sum)
PLACES = st.one_of(st.integers(0, 20_000), st.sampled_from([0, 4095, 4096, 4097, 65536, 1_000_000]))
SIZES = st.one_of(st.integers(1, 10_000), st.sampled_from([1, 4096, 131_072]))
MOMENTS = st.integers(0, 2**31).map(lambda second: second * 10**9 + second % 10**7 * 100)
INDEXES = st.integers(0, 7)
XATTRS = st.sampled_from(["user.one", "user.two"])

OPEN_AT_MOST = 6
HISTORY = 80
"""Operations that are shown with a difference."""
LARGEST = 2_000_000

QUICKLY = (Phase.generate,)
"""What is found is shown as it was found."""


class Twins(RuleBasedStateMachine):
    """See the module's text."""

    roots: ClassVar[tuple[Path, Path]]
    """The folders of the mount and of this machine in which each program gets a new folder."""
    remounts: ClassVar[list[Callable[[], None]]] = []
    """What unmounts and mounts again, if that is wanted."""
    steps: ClassVar[int] = 0

    @initialize()
    def begin(self) -> None:
        name = f"twins-{uuid.uuid4().hex[:8]}"
        self.tops = (self.roots[0] / name, self.roots[1] / name)
        self.open: list[tuple[int, int]] = []
        self.history: deque[str] = deque(maxlen=HISTORY)
        for top in self.tops:
            top.mkdir()

    def both(self, action: Callable[[Path], Any]) -> Any:
        """Does something in both folders; what came of it, which has to be the same."""
        Twins.steps += 1
        mounted, twin = (_outcome(action, top) for top in self.tops)
        self._compare(mounted, twin)
        return mounted

    def both_files(self, index: int, action: Callable[[int], Any]) -> Any:
        """The same with an open file."""
        Twins.steps += 1
        mounted, twin = (_outcome(action, file) for file in self.open[index % len(self.open)])
        self._compare(mounted, twin)
        return mounted

    def _compare(self, mounted: Any, twin: Any) -> None:
        """What differs is printed with what came before: what happens once in a thousand runs Hypothesis can't repeat,
        and says no more than that.
        """
        frame = inspect.currentframe()
        while frame is not None and frame.f_code.co_name in ("_compare", "both", "both_files"):
            frame = frame.f_back
        if frame is not None:
            arguments = {name: value for name, value in frame.f_locals.items() if name not in ("self", "action")}
            self.history.append(f"{frame.f_code.co_name} {arguments}: {_short(mounted)}")
        if mounted != twin:
            self._give_up(f"the mount: {_short(mounted)}; local: {_short(twin)}")

    def _give_up(self, text: str) -> None:
        print(*self.history, text, sep="\n", file=sys.stderr, flush=True)
        raise AssertionError(text)

    def is_open(self) -> bool:
        return bool(self.open)

    # -- names ------------------------------------------------------------------------------------------------------

    @rule(path=PATHS)
    def mkdir(self, path: str) -> None:
        self.both(lambda top: (top / path).mkdir())

    @rule(path=PATHS)
    def rmdir(self, path: str) -> None:
        self.both(lambda top: (top / path).rmdir())

    @rule(path=PATHS)
    def unlink(self, path: str) -> None:
        self.both(lambda top: (top / path).unlink())

    @rule(old=PATHS, new=PATHS)
    def rename(self, old: str, new: str) -> None:
        self.both(lambda top: os.rename(top / old, top / new))

    @rule(old=PATHS, new=PATHS)
    def link(self, old: str, new: str) -> None:
        self.both(lambda top: os.link(top / old, top / new, follow_symlinks=False))

    @rule(path=PATHS, to=PATHS)
    def symlink(self, path: str, to: str) -> None:
        self.both(lambda top: os.symlink(to, top / path))

    @rule(path=PATHS)
    def readlink(self, path: str) -> None:
        self.both(lambda top: os.readlink(top / path))

    @rule(path=PATHS)
    def listing(self, path: str) -> None:
        self.both(lambda top: sorted(os.listdir(top / path)))

    @rule(path=PATHS)
    def stat(self, path: str) -> None:
        self.both(lambda top: _shown(os.lstat(top / path)))

    @rule(path=PATHS)
    def stat_behind_links(self, path: str) -> None:
        self.both(lambda top: _shown(os.stat(top / path)))

    # -- files by name ----------------------------------------------------------------------------------------------

    @rule(path=PATHS, size=PLACES)
    def truncate(self, path: str, size: int) -> None:
        self.both(lambda top: os.truncate(top / path, size))

    @rule(path=PATHS)
    def read_all(self, path: str) -> None:
        self.both(lambda top: (top / path).read_bytes())

    @rule(path=PATHS, moment=MOMENTS)
    def utimens(self, path: str, moment: int) -> None:
        def action(top: Path) -> int:
            os.utime(top / path, ns=(moment, moment))
            return os.stat(top / path).st_mtime_ns

        self.both(action)

    @rule(path=PATHS, name=XATTRS, value=st.binary(min_size=1, max_size=100))
    def setxattr(self, path: str, name: str, value: bytes) -> None:
        self.both(lambda top: os.setxattr(top / path, name, value))

    @rule(path=PATHS, name=XATTRS)
    def getxattr(self, path: str, name: str) -> None:
        self.both(lambda top: os.getxattr(top / path, name))

    @rule(path=PATHS, name=XATTRS)
    def removexattr(self, path: str, name: str) -> None:
        self.both(lambda top: os.removexattr(top / path, name))

    @rule(path=PATHS)
    def listxattr(self, path: str) -> None:
        self.both(lambda top: sorted(name for name in os.listxattr(top / path) if name.startswith("user.")))

    # -- open files -------------------------------------------------------------------------------------------------

    @rule(path=PATHS, flags=FLAGS)
    def open_file(self, path: str, flags: int) -> None:
        if len(self.open) == OPEN_AT_MOST:
            self.close(0)
        files = [_outcome(lambda top: os.open(top / path, flags, 0o644), top) for top in self.tops]
        Twins.steps += 1
        opened = [file for file in files if isinstance(file, int)]
        if len(opened) == 2:
            self.open.append((opened[0], opened[1]))
            self._compare("opened", "opened")
            return
        for file in opened:
            os.close(file)
        self._compare(files[0], files[1])

    @precondition(is_open)
    @rule(index=INDEXES)
    def close(self, index: int) -> None:
        files = self.open.pop(index % len(self.open))
        Twins.steps += 1
        for file in files:
            os.close(file)

    @precondition(is_open)
    @rule(index=INDEXES, offset=PLACES, size=SIZES)
    def pread(self, index: int, offset: int, size: int) -> None:
        self.both_files(index, lambda file: os.pread(file, size, offset))

    @precondition(is_open)
    @rule(index=INDEXES, offset=PLACES, size=SIZES, fill=st.integers(0, 255))
    def pwrite(self, index: int, offset: int, size: int, fill: int) -> None:
        self.both_files(index, lambda file: os.pwrite(file, bytes([fill]) * size, offset))

    @precondition(is_open)
    @rule(index=INDEXES, size=SIZES, fill=st.integers(0, 255))
    def write(self, index: int, size: int, fill: int) -> None:
        def action(file: int) -> int | None:
            return os.write(file, bytes([fill]) * size) if os.fstat(file).st_size < LARGEST else None

        self.both_files(index, action)

    @precondition(is_open)
    @rule(index=INDEXES, size=PLACES)
    def ftruncate(self, index: int, size: int) -> None:
        self.both_files(index, lambda file: os.ftruncate(file, size))

    @precondition(is_open)
    @rule(index=INDEXES)
    def fsync(self, index: int) -> None:
        self.both_files(index, os.fsync)

    @precondition(is_open)
    @rule(index=INDEXES)
    def fstat(self, index: int) -> None:
        self.both_files(index, lambda file: _shown(os.fstat(file)))

    @precondition(is_open)
    @rule(index=INDEXES, part=st.floats(0, 1), size=SIZES, fill=st.integers(0, 255))
    def map_write(self, index: int, part: float, size: int, fill: int) -> None:
        def action(file: int) -> bytes | None:
            if not posix.S_ISREG(os.fstat(file).st_mode):
                return None
            length = os.fstat(file).st_size
            start = int(length * part)
            count = min(size, length - start)
            with mmap.mmap(file, length) as memory:
                before = memory[start : start + count]
                memory[start : start + count] = bytes([fill]) * count
                memory.flush()
            return before

        self.both_files(index, action)

    # -- the end ----------------------------------------------------------------------------------------------------

    def _compare_trees(self) -> None:
        one, other = map(_tree, self.tops)
        for path in sorted(one.keys() | other.keys()):
            if one.get(path) != other.get(path):
                self._give_up(f"{path}: the mount has {_short(one.get(path))}; local: {_short(other.get(path))}")

    def teardown(self) -> None:
        if not hasattr(self, "tops"):
            return
        try:
            while self.open:
                self.close(0)
            self._compare_trees()
            for remount in self.remounts:
                remount()
            self._compare_trees()
        finally:
            for files in self.open:
                for file in files:
                    os.close(file)
            for top in self.tops:
                shutil.rmtree(top)


def _outcome(action: Callable[[Any], Any], argument: Path | int) -> Any:
    try:
        return action(argument)
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    except ValueError as error:
        return str(error)  # mmap has no map of nothing


def _short(outcome: Any) -> str:
    text = repr(outcome)
    return text if len(text) < 200 else f"{text[:100]}...{text[-50:]} ({len(text)})"


def _shown(stat: os.stat_result) -> tuple[int, ...]:
    """What two file systems have to agree on."""
    kind = posix.S_IFMT(stat.st_mode)
    return (kind,) if kind == posix.S_IFDIR else (kind, stat.st_size, stat.st_nlink)


def _tree(top: Path) -> dict[str, Any]:
    """Everything below a folder."""
    found: dict[str, Any] = {}
    for folder, folders, files in os.walk(top):
        for name in (*folders, *files):
            path = Path(folder, name)
            content: Any = None
            if path.is_symlink():
                content = os.readlink(path)
            elif path.is_file():
                content = path.read_bytes(), {name: os.getxattr(path, name) for name in sorted(os.listxattr(path))}
            found[str(path.relative_to(top))] = (_shown(os.lstat(path)), content)
    return found


def exercise(
    mounted: Path,
    twin: Path,
    *,
    programs: int,
    steps: int,
    remounts: Sequence[Callable[[], None]] = (),
    phases: Sequence[Phase] = tuple(Phase),
) -> int:
    """Runs so many programs of so many steps. Returns how many operations that were; raises what Hypothesis raises."""
    before = Twins.steps
    machine = type("TwinsHere", (Twins,), {"roots": (mounted, twin), "remounts": list(remounts)})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=programs,
            stateful_step_count=steps,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
            phases=phases,
            report_multiple_bugs=False,
        ),
    )
    return Twins.steps - before


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.stress.twins", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("mounted", type=Path)
    parser.add_argument("twin", type=Path)
    parser.add_argument("--programs", type=int, default=100)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--shrink", action="store_true", help="make what is found small, which takes minutes")
    options = parser.parse_args()
    phases = tuple(Phase) if options.shrink else QUICKLY
    done = exercise(options.mounted, options.twin, programs=options.programs, steps=options.steps, phases=phases)
    print(f"{done} operations, no difference")
    return 0


if __name__ == "__main__":
    sys.exit(main())
