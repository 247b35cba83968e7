"""The servers' table of upper case: what it promises, and what the Samba libraries on this machine say."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfsfs.unc import fold_name
from dfsfs.upcase import RUNS, UPPER, runs_of, table_of
from tests.conftest import SAMBAS

if TYPE_CHECKING:
    from pathlib import Path

LIBRARIES = "usr/lib/x86_64-linux-gnu"

ASK = """
import ctypes, json, sys
upper = ctypes.CDLL(sys.argv[1]).toupper_m
upper.argtypes, upper.restype = [ctypes.c_uint32], ctypes.c_uint32
json.dump([upper(code) for code in range(0x110000)], sys.stdout)
"""

any_text = st.text(st.characters(exclude_categories=()), max_size=20)
"""Surrogates as well, which names of files have that are no UTF-8."""


def code_units(text: str) -> int:
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def test_letters_become_letters_of_one_code_unit() -> None:
    assert all(code < 0x10000 and upper < 0x10000 for code, upper in UPPER.items())
    assert not any(0xD800 <= code < 0xE000 for pair in UPPER.items() for code in pair)
    assert not any(upper in UPPER for upper in UPPER.values())
    assert {code: upper for code, upper in UPPER.items() if code < 128} == {c: c - 32 for c in range(97, 123)}


@given(any_text)
def test_folding_keeps_every_code_unit_in_its_place_and_is_done_once(name: str) -> None:
    folded = fold_name(name)
    assert code_units(folded) == code_units(name)
    assert fold_name(folded) == folded
    assert folded == "".join(map(fold_name, name))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("ı", "i"),
        ("µ", "μ"),
        ("ș", "Ș"),
        ("ț", "Ț"),
        ("ș", "ş"),
        ("ț", "ţ"),
        ("ſ", "s"),
        ("ß", "ẞ"),
        ("ς", "σ"),
        ("ϐ", "β"),
    ],
)
def test_letters_that_servers_keep_apart(one: str, other: str) -> None:
    expected = (one, other) == ("ς", "σ")
    assert (fold_name(one) == fold_name(other)) is expected
    assert (fold_name(f"x{one}") == fold_name(f"X{other}")) is expected


@pytest.mark.parametrize(("one", "other"), [("ä", "Ä"), ("ÿ", "Ÿ"), ("я", "Я"), ("ω", "Ω"), ("ⅷ", "Ⅷ"), ("ａ", "Ａ")])
def test_letters_that_are_one(one: str, other: str) -> None:
    assert fold_name(f"x{one}") == fold_name(f"X{other}")


@pytest.mark.parametrize("name", ["𐐨", "\ud801", "a\udcff", "𞤢"])
def test_what_lies_beyond_the_basic_plane_stays(name: str) -> None:
    assert fold_name(name) == name.replace("a", "A")


def test_runs_stand_for_the_table() -> None:
    assert table_of(runs_of(UPPER)) == UPPER
    assert tuple(runs_of(UPPER)) == RUNS


@pytest.mark.parametrize("release", SAMBAS)
def test_the_libraries_of_samba_say_the_same(release: str) -> None:
    root = SAMBAS[release]
    folder = root / LIBRARIES
    library = folder / "libsamba-util.so.0"
    if not library.exists():
        pytest.skip(f"there is no {library}")
    said = asked(library, folder)
    mapping = {code: upper for code, upper in enumerate(said) if code != upper}
    assert mapping == UPPER, f"the table is {runs_of(mapping)} there"


def asked(library: Path, folder: Path) -> list[int]:
    """What the library's toupper_m says of each code point."""
    path = os.pathsep.join(map(str, (folder, folder / "samba")))
    answer = subprocess.run(
        [sys.executable, "-c", ASK, str(library)],
        env={**os.environ, "LD_LIBRARY_PATH": path},
        capture_output=True,
        check=True,
        timeout=60,
    )
    found: list[int] = json.loads(answer.stdout)
    return found
