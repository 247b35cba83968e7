"""The kernel's part of a remount, by a mount(8) that does not do as it should."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from dfsfs.cli import remount
from dfsfs.cli.exitcodes import SYSTEM_ERROR
from dfsfs.cli.messages import MountError

if TYPE_CHECKING:
    from pathlib import Path


def mount_command(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Has `script` in the place of mount(8)."""
    file = folder / "mount"
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


def test_the_kernel_has_a_while_to_take_a_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mount_command(tmp_path, "exec sleep 5", monkeypatch)
    monkeypatch.setattr(remount, "CHANGING", 0.1, raising=False)
    with pytest.raises(MountError, match=r"nothing has come of it after 0\.1 seconds") as caught:
        remount._change_in_kernel("/mnt", ["ro"])
    assert caught.value.verdict.code == SYSTEM_ERROR


def test_what_it_says_when_it_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mount_command(tmp_path, 'echo no, >&2; echo "$@" >&2; exit 32', monkeypatch)
    with pytest.raises(MountError, match="the kernel does not take ro,nosuid: no, -i -o remount,ro,nosuid /mnt"):
        remount._change_in_kernel("/mnt", ["ro", "nosuid"])


def test_there_may_be_no_mount_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MountError, match="the kernel does not take ro: No such file"):
        remount._change_in_kernel("/mnt", ["ro"])
