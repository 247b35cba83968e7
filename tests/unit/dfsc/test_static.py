"""dfs_static=: what a file says, and what is wrong with one."""

from __future__ import annotations

import pytest

from dfsfs.dfsc.static import StaticError, StaticNamespaces, parse_static
from dfsfs.dfsc.wire import decode_response, encode_response
from dfsfs.errors import SmbError
from dfsfs.ntstatus import NtStatus
from dfsfs.unc import UncPath

FILE = """\
# a company
[[namespace]]
path = "//contoso/public"
targets = ["//fs1/public", "//fs2/public"]
failback = true

[[namespace.link]]
path = "software/tools"
ttl = 60
targets = [
  { path = "//far/tools", priority = "global-low" },
  "//fs1/tools",
  { path = "//fs2/tools", rank = 0 },
  { path = "//fs3/tools", rank = 2 },
  { path = "//first/tools", priority = "global-high", rank = 31 },
]

[[namespace.link]]
path = "other"
targets = ["//contoso/second/sub"]

[[namespace]]
path = "//contoso/second"

[[namespace.link]]
path = "x"
targets = ["//fs1/x"]
"""


def unc(text: str) -> UncPath:
    return UncPath.parse(text)


@pytest.fixture
def static() -> StaticNamespaces:
    return parse_static(FILE, "ns.toml")


def test_s17_s26_targets_are_in_sets_by_priority_and_rank(static: StaticNamespaces) -> None:
    response = static.answer(unc("//Contoso/public/Software/tools/x"), root=False)
    assert response is not None
    assert [("|" if entry.starts_set else "") + entry.network_address.host for entry in response.entries] == [
        "|first",
        "|fs1",
        "fs2",
        "|fs3",
        "|far",
    ]
    assert response.path_consumed == unc("//contoso/public/Software/tools")
    assert (response.ttl, response.failback, response.is_interlink) == (60, False, False)
    assert decode_response(encode_response(response), unc("//Contoso/public/Software/tools/x")) == response


def test_roots(static: StaticNamespaces) -> None:
    response = static.answer(unc("//CONTOSO/Public"), root=True)
    assert response is not None
    assert [entry.is_root for entry in response.entries] == [True, True]
    assert (response.ttl, response.failback, response.is_interlink) == (300, True, False)


def test_a_link_into_a_namespace_of_the_file_is_an_interlink(static: StaticNamespaces) -> None:
    response = static.answer(unc("//contoso/public/other"), root=False)
    assert response is not None
    assert response.is_interlink
    assert static.link_above(unc("//contoso/public/OTHER/x")) == unc("//contoso/public/OTHER")
    assert static.link_above(unc("//contoso/public/others")) is None


def test_of_two_links_that_differ_in_case_each_is_its_own() -> None:
    links = "".join(
        f"[[namespace.link]]\npath = '{name}'\ntargets = ['//{host}/x']\n"
        for name, host in (("Case", "first"), ("case", "second"))
    )
    static = parse_static("[[namespace]]\npath = '//srv/ns'\n" + links, "ns.toml")

    def host(path: str) -> str:
        response = static.answer(unc(path), root=False)
        assert response is not None
        assert response.path_consumed == unc(path).parent
        return response.entries[0].network_address.host

    assert [host(f"//SRV/ns/{name}/x") for name in ("Case", "case", "CASE")] == ["first", "second", "first"]


def test_what_the_file_says_nothing_about_is_asked_of_servers(static: StaticNamespaces) -> None:
    assert static.answer(unc("//contoso/second"), root=True) is None
    assert static.answer(unc("//contoso/second/y"), root=False) is None
    assert static.answer(unc("//elsewhere/ns/y"), root=False) is None
    assert static.answer(unc("//contoso/second/x/deeper"), root=False) is not None


def test_in_a_namespace_that_is_all_in_the_file_nobody_else_is_asked(static: StaticNamespaces) -> None:
    with pytest.raises(SmbError) as caught:
        static.answer(unc("//contoso/public/softwares"), root=False)
    assert caught.value.status == NtStatus.OBJECT_PATH_NOT_FOUND


@pytest.mark.parametrize(
    ("old", "new", "line", "text"),
    [
        ("[[namespace]]\npath", "[[namespace]\npath", 2, ""),
        ("ttl = 60", "tll = 60", 9, "unknown key 'tll'; did you mean 'ttl'?"),
        ("ttl = 60", 'ttl = "60"', 9, "whole number"),
        ("ttl = 60", "ttl = -1", 9, "from 0 to 4294967295"),
        ("ttl = 60", "ttl = true", 9, "whole number"),
        ("failback = true", "failback = 1", 5, "true or false"),
        ('path = "//contoso/public"', 'path = "//contoso"', 3, "names no share"),
        ('path = "//contoso/public"', 'path = "//contoso/public/x"', 3, "is no root"),
        ('path = "//contoso/public"', 'path = "contoso/public"', 3, "begin with //"),
        ('path = "//contoso/second"', 'path = "//CONTOSO/public"', 23, "is there twice"),
        ('path = "//contoso/public"', "", 2, "path is missing"),
        ('path = "other"', 'path = "software/tools"', 19, "is there twice"),
        ('path = "other"', 'path = "software/tools/in"', 19, "one lies in the other"),
        ('path = "other"', 'path = "software"', 19, "one lies in the other"),
        ('path = "other"', 'path = ""', 19, "needs a server name"),
        ('targets = ["//fs1/x"]', "targets = []", 27, "has no targets"),
        ('targets = ["//fs1/x"]', "", 25, "targets is missing"),
        ('targets = ["//fs1/x"]', 'targets = "//fs1/x"', 27, "a list"),
        ('targets = ["//fs1/x"]', 'targets = ["//fs1"]', 27, "names no share"),
        ('targets = ["//fs1/x"]', "targets = [1]", 27, "a target has to be"),
        ('targets = ["//fs1/x"]', 'targets = ["//fs1/x", "//FS1/X"]', 27, "twice"),
        ('targets = ["//fs1/x"]', 'targets = [{ path = "//f/x", prio = 1 }]', 27, "did you mean 'priority'"),
        ('targets = ["//fs1/x"]', 'targets = [{ path = "//f/x", priority = "best" }]', 27, "global-high"),
        ('targets = ["//fs1/x"]', 'targets = [{ path = "//f/x", rank = 32 }]', 27, "to 31"),
        ("# a company", "name = 1", 1, "unknown key 'name'"),
        ("# a company", "[names]", 1, "did you mean 'namespace'"),
    ],
)
def test_errors_name_the_line(old: str, new: str, line: int, text: str) -> None:
    assert old in FILE
    with pytest.raises(StaticError) as caught:
        parse_static(FILE.replace(old, new, 1), "ns.toml")
    message = str(caught.value)
    assert message.startswith("ns.toml")
    assert f"line {line}" in message
    assert text in message
    assert "\n" not in message


@pytest.mark.parametrize("text", ["", "[[namespace]]\npath = '//a/b'\n", "namespace = 1", "namespace = [1]"])
def test_a_file_without_anything_in_it(text: str) -> None:
    with pytest.raises(StaticError, match=r"ns\.toml"):
        parse_static(text, "ns.toml")
