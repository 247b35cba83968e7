"""A text that a terminal must not get, and what is shown of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

EVIL = "a\x1b]0;x\x07\x9b2J\nb\u202egpj\ud800\x7f\r"
SHOWN = "a\\x1b]0;x\\x07\\x9b2J\\nb\\u202egpj\\ud800\\x7f\\r"


def spoils(text: str) -> set[str]:
    """What of it has come through; line ends don't count."""
    return {character for character in EVIL if not character.isascii() or not character.isprintable()} & (
        set(text) - {"\n"}
    )


def texts(value: Any) -> Iterator[str]:
    """Every text in what JSON has."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from texts(inner)
