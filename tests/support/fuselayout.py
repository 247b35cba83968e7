"""The structures of linux/fuse.h as a C compiler lays them out, to encode and decode them without dfsfs.

tests/fixtures/fuse-7.45-layout.json was made once, from the header of FUSE 7.45, by

    python -m tests.support.fuselayout HEADER > tests/fixtures/fuse-7.45-layout.json

which needs a C compiler. For each structure it has the size, and each field's offset and size in bytes; for each
constant, its value; for opcodes and notifications, their names.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

FIXTURE = Path(__file__).parent.parent / "fixtures" / "fuse-7.45-layout.json"


@cache
def layout() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(FIXTURE.read_text())
    return loaded


def size_of(structure: str) -> int:
    return int(layout()["structures"][structure]["size"])


def fields_of(structure: str) -> dict[str, tuple[int, int]]:
    """The offset and the size of each field; those of a structure inside it have their names alone."""
    fields: dict[str, tuple[int, int]] = layout()["structures"][structure]["fields"]
    return fields


def constant(name: str) -> int:
    return int(layout()["constants"][name])


def enum_of(name: str) -> list[str]:
    """The enumerators."""
    names: list[str] = layout()["enums"][name]
    return names


def encode(structure: str, **values: int) -> bytes:
    """A structure of these fields, and zeros elsewhere. Negative numbers are two's complements."""
    whole, fields = bytearray(size_of(structure)), fields_of(structure)
    for name, value in values.items():
        at, size = fields[name]
        whole[at : at + size] = (value % (1 << 8 * size)).to_bytes(size, sys.byteorder)
    return bytes(whole)


def decode(structure: str, data: bytes) -> dict[str, int]:
    """The fields of a structure that `data` begins with, without signs. Arrays are left out: nobody reads them."""
    assert len(data) >= size_of(structure), f"{len(data)} bytes are no {structure}"
    fields = fields_of(structure).items()
    return {
        name: int.from_bytes(data[at : at + size], sys.byteorder) for name, (at, size) in fields if size in (1, 2, 4, 8)
    }


def _program(header: str) -> str:
    """A C program that prints the table. Fields of structures inside others are named `outer.inner`."""
    structures = {}
    for name, body in re.findall(r"^struct (\w+) \{\n(.*?)^\};", header, re.MULTILINE | re.DOTALL):
        body = re.sub(r"/\*.*?\*/", "", body, flags=re.DOTALL)
        structures[name] = re.findall(r"^\s*(struct )?(\w+)\s+(\w+)(\[\w*\])?;", body, re.MULTILINE)
    names = re.findall(r"^#define ((?:FUSE|FATTR|FOPEN)_\w+)[ \t]+[(\d]", header, re.MULTILINE)
    for names_of_enum in _enumerators(header).values():
        names += names_of_enum
    lines = ["#include <stdio.h>", "#include <stddef.h>", "#include HEADER", "int main(void) {"]
    for name in structures:
        if name.startswith(("fuse_uring", "cuse", "fuse_ioctl_iovec")):
            continue
        lines.append(f'printf("size {name} %zu\\n", sizeof(struct {name}));')

        def add(prefix: str, inner: str, outer: str = name) -> None:
            for is_structure, kind, field, array in structures[inner]:
                path = f"{prefix}{field}"
                if is_structure:
                    add(f"{path}.", kind, outer)
                elif array != "[]":
                    where = f"offsetof(struct {outer}, {path}), sizeof(((struct {outer} *)0)->{path})"
                    lines.append(f'printf("field {outer} {path} %zu %zu\\n", {where});')

        add("", name)
    lines += [f'printf("constant {name} %llu\\n", (unsigned long long)({name}));' for name in names]
    return "\n".join([*lines, "return 0; }"])


def _enumerators(header: str) -> dict[str, list[str]]:
    """The names of each enum, but for those that are there for its limits."""
    bodies = re.findall(r"^enum (\w+) \{\n(.*?)^\};", header, re.MULTILINE | re.DOTALL)
    return {
        name: [each for each in re.findall(r"^\s*(FUSE_\w+)\s*=", body, re.MULTILINE) if "RESERVED" not in each]
        for name, body in bodies
        if name in ("fuse_opcode", "fuse_notify_code")
    }


def measure(header: Path) -> dict[str, Any]:
    """What a C compiler says of a header."""
    structures: dict[str, Any] = {}
    constants: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as folder:
        source, program = Path(folder, "layout.c"), Path(folder, "layout")
        source.write_text(_program(header.read_text()))
        words = ["cc", f'-DHEADER="{header.resolve()}"', "-o", str(program), str(source)]
        subprocess.run(words, check=True, timeout=60)
        printed = subprocess.run([str(program)], check=True, capture_output=True, text=True, timeout=60).stdout
    for line in printed.splitlines():
        kind, name, *rest = line.split()
        if kind == "size":
            structures[name] = {"size": int(rest[0]), "fields": {}}
        elif kind == "field":
            structures[name]["fields"][rest[0]] = [int(rest[1]), int(rest[2])]
        else:
            constants[name] = int(rest[0])
    return {"structures": structures, "enums": _enumerators(header.read_text()), "constants": constants}


def main(header: str) -> None:
    table = measure(Path(header))
    structures = ",\n".join(f"{json.dumps(name)}: {json.dumps(each)}" for name, each in table["structures"].items())
    constants = ",\n".join(f"{json.dumps(name)}: {value}" for name, value in table["constants"].items())
    enums = json.dumps(table["enums"])
    print(f'{{"structures": {{\n{structures}\n}},\n"enums": {enums},\n"constants": {{\n{constants}\n}}}}')


if __name__ == "__main__":
    main(sys.argv[1])
