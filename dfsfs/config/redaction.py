"""Texts of `-o` without the passwords in them. Pure."""

from __future__ import annotations

from dfsfs.config.syntax import split_options
from dfsfs.config.table import BY_NAME, SECRETS
from dfsfs.smb.auth.credentials import Secret


def extract_secrets(text: str) -> tuple[str, dict[str, Secret]]:
    """A text of `-o` without its passwords, and those that count, as `password` and `password2`. Takes any text,
    however wrong it is.
    """
    kept: list[str] = []
    found: dict[str, Secret] = {}
    for item in split_options(text):
        if item.name not in SECRETS:
            kept.append(text[item.start : item.end])
        else:
            found[BY_NAME[item.name][0].sets[0]] = Secret(item.value or "")
    return ",".join(kept), found


def mask_secrets(text: str) -> str:
    """A text of `-o`, or any other, for people: `***` in the place of passwords. An unknown word after one is left out,
    as it may be the rest of it.
    """
    items = split_options(text)
    if not any(item.name in SECRETS for item in items):
        return text
    shown = (
        f"{item.name}=***" if item.name in SECRETS else text[item.start : item.end]
        for item in items
        if not item.after_secret or item.name in BY_NAME
    )
    return ",".join(shown)
