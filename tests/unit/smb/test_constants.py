"""Where the numbers of the protocol come from: smbprotocol, and our own only where it has none."""

from __future__ import annotations

import ast
import importlib
import pkgutil
from enum import IntEnum, IntFlag
from pathlib import Path

import pytest
import smbprotocol
from smbprotocol import header

from dfsfs import ntstatus
from dfsfs.ntstatus import NtStatus
from dfsfs.smb.wire import constants, missing_constants

PACKAGE = Path(constants.__file__).parent.parent
OLD = "smbprotocol.query_info"
"""It only says that it has another name now."""
SLOW_TO_IMPORT = ("SMB2_SESSION_FLAG_IS_GUEST", "SMB2_SESSION_FLAG_IS_NULL", "SMB2_SESSION_FLAG_ENCRYPT_DATA")
"""What smbprotocol has in a module that imports spnego."""


def theirs() -> dict[str, int]:
    """Every number of smbprotocol that has a name in a class."""
    modules = [smbprotocol]
    modules += [
        importlib.import_module(found.name)
        for found in pkgutil.iter_modules(smbprotocol.__path__, "smbprotocol.")
        if found.name != OLD
    ]
    bags = [bag for module in modules for bag in vars(module).values() if isinstance(bag, type)]
    return {name: number for bag in bags for name, number in vars(bag).items() if isinstance(number, int)}


def numbers(source: str) -> list[int]:
    found = [node.value for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Constant)]
    return [value for value in found if isinstance(value, int) and not isinstance(value, bool)]


def test_the_constants_have_no_numbers_of_their_own() -> None:
    assert set(numbers(Path(constants.__file__).read_text())) == {0}, "besides the 0 of what is none of its flags"


def test_what_is_missing_is_missing() -> None:
    names = {name for name in vars(missing_constants) if name.isupper()} - set(SLOW_TO_IMPORT)
    assert names
    assert names & set(theirs()) == set(), "smbprotocol has it now: take its number"


@pytest.mark.parametrize("name", SLOW_TO_IMPORT)
def test_what_takes_long_to_import_has_the_same_number(name: str) -> None:
    assert getattr(missing_constants, name) == theirs()[name] == getattr(constants, name)


def own_statuses() -> set[str]:
    """The statuses that ntstatus.py has a number for."""
    tree = ast.parse(Path(ntstatus.__file__).read_text())
    (table,) = (node for node in tree.body if isinstance(node, ast.ClassDef))
    return {
        target.id
        for node in table.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def test_statuses_that_smbprotocol_has_are_its_own() -> None:
    own = own_statuses()
    assert own
    assert {name for name in own if hasattr(header.NtStatus, f"STATUS_{name}")} == set()
    for status in set(NtStatus) - {NtStatus[name] for name in own}:
        assert getattr(header.NtStatus, f"STATUS_{status.name}") == status


@pytest.mark.parametrize(
    "kind",
    [
        kind
        for kind in vars(constants).values()
        if isinstance(kind, type) and issubclass(kind, IntEnum | IntFlag) and kind not in (IntEnum, IntFlag)
    ],
    ids=lambda kind: str(kind.__name__),
)
def test_no_name_has_become_another_ones_alias(kind: type[IntEnum | IntFlag]) -> None:
    """Two members of one value would be one, under the name that comes first."""
    aliases = {name for name, member in kind.__members__.items() if member.name != name}
    assert aliases <= {"NONE"}
