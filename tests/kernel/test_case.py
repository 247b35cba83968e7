"""Names that differ in case only, on servers that keep them apart: DFS links, files and folders.

Samba does so with files anyway, as long as each is asked for by its own name; with the links of a namespace only with
`case sensitive = yes`. Without, it takes the first link that fits in any case, and says so in its referrals.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import SAMBAS
from tests.kernel.mounts import COMMAND, mounted, wait_until
from tests.support.lab.samba import Lab, free_net
from tests.support.lab.topology import Content, Host, Link, Share, Target, Topology

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.lab, pytest.mark.mount, pytest.mark.every_samba]

EXACT = (("case sensitive", "yes"),)
LINKS = {"Case": "upper", "case": "lower", "one": "upper", "exact": "exact"}
"""The links of the namespace, and the share of fs1 that each leads to."""
SHARES = ("upper", "lower")
TOPOLOGY = Topology(
    hosts=(
        Host(
            "ns1",
            10,
            (
                Share(
                    "dfs", Content.ROOT, EXACT, tuple(Link(name, (Target("fs1", to),)) for name, to in LINKS.items())
                ),
                Share("free", Content.ROOT, (), (Link("one", (Target("fs1", "upper"),)),)),
            ),
        ),
        Host("fs1", 12, (*(Share(name, Content.SMALL) for name in SHARES), Share("exact", Content.SMALL, EXACT))),
    ),
    dead=(),
    root=Target("ns1", "dfs"),
)

ORDERS = pytest.mark.parametrize("order", [("Case", "case"), ("case", "Case")], ids="-".join)


@pytest.fixture(scope="session")
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    """Servers that keep links apart."""
    with Lab(free_net(), topology=TOPOLOGY, samba=SAMBAS[request.param]) as lab:
        yield lab


@pytest.fixture
def mount(lab: Lab, tmp_path: Path) -> Iterator[Path]:
    """A mount that knows nothing yet."""
    with mounted(lab, tmp_path / "dfs") as path:
        yield path


@pytest.fixture
def loose(lab: Lab, tmp_path: Path) -> Iterator[Path]:
    """A mount of a namespace in which case does not matter."""
    with mounted(lab, tmp_path / "dfs", unc=f"//{lab.address('ns1')}/free") as path:
        yield path


def dfsfs(*words: str | Path, lab: Lab | None = None) -> Any:
    """What a command says in JSON; `lab` for one that has to log in."""
    environment, options = {**os.environ}, list[str]()
    if lab is not None:
        user, environment["PASSWD"] = lab.credentials
        options = ["-o", f"username={user}"]
    command = [str(Path(COMMAND).parent / "dfsfs"), *map(str, words), "--json", *options]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def target(lab: Lab, link: str) -> str:
    return f"//{lab.address('fs1')}/{LINKS[link]}"


# -- links ------------------------------------------------------------------------------------------------------------


@ORDERS
def test_each_of_two_links_is_explained(lab: Lab, order: tuple[str, str]) -> None:
    for name in order:
        found = dfsfs("explain", f"{lab.root_unc}/{name}/hello.txt", lab=lab)
        assert [probe["path"] for probe in found["targets"]] == [target(lab, name)]
        assert found["link"] == f"{lab.root_unc}/{name}"


def test_the_tree_has_both(lab: Lab) -> None:
    links = {row["path"]: row["targets"] for row in dfsfs("tree", lab.root_unc, lab=lab)["links"]}
    assert links == {f"{lab.root_unc}/{name}": [target(lab, name)] for name in LINKS}


@ORDERS
def test_each_of_two_links_leads_to_its_own_share(lab: Lab, mount: Path, order: tuple[str, str]) -> None:
    for name in (*order, *order):
        assert (mount / name / "hello.txt").read_text() == f"hello from {LINKS[name]}\n"


def test_both_links_are_listed(mount: Path) -> None:
    assert set(LINKS) <= set(os.listdir(mount))


@ORDERS
def test_what_is_written_behind_one_link_leaves_the_other_alone(lab: Lab, mount: Path, order: tuple[str, str]) -> None:
    for name in order:
        (mount / name / "hello.txt").read_bytes()
    try:
        for name in order:
            (mount / name / "new.txt").write_text(f"behind {name}")
        for name in order:
            assert (mount / name / "new.txt").read_text() == f"behind {name}"
            assert (lab.host("fs1").share_path(LINKS[name]) / "new.txt").read_text() == f"behind {name}"
        (mount / order[0] / "new.txt").unlink()
        assert not (lab.host("fs1").share_path(LINKS[order[0]]) / "new.txt").exists()
        assert (mount / order[1] / "new.txt").read_text() == f"behind {order[1]}"
    finally:
        for share in SHARES:
            (lab.host("fs1").share_path(share) / "new.txt").unlink(missing_ok=True)


def test_programs_that_ask_for_both_at_the_same_time_get_each_its_own(mount: Path) -> None:
    running = [
        subprocess.Popen(["cat", str(mount / name / "hello.txt")], stdout=subprocess.PIPE)
        for name in ("Case", "case") * 8
    ]
    said = [program.communicate(timeout=60)[0].decode() for program in running]
    assert said == [f"hello from {LINKS[name]}\n" for name in ("Case", "case") * 8]


def test_commands_find_the_link_that_is_spelled_so_and_else_the_only_one(lab: Lab, mount: Path) -> None:
    (mount / "one" / "hello.txt").read_bytes()
    (mount / "Case" / "hello.txt").read_bytes()
    assert dfsfs("target", "list", mount / "ONE")["path"] == f"{lab.root_unc}/one"
    assert dfsfs("target", "list", mount / "CASE")["path"] == f"{lab.root_unc}/Case"
    assert [row["prefix"] for row in dfsfs("cache", "show", mount / "ONE")] == [f"{lab.root_unc}/one"]
    assert dfsfs("explain", mount / "CASE" / "hello.txt")["link"] == f"{lab.root_unc}/Case"
    chosen = dfsfs("target", "set", mount / "ONE", lab.address("fs1"))
    assert (chosen["path"], [row["chosen"] for row in chosen["targets"]]) == (f"{lab.root_unc}/one", [True])
    (mount / "case" / "hello.txt").read_bytes()
    for name in ("Case", "case"):
        (row,) = dfsfs("target", "list", mount / name)["targets"]
        assert (row["path"], row["in_use"]) == (target(lab, name), True)


def test_where_case_does_not_matter_another_spelling_leads_to_the_link(loose: Path) -> None:
    for name in ("one", "ONE", "One", "one"):
        assert (loose / name / "hello.txt").read_text() == "hello from upper\n"
    (loose / "oNE" / "new.txt").write_text("new")
    wait_until(lambda: (loose / "one" / "new.txt").exists(), "the file is there in another spelling")
    (loose / "ONE" / "new.txt").unlink()


# -- files and folders ------------------------------------------------------------------------------------------------


@pytest.fixture
def folders(lab: Lab) -> Iterator[Path]:
    """Folders Deep/A/f and deep/a/g, and files that differ in case only, on the disk of fs1."""
    share = lab.host("fs1").share_path("upper")
    top = share / "names"
    for name, text in FILES.items():
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_text(text)
    owner = share.stat()
    for path in (top, *top.rglob("*")):
        os.chown(path, owner.st_uid, owner.st_gid)
    yield top
    subprocess.run(["rm", "-rf", str(top)], check=True)


FILES = {
    "Deep/A/f": "upper f",
    "deep/a/g": "lower g",
    "Notes.txt": "upper",
    "notes.txt": "lower",
    "sınır.txt": "dotless",
    "sinir.txt": "dotted",
    "µ": "micro sign",
    "μ": "mu",
    "ș": "s with comma",
    "Ș": "S with comma",
}


def contents(top: Path) -> dict[str, str]:
    """All files below a folder, as a walk through its listings finds them."""
    return {str(path.relative_to(top)): path.read_text() for path in top.rglob("*") if path.is_file()}


def test_a_walk_finds_all_names_with_their_contents(mount: Path, folders: Path) -> None:
    assert contents(mount / "Case" / "names") == FILES


def test_cp_copies_all(mount: Path, folders: Path, tmp_path: Path) -> None:
    subprocess.run(["cp", "-r", str(mount / "Case" / "names"), str(tmp_path / "copy")], check=True, timeout=60)
    assert contents(tmp_path / "copy") == FILES


def test_cp_to_a_share_that_keeps_them_apart_copies_all(lab: Lab, mount: Path, folders: Path) -> None:
    copy = mount / "exact" / "copy"
    subprocess.run(["cp", "-r", str(folders), str(copy)], check=True, timeout=60)
    assert contents(lab.host("fs1").share_path("exact") / "copy") == FILES
    assert contents(copy) == FILES
    subprocess.run(["rm", "-r", str(copy)], check=True, timeout=60)
    assert not copy.exists()


def test_rm_of_one_of_two_folders_leaves_the_other(mount: Path, folders: Path) -> None:
    subprocess.run(["rm", "-r", str(mount / "Case" / "names" / "deep")], check=True, timeout=60)
    assert contents(folders) == {name: text for name, text in FILES.items() if not name.startswith("deep")}
    subprocess.run(["rm", "-r", str(mount / "Case" / "names")], check=True, timeout=60)
    assert not folders.exists()
