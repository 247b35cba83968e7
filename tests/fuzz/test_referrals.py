"""Some fuzzing in each run, from the kept corpus on."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.conftest import CHANCE
from tests.unit.namespace.test_cldap import ANSWER, NETLOGON

CORPUS = Path(__file__).parent / "corpus"
KERNEL = Path(__file__).parent.parent / "fixtures" / "fuse-linux-6.18.jsonl"
WRITE = 16
"""FUSE_WRITE"""
SECONDS = 60 * CHANCE
SLOW = 5
"""Seconds; an input that takes longer is a finding too."""


def fuzz(corpus: Path, *arguments: str, target: str = "referrals") -> str:
    """What the fuzzer prints, which must have ended well. What it finds new goes to `corpus`."""
    command = [sys.executable, "-m", f"tests.fuzz.{target}", f"-timeout={SLOW}", "-max_len=65536"]
    command += [f"-artifact_prefix={corpus.parent}/", *arguments, str(corpus)]
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=SECONDS + 60)
    printed = run.stdout + run.stderr
    assert run.returncode == 0, printed[-5000:]
    return printed


def test_no_input_breaks_the_decoder(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    shutil.copytree(CORPUS, corpus)
    printed = fuzz(corpus, f"-max_total_time={SECONDS}")
    done = re.search(r"Done (\d+) runs", printed)
    assert done, printed[-2000:]
    assert int(done[1]) > 10_000
    reached = re.search(r"DONE +cov: (\d+)", printed)
    assert reached, printed[-2000:]
    assert int(reached[1]) > 100, "the decoder is not instrumented, or the corpus leads nowhere"


def test_no_input_breaks_the_decoder_of_pings(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    (corpus / "answer").write_bytes(b"\1" + ANSWER)
    (corpus / "netlogon").write_bytes(b"\0" + NETLOGON)
    printed = fuzz(corpus, f"-max_total_time={SECONDS}", target="netlogon")
    done = re.search(r"Done (\d+) runs", printed)
    assert done and int(done[1]) > 10_000, printed[-2000:]


def test_no_input_breaks_the_codec_of_fuse(tmp_path: Path) -> None:
    """From what a kernel has asked on."""
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for number, line in enumerate(KERNEL.read_text().splitlines()):
        request = bytes.fromhex(json.loads(line)["request"])
        opcode = request[4]
        (corpus / f"whole{number}").write_bytes(b"\0" + request)
        (corpus / f"body{number}").write_bytes(bytes([opcode]) + (request if opcode == WRITE else request[40:]))
    printed = fuzz(corpus, f"-max_total_time={SECONDS}", target="fuse")
    done = re.search(r"Done (\d+) runs", printed)
    assert done and int(done[1]) > 10_000, printed[-2000:]
