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
    "mount": frozenset({BASE, "dfsc", "smb", "namespace", "vfs", "control", "fuse"}),
    "cli": frozenset({BASE, "dfsc", "smb", "namespace", "vfs", "control", "fuse", "mount"}),
}
"""Which layers a layer may import from, beside itself."""

WINGS: dict[str, tuple[frozenset[str], ...]] = {
    "smb": (
        frozenset({"userpools"}),
        frozenset({"pool", "treeprovider"}),
        frozenset({"sessioninfo"}),
        frozenset({"tree"}),
        frozenset({"connection"}),
        frozenset({"wire", "auth"}),
    ),
    "vfs": (
        frozenset({"filesystem"}),
        frozenset({"attrops", "dirops", "xattrs"}),
        frozenset({"removal"}),
        frozenset({"sillyrename"}),
        frozenset({"data"}),
        frozenset({"names"}),
    ),
    "fuse": (
        frozenset({"session"}),
        frozenset({"libfuse", "multiuser"}),
        frozenset({"device"}),
        frozenset({"kerneloperations"}),
        frozenset({"operations"}),
        frozenset({"boundary", "caserename", "waiters", "interrupts", "mountplace", "stacks", "symfollow"}),
        frozenset({"requests", "requestcontext", "threadstates", "errnos"}),
        frozenset({"descriptors", "abi"}),
    ),
    "mount": (
        frozenset({"assembly"}),
        frozenset({"parts"}),
        frozenset({"service", "settings", "userlogins", "idle", "laterimports"}),
        frozenset({"unmountwatch"}),
    ),
}
"""Inside a layer: its folders and modules from above to below. Each imports only from those below it, and so does none
from one beside it."""

EXCEPTIONS = {
    # A password must not show in a repr from the moment it is read.
    ("dfsfs.config.assembly", "dfsfs.smb.auth.credentials"),
    ("dfsfs.config.credentials", "dfsfs.smb.auth.credentials"),
    ("dfsfs.config.model", "dfsfs.smb.auth.credentials"),
    ("dfsfs.config.options", "dfsfs.smb.auth.credentials"),
    ("dfsfs.config.redaction", "dfsfs.smb.auth.credentials"),
}
"""Imports that go up all the same: (importing module, imported module)."""

CONFINED = {
    "pyfuse3": ("dfsfs.fuse",),
    "spnego": ("dfsfs.smb.auth.gss",),
    "smbprotocol": ("dfsfs.smb.wire.constants", "dfsfs.dfsc.wire", "dfsfs.ntstatus"),
    "cryptography": ("dfsfs.smb.connection.crypto",),
    "krb5": ("dfsfs.smb.auth.kerberos",),
    "dns": ("dfsfs.namespace.dnsclient",),
    "rich": ("dfsfs.cli.progress", "dfsfs.cli.terminal"),
    "getpass": ("dfsfs.cli.output",),
}
"""Libraries that only these modules, or the modules of these packages, may import."""

PURE = frozenset(
    {
        "dfsfs.errors",
        "dfsfs.ntstatus",
        "dfsfs.filetime",
        "dfsfs.firstfew",
        "dfsfs.happyeyeballs",
        "dfsfs.statusmessages",
        "dfsfs.meters",
        "dfsfs.printable",
        "dfsfs.telemetry",
        "dfsfs.unc",
        "dfsfs.upcase",
        "dfsfs.errormessages",
        "dfsfs.caller",
        "dfsfs.unanswered",
        "dfsfs.config",
        "dfsfs.dfsc",
        "dfsfs.smb.wire",
        "dfsfs.smb.connection.framing",
        "dfsfs.smb.connection.crypto",
        "dfsfs.smb.connection.credits",
        "dfsfs.smb.connection.buffers",
        "dfsfs.smb.connection.calls",
        "dfsfs.smb.connection.leases",
        "dfsfs.smb.connection.protocol",
        "dfsfs.smb.auth.credentials",
        "dfsfs.smb.auth.hostnames",
        "dfsfs.namespace.overrides",
        "dfsfs.namespace.reachability",
        "dfsfs.control.answers",
        "dfsfs.control.protocol",
        "dfsfs.control.shapes",
        "dfsfs.fuse.abi",
        "dfsfs.vfs.names.ordering",
        "dfsfs.vfs.names.inode",
        "dfsfs.vfs.names.inodetable",
        "dfsfs.vfs.names.inodestore",
        "dfsfs.vfs.names.inodenumbers",
        "dfsfs.vfs.names.direntries",
        "dfsfs.vfs.names.mapping",
        "dfsfs.vfs.data.prefetch_policy",
        "dfsfs.vfs.data.locktable",
        "dfsfs.vfs.names.rowindex",
        "dfsfs.vfs.names.packedinodes",
        "dfsfs.vfs.names.dircache",
        "dfsfs.vfs.names.lookuprate",
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


def storey(module: str) -> tuple[str, int] | None:
    """Which wing of its layer a module is in, and how far down that is; None for layers without wings.

    Raises:
        AssertionError: the module has no place in its layer.
    """
    parts = module.split(".")
    if len(parts) < 3 or parts[1] not in WINGS:
        return None
    for depth, wings in enumerate(WINGS[parts[1]]):
        if parts[2] in wings:
            return parts[2], depth
    raise AssertionError(f"{module}: {parts[2]} is in none of the wings of {parts[1]}")


def goes_up(module: str, name: str) -> bool:
    """Whether an import goes to a wing of the same layer that is not below the module's own."""
    if layer(module) != layer(name):
        return False
    own, other = storey(module), storey(name)
    return own is not None and other is not None and own[0] != other[0] and own[1] >= other[1]


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
        if top in CONFINED and not any(within(module, scope) for scope in CONFINED[top]):
            found.append(f"imports {name}, which only {' and '.join(CONFINED[top])} may")
        if needs_purity and top in IMPURE:
            found.append(f"is pure and imports {name}")
        if top != "dfsfs" or name == "dfsfs" or (module, name) in EXCEPTIONS:
            continue
        if layer(name) != layer(module) and layer(name) not in BELOW[layer(module)]:
            found.append(f"is in layer {layer(module)} and imports {name} of layer {layer(name)}")
        if goes_up(module, name):
            found.append(f"imports {name}, which is in no wing below its own")
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
        ("dfsfs.smb.tree.tree", "from dfsfs.dfsc.cache import Caches", "of layer dfsc"),
        ("dfsfs.vfs.filesystem", "def f():\n    import pyfuse3", "only dfsfs.fuse may"),
        ("dfsfs.namespace.client", "from dfsfs import cli", "of layer cli"),
        ("dfsfs.smb.pool", "import spnego.channel_bindings", "only dfsfs.smb.auth.gss may"),
        ("dfsfs.smb.wire.messages", "from smbprotocol import header", "only dfsfs.smb.wire.constants and"),
        ("dfsfs.dfsc.cache", "from time import monotonic", "is pure and imports time"),
        ("dfsfs.errors", "import trio.abc", "is pure and imports trio.abc"),
        ("dfsfs.unc", "import dfsfs.smb.auth.credentials", "of layer smb"),
        ("dfsfs.smb.connection.dialer", "from dfsfs.smb.pool import Pool", "in no wing below"),
        ("dfsfs.smb.wire.fscc", "from dfsfs.smb.auth import identity", "in no wing below"),
        ("dfsfs.vfs.names.lookup", "from dfsfs.vfs.data.opener import Opener", "in no wing below"),
        ("dfsfs.mount.service", "from dfsfs.cli import output", "of layer cli"),
    ],
)
def test_the_rules_bite(module: str, source: str, expected: str) -> None:
    assert any(expected in violation for violation in violations(module, source))


def test_the_rules_let_pass_what_is_right() -> None:
    assert violations("dfsfs.unc", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import socket") == []
    assert violations("dfsfs.fuse.operations", "import pyfuse3\nfrom dfsfs.vfs import filesystem") == []
    assert violations("dfsfs.config.model", "from dfsfs.smb.auth.credentials import Secret") == []
    assert too_long("def f():\n" + "    pass\n" * 59) == []
    assert too_long("def f():\n" + "    pass\n" * 60) == ["f has 61 lines"]
