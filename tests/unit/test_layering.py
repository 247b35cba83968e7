"""The structure of dfsfs, read from its source: who may import what, and how long files and functions may be."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

PACKAGE = Path(__file__).parent.parent.parent / "dfsfs"
FILES = sorted(PACKAGE.rglob("*.py"))

MAX_FILE_LINES = 500
MAX_FUNCTION_LINES = 60

BASE = "base"
"""The modules in dfsfs/ itself: errors, unc, config and the like."""

BELOW: dict[str, frozenset[str]] = {
    BASE: frozenset(),
    "dfsc": frozenset({BASE}),
    "smb": frozenset({BASE}),
    "namespace": frozenset({BASE, "dfsc", "smb"}),
    "vfs": frozenset({BASE, "dfsc", "smb", "namespace"}),
    "control": frozenset({BASE, "dfsc", "smb", "namespace", "vfs"}),
    "fuse": frozenset({BASE, "dfsc", "smb", "namespace", "vfs", "control"}),
    "cli": frozenset({BASE, "dfsc", "smb", "namespace", "vfs", "control", "fuse"}),
}
"""Which layers a layer may import from, beside itself."""

EXCEPTIONS = {
    # A password must not show in a repr from the moment it is read.
    ("dfsfs.config.assembly", "dfsfs.smb.credentials"),
    ("dfsfs.config.credentials", "dfsfs.smb.credentials"),
    ("dfsfs.config.model", "dfsfs.smb.credentials"),
    ("dfsfs.config.options", "dfsfs.smb.credentials"),
    ("dfsfs.config.redaction", "dfsfs.smb.credentials"),
}
"""Imports that go up all the same: (importing module, imported module)."""

CONFINED: dict[str, str | tuple[str, ...]] = {
    "pyfuse3": "dfsfs.fuse",
    "spnego": "dfsfs.smb.authentication",
    "cryptography": "dfsfs.smb.security",
    "krb5": "dfsfs.smb.tickets",
    "dns": "dfsfs.namespace.discovery",
    "rich": ("dfsfs.cli.progress", "dfsfs.cli.terminal"),
    "getpass": "dfsfs.cli.output",
}
"""Libraries that only these modules, or the modules of these packages, may import."""

PURE = frozenset(
    {
        "dfsfs.errors",
        "dfsfs.ntstatus",
        "dfsfs.filetime",
        "dfsfs.heat",
        "dfsfs.meanings",
        "dfsfs.meters",
        "dfsfs.printable",
        "dfsfs.telemetry",
        "dfsfs.unc",
        "dfsfs.upcase",
        "dfsfs.wording",
        "dfsfs.acting",
        "dfsfs.config",
        "dfsfs.dfsc",
        "dfsfs.smb.wire",
        "dfsfs.smb.fscc",
        "dfsfs.smb.reparse",
        "dfsfs.smb.eas",
        "dfsfs.smb.framing",
        "dfsfs.smb.security",
        "dfsfs.smb.credits",
        "dfsfs.smb.buffers",
        "dfsfs.smb.calls",
        "dfsfs.smb.leases",
        "dfsfs.smb.protocol",
        "dfsfs.smb.credentials",
        "dfsfs.smb.names",
        "dfsfs.namespace.choices",
        "dfsfs.namespace.reachability",
        "dfsfs.control.answers",
        "dfsfs.control.protocol",
        "dfsfs.control.shapes",
        "dfsfs.vfs.known",
        "dfsfs.vfs.node",
        "dfsfs.vfs.nodes",
        "dfsfs.vfs.nodestore",
        "dfsfs.vfs.numbers",
        "dfsfs.vfs.entrylist",
        "dfsfs.vfs.mapping",
        "dfsfs.vfs.nextfile",
        "dfsfs.vfs.rows",
        "dfsfs.vfs.sleepers",
        "dfsfs.vfs.views",
    }
)
"""Modules, or packages of them, that neither wait nor do input or output, and import only such modules of dfsfs."""

IMPURE = frozenset({"trio", "socket", "select", "threading", "time", "random", "os"})


def module_name(file: Path) -> str:
    parts = ("dfsfs", *file.relative_to(PACKAGE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def nodes_at_run_time(node: ast.AST) -> Iterator[ast.AST]:
    """Like ast.walk, without what stands under `if TYPE_CHECKING:`."""
    yield node
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and isinstance(child.test, ast.Name) and child.test.id == "TYPE_CHECKING":
            for alternative in child.orelse:
                yield from nodes_at_run_time(alternative)
        else:
            yield from nodes_at_run_time(child)


def imports(nodes: Iterable[ast.AST]) -> set[str]:
    """Every module that these nodes import, and `package.name` for each name that they take from a package."""
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: a relative import"
            assert node.module is not None
            found.add(node.module)
            if node.module == "dfsfs" or (PACKAGE.parent / node.module.replace(".", "/")).is_dir():
                found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def within(module: str, scope: str) -> bool:
    return module == scope or module.startswith(scope + ".")


def layer(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in BELOW else BASE


def is_pure(module: str) -> bool:
    return any(within(module, scope) for scope in PURE)


def violations(module: str, source: str) -> list[str]:
    """What a module imports against the rules, in words."""
    found = []
    tree = ast.parse(source)
    at_run_time = imports(nodes_at_run_time(tree))
    for name in sorted(imports(ast.walk(tree))):
        top = name.split(".")[0]
        needs_purity = is_pure(module) and name in at_run_time  # naming a type does nothing
        scopes = CONFINED.get(top, module)
        scopes = (scopes,) if isinstance(scopes, str) else scopes
        if not any(within(module, scope) for scope in scopes):
            found.append(f"imports {name}, which only {' and '.join(scopes)} may")
        if needs_purity and top in IMPURE:
            found.append(f"is pure and imports {name}")
        if top != "dfsfs" or name == "dfsfs" or (module, name) in EXCEPTIONS:
            continue
        if layer(name) != layer(module) and layer(name) not in BELOW[layer(module)]:
            found.append(f"is in layer {layer(module)} and imports {name} of layer {layer(name)}")
        names_module = PACKAGE.parent.joinpath(*name.split(".")).with_suffix(".py").exists()
        if needs_purity and names_module and not is_pure(name):
            found.append(f"is pure and imports {name}, which is not")
    return found


def too_long(source: str) -> list[str]:
    """The functions of a source that have too many lines, and the file itself if it has."""
    lines = len(source.splitlines())
    found = [f"the file has {lines} lines"] if lines > MAX_FILE_LINES else []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            length = node.end_lineno - node.lineno + 1
            if length > MAX_FUNCTION_LINES:
                found.append(f"{node.name} has {length} lines")
    return found


@pytest.mark.parametrize("file", FILES, ids=module_name)
def test_imports(file: Path) -> None:
    assert violations(module_name(file), file.read_text()) == []


@pytest.mark.parametrize("file", FILES, ids=module_name)
def test_size(file: Path) -> None:
    assert too_long(file.read_text()) == []


@pytest.mark.parametrize("file", FILES, ids=module_name)
def test_docstring(file: Path) -> None:
    assert ast.get_docstring(ast.parse(file.read_text())), "a module says what it is for"


@pytest.mark.parametrize(
    ("module", "source", "expected"),
    [
        ("dfsfs.dfsc.wire", "from dfsfs.smb import wire", "of layer smb"),
        ("dfsfs.smb.tree", "from dfsfs.dfsc.cache import Caches", "of layer dfsc"),
        ("dfsfs.vfs.filesystem", "def f():\n    import pyfuse3", "only dfsfs.fuse may"),
        ("dfsfs.namespace.client", "from dfsfs import cli", "of layer cli"),
        ("dfsfs.smb.pool", "import spnego.channel_bindings", "only dfsfs.smb.authentication may"),
        ("dfsfs.dfsc.cache", "from time import monotonic", "is pure and imports time"),
        ("dfsfs.errors", "import trio.abc", "is pure and imports trio.abc"),
        ("dfsfs.unc", "import dfsfs.smb.credentials", "of layer smb"),
    ],
)
def test_the_rules_bite(module: str, source: str, expected: str) -> None:
    assert any(expected in violation for violation in violations(module, source))


def test_the_rules_let_pass_what_is_right() -> None:
    assert violations("dfsfs.unc", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import socket") == []
    assert violations("dfsfs.fuse.operations", "import pyfuse3\nfrom dfsfs.vfs import filesystem") == []
    assert violations("dfsfs.config.model", "from dfsfs.smb.credentials import Secret") == []
    assert too_long("def f():\n" + "    pass\n" * 59) == []
    assert too_long("def f():\n" + "    pass\n" * 60) == ["f has 61 lines"]
