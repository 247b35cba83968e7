"""What is shown stands for itself."""

from __future__ import annotations

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfsfs.printable import has_controls, printable, printable_json, printable_name

BIDI = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
any_text = st.text(st.characters(exclude_categories=()) | st.sampled_from("\\\n\x1b\x9b\x7f\ud800\udcff" + BIDI))


def spoils(character: str) -> bool:
    """By Unicode's own table, and not by a list of ours."""
    direction = unicodedata.bidirectional(character)
    return unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") or (
        direction in ("LRE", "RLE", "PDF", "LRO", "RLO", "LRI", "RLI", "FSI", "PDI")
        or character in "\u061c\u200e\u200f"
    )


def test_every_character() -> None:
    for code in range(0x110000):
        character = chr(code)
        shown = printable(character)
        assert (shown != character) == spoils(character), hex(code)
        assert not any(map(spoils, shown))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\nb\r\n\x1b[2Jc\u2028d", "a\\nb\\r\\n\\x1b[2Jc\\u2028d"),
        ("\x00\x7f\x9b31m\t", "\\x00\\x7f\\x9b31m\\t"),
        ("exe.\u202efdp", "exe.\\u202efdp"),
        ("\udc80\ud83d", "\\udc80\\ud83d"),
        ("Straße, 日本, \U0001f469\u200d\U0001f52c \uf022", "Straße, 日本, \U0001f469\u200d\U0001f52c \uf022"),
        ("DOMAIN\\user", "DOMAIN\\user"),
    ],
)
def test_examples(text: str, shown: str) -> None:
    assert printable(text) == shown


@given(any_text)
def test_once_is_enough(text: str) -> None:
    assert printable(printable(text)) == printable(text)
    printable(text).encode()


@given(any_text)
def test_a_name_can_be_had_back(name: str) -> None:
    assert printable_name(name).encode("latin-1", "backslashreplace").decode("unicode_escape") == name


@given(st.recursive(any_text, lambda inner: st.lists(inner) | st.dictionaries(any_text, inner), max_leaves=8))
def test_json_means_the_same(value: object) -> None:
    text = printable_json(json.dumps(value, indent=2, ensure_ascii=False))
    assert json.loads(text) == json.loads(json.dumps(value))
    assert not any(spoils(character) for character in text if character != "\n")


@given(any_text)
def test_controls(text: str) -> None:
    assert has_controls(text) == any(unicodedata.category(character) in ("Cc", "Cs") for character in text)
