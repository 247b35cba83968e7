"""From what JSON has to frozen dataclasses, by the types of their fields. Pure.

A field may be str, int, float or bool, another such dataclass, `T | None`, `tuple[T, ...]` (a JSON list) or
`dict[str, T]`. Fields without a default have to be there; what is there besides is not looked at, as whoever answers
may be newer. A trailing underscore of a field's name, for what is a word of Python, is not in JSON.
"""

from __future__ import annotations

import dataclasses
from functools import cache
from types import NoneType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

T = TypeVar("T")

LARGEST = 2**63 - 1
"""Of an int and, so that they can be shown as times and sizes, of a float."""


class ShapeError(Exception):
    """Something else than was expected; the text says where, and not what is there."""


def shaped(kind: type[T], value: object) -> T:
    """The value as that type, one of those that fields may have. Raises ShapeError."""
    made: T = _shaped(kind, value, "it")
    return made


def _shaped(kind: Any, value: object, where: str) -> Any:
    origin, arguments = get_origin(kind), get_args(kind)
    if NoneType in arguments:
        (other,) = (argument for argument in arguments if argument is not NoneType)
        return None if value is None else _shaped(other, value, where)
    if origin is tuple:
        return tuple(_shaped(arguments[0], item, f"an item of {where}") for item in _of(list, value, where, "list"))
    if origin is dict:
        items = _of(dict, value, where, "object").items()
        return {name: _shaped(arguments[1], item, f"an item of {where}") for name, item in items}
    if dataclasses.is_dataclass(kind):
        return _object(kind, _of(dict, value, where, "object"), where)
    if kind in (int, float):
        return _number(kind, value, where)
    return _of(kind, value, where, "text" if kind is str else "truth value")


def _of(kind: type[T], value: object, where: str, what: str) -> T:
    if not isinstance(value, kind):
        raise ShapeError(f"{where} is no {what}")
    return value


def _number(kind: type[int] | type[float], value: object, where: str) -> int | float:
    # A bool is an int in Python, and NaN is between no two numbers.
    if isinstance(value, bool) or not isinstance(value, int | float) or not -LARGEST <= value <= LARGEST:
        raise ShapeError(f"{where} is no number that makes sense")
    if kind is int and not isinstance(value, int):
        raise ShapeError(f"{where} is no whole number")
    return kind(value)


def _object(kind: Any, value: dict[str, Any], where: str) -> Any:
    found = {}
    for name, of, needed in _fields(kind):
        key = name.rstrip("_")
        if key in value:
            found[name] = _shaped(of, value[key], f"{key} of {where}")
        elif needed:
            raise ShapeError(f"{where} has no {key}")
    return kind(**found)


@cache
def _fields(kind: Any) -> tuple[tuple[str, Any, bool], ...]:
    """The names and types of a dataclass's fields, and whether they have to be there."""
    hints = get_type_hints(kind)
    missing = dataclasses.MISSING
    return tuple(
        (field.name, hints[field.name], field.default is missing and field.default_factory is missing)
        for field in dataclasses.fields(kind)
    )
