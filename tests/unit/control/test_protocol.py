"""Lines of a control socket."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfsfs.control.protocol import (
    FAILED,
    WRONG,
    ControlError,
    Request,
    decode_answer,
    decode_request,
    encode_error,
    encode_request,
    encode_result,
)


@given(st.text(), st.dictionaries(st.text(), st.text()))
def test_a_request_comes_as_it_was_sent(command: str, arguments: dict[str, str]) -> None:
    line = encode_request(Request(command, arguments))
    assert line.endswith(b"\n") and line.count(b"\n") == 1
    assert decode_request(line) == Request(command, arguments)


def test_an_answer_comes_as_it_was_sent() -> None:
    assert decode_answer(encode_result({"a": [1, None, "ä\n"]})) == {"a": [1, None, "ä\n"]}
    assert decode_answer(encode_result(None)) is None


@pytest.mark.parametrize("code", [FAILED, WRONG])
def test_an_error_comes_as_it_was_sent(code: int) -> None:
    with pytest.raises(ControlError, match="no such thing") as caught:
        decode_answer(encode_error(ControlError("no such thing", code)))
    assert caught.value.code == code


@given(st.binary(max_size=200))
def test_any_bytes_are_a_request_or_an_error(line: bytes) -> None:
    with contextlib.suppress(ControlError):
        decode_request(line)


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (b"hello\n", "not JSON"),
        (b"[1]\n", "no object"),
        (b'{"version": 2, "command": "status"}', "of version 2"),
        (b'{"command": "status"}', "of version None"),
        (b'{"version": 1, "command": 1}', "has a command"),
        (b'{"version": 1, "command": "status", "arguments": {"a": 1}}', "are texts"),
        (b"[" * 100_000, "not JSON"),
    ],
)
def test_what_is_wrong_with_a_request_is_said(line: bytes, text: str) -> None:
    with pytest.raises(ControlError, match=text):
        decode_request(line)


def test_an_answer_without_a_result() -> None:
    with pytest.raises(ControlError, match="no result"):
        decode_answer(b'{"version": 1}\n')
