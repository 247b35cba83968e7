"""Writes the copyright file of the Debian package, in the form that machines can read, version 1.0:

    python copyright.py FOLDER_OF_LIBRARIES

The licence of dfsfs is said here; those of the libraries that come with it are what their own metadata says, and their
texts are in the package, too. Standard library only.
"""

from __future__ import annotations

import sys
from importlib.metadata import distributions
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from importlib.metadata import PackageMetadata

OWN = "dfsfs"
FORMAT = "https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/"
HEAD = f"""\
Format: {FORMAT}
Upstream-Name: dfsfs
Comment: The package has libraries of others in /usr/lib/dfsfs; what is not listed below them is dfsfs.

Files: *
Copyright: the maintainers of dfsfs
License: LGPL-2.1-or-later
"""
OWN_LICENCE = """\
License: LGPL-2.1-or-later
 This library is free software; you can redistribute it and/or modify it under the terms of the GNU Lesser General
 Public License as published by the Free Software Foundation; either version 2.1 of the License, or (at your option)
 any later version. It comes without any warranty. On Debian systems the whole text is in
 /usr/share/common-licenses/LGPL-2.1.
"""


def licence_of(metadata: PackageMetadata) -> str:
    """The licence that a distribution names, in one word or line."""
    for name in ("License-Expression", "License"):
        text = metadata.get(name)
        if text and "\n" not in text.strip():
            return text.strip()
    named = [text.rsplit(" :: ", 1)[-1] for text in metadata.get_all("Classifier", []) if text.startswith("License")]
    return ", ".join(named) or "see its own text"


def paragraphs(folder: str) -> Iterator[str]:
    """One for each library, in the order of their names."""
    for one in sorted(distributions(path=[folder]), key=lambda one: one.name.lower()):
        if one.name.lower() == OWN:
            continue
        tops = sorted({str(file).split("/")[0] for file in one.files or () if not str(file).startswith((".", "__"))})
        files = "\n ".join(f"usr/lib/dfsfs/{top}*" for top in tops)
        place = next(f"usr/lib/dfsfs/{top}" for top in tops if top.endswith(".dist-info"))
        author = one.metadata.get("Author-email") or one.metadata.get("Author") or f"the authors of {one.name}"
        yield (
            f"Files:\n {files}\n"
            f"Copyright: {' '.join(author.split())}\n"
            f"License: {licence_of(one.metadata)}\n"
            f" {one.name} {one.version}; the whole text is in /{place}.\n"
        )


def main(folder: str) -> None:
    sys.stdout.write("\n".join([HEAD, *paragraphs(folder), OWN_LICENCE]))


if __name__ == "__main__":
    main(*sys.argv[1:])
