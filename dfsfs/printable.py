"""Texts from elsewhere, made fit to be shown in one line: on a terminal, in a log, in the status of a service.

Names of files, links and servers, and whatever another program says, may hold characters that move a terminal's cursor
or set its title (ECMA-48), end a line, turn the order of what is shown around them (Unicode's UAX #9), or can't be
encoded at all. Each of them becomes a backslash and its number, as in Python: `\\x1b`, `\\n`, `\\u202e`, `\\udc80`.

Pure.
"""

from __future__ import annotations

import re

_CONTROLS = "\x00-\x1f\x7f-\x9f"
"""C0, DEL and C1."""
_SURROGATES = "\ud800-\udfff"
_LINE_ENDS = "\u2028\u2029"
_DIRECTIONS = "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
"""Characters with the property Bidi_Control."""
_SPOILS = re.compile(f"[{_CONTROLS}{_SURROGATES}{_LINE_ENDS}{_DIRECTIONS}]")
_ILL_FORMED = re.compile(f"[{_CONTROLS}{_SURROGATES}]")
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def printable(text: str) -> str:
    """The text in one line, with what does not stand for itself as escapes. What it gives it leaves as it is."""
    return _SPOILS.sub(lambda found: _SHORT.get(found[0]) or _number(found[0]), text)


def counted(count: int, what: str) -> str:
    """A number of things: `1 link`, `2 links`."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def how_often(count: int) -> str:
    """`once`, `2 times`."""
    return "once" if count == 1 else f"{count} times"


def printable_name(name: str) -> str:
    """The same for a name that somebody may want back: its backslashes are doubled, as `ls -b` has them."""
    return printable(name.replace("\\", "\\\\"))


def printable_json(text: str) -> str:
    """JSON that means the same, with escapes in its strings. Line ends between its tokens stay."""
    return _SPOILS.sub(lambda found: found[0] if found[0] == "\n" else f"\\u{ord(found[0]):04x}", text)


def has_controls(text: str) -> bool:
    """Whether there is a control character in it, or half of one (a lone surrogate): no name on a network has any."""
    return _ILL_FORMED.search(text) is not None


def _number(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
