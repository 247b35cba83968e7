"""Requests: what C's structures say is what is read from them, and anything else is a MalformedRequest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfsfs.fuse.abi import constants, requests
from dfsfs.fuse.abi.constants import Opcode
from dfsfs.fuse.abi.requests import ForgetOne, MalformedRequest
from tests.support.fuselayout import decode, encode, fields_of, size_of
from tests.unit.fuse.abi.encoding import names, request, rest, values_of

if TYPE_CHECKING:
    from collections.abc import Callable

STRUCTURES: dict[str, Callable[[bytes], Any]] = {
    "fuse_getattr_in": requests.parse_getattr,
    "fuse_setattr_in": requests.parse_setattr,
    "fuse_open_in": requests.parse_open,
    "fuse_release_in": requests.parse_release,
    "fuse_flush_in": requests.parse_flush,
    "fuse_read_in": requests.parse_read,
    "fuse_fsync_in": requests.parse_fsync,
    "fuse_lk_in": requests.parse_lk,
    "fuse_fallocate_in": requests.parse_fallocate,
    "fuse_lseek_in": requests.parse_lseek,
    "fuse_copy_file_range_in": requests.parse_copy_file_range,
    "fuse_statx_in": requests.parse_statx,
    "fuse_getxattr_in": requests.parse_listxattr,
}
"""Requests that are one structure."""
WITH_NAMES: dict[str, tuple[Callable[[bytes], tuple[Any, list[bytes]]], int]] = {
    "fuse_mknod_in": (requests.parse_mknod, 1),
    "fuse_mkdir_in": (requests.parse_mkdir, 1),
    "fuse_create_in": (requests.parse_create, 1),
    "fuse_rename2_in": (requests.parse_rename2, 2),
    "fuse_getxattr_in": (requests.parse_getxattr, 1),
}
"""Requests that are a structure and so many names."""
SIGNED = {
    "fuse_setattr_in": {"atime", "mtime", "ctime"},
    "fuse_lseek_in": {"offset"},
}
"""Fields that the kernel fills from signed numbers (fs/fuse/dir.c, file.c), although the header has them without."""


def assert_fields(structure: str, parsed: Any, values: dict[str, int]) -> None:
    """Fields are named as in C; those of a structure inside another one have their own names."""
    signed = SIGNED.get(structure, set())
    for name, (_, size) in fields_of(structure).items():
        value = values[name]
        if name in signed and value >= 1 << (8 * size - 1):
            value -= 1 << 8 * size
        assert getattr(parsed, name.removeprefix("lk.")) == value, name
    assert len(parsed) == len(values), "a field that C has not"


@pytest.mark.parametrize("structure", STRUCTURES)
@given(data=st.data())
def test_a_structure(structure: str, data: st.DataObject) -> None:
    values, behind = data.draw(values_of(structure)), data.draw(rest)
    assert_fields(structure, STRUCTURES[structure](encode(structure, **values) + behind), values)


@pytest.mark.parametrize("structure", STRUCTURES)
def test_a_structure_that_is_too_short(structure: str) -> None:
    for length in range(size_of(structure)):
        with pytest.raises(MalformedRequest, match=f"{length} bytes where {size_of(structure)}"):
            STRUCTURES[structure](bytes(length))


@pytest.mark.parametrize("structure", WITH_NAMES)
@given(data=st.data())
def test_a_structure_and_names(structure: str, data: st.DataObject) -> None:
    parse, count = WITH_NAMES[structure]
    values, behind = data.draw(values_of(structure)), data.draw(rest)
    given_names = data.draw(st.lists(names, min_size=count, max_size=count))
    whole = encode(structure, **values) + b"".join(name + b"\0" for name in given_names)
    parsed, parsed_names = parse(whole + behind)
    assert_fields(structure, parsed, values)
    assert parsed_names == given_names
    for length in range(len(whole)):  # the last NUL is missing, too
        with pytest.raises(MalformedRequest):
            parse(whole[:length])


@given(values=values_of("fuse_in_header"), body=st.binary(max_size=100))
def test_the_header(values: dict[str, int], body: bytes) -> None:
    values["len"] = size_of("fuse_in_header") + len(body)
    for raw in (encode("fuse_in_header", **values) + body, memoryview(encode("fuse_in_header", **values) + body)):
        header = requests.parse_header(raw)
        assert header._asdict() == values
        assert list(header._asdict()) == list(fields_of("fuse_in_header"))


def test_a_header_that_is_too_short_or_lies_about_the_length() -> None:
    for length in range(size_of("fuse_in_header")):
        with pytest.raises(MalformedRequest, match=f"a request of {length} bytes"):
            requests.parse_header(bytes(length))
    for length in (0, 39, 41, 44, 2**32 - 1):
        with pytest.raises(MalformedRequest, match=f"says that it has {length}"):
            requests.parse_header(encode("fuse_in_header", len=length))


@given(values=values_of("fuse_init_in"), behind=rest)
def test_init(values: dict[str, int], behind: bytes) -> None:
    init = requests.parse_init(encode("fuse_init_in", **values) + behind)
    assert init._asdict() == {name: values[name] for name in ("major", "minor", "max_readahead", "flags", "flags2")}
    # Before 7.36 the structure had no more than four fields.
    older = requests.parse_init(encode("fuse_init_in", **values)[:16])
    assert older == (*init[:4], 0)
    for length in range(16):
        with pytest.raises(MalformedRequest):
            requests.parse_init(encode("fuse_init_in", **values)[:length])
    for length in range(16, 20):
        assert requests.parse_init(encode("fuse_init_in", **values)[:length]).flags2 == 0


@given(name=names, behind=rest)
def test_one_name(name: bytes, behind: bytes) -> None:
    assert requests.parse_name(name + b"\0" + behind) == name
    with pytest.raises(MalformedRequest, match="does not end"):
        requests.parse_name(name)


@given(given_names=st.lists(names, min_size=2, max_size=2), behind=rest)
def test_two_names(given_names: list[bytes], behind: bytes) -> None:
    """FUSE_SYMLINK: the name, and where the link leads."""
    whole = b"".join(name + b"\0" for name in given_names)
    assert requests.parse_names(whole + behind, 2) == given_names
    for length in range(len(whole)):
        with pytest.raises(MalformedRequest, match="names where 2 are needed"):
            requests.parse_names(whole[:length], 2)


@given(newdir=st.integers(0, 2**64 - 1), given_names=st.lists(names, min_size=2, max_size=2), behind=rest)
def test_rename_without_flags(newdir: int, given_names: list[bytes], behind: bytes) -> None:
    whole = encode("fuse_rename_in", newdir=newdir) + b"".join(name + b"\0" for name in given_names)
    assert requests.parse_rename(whole + behind) == ((newdir, 0, 0), given_names)
    for length in range(len(whole)):
        with pytest.raises(MalformedRequest):
            requests.parse_rename(whole[:length])


@given(nodeid=st.integers(0, 2**64 - 1), name=names, behind=rest)
def test_link(nodeid: int, name: bytes, behind: bytes) -> None:
    whole = encode("fuse_link_in", oldnodeid=nodeid) + name + b"\0"
    assert requests.parse_link(whole + behind) == (nodeid, name)
    for length in range(len(whole)):
        with pytest.raises(MalformedRequest):
            requests.parse_link(whole[:length])


@given(unique=st.integers(0, 2**64 - 1), behind=rest)
def test_interrupt(unique: int, behind: bytes) -> None:
    whole = encode("fuse_interrupt_in", unique=unique)
    assert requests.parse_interrupt(whole + behind) == unique
    for length in range(len(whole)):
        with pytest.raises(MalformedRequest):
            requests.parse_interrupt(whole[:length])


@given(values=values_of("fuse_write_in"), data=st.binary(max_size=300), behind=rest)
def test_write(values: dict[str, int], data: bytes, behind: bytes) -> None:
    values["size"] = len(data)
    whole = request(Opcode.WRITE, encode("fuse_write_in", **values) + data)
    for raw in (whole + behind, memoryview(whole + behind)):
        write, taken = requests.parse_write(raw)
        assert_fields("fuse_write_in", write, values)
        assert taken == data and type(taken) is bytes, "the buffer is used for the next request"
    for length in (*range(81), *range(len(whole) - min(len(data), 3), len(whole))):
        if length < len(whole):
            with pytest.raises(MalformedRequest):
                requests.parse_write(whole[:length])


@pytest.mark.parametrize("size", [11, 4096, 2**31, 2**32 - 1])
def test_a_write_of_more_than_there_is(size: int) -> None:
    whole = request(Opcode.WRITE, encode("fuse_write_in", size=size) + bytes(10))
    with pytest.raises(MalformedRequest, match=f"10 bytes of data, where {size} are written"):
        requests.parse_write(whole)


@given(flags=st.integers(0, 2**32 - 1), name=names, value=st.binary(max_size=300), behind=rest)
def test_setxattr(flags: int, name: bytes, value: bytes, behind: bytes) -> None:
    """Without SETXATTR_EXT, which is not asked for, the structure ends after its flags."""
    whole = encode("fuse_setxattr_in", size=len(value), flags=flags)[:8] + name + b"\0" + value
    assert requests.parse_setxattr(whole + behind) == ((len(value), flags), name, value)
    for length in range(len(whole)):
        with pytest.raises(MalformedRequest):
            requests.parse_setxattr(whole[:length])


@pytest.mark.parametrize("size", [6, 65536, 2**32 - 1])
def test_a_value_that_is_shorter_than_it_says(size: int) -> None:
    whole = encode("fuse_setxattr_in", size=size)[:8] + b"user.x\0value"
    with pytest.raises(MalformedRequest, match=f"a value of 5 bytes, where {size} are set"):
        requests.parse_setxattr(whole)


@given(values=values_of("fuse_in_header"), nlookup=st.integers(0, 2**64 - 1), behind=rest)
def test_forget(values: dict[str, int], nlookup: int, behind: bytes) -> None:
    header = requests.InHeader(**values)
    whole = encode("fuse_forget_in", nlookup=nlookup)
    assert requests.parse_forget(header, whole + behind) == [ForgetOne(values["nodeid"], nlookup)]
    for length in range(len(whole)):
        with pytest.raises(MalformedRequest):
            requests.parse_forget(header, whole[:length])


@given(nodes=st.lists(values_of("fuse_forget_one"), max_size=8), behind=rest)
def test_batch_forget(nodes: list[dict[str, int]], behind: bytes) -> None:
    whole = encode("fuse_batch_forget_in", count=len(nodes))
    whole += b"".join(encode("fuse_forget_one", **one) for one in nodes)
    assert requests.parse_batch_forget(whole + behind) == [(one["nodeid"], one["nlookup"]) for one in nodes]
    for length in range(len(whole)):
        with pytest.raises(MalformedRequest):
            requests.parse_batch_forget(whole[:length])


@pytest.mark.parametrize("count", [3, 4096, 2**28, 2**32 - 1])
def test_a_count_that_lies(count: int) -> None:
    whole = encode("fuse_batch_forget_in", count=count) + bytes(2 * size_of("fuse_forget_one"))
    with pytest.raises(MalformedRequest, match=f"{len(whole)} bytes for {count} nodes"):
        requests.parse_batch_forget(whole)


@given(values=values_of("fuse_setattr_in"))
def test_what_a_setattr_changes(values: dict[str, int]) -> None:
    parsed = requests.parse_setattr(encode("fuse_setattr_in", **values))
    valid = values["valid"]

    def says(*names_of_bits: str) -> bool:
        return any(valid & getattr(constants, f"FATTR_{name}") for name in names_of_bits)

    assert parsed.update_size == says("SIZE")
    assert parsed.update_mode == says("MODE")
    assert parsed.update_uid == says("UID")
    assert parsed.update_gid == says("GID")
    assert parsed.update_atime == says("ATIME", "ATIME_NOW")
    assert parsed.update_mtime == says("MTIME", "MTIME_NOW")
    assert parsed.handle == (values["fh"] if says("FH") else None)
    atime, mtime = parsed.get_times(lambda: -7)
    assert atime == (-7 if says("ATIME_NOW") else parsed.atime * 10**9 + values["atimensec"])
    assert mtime == (-7 if says("MTIME_NOW") else parsed.mtime * 10**9 + values["mtimensec"])


def test_times_before_1970() -> None:
    """The kernel has -1.5 s as -2 s and 500,000,000 ns."""
    raw = encode("fuse_setattr_in", valid=constants.FATTR_MTIME, mtime=-2, mtimensec=500_000_000)
    assert requests.parse_setattr(raw).get_times(lambda: 0)[1] == -1_500_000_000


BODIES: dict[str, Callable[[bytes], object]] = {
    **STRUCTURES,
    **{f"{name} and names": parse for name, (parse, _) in WITH_NAMES.items()},
    "fuse_in_header": requests.parse_header,
    "fuse_init_in": requests.parse_init,
    "a name": requests.parse_name,
    "two names": lambda body: requests.parse_names(body, 2),
    "fuse_rename_in": requests.parse_rename,
    "fuse_link_in": requests.parse_link,
    "fuse_interrupt_in": requests.parse_interrupt,
    "fuse_write_in": requests.parse_write,
    "fuse_setxattr_in": requests.parse_setxattr,
    "fuse_batch_forget_in": requests.parse_batch_forget,
    "fuse_forget_in": lambda body: requests.parse_forget(requests.InHeader(*range(9)), body),
}


def test_each_parser_is_among_them() -> None:
    parsers = {name for name in vars(requests) if name.startswith("parse_")}
    here = {value.__name__ for value in BODIES.values() if value.__name__.startswith("parse_")}
    named = {name for name in parsers if any(getattr(requests, name) in (each,) for each in BODIES.values())}
    assert parsers - named - here == {"parse_forget", "parse_names"}, "these are behind a lambda"


@pytest.mark.parametrize("kind", BODIES)
@given(body=st.binary(max_size=300))
def test_arbitrary_bytes_are_a_value_or_malformed(kind: str, body: bytes) -> None:
    try:
        BODIES[kind](body)
    except MalformedRequest:
        pass


def test_the_independent_decoder_reads_what_the_independent_encoder_writes() -> None:
    values = {name: number + 1 for number, name in enumerate(fields_of("fuse_setattr_in"))}
    assert decode("fuse_setattr_in", encode("fuse_setattr_in", **values)) == values
