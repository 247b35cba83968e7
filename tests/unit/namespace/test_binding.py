"""binding.py is the only module that moves junctions: read from the source."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

import pytest

from tests.unit.test_layering import FILES, module_name

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MOVES = frozenset({"bind", "unbind", "set_resolution"})
"""The methods of a Junction that change where it leads."""
PERMITTED = {
    "dfsfs.namespace.binding": frozenset({*MOVES, "binding"}),
    "dfsfs.namespace.junction": frozenset({"binding"}),
    # The referral of a junction that has none yet.
    "dfsfs.namespace.client": frozenset({"set_resolution"}),
    # A socket's.
    "dfsfs.namespace.discovery": frozenset({"bind"}),
    "dfsfs.smb.connection.transport": frozenset({"bind"}),
    "dfsfs.control.socketfile": frozenset({"bind"}),
}
"""What modules may do of MOVES, and whether they assign to `.binding`."""


def moves(source: str) -> Iterator[str]:
    """The methods in MOVES that a source calls, and `binding` if it assigns to an attribute of that name."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in MOVES:
            yield node.func.attr
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and node.attr == "binding":
            yield node.attr


@pytest.mark.parametrize("file", FILES, ids=module_name)
def test_only_binding_moves_junctions(file: Path) -> None:
    assert set(moves(file.read_text())) <= PERMITTED.get(module_name(file), frozenset())


@pytest.mark.parametrize("source", ["junction.binding = None", "link.junction.bind(target, tree, 0.0)", "j.unbind()"])
def test_the_search_finds_moves(source: str) -> None:
    assert list(moves(source))
