"""Nothing that belongs to a caller is touched in the loop (docs/design/multiuser.md): the source is looked through.

tests/unit/fuse/served.py watches what is opened while a real mount is in use.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

import pytest

from tests.unit.test_layering import FILES, PACKAGE, module_name

if TYPE_CHECKING:
    from collections.abc import Iterator

PROCESS = "/proc/PID"
"""Stands for every path below /proc that begins with a number that is not known before."""

TOUCHING: dict[str, frozenset[str]] = {
    PROCESS: frozenset(
        {
            "dfsfs.fuse.caserename._Look.see",
            "dfsfs.smb.auth.callers.open_caller_root",
            "dfsfs.smb.auth.callers.read_cache_name",
            "dfsfs.smb.auth.callers._shares",
            # What its descriptors are of, in a thread: no file of the process is opened.
            "dfsfs.fuse.descriptors.holds",
            "dfsfs.fuse.descriptors.mounts_seen_by",
            # Whether who waits was killed, and who else has something open: the same, and states of threads.
            "dfsfs.fuse.threadstates.get_thread_state",
            "dfsfs.fuse.threadstates._open_in",
            "dfsfs.fuse.threadstates._may_wait",
            "dfsfs.fuse.threadstates._threads",
            # Which signals have come for a thread that waits, and in which system call: the same.
            "dfsfs.fuse.interrupts._is_ended",
            "dfsfs.fuse.interrupts._is_reading",
            # What the kernel says of other mount namespaces, in a thread: no memory of a process is read.
            "dfsfs.control.holders.holders_of",
            "dfsfs.control.holders._path_in",
            "dfsfs.control.holders._command",
            # /proc/PID/stat of the process that a hidden file names: what the kernel says, no memory of the process.
            "dfsfs.vfs.names.hiddennames.start_of",
        }
    ),
    "has_our_users": frozenset({"dfsfs.fuse.caserename.get_quota_user"}),
    "get_quota_user": frozenset(),
    "process_vm_readv": frozenset({"dfsfs.fuse.caserename._string_at"}),
    "_string_at": frozenset({"dfsfs.fuse.caserename._Look.see"}),
    "holders_of": frozenset({"dfsfs.cli.lingering.find_lingering"}),
    "see": frozenset(),
    "get_thread_state": frozenset(
        {
            "dfsfs.fuse.interrupts._is_ended",
            "dfsfs.fuse.threadstates.get_holder_states",
            "dfsfs.fuse.threadstates._threads",
            "dfsfs.fuse.waiters._get_thread_states",
        }
    ),
    "get_holder_states": frozenset(),
    "open_caller_root": frozenset({"dfsfs.mount.userlogins.find_tickets", "dfsfs.mount.userlogins.stored_logins.find"}),
    "read_cache_name": frozenset({"dfsfs.mount.userlogins.find_tickets"}),
    "find_tickets": frozenset(),
    "_find_login": frozenset(),
    "copy_cache": frozenset(
        {"dfsfs.smb.auth.gss.KerberosAuthenticator._make_context", "dfsfs.smb.auth.kerberos.renew_if_due"}
    ),
    "renew_if_due": frozenset(),
    "as_user": frozenset(
        {
            "dfsfs.mount.userlogins.stored_logins.find",
            "dfsfs.smb.auth.gss.KerberosAuthenticator.step",
            "dfsfs.smb.auth.gss.KerberosAuthenticator.session_key",
            "dfsfs.smb.auth.kerberos.renew_if_due",
        }
    ),
}
"""What touches something of a caller's, and the functions that call it. Where there are none, it is only handed to a
thread."""


def touches(node: ast.AST) -> str | None:
    """What of TOUCHING an expression does, if anything."""
    if isinstance(node, ast.JoinedStr):
        parts = node.values
        known = parts[0].value if parts and isinstance(parts[0], ast.Constant) else ""
        return PROCESS if known == "/proc/" and len(parts) > 1 else None
    if isinstance(node, ast.Call):
        called = node.func
        name = called.attr if isinstance(called, ast.Attribute) else called.id if isinstance(called, ast.Name) else ""
        return name if name in TOUCHING else None
    return None


def found_in(node: ast.AST, where: str, is_async: bool = False) -> Iterator[tuple[str, str, bool]]:
    """What is touched below a node: what, in which function, and whether that belongs to the loop."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield from found_in(child, f"{where}.{child.name}", isinstance(child, ast.AsyncFunctionDef))
            continue
        if (what := touches(child)) is not None:
            yield what, where, is_async
        yield from found_in(child, where, is_async)


def test_what_belongs_to_callers_is_touched_by_known_functions_none_of_which_is_the_loops() -> None:
    found: dict[str, set[str]] = {what: set() for what in TOUCHING}
    for file in FILES:
        for what, where, is_async in found_in(ast.parse(file.read_text()), module_name(file)):
            assert not is_async, f"{where} calls {what} in the loop"
            found[what].add(where)
    assert found == TOUCHING


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("async def f():\n open(f'/proc/{pid}/mem')", (PROCESS, "m.f", True)),
        ("async def f():\n login = self._find_login(who)", ("_find_login", "m.f", True)),
        ("class C:\n async def f(self):\n  with identity.as_user(a): pass", ("as_user", "m.C.f", True)),
        ("def f():\n return copy_cache(who)", ("copy_cache", "m.f", False)),
    ],
)
def test_the_rule_bites(source: str, expected: tuple[str, str, bool]) -> None:
    assert list(found_in(ast.parse(source), "m")) == [expected]


def test_the_rule_lets_pass_what_is_handed_to_a_thread() -> None:
    source = "async def f():\n await self._threads.run(uid, partial(self._find_login, who), 5)\n open('/proc/self/x')"
    assert list(found_in(ast.parse(source), "m")) == []


def file_of(function: str) -> str:
    """The file of a function's module, as documents name it: `smb/auth/callers.py`."""
    parts = function.split(".")[1:]
    files = ("/".join(parts[:length]) + ".py" for length in range(1, len(parts)))
    return next(file for file in files if (PACKAGE / file).exists())


def test_a_document_names_whatever_looks_at_programs() -> None:
    documents = [PACKAGE.parent / "ARCHITECTURE.md", *(PACKAGE.parent / "docs" / "design").glob("*.md")]
    text = "".join(document.read_text() for document in documents)
    chapter = text.partition("## What belongs to callers")[2].partition("\n## ")[0]
    assert {file for file in map(file_of, TOUCHING[PROCESS]) if f"`{file}`" not in chapter} == set()
