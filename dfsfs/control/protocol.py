"""What goes over a control socket: one line of JSON each way, then the end.

    {"version": 1, "command": "status", "arguments": {}}
    {"version": 1, "result": ...}        or        {"version": 1, "error": "...", "code": 2}

The version changes when a command gets another meaning for programs of the old one. Fields may be added to a result
without that. Commands and their arguments: see commands.py.

Pure.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

VERSION = 1
MAX_REQUEST = 64 * 1024
"""Bytes of a request's line."""
MAX_ANSWER = 64 * 1024 * 1024
"""Bytes of an answer's line: a cache of 50,000 links."""
MAX_DEPTH = 16
"""Lists and objects within each other. Ours have six; Python runs out of stack at a thousand."""
MAX_ERROR = 500
"""Characters of an error."""
FAILED, WRONG = 1, 2
"""Codes of errors: it could not be done; it makes no sense."""


class ControlError(Exception):
    """A command that a mount refuses or that it could not carry out, or no answer of sense. `code`: FAILED or WRONG."""

    def __init__(self, text: str, code: int = FAILED) -> None:
        super().__init__(text)
        self.code = code


class DeadMount(ControlError):
    """No program listens at the socket of a mount. `reason`: why, and what to do."""

    def __init__(self, mountpoint: str, reason: str) -> None:
        super().__init__(f"no program answers for the mount on {mountpoint}: {reason}")
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Request:
    """A command and its arguments, all of them texts."""

    command: str
    arguments: Mapping[str, str] = field(default_factory=dict)


def encode_request(request: Request) -> bytes:
    """The line of a request."""
    return _line({"command": request.command, "arguments": dict(request.arguments)})


def decode_request(line: bytes) -> Request:
    """The request that a line is. Raises ControlError."""
    message = _message(line, "request")
    command, arguments = message.get("command"), message.get("arguments", {})
    if not isinstance(command, str) or not isinstance(arguments, dict):
        raise ControlError("a request has a command and arguments", WRONG)
    if not all(isinstance(value, str) for value in arguments.values()):
        raise ControlError("the arguments of a request are texts", WRONG)
    return Request(command, arguments)


def encode_result(result: Any) -> bytes:
    """The line of an answer. `result` is of what JSON has."""
    return _line({"result": result})


def encode_error(error: ControlError) -> bytes:
    """The line of an answer that is none."""
    return _line({"error": str(error), "code": error.code})


def decode_answer(line: bytes) -> Any:
    """The result in an answer. Raises ControlError, also for the one that it holds."""
    message = _message(line, "answer")
    if "error" in message:
        text, code = message["error"], message.get("code")
        if not isinstance(text, str):
            raise ControlError("the answer has an error that is no text")
        raise ControlError(text[:MAX_ERROR], WRONG if code == WRONG else FAILED)
    if "result" not in message:
        raise ControlError("the mount's answer has no result")
    return message["result"]


def _line(message: dict[str, Any]) -> bytes:
    return json.dumps({"version": VERSION, **message}, ensure_ascii=True, allow_nan=False).encode() + b"\n"


def _message(line: bytes, what: str) -> dict[str, Any]:
    try:
        message = json.loads(line, parse_constant=_no_number, parse_float=_finite)
    except (ValueError, RecursionError):
        raise ControlError(f"the {what} is not JSON", WRONG) from None
    if not _is_flat(message, MAX_DEPTH):
        raise ControlError(f"the {what} is nested too deeply", WRONG)
    if not isinstance(message, dict):
        raise ControlError(f"the {what} is no object", WRONG)
    if message.get("version") != VERSION:
        version = repr(message.get("version"))[:20]
        raise ControlError(f"the {what} is of version {version}, and this dfsfs speaks {VERSION}: update both", WRONG)
    return message


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is not in JSON")


def _finite(text: str) -> float:
    """1e999 is a number in JSON, and infinite in Python."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is too large")
    return number


def _is_flat(value: object, left: int) -> bool:
    if isinstance(value, dict):
        return left > 0 and all(_is_flat(item, left - 1) for item in value.values())
    return not isinstance(value, list) or (left > 0 and all(_is_flat(item, left - 1) for item in value))
