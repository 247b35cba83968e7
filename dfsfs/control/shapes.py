"""Frozen dataclasses as JSON, and JSON as such dataclasses, by the types of their fields: the one way that answers of
mounts are written and read. Pure.

A field may be str, int, float or bool, another such dataclass, `T | None`, `tuple[T, ...]` (a JSON list) or
`dict[str, T]`. Fields without a default have to be in the JSON; fields that the dataclass does not have are ignored, as
the program that answers may be of a newer version. A trailing underscore of a field's name, for a keyword of Python, is
not in JSON. Two kinds of metadata: a field with OPTIONAL is left out of the JSON while it is None; a field with REST is
a dict of all keys that no other field has, with whatever values JSON has.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cache
from types import NoneType
from typing import TYPE_CHECKING, Any, TypeVar, get_args, get_origin, get_type_hints

if TYPE_CHECKING:
    from collections.abc import Mapping

T = TypeVar("T")

LARGEST = 2**63 - 1
"""Of an int and, so that they can be shown as times and sizes, of a float."""


OPTIONAL: Mapping[str, bool] = {"optional": True}
REST: Mapping[str, bool] = {"rest": True}


class ShapeError(Exception):
    """JSON that is not of the expected type. The text says at which place, and not what is there."""


@dataclass(frozen=True, slots=True)
class _Field:
    """A field of a dataclass. `key`: its name in JSON; `kind`: its type; `is_required`: it has no default."""

    name: str
    key: str
    kind: Any
    is_required: bool
    is_optional: bool
    is_rest: bool


def to_json(value: object) -> Any:
    """A value of one of those types, or a list of them, as what json.dumps takes."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _object_to_json(value)
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    if isinstance(value, dict):
        return {name: to_json(item) for name, item in value.items()}
    return value


def from_json(kind: type[T], value: object) -> T:
    """JSON as a value of that type. Raises ShapeError."""
    made: T = _parse(kind, value, "it")
    return made


def _object_to_json(value: Any) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for field in _fields(value.__class__):
        item = getattr(value, field.name)
        if field.is_rest:
            made |= item
        elif item is not None or not field.is_optional:
            made[field.key] = to_json(item)
    return made


def _parse(kind: Any, value: object, where: str) -> Any:
    origin, arguments = get_origin(kind), get_args(kind)
    if NoneType in arguments:
        (other,) = (argument for argument in arguments if argument is not NoneType)
        return None if value is None else _parse(other, value, where)
    if origin is tuple:
        items = _check_type(list, value, where, "list")
        return tuple(_parse(arguments[0], item, f"an item of {where}") for item in items)
    if origin is dict:
        pairs = _check_type(dict, value, where, "object").items()
        return {name: _parse(arguments[1], item, f"an item of {where}") for name, item in pairs}
    if dataclasses.is_dataclass(kind):
        return _parse_object(kind, _check_type(dict, value, where, "object"), where)
    if kind in (int, float):
        return _parse_number(kind, value, where)
    return _check_type(kind, value, where, "text" if kind is str else "truth value")


def _check_type(kind: type[T], value: object, where: str, what: str) -> T:
    if not isinstance(value, kind):
        raise ShapeError(f"{where} is no {what}")
    return value


def _parse_number(kind: type[int] | type[float], value: object, where: str) -> int | float:
    # A bool is an int in Python, and NaN is between no two numbers.
    if isinstance(value, bool) or not isinstance(value, int | float) or not -LARGEST <= value <= LARGEST:
        raise ShapeError(f"{where} is no number that makes sense")
    if kind is int and not isinstance(value, int):
        raise ShapeError(f"{where} is no whole number")
    return kind(value)


def _parse_object(kind: Any, value: dict[str, Any], where: str) -> Any:
    fields = _fields(kind)
    known = {field.key for field in fields if not field.is_rest}
    found: dict[str, Any] = {}
    for field in fields:
        if field.is_rest:
            found[field.name] = {key: item for key, item in value.items() if key not in known}
        elif field.key in value:
            found[field.name] = _parse(field.kind, value[field.key], f"{field.key} of {where}")
        elif field.is_required:
            raise ShapeError(f"{where} has no {field.key}")
    return kind(**found)


@cache
def _fields(kind: Any) -> tuple[_Field, ...]:
    hints = get_type_hints(kind)
    missing = dataclasses.MISSING
    return tuple(
        _Field(
            name=field.name,
            key=field.name.rstrip("_"),
            kind=hints[field.name],
            is_required=field.default is missing and field.default_factory is missing,
            is_optional="optional" in field.metadata,
            is_rest="rest" in field.metadata,
        )
        for field in dataclasses.fields(kind)
    )
