"""The text of `-o`, taken apart into options: names, values, and where they are in it. Pure.

Options are split at commas as they stand; only in `password=` does a doubled comma stand for one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from dfsfs.config.table import BY_NAME, SECRETS

_UP_TO_COMMA = re.compile("[^,]*")
_WITH_DOUBLED_COMMAS = re.compile("(?:[^,]|,,)*")


@dataclass(frozen=True, slots=True)
class Item:
    """An option as it is written: `text[start:end]`. `after_secret`: it may be the rest of a password with a comma."""

    name: str
    value: str | None
    start: int
    end: int
    after_secret: bool


def split_options(text: str) -> list[Item]:
    """The options of a text, with where they are in it."""
    items: list[Item] = []
    position = 0
    after_secret = False
    while position < len(text):
        name = re.split("[,=]", text[position:], maxsplit=1)[0]
        end = position + len(name)
        value = None
        if text.startswith("=", end):
            value = _value_at(text, end + 1, doubled_commas=name in SECRETS)
            end += 1 + len(value)
        if end > position:
            if value is not None and name in SECRETS:
                value = value.replace(",,", ",")
            items.append(Item(name, value, position, end, after_secret))
        after_secret = name in SECRETS or (after_secret and name not in BY_NAME)
        position = end + 1
    return items


def _value_at(text: str, position: int, *, doubled_commas: bool) -> str:
    """The value that begins there, as it stands, up to the next comma that ends it."""
    match = (_WITH_DOUBLED_COMMAS if doubled_commas else _UP_TO_COMMA).match(text, position)
    return match[0] if match else ""
