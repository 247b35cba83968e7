"""Each field of an Inode is assigned by the module that owns it, and by the Inode's own methods: the source is read."""

from __future__ import annotations

import ast
from dataclasses import fields
from typing import TYPE_CHECKING

import pytest

from dfsfs.vfs.names.inode import (
    NO_CHILDREN,
    NO_PAGE_CACHE,
    OWNERS,
    Inode,
    ListingState,
    PageCacheState,
)
from tests.unit.test_layering import FILES, module_name

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MODULE = "dfsfs.vfs.names.inode"
PARTS = {
    **{field.name: "names.dircache" for field in fields(ListingState)},
    **{field.name: "data.caching" for field in fields(PageCacheState)},
}
ALL = {**OWNERS, **PARTS}
MUTATORS = frozenset({"clear", "pop", "popitem", "setdefault", "update", "__setitem__", "__delitem__"})
NAMESAKES = frozenset({("data.opener", "remote.stat"), ("data.fileops", "closed.stat")})
"""Assignments of fields of other classes that are called the same, each with its module."""


def assigned(node: ast.AST) -> Iterator[tuple[ast.Attribute, int]]:
    """Each attribute that a node assigns, deletes, or changes the items of, with its line."""
    targets: list[ast.expr] = []
    if isinstance(node, ast.Assign | ast.Delete):
        targets = list(node.targets)
    elif isinstance(node, ast.AugAssign | ast.AnnAssign | ast.For | ast.AsyncFor | ast.comprehension):
        targets = [node.target]
    elif isinstance(node, ast.withitem) and node.optional_vars is not None:
        targets = [node.optional_vars]
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in MUTATORS:
        targets = [node.func.value]
    while targets:
        target = targets.pop()
        if isinstance(target, ast.Tuple | ast.List):
            targets += target.elts
        elif isinstance(target, ast.Starred | ast.Subscript):
            targets.append(target.value)
        elif isinstance(target, ast.Attribute):
            yield target, target.lineno


def of_self(attribute: ast.Attribute) -> bool:
    return isinstance(attribute.value, ast.Name) and attribute.value.id == "self"


def trespasses(module: str, source: str) -> list[str]:
    """What a module assigns that belongs to another one. Through `self` a class assigns fields of its own; that these
    are not an Inode's is what its type says, and mypy.
    """
    found = []
    short = module.removeprefix("dfsfs.vfs.")
    for node in ast.walk(ast.parse(source)):
        for attribute, line in assigned(node):
            owner = ALL.get(attribute.attr)
            is_namesake = of_self(attribute) or (short, ast.unparse(attribute)) in NAMESAKES
            if owner is None or owner == short or is_namesake or module == MODULE:
                continue
            found.append(f"{module}:{line} assigns {attribute.attr}, which is {owner}'s")
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("setattr", "delattr"):
            found.append(f"{module}:{node.lineno} uses {node.func.id}")
    return found


@pytest.mark.parametrize("file", [file for file in FILES if "vfs" in file.parts], ids=module_name)
def test_fields_of_inodes_are_assigned_by_their_owners(file: Path) -> None:
    assert trespasses(module_name(file), file.read_text()) == []


def test_each_field_has_an_owner_that_exists() -> None:
    assert set(OWNERS) == {field.name for field in fields(Inode)}
    modules = {module_name(file).removeprefix("dfsfs.vfs.") for file in FILES}
    assert set(ALL.values()) <= modules


@pytest.mark.parametrize(
    "statement",
    [
        "inode.stat = stat",
        "inode.asked, inode.expires = 1, 2.0",
        "(a, [inode.parent, *b]) = c",
        "inode.lookups += 1",
        "inode.silly: object = None",
        "del folder.children[name]",
        "folder.children[name] = inode",
        "folder.children.pop(name)",
        "inode.page_cache.lease = lease",
        "inode.use_page_cache().breaks += 1",
        "for inode.stat in stats: pass",
        "setattr(inode, 'stat', stat)",
    ],
)
def test_the_rule_bites(statement: str) -> None:
    assert trespasses("dfsfs.vfs.xattrs", f"def f():\n    {statement}") != []


def test_the_rule_lets_pass_what_is_right() -> None:
    assert trespasses("dfsfs.vfs.names.attrcache", "inode.stat, inode.expires = stat, 1.0") == []
    assert trespasses("dfsfs.vfs.xattrs", "self.stat = inode.stat\nif inode.parent == 1: pass") == []


def test_what_inodes_share_can_not_be_changed() -> None:
    file, directory = Inode(2, "file", False), Inode(3, "directory", True)
    assert file.page_cache is NO_PAGE_CACHE and file.children is NO_CHILDREN and directory.children is not NO_CHILDREN
    with pytest.raises(AttributeError):
        file.page_cache.breaks += 1
    with pytest.raises(TypeError):
        file.children["a"] = directory
    file.use_page_cache().distrust()
    assert (file.page_cache.breaks, NO_PAGE_CACHE.breaks) == (1, 0)
