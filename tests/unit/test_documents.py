"""The documents: links lead somewhere, files that are named are there, and the index has every page."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
DOCS = ROOT / "docs"
PAGES = sorted(
    path
    for path in (*ROOT.glob("*.md"), *DOCS.rglob("*.md"), *(ROOT / "tests").rglob("*.md"))
    if path.name != "CHANGELOG.md"  # names files as they were called then
)
FIRST_SCREEN = 45
"""Lines of README.md within which a reader knows how to install and mount."""
_LINK = re.compile(r"!?\[[^\]\n]*\]\(([^)\s]+)\)")
_MODULE = re.compile(r"`((?:[\w.-]+/)+[\w.@-]+\.(?:py|md|toml|service|mount|automount))`")


def prose_of(page: Path) -> str:
    """A page without its blocks of code."""
    return re.sub(r"(?ms)^```.*?^```|^    .*?$", "", page.read_text(encoding="utf-8"))


def anchors_of(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    found: set[str] = set()
    for heading in re.findall(r"(?m)^#+ (.+)$", re.sub(r"(?ms)^```.*?^```", "", page.read_text(encoding="utf-8"))):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        found.add(re.sub(r"[^\w\- ]", "", plain).strip().replace(" ", "-"))
    return found


def broken_links(page: Path) -> list[str]:
    """The links of a page that lead nowhere. Those to other computers are not followed."""
    broken = []
    for link in _LINK.findall(prose_of(page)):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors_of(target)):
            broken.append(link)
    return broken


def missing_files(page: Path) -> list[str]:
    """The files that a page names and that are not in the repository: below its root, or dfsfs/."""
    return [
        name
        for name in _MODULE.findall(prose_of(page))
        if not any((at / name).exists() for at in (ROOT, ROOT / "dfsfs"))
    ]


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    assert broken_links(page) == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_files_that_are_named_are_there(page: Path) -> None:
    assert missing_files(page) == []


def test_the_index_has_every_page() -> None:
    index = DOCS / "README.md"
    linked = {(DOCS / link.partition("#")[0]).resolve() for link in _LINK.findall(index.read_text(encoding="utf-8"))}
    assert {page for page in DOCS.rglob("*.md") if page != index} <= linked


def test_decisions_have_numbers_of_their_own() -> None:
    numbers = [page.name.partition("-")[0] for page in (DOCS / "decisions").glob("*.md")]
    assert all(re.fullmatch(r"\d{3}", number) for number in numbers)
    assert len(set(numbers)) == len(numbers)


def test_installing_and_mounting_are_on_the_first_screen() -> None:
    first = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()[:FIRST_SCREEN]
    assert "## Install" in first and "## Mount" in first
    assert any(line.startswith("$ mount -t dfsfs") for line in first)


def test_broken_ones_are_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# One & two\n[a](page.md#one--two) [b](#one--two) [c](no.md) [d](#no) [e](https://x.y/z)\n`cli/no.py`\n"
    )
    assert broken_links(page) == ["no.md", "#no"]
    assert missing_files(page) == ["cli/no.py"]
