"""What needs no server answers without loading what talks to servers (docs/decisions/001-smbprotocol-constants.md)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent.parent
PATIENCE = 20.0
HEAVY = ("smbprotocol", "cryptography", "spnego", "trio", "pyfuse3")
PROGRAM = """
import sys
from dfsfs.cli.main import main
try:
    main(sys.argv[1:])
except SystemExit:
    pass
print(sorted(set(%r) & set(sys.modules)), file=sys.stderr)
"""


@pytest.mark.parametrize(
    "words",
    [
        ["--version"],
        ["--help"],
        ["status", "--help"],
        ["status", "/proc"],
        ["mount", "--help"],
        ["check", "--help"],
        ["cp", "--help"],
        ["login", "--help"],
        ["completion", "bash"],
        ["no-such-command"],
    ],
    ids=" ".join,
)
def test_nothing_is_loaded_that_talks_to_servers(words: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM % (HEAVY,), *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    assert done.stderr.splitlines()[-1] == "[]"
