"""Messages of the data path: smbprotocol's structures as the second opinion, and bytes that make no sense."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from smbprotocol import header as oracle_header
from smbprotocol import ioctl as oracle_ioctl
from smbprotocol import open as oracle

from dfsfs.errors import WireError
from dfsfs.smb.wire import messages, missing_constants
from dfsfs.smb.wire.constants import (
    Access,
    Command,
    CreateDisposition,
    CreateOptions,
    CtlCode,
    FileInformationClass,
    FileSystemInformationClass,
    InfoType,
    ShareAccess,
)
from dfsfs.smb.wire.messages import CREDIT_UNIT, HEADER, HEADER_SIZE, MAX_NAME_BYTES, RELATED_FILE_ID

if TYPE_CHECKING:
    from collections.abc import Callable

FILE = bytes(range(16))
names = st.text(st.characters(codec="utf-16-le", exclude_characters="\0"), min_size=1, max_size=60)
uint32 = st.integers(0, 0xFFFFFFFF)
uint64 = st.integers(0, 0xFFFFFFFFFFFFFFFF)
sizes = st.integers(0, 8 << 20)


def read_by_oracle(structure: Any, body: bytes) -> Any:
    """The structure filled from `body`; no byte may be left over."""
    assert structure.unpack(body) == b""
    return structure


def values(structure: Any, *fields: str) -> tuple[Any, ...]:
    return tuple(structure[field].get_value() for field in fields)


def message(body: bytes) -> memoryview:
    """An answer: `body` behind a header of zeros, which the decoders of bodies don't look at."""
    return memoryview(bytes(HEADER_SIZE) + body)


def from_oracle(structure: Any, **fields: Any) -> memoryview:
    for name, value in fields.items():
        structure[name] = value
    return message(bytes(structure.pack()))


# -- the header -------------------------------------------------------------------------------------------------------


@given(st.binary(min_size=HEADER_SIZE, max_size=HEADER_SIZE + 20))
def test_any_64_bytes_with_the_right_start_are_a_header(raw: bytes) -> None:
    raw = b"\xfeSMB\x40\x00" + raw[6:]
    header = messages.decode_header(memoryview(raw))
    assert HEADER.pack(*header) == raw[:HEADER_SIZE]
    assert header.async_id == int.from_bytes(raw[32:40], "little")


def test_a_header_as_the_oracle_writes_it() -> None:
    structure: Any = oracle_header.SMB2HeaderResponse()
    for name, value in {
        "credit_charge": 3,
        "status": 0xC0000022,
        "command": Command.SMB2_READ,
        "credit_response": 77,
        "flags": 9,
        "next_command": 128,
        "message_id": 1 << 40,
        "tree_id": 0x1234,
        "session_id": 1 << 60,
        "signature": FILE,
    }.items():
        structure[name] = value
    header = messages.decode_header(memoryview(structure.pack()))
    assert (header.credit_charge, header.status, header.command, header.credits) == (
        3,
        0xC0000022,
        Command.SMB2_READ,
        77,
    )
    assert (header.flags, header.next_command, header.message_id) == (9, 128, 1 << 40)
    assert (header.tree_id, header.session_id, header.signature) == (0x1234, 1 << 60, FILE)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\xfeSMB\x40\x00" + bytes(57),
        b"\xfdSMB\x40\x00" + bytes(58),
        b"\xffSMB\x40\x00" + bytes(58),
        b"\xfeSMB\x41\x00" + bytes(58),
    ],
)
def test_what_is_no_header(raw: bytes) -> None:
    with pytest.raises(WireError):
        messages.decode_header(memoryview(raw))


@pytest.mark.parametrize(
    ("size", "charge"),
    [(0, 1), (1, 1), (CREDIT_UNIT, 1), (CREDIT_UNIT + 1, 2), (2 * CREDIT_UNIT, 2), (1 << 20, 16), (8 << 20, 128)],
)
def test_one_credit_pays_for_64_kib(size: int, charge: int) -> None:
    assert messages.charge_of(size) == charge
    assert messages.encode_read(FILE, 0, size).charge == charge
    assert messages.encode_write(FILE, 0, bytes(size)).charge == charge
    assert messages.encode_query_directory(FILE, size).charge == charge
    assert (
        messages.encode_query_info(
            FILE, InfoType.SMB2_0_INFO_FILE, FileInformationClass.FILE_ALL_INFORMATION, size
        ).charge
        == charge
    )
    assert messages.encode_set_info(FILE, FileInformationClass.FILE_BASIC_INFORMATION, bytes(size)).charge == charge
    # An IOCTL is paid for by the larger of what goes and what may come.
    assert messages.encode_ioctl(CtlCode.FSCTL_DFS_GET_REFERRALS, b"", size).charge == charge
    assert messages.encode_ioctl(CtlCode.FSCTL_DFS_GET_REFERRALS, bytes(size), 0).charge == charge


# -- requests, as the oracle reads them -------------------------------------------------------------------------------


@given(names, st.sampled_from(CreateDisposition), st.sampled_from(CreateOptions))
def test_create(name: str, disposition: CreateDisposition, options: CreateOptions) -> None:
    request = messages.encode_create(
        name,
        access=Access.READ,
        disposition=disposition,
        options=options,
        attributes=0x80,
        share_access=ShareAccess.FILE_SHARE_READ,
    )
    assert (request.command, request.charge, bytes(request.payload)) == (Command.SMB2_CREATE, 1, b"")
    found = read_by_oracle(oracle.SMB2CreateRequest(), request.body)
    encoded = name.encode("utf-16-le")
    assert values(found, "name_offset", "name_length") == (HEADER_SIZE + 56, len(encoded))
    assert request.body[56:] == encoded
    assert values(found, "desired_access", "file_attributes", "share_access") == (
        Access.READ,
        0x80,
        ShareAccess.FILE_SHARE_READ,
    )
    assert values(found, "create_disposition", "create_options") == (disposition, options)
    assert values(found, "requested_oplock_level", "create_contexts_length") == (0, 0)
    assert found["impersonation_level"].get_value() == 2


def test_the_root_of_a_share_has_an_empty_name_and_still_a_byte_behind_the_fixed_part() -> None:
    body = messages.encode_create("", access=Access.READ, disposition=CreateDisposition.FILE_OPEN).body
    assert len(body) == 57
    assert struct.unpack_from("<HH", body, 44) == (HEADER_SIZE + 56, 0)


def test_a_name_may_hold_half_a_surrogate_pair_as_on_ntfs() -> None:
    body = messages.encode_create("a\ud800", access=Access.READ, disposition=CreateDisposition.FILE_OPEN).body
    assert body[56:] == b"a\0\x00\xd8"


def test_the_longest_name_and_one_more() -> None:
    longest = "n" * (MAX_NAME_BYTES // 2)
    body = messages.encode_create(longest, access=Access.READ, disposition=CreateDisposition.FILE_OPEN).body
    assert struct.unpack_from("<H", body, 46) == (MAX_NAME_BYTES,)
    with pytest.raises(WireError, match="65536 bytes"):
        messages.encode_create(longest + "n", access=Access.READ, disposition=CreateDisposition.FILE_OPEN)
    with pytest.raises(WireError):
        messages.encode_query_directory(FILE, 1024, longest + "n")


def test_folders_are_never_opened_as_reparse_points() -> None:
    """Through such a handle a Samba 4.22 server deletes DFS links."""
    assert not any(option.value & 0x00200000 for option in CreateOptions)


def test_close_and_flush() -> None:
    close = messages.encode_close(FILE)
    found = read_by_oracle(oracle.SMB2CloseRequest(), close.body)
    assert (close.command, *values(found, "flags", "file_id")) == (Command.SMB2_CLOSE, 0, FILE)
    flush = messages.encode_flush(FILE)
    found = read_by_oracle(oracle.SMB2FlushRequest(), flush.body)
    assert (flush.command, *values(found, "file_id")) == (Command.SMB2_FLUSH, FILE)


@given(uint64, sizes)
def test_read(offset: int, size: int) -> None:
    request = messages.encode_read(FILE, offset, size)
    found = read_by_oracle(oracle.SMB2ReadRequest(), request.body)
    assert request.command is Command.SMB2_READ
    assert values(found, "length", "offset", "file_id", "minimum_count") == (size, offset, FILE, 0)
    # The place where the answer's data is wanted: right behind its fixed part.
    assert found["padding"].get_value() == HEADER_SIZE + 16
    assert values(found, "channel", "remaining_bytes", "read_channel_info_length") == (0, 0, 0)


@given(uint64, st.binary(max_size=100))
def test_write_keeps_its_payload_where_it_lies(offset: int, data: bytes) -> None:
    request = messages.encode_write(FILE, offset, data)
    assert request.payload is data
    found = oracle.SMB2WriteRequest()
    assert found.unpack(request.body + data) in (b"", data)  # without data the oracle takes no buffer
    assert values(found, "data_offset", "length", "offset", "file_id") == (HEADER_SIZE + 48, len(data), offset, FILE)
    assert len(request.body) == 48


@given(sizes, names)
def test_query_directory(size: int, pattern: str) -> None:
    request = messages.encode_query_directory(FILE, size, pattern)
    found = read_by_oracle(oracle.SMB2QueryDirectoryRequest(), request.body)
    encoded = pattern.encode("utf-16-le")
    assert values(found, "file_information_class", "flags", "file_id") == (
        FileInformationClass.FILE_ID_BOTH_DIRECTORY_INFORMATION,
        0,
        FILE,
    )
    assert values(found, "file_name_offset", "file_name_length", "buffer") == (HEADER_SIZE + 32, len(encoded), encoded)
    assert found["output_buffer_length"].get_value() == size


@given(sizes)
def test_query_info(size: int) -> None:
    for info_type, info_class in (
        (InfoType.SMB2_0_INFO_FILE, FileInformationClass.FILE_ALL_INFORMATION),
        (InfoType.SMB2_0_INFO_FILESYSTEM, FileSystemInformationClass.FILE_FS_FULL_SIZE_INFORMATION),
    ):
        request = messages.encode_query_info(FILE, info_type, info_class, size)
        # The oracle takes the one byte that the odd StructureSize asks for as its (empty) buffer's.
        found = oracle.SMB2QueryInfoRequest()
        assert found.unpack(request.body) in (b"", b"\0")
        assert values(found, "info_type", "file_info_class", "output_buffer_length") == (info_type, info_class, size)
        assert values(found, "input_buffer_length", "additional_information", "flags", "file_id") == (0, 0, 0, FILE)


@given(st.binary(min_size=1, max_size=100))
def test_set_info(info: bytes) -> None:
    request = messages.encode_set_info(FILE, FileInformationClass.FILE_RENAME_INFORMATION, info)
    found = read_by_oracle(oracle.SMB2SetInfoRequest(), request.body)
    assert request.command is Command.SMB2_SET_INFO
    assert values(found, "info_type", "file_info_class", "file_id") == (
        InfoType.SMB2_0_INFO_FILE,
        FileInformationClass.FILE_RENAME_INFORMATION,
        FILE,
    )
    assert values(found, "buffer_length", "buffer_offset", "buffer") == (len(info), HEADER_SIZE + 32, info)


@pytest.mark.parametrize("code", [code for code in CtlCode if code.name not in vars(missing_constants)])
def test_c002_referrals_are_fsctls_to_no_file(code: CtlCode) -> None:
    request = messages.encode_ioctl(code, b"question", 4096)
    found = read_by_oracle(oracle_ioctl.SMB2IOCTLRequest(), request.body)
    assert request.command is Command.SMB2_IOCTL
    assert values(found, "ctl_code", "file_id", "flags") == (code, b"\xff" * 16, 1)
    assert values(found, "input_offset", "input_count", "buffer") == (HEADER_SIZE + 56, 8, b"question")


@given(st.binary(max_size=60), sizes)
def test_c058_the_code_and_the_output_size_are_the_callers(data: bytes, size: int) -> None:
    for code in (CtlCode.FSCTL_DFS_GET_REFERRALS, CtlCode.FSCTL_DFS_GET_REFERRALS_EX):
        body = messages.encode_ioctl(code, data, size).body
        found = read_by_oracle(oracle_ioctl.SMB2IOCTLRequest(), body)
        assert values(found, "ctl_code", "max_output_response", "max_input_response") == (code, size, 0)
        assert values(found, "input_count", "output_count") == (len(data), 0)


@pytest.mark.parametrize(
    "command", [Command.SMB2_ECHO, Command.SMB2_LOGOFF, Command.SMB2_TREE_DISCONNECT, Command.SMB2_CANCEL]
)
def test_plain_requests(command: Command) -> None:
    request = messages.encode_plain(command)
    assert (request.command, request.body, request.charge) == (command, b"\4\0\0\0", 1)


# -- answers, as the oracle writes them -------------------------------------------------------------------------------


@given(names, uint32, st.integers(0, 0x7FFFFFFFFFFFFFFF))
def test_create_answers(context: str, attributes: int, size: int) -> None:
    body = struct.pack(
        "<HBBIQQQQQQII16sII", 89, 0, 0, 1, *[116_444_736_000_000_000 + 10 * n for n in range(4)],
        4096, size, attributes, 0, FILE, 0, 0,
    )  # fmt: skip
    created = messages.decode_create(message(body + context.encode("utf-16-le")))
    stat = created.stat
    assert created.file_id == FILE
    assert (stat.created, stat.accessed, stat.written, stat.changed) == (0, 1000, 2000, 3000)
    assert (stat.size, stat.allocated, stat.attributes) == (size, 4096, attributes)


def test_a_create_answer_of_the_oracle() -> None:
    # Its file_attributes field refuses what it does not know, hence only one known bit.
    found = messages.decode_create(
        from_oracle(oracle.SMB2CreateResponse(), file_id=FILE, end_of_file=5, allocation_size=8, file_attributes=0x10)
    )
    assert (found.file_id, found.stat.size, found.stat.allocated, found.stat.is_directory) == (FILE, 5, 8, True)


@given(st.binary(max_size=200), st.integers(0, 40))
def test_read_answers(data: bytes, gap: int) -> None:
    """The data may lie further behind than was asked for."""
    written = from_oracle(oracle.SMB2ReadResponse(), data_offset=HEADER_SIZE + 16 + gap, buffer=data)
    fixed, rest = written[: HEADER_SIZE + 16], written[HEADER_SIZE + 16 :]
    answer = memoryview(b"".join((fixed, bytes(gap), rest)))
    found = messages.decode_read(answer, len(data))
    assert found == data
    if data:
        assert found.obj is answer.obj, "READ data is a view of the message, not a copy"
        with pytest.raises(WireError, match=f"READ of {len(data) - 1} bytes"):
            messages.decode_read(answer, len(data) - 1)


def test_write_answers() -> None:
    answer = from_oracle(oracle.SMB2WriteResponse(), count=100)
    assert messages.decode_write(answer, 100) == 100
    assert messages.decode_write(answer, 200) == 100, "a short write is for the caller to judge"
    with pytest.raises(WireError, match="WRITE of 99 bytes"):
        messages.decode_write(answer, 99)


@given(st.binary(max_size=100))
def test_query_answers(data: bytes) -> None:
    for structure in (oracle.SMB2QueryInfoResponse(), oracle.SMB2QueryDirectoryResponse()):
        answer = from_oracle(structure, output_buffer_offset=HEADER_SIZE + 8, buffer=data)
        assert messages.decode_output(answer) == data


@given(st.binary(max_size=100))
def test_ioctl_answers(data: bytes) -> None:
    answer = from_oracle(
        oracle_ioctl.SMB2IOCTLResponse(),
        ctl_code=CtlCode.FSCTL_DFS_GET_REFERRALS,
        file_id=RELATED_FILE_ID,
        input_offset=HEADER_SIZE + 48,
        output_offset=HEADER_SIZE + 48,
        output_count=len(data),
        buffer=data,
    )
    assert messages.decode_ioctl(answer, len(data)) == data
    if data:
        with pytest.raises(WireError, match="at most"):
            messages.decode_ioctl(answer, len(data) - 1)


def test_answers_without_a_buffer_may_have_any_offset() -> None:
    """Servers leave 0 there when nothing was found."""
    assert len(messages.decode_output(message(struct.pack("<HHI", 9, 0, 0)))) == 0
    nothing = struct.pack("<HHI16sIIIIII", 49, 0, 0, FILE, 0, 0, 0, 0, 0, 0)
    assert len(messages.decode_ioctl(message(nothing), 10)) == 0


# -- answers that make no sense ---------------------------------------------------------------------------------------

DECODERS: dict[str, tuple[Callable[[memoryview], object], bytes]] = {
    "CREATE": (messages.decode_create, struct.pack("<HBBIQQQQQQII16sII", 89, 0, 0, 1, *[0] * 8, FILE, 0, 0)),
    "READ": (
        lambda answer: messages.decode_read(answer, 6),
        struct.pack("<HBBIII", 17, 80, 0, 6, 0, 0) + b"sixteen"[:6],
    ),
    "WRITE": (lambda answer: messages.decode_write(answer, 6), struct.pack("<HHII", 17, 0, 6, 0)),
    "QUERY": (messages.decode_output, struct.pack("<HHI", 9, 72, 6) + b"output"),
    "IOCTL": (
        lambda answer: messages.decode_ioctl(answer, 6),
        struct.pack("<HHI16sIIIIII", 49, 0, CtlCode.FSCTL_DFS_GET_REFERRALS, FILE, 112, 0, 112, 6, 0, 0) + b"output",
    ),
}
OFFSETS = {"READ": (2, 1), "QUERY": (2, 2), "IOCTL": (32, 4)}
"""Where in the body the offset of the data stands, and in how many bytes."""


@pytest.mark.parametrize("what", DECODERS)
def test_an_answer_that_is_cut_anywhere(what: str) -> None:
    decode, body = DECODERS[what]
    decode(message(body))
    for length in range(len(body)):
        with pytest.raises(WireError):
            decode(message(body[:length]))
    with pytest.raises(WireError):
        decode(memoryview(b""))


@pytest.mark.parametrize("what", DECODERS)
def test_an_answer_with_another_structure_size(what: str) -> None:
    decode, body = DECODERS[what]
    for size in (0, 9, 60, 65535):
        if size == body[0]:
            continue
        with pytest.raises(WireError, match="StructureSize"):
            decode(message(size.to_bytes(2, "little") + body[2:]))


@pytest.mark.parametrize("what", OFFSETS)
def test_data_lies_inside_the_message_and_behind_its_header(what: str) -> None:
    decode, body = DECODERS[what]
    place, width = OFFSETS[what]
    end = HEADER_SIZE + len(body)
    for offset in (0, HEADER_SIZE - 1, end - 5, end, end + 1, 255, (1 << 8 * width) - 1):
        wrong = body[:place] + offset.to_bytes(width, "little") + body[place + width :]
        with pytest.raises(WireError, match="outside"):
            decode(message(wrong))


@pytest.mark.parametrize("what", DECODERS)
@given(data=st.data())
def test_any_bytes_give_a_value_or_the_one_error(what: str, data: st.DataObject) -> None:
    decode, body = DECODERS[what]
    raw = bytearray(body + data.draw(st.binary(max_size=20)))
    for _ in range(data.draw(st.integers(0, 6))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.sampled_from([0, 1, 64, 80, 112, 127, 128, 255]))
    try:
        decode(message(bytes(raw[: data.draw(st.integers(0, len(raw)))])))
    except WireError:
        pass


@pytest.mark.parametrize("what", DECODERS)
@given(raw=st.binary(max_size=200))
def test_random_bytes_give_a_value_or_the_one_error(what: str, raw: bytes) -> None:
    decode, body = DECODERS[what]
    for candidate in (raw, body[:2] + raw):
        try:
            decode(memoryview(candidate))
        except WireError:
            pass
        try:
            decode(message(candidate))
        except WireError:
            pass
