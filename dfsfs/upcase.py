"""The table by which SMB servers make upper case of a name: one UTF-16 code unit to one, not those of Unicode.

Servers do not compare names as Python's `str.upper` does. They have one table of simple mappings that does not grow
with Unicode (NTFS keeps it on the volume, as $UpCase). `ı` and `i`, `µ` and `μ`, `ſ` and `s`, `ș` and `Ș` are different
letters there, and names that differ in them only are names of different files.

Source: the function `toupper_m` of Samba's library libsamba-util, which smbd compares names with, called for each of
the 65,536 code units, of Samba 4.17.12 and 4.22.6 (Debian). Both say the same: 636 letters have another upper case, all
of them in the Basic Multilingual Plane. Each of these is a simple mapping of Unicode's as well, which has 1,163 there.
tests/unit/test_upcase.py compares the table with the libraries that are installed, and prints it if it differs;
tests/samba/test_case.py compares it with what servers answer.

Windows knows more letters (its table is of a later Unicode). A letter that is missing here is one more name that a
server is asked about; a letter too many would be two files taken for one. So what not all servers say is left out.

Code units of surrogates, in pairs or alone, stay what they are.

Pure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Run = tuple[int, int, int, int]

RUNS: tuple[Run, ...] = (
    (0x0061, 26, 1, -32),
    (0x00E0, 23, 1, -32),
    (0x00F8, 7, 1, -32),
    (0x00FF, 1, 1, 121),
    (0x0101, 24, 2, -1),
    (0x0133, 3, 2, -1),
    (0x013A, 8, 2, -1),
    (0x014B, 23, 2, -1),
    (0x017A, 3, 2, -1),
    (0x0183, 2, 2, -1),
    (0x0188, 1, 1, -1),
    (0x018C, 1, 1, -1),
    (0x0192, 1, 1, -1),
    (0x0199, 2, 8, -1),
    (0x01A3, 2, 2, -1),
    (0x01A8, 1, 1, -1),
    (0x01AD, 2, 3, -1),
    (0x01B4, 2, 2, -1),
    (0x01B9, 1, 1, -1),
    (0x01BD, 1, 1, -1),
    (0x01C6, 3, 3, -2),
    (0x01CE, 8, 2, -1),
    (0x01DD, 1, 1, -79),
    (0x01DF, 9, 2, -1),
    (0x01F3, 1, 1, -2),
    (0x01F5, 1, 1, -1),
    (0x01FB, 15, 2, -1),
    (0x0253, 1, 1, -210),
    (0x0254, 1, 1, -206),
    (0x0256, 2, 1, -205),
    (0x0259, 1, 1, -202),
    (0x025B, 1, 1, -203),
    (0x0260, 1, 1, -205),
    (0x0263, 1, 1, -207),
    (0x0268, 1, 1, -209),
    (0x0269, 1, 1, -211),
    (0x026F, 1, 1, -211),
    (0x0272, 1, 1, -213),
    (0x0275, 1, 1, -214),
    (0x0283, 1, 1, -218),
    (0x0288, 1, 1, -218),
    (0x028A, 2, 1, -217),
    (0x0292, 1, 1, -219),
    (0x03AC, 1, 1, -38),
    (0x03AD, 3, 1, -37),
    (0x03B1, 17, 1, -32),
    (0x03C2, 1, 1, -31),
    (0x03C3, 9, 1, -32),
    (0x03CC, 1, 1, -64),
    (0x03CD, 2, 1, -63),
    (0x03E3, 7, 2, -1),
    (0x0430, 32, 1, -32),
    (0x0451, 12, 1, -80),
    (0x045E, 2, 1, -80),
    (0x0461, 17, 2, -1),
    (0x0491, 24, 2, -1),
    (0x04C2, 2, 2, -1),
    (0x04C8, 1, 1, -1),
    (0x04CC, 1, 1, -1),
    (0x04D1, 14, 2, -1),
    (0x04EF, 4, 2, -1),
    (0x04F9, 1, 1, -1),
    (0x0561, 38, 1, -48),
    (0x1E01, 75, 2, -1),
    (0x1EA1, 45, 2, -1),
    (0x1F00, 8, 1, 8),
    (0x1F10, 6, 1, 8),
    (0x1F20, 8, 1, 8),
    (0x1F30, 8, 1, 8),
    (0x1F40, 6, 1, 8),
    (0x1F51, 4, 2, 8),
    (0x1F60, 8, 1, 8),
    (0x1F70, 2, 1, 74),
    (0x1F72, 4, 1, 86),
    (0x1F76, 2, 1, 100),
    (0x1F78, 2, 1, 128),
    (0x1F7A, 2, 1, 112),
    (0x1F7C, 2, 1, 126),
    (0x1FB0, 2, 1, 8),
    (0x1FD0, 2, 1, 8),
    (0x1FE0, 2, 1, 8),
    (0x1FE5, 1, 1, 7),
    (0x2170, 16, 1, -16),
    (0x24D0, 26, 1, -26),
    (0xFF41, 26, 1, -32),
)
"""The letters that have an upper case: the first code point, how many, the step between them, what to add to each."""


def runs_of(mapping: Mapping[int, int]) -> list[Run]:
    """Such runs for a mapping of code points: how RUNS was made from what a server's library says."""
    left = sorted((code, upper - code) for code, upper in mapping.items() if code != upper)
    runs: list[Run] = []
    while left:
        code, delta = left[0]
        count, step = max(((_length(left, step), step) for step in (1, 2, 3, 8)), key=lambda run: (run[0], -run[1]))
        runs.append((code, count, step, delta))
        left = left[count:]
    return runs


def _length(left: list[tuple[int, int]], step: int) -> int:
    """How many of the first entries are `step` apart and have one delta."""
    code, delta = left[0]
    for count, entry in enumerate(left):
        if entry != (code + step * count, delta):
            return count
    return len(left)


def table_of(runs: Iterable[Run]) -> dict[int, int]:
    """The mapping that runs stand for, as `str.translate` takes it."""
    return {
        code: code + delta for first, count, step, delta in runs for code in range(first, first + step * count, step)
    }


UPPER: Mapping[int, int] = table_of(RUNS)
"""The upper case by code point; a letter that is not in it is its own."""
