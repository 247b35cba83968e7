"""What is measured: each workload does something that users do, on a fresh mount, and says how much it was.

`prepare` makes files behind the server's back; `run` is timed and returns an amount: MiB, files, or operations. A
workload that writes has ended when `landed` says that the server has everything: rclone sends it some time after close.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MIB = 1024 * 1024
SMALL_SIZE = 4096
RANDOM_SECONDS = 3.0
SERVER_SIDE = "bench-files"
"""The folder of the share that holds what `prepare` made; what the workloads make lies in it, too."""


@dataclass(frozen=True)
class Scale:
    """How much there is of everything; smaller for a quick look."""

    large: int = 1024
    """MiB of the large file."""
    copied: int = 256
    small: int = 2000
    listed: int = 10_000
    folders: int = 500
    packed: int = 3000
    cloned: int = 600


@dataclass(frozen=True)
class Workload:
    name: str
    unit: str
    prepare: Callable[[Path, Scale], None]
    run: Callable[[Path, Path, Scale], float]
    """Gets the prepared folder as the client sees it, and a local folder with room."""
    smbclient: Callable[[Scale, Path], str] | None = None
    """The same as commands of smbclient, which are in the prepared folder."""
    landed: Callable[[Path, Scale], bool] = lambda _, __: True
    """Gets the folder on the server's disk."""


# -- preparing --------------------------------------------------------------------------------------------------------


def _nothing(folder: Path, scale: Scale) -> None:
    """The workload makes everything itself."""


def _fill(path: Path, mebibytes: int) -> None:
    dice = random.Random(path.name)
    with open(path, "wb") as file:
        for _ in range(mebibytes):
            file.write(dice.randbytes(MIB))


def _large(folder: Path, scale: Scale) -> None:
    _fill(folder / "large", scale.large)


def _copied(folder: Path, scale: Scale) -> None:
    _fill(folder / "copied", scale.copied)


def _several(folder: Path, scale: Scale) -> None:
    for index in range(8):
        _fill(folder / f"part{index}", scale.large // 8)


def _small(folder: Path, scale: Scale) -> None:
    data = random.Random("small").randbytes(SMALL_SIZE)
    for index in range(scale.small):
        (folder / f"small{index:05}").write_bytes(data)


def _listed(folder: Path, scale: Scale) -> None:
    for index in range(scale.listed):
        (folder / f"a file with a name {index:05}").touch()


def _folders(folder: Path, scale: Scale) -> None:
    for index in range(scale.folders):
        (folder / f"d{index % 25}" / f"e{index}").mkdir(parents=True)
        for file in range(10):
            (folder / f"d{index % 25}" / f"e{index}" / f"f{file}").touch()


def _tree(folder: Path, files: int) -> None:
    dice = random.Random("tree")
    for index in range(files):
        path = folder / f"d{index % 20}" / f"e{index % 60}" / f"source{index}.c"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(dice.randbytes(dice.randint(200, 8000)))


def _packed(folder: Path, scale: Scale) -> None:
    _tree(folder / "tree", scale.packed)


# -- running ----------------------------------------------------------------------------------------------------------


def _run(*command: str | Path) -> None:
    subprocess.run([str(word) for word in command], check=True, capture_output=True)


def _read_large(folder: Path, local: Path, scale: Scale) -> float:
    _run("dd", f"if={folder}/large", "of=/dev/null", "bs=1M")
    return scale.large


def _write_large(folder: Path, local: Path, scale: Scale) -> float:
    _run("dd", f"if={_source(local, scale.large)}", f"of={folder}/written", "bs=1M", "conv=fsync")
    return scale.large


def _source(local: Path, mebibytes: int) -> Path:
    path = local / f"source{mebibytes}"
    if not path.exists():
        _fill(path, mebibytes)
    return path


def _copy_out(folder: Path, local: Path, scale: Scale) -> float:
    _run("cp", folder / "copied", local / "copied")
    return scale.copied


def _copy_in(folder: Path, local: Path, scale: Scale) -> float:
    _run("cp", _source(local, scale.copied), folder / "copied-in")
    return scale.copied


def _random_reads(depth: int) -> Callable[[Path, Path, Scale], float]:
    def run(folder: Path, local: Path, scale: Scale) -> float:
        counts = [0] * depth
        end = time.monotonic() + RANDOM_SECONDS

        def read(index: int) -> None:
            dice = random.Random(index)
            file = os.open(folder / "copied", os.O_RDONLY)
            while time.monotonic() < end:
                counts[index] += len(os.pread(file, 4096, dice.randrange(scale.copied * 256) * 4096)) // 4096
            os.close(file)

        _together(depth, read)
        return sum(counts)

    return run


def _together(count: int, work: Callable[[int], object]) -> None:
    threads = [threading.Thread(target=work, args=(index,)) for index in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _readers(count: int) -> Callable[[Path, Path, Scale], float]:
    def run(folder: Path, local: Path, scale: Scale) -> float:
        _together(count, lambda index: _run("dd", f"if={folder}/part{index}", "of=/dev/null", "bs=1M"))
        return count * (scale.large // 8)

    return run


def _create_small(folder: Path, local: Path, scale: Scale) -> float:
    return _create(folder, range(scale.small))


def _create(folder: Path, numbers: range) -> float:
    data = bytes(SMALL_SIZE)
    for number in numbers:
        with open(folder / f"new{number:05}", "wb") as file:
            file.write(data)
    return len(numbers)


def _create_from_eight(folder: Path, local: Path, scale: Scale) -> float:
    _together(8, lambda index: _create(folder, range(index, scale.small, 8)))
    return scale.small


def _read_small(folder: Path, local: Path, scale: Scale) -> float:
    for index in range(scale.small):
        (folder / f"small{index:05}").read_bytes()
    return scale.small


def _stat_small(folder: Path, local: Path, scale: Scale) -> float:
    for index in range(scale.small):
        os.stat(folder / f"small{index:05}")
    return scale.small


def _remove_small(folder: Path, local: Path, scale: Scale) -> float:
    for index in range(scale.small):
        os.unlink(folder / f"small{index:05}")
    return scale.small


def _ls(folder: Path, local: Path, scale: Scale) -> float:
    _run("ls", "-l", folder)
    return scale.listed


def _find(folder: Path, local: Path, scale: Scale) -> float:
    _run("find", folder)
    return scale.folders * 10


def _clone(folder: Path, local: Path, scale: Scale) -> float:
    repository = local / "repository"
    if not repository.exists():
        _tree(repository, scale.cloned)
        git = ("git", "-C", repository, "-c", "user.name=bench", "-c", "user.email=bench@localhost")
        _run("git", "init", "-q", repository)
        _run(*git, "add", ".")
        _run(*git, "commit", "-q", "-m", "everything")
    _run("git", "clone", "-q", "--no-local", repository, folder / "clone")
    return scale.cloned


def _untar(folder: Path, local: Path, scale: Scale) -> float:
    archive = local / "archive.tar"
    if not archive.exists():
        _tree(local / "tree", scale.packed)
        _run("tar", "cf", archive, "-C", local, "tree")
        shutil.rmtree(local / "tree")
    _run("tar", "xf", archive, "-C", folder)
    return scale.packed


def _tar(folder: Path, local: Path, scale: Scale) -> float:
    # tar reads nothing if it sees that its output is /dev/null
    subprocess.run(f"tar cf - -C '{folder}' tree | cat >/dev/null", shell=True, check=True, capture_output=True)
    return scale.packed


def _size(name: str, of: str) -> Callable[[Path, Scale], bool]:
    """Whether a file has all the MiB that an attribute of the scale says."""

    def landed(folder: Path, scale: Scale) -> bool:
        path = folder / name
        return path.exists() and path.stat().st_size == getattr(scale, of) * MIB

    return landed


def _files(below: str, of: str) -> Callable[[Path, Scale], bool]:
    """Whether so many files lie below a folder, none of them empty."""

    def landed(folder: Path, scale: Scale) -> bool:
        paths = [path for path in (folder / below).rglob("*") if ".git/" not in str(path) and path.is_file()]
        return len(paths) == getattr(scale, of) and all(path.stat().st_size for path in paths)

    return landed


WORKLOADS = (
    Workload("read", "MiB/s", _large, _read_large, lambda _, __: "get large /dev/null"),
    Workload(
        "write",
        "MiB/s",
        _nothing,
        _write_large,
        lambda scale, local: f"put {_source(local, scale.large)} written",
        _size("written", "large"),
    ),
    Workload("cp out", "MiB/s", _copied, _copy_out),
    Workload("cp in", "MiB/s", _nothing, _copy_in, landed=_size("copied-in", "copied")),
    Workload("random 1", "reads/s", _copied, _random_reads(1)),
    Workload("random 16", "reads/s", _copied, _random_reads(16)),
    Workload("2 readers", "MiB/s", _several, _readers(2)),
    Workload("8 readers", "MiB/s", _several, _readers(8)),
    Workload("create", "files/s", _nothing, _create_small, landed=_files("", "small")),
    Workload("create by 8", "files/s", _nothing, _create_from_eight, landed=_files("", "small")),
    Workload("read small", "files/s", _small, _read_small),
    Workload("stat", "files/s", _small, _stat_small),
    Workload("remove", "files/s", _small, _remove_small, landed=lambda folder, _: not any(folder.iterdir())),
    Workload("ls -l", "entries/s", _listed, _ls),
    Workload("find", "entries/s", _folders, _find),
    Workload("tar c", "files/s", _packed, _tar),
    Workload("tar x", "files/s", _nothing, _untar, landed=_files("tree", "packed")),
    Workload("git clone", "files/s", _nothing, _clone, landed=_files("clone", "cloned")),
)
