"""What another program says becomes what was expected, or one error."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dfsfs.control import answers
from dfsfs.control.protocol import ControlError, decode_answer
from dfsfs.control.shapes import OPTIONAL, REST, ShapeError, from_json, to_json

ANSWERS: tuple[Any, ...] = (
    *(answers.Status, answers.Domains, answers.Targets, answers.Drained, answers.Flushed),
    *(answers.Explanation, answers.Remounted, tuple[answers.CachedReferral, ...]),
)

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
    max_leaves=12,
)


def has_no_field(details: dict[str, Any]) -> bool:
    return not {"seconds", "event", "text"} & set(details)


def as_json(value: Any) -> Any:
    """An answer as it comes over the socket."""
    return json.loads(json.dumps(to_json(value)))


@pytest.mark.parametrize("kind", ANSWERS)
@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_an_answer_comes_as_it_was_meant(kind: Any, data: st.DataObject) -> None:
    st.register_type_strategy(int, st.integers(-(2**63) + 1, 2**63 - 1))
    st.register_type_strategy(float, st.floats(-1e18, 1e18))
    others = st.dictionaries(st.text(min_size=6), st.none() | st.text(max_size=3) | st.lists(st.booleans(), max_size=2))
    numbers, texts = st.floats(0, 1e9), st.text(max_size=5)
    st.register_type_strategy(answers.Step, st.builds(answers.Step, numbers, texts, others.filter(has_no_field), texts))
    try:
        value = data.draw(st.from_type(kind))
    finally:
        st.register_type_strategy(int, st.integers())
        st.register_type_strategy(float, st.floats())
    assert from_json(kind, as_json(value)) == value


@pytest.mark.parametrize("kind", ANSWERS)
@given(value=anything)
def test_anything_else_is_one_error(kind: Any, value: object) -> None:
    with contextlib.suppress(ShapeError):
        from_json(kind, value)


@dataclass(frozen=True, slots=True)
class Example:
    name: str
    number: int = 0
    share: float = 0.0
    on: bool = False
    maybe: str | None = None
    many: tuple[int, ...] = ()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ([], "it is no object"),
        ({}, "it has no name"),
        ({"name": None}, "name of it is no text"),
        ({"name": "a", "number": "1"}, "number of it is no number"),
        ({"name": "a", "number": 1.5}, "number of it is no whole number"),
        ({"name": "a", "number": True}, "number of it is no number"),
        ({"name": "a", "number": 10**400}, "number of it is no number"),
        ({"name": "a", "share": float("inf")}, "share of it is no number"),
        ({"name": "a", "share": float("nan")}, "share of it is no number"),
        ({"name": "a", "on": 1}, "on of it is no truth value"),
        ({"name": "a", "maybe": 1}, "maybe of it is no text"),
        ({"name": "a", "many": {}}, "many of it is no list"),
        ({"name": "a", "many": [1, "x"]}, "an item of many of it is no number"),
    ],
)
def test_what_is_wrong_is_said(value: object, text: str) -> None:
    with pytest.raises(ShapeError, match=text):
        from_json(Example, value)


@dataclass(frozen=True, slots=True)
class Whole:
    from_: str
    others: dict[str, Any] = field(metadata=REST)
    parts: tuple[Example, ...] = ()
    extra: Example | None = field(default=None, metadata=OPTIONAL)


def test_keywords_optional_fields_and_the_rest() -> None:
    value = {"from": "a", "parts": [], "x": [1, {"y": None}], "others": 2}
    made = Whole("a", {"x": [1, {"y": None}], "others": 2})
    assert from_json(Whole, value) == made and to_json(made) == value
    assert to_json(Whole("a", {}, (), Example("b")))["extra"]["name"] == "b"
    with pytest.raises(ShapeError, match="name of extra of it is no text"):
        from_json(Whole, {**value, "extra": {"name": 1}})


def test_the_names_in_json() -> None:
    """docs/json.md promises them."""
    step = answers.Step(0.5, "CacheHit", {"prefix": "//a/b", "stale": False}, "a line")
    found = answers.Explanation("//a/b", None, None, (step,), None, None, ())
    assert to_json(found) == {
        **dict.fromkeys(("kind", "problem", "link", "seconds_left")),
        "path": "//a/b",
        "steps": [{"seconds": 0.5, "event": "CacheHit", "prefix": "//a/b", "stale": False, "text": "a line"}],
        "targets": [],
    }
    drained = answers.Drained("fs1", (answers.DrainedLink("//a/b", "//fs1/x", None),), servers=("fs1",))
    assert to_json([drained]) == [
        {
            "host": "fs1",
            "links": [{"path": "//a/b", "from": "//fs1/x", "to": None}],
            "known": True,
            "servers": ["fs1"],
        }
    ]


def test_more_than_is_known_is_no_matter() -> None:
    assert from_json(Example, {"name": "a", "new": [1]}) == Example("a")


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"-Infinity", b"1e999", b"1" * 5000])
def test_numbers_that_are_none(number: bytes) -> None:
    with pytest.raises(ControlError, match="is not JSON"):
        decode_answer(b'{"version": 1, "result": ' + number + b"}\n")


def test_an_answer_is_not_nested_deeply() -> None:
    """What shows it would run out of stack, though what reads it does not."""
    for depth in (17, 300, 900, 100_000):
        with pytest.raises(ControlError, match=r"nested too deeply|is not JSON"):
            decode_answer(b'{"version": 1, "result": ' + b"[" * depth + b"]" * depth + b"}\n")
    assert decode_answer(b'{"version": 1, "result": [[[[[[1]]]]]]}\n') == [[[[[[1]]]]]]


@pytest.mark.parametrize("error", ["[1]", "{}", "null", '"' + "x" * 100_000 + '"'])
def test_an_error_is_a_short_text(error: str) -> None:
    with pytest.raises(ControlError) as caught:
        decode_answer(f'{{"version": 1, "error": {error}, "code": {{}}}}\n'.encode())
    assert len(str(caught.value)) <= 500
