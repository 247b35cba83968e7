"""Events: one line each, counted, kept, handed on."""

from __future__ import annotations

import dataclasses
import inspect
import logging
from typing import Any

import pytest

from dfsfs import telemetry
from dfsfs.telemetry import MAX_RECENT_EVENTS, CacheHit, CacheMiss, Event, FailedOver, Telemetry
from dfsfs.unc import UncPath

PATH = UncPath.parse("//srv/ns/link")
TYPES = [kind for kind in vars(telemetry).values() if inspect.isclass(kind) and kind.__base__ is Event]
EXAMPLES: dict[str, Any] = {
    "float": 12.0,
    "bool": True,
    "int": 3,
    "str": "words",
    "UncPath": PATH,
    "tuple[str, ...]": ("//fs1/a", "|", "//fs2/b"),
}


def example(kind: type[Event]) -> Event:
    return kind(**{field.name: EXAMPLES[str(field.type)] for field in dataclasses.fields(kind)})


@pytest.mark.parametrize("kind", TYPES)
def test_an_event_is_one_line_that_names_its_paths(kind: type[Event]) -> None:
    line = str(example(kind))
    assert "\n" not in line
    assert any(word in line for word in ("//srv/ns/link", "words"))
    assert kind.__name__ not in line


def test_what_is_published_is_counted_kept_logged_and_handed_on(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "dfsfs.events")
    stream, heard = Telemetry(), list[Event]()
    stream.publish(CacheMiss(PATH))
    stream.listen(heard.append)
    events = [CacheHit(PATH, 5.0), FailedOver(PATH, PATH, PATH, "STATUS_IO_TIMEOUT")]
    for event in events:
        stream.publish(event)
    assert heard == events
    assert stream.statistics() == {"CacheMiss": 1, "CacheHit": 1, "FailedOver": 1}
    assert list(stream.recent) == [CacheMiss(PATH), *events]
    assert [record.levelno for record in caplog.records] == [logging.DEBUG, logging.DEBUG, logging.WARNING]


def test_only_the_last_events_are_kept() -> None:
    stream = Telemetry()
    for _ in range(MAX_RECENT_EVENTS + 5):
        stream.publish(CacheMiss(PATH))
    assert len(stream.recent) == MAX_RECENT_EVENTS
    assert stream.statistics()["CacheMiss"] == MAX_RECENT_EVENTS + 5
