"""Every mount option has a test that sees what it does, or that it is refused."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dfsfs.config.errors import ConfigError
from dfsfs.config.options import parse_options
from dfsfs.config.table import OPTIONS, Option, Policy

TESTS = Path(__file__).parent.parent
ACCEPTED, REFUSED = ([one for one in OPTIONS if one.policy is policy] for policy in (Policy.ACCEPT, Policy.REFUSE))
TEXT = "\n".join(path.read_text() for path in sorted(TESTS.rglob("*.py")) if path != Path(__file__))


@pytest.mark.parametrize("option", ACCEPTED, ids=lambda one: one.names[0])
def test_an_accepted_option_is_used_in_a_test(option: Option) -> None:
    end = "=" if option.metavar else r"(?![a-z_])"
    assert any(re.search(rf"(?<![a-z_]){name}{end}", TEXT) for name in option.names)


@pytest.mark.parametrize("option", REFUSED, ids=lambda one: one.names[0])
def test_a_refused_option_says_why(option: Option) -> None:
    for name in option.names:
        with pytest.raises(ConfigError, match=re.escape(f"option {name!r}: {option.help}")):
            parse_options([name])


@pytest.mark.parametrize(
    "option", [one for one in OPTIONS if one.policy in (Policy.IGNORE, Policy.NO_EFFECT)], ids=lambda one: one.names[0]
)
def test_an_ignored_option_changes_nothing_and_says_so_if_somebody_may_wonder(option: Option) -> None:
    for name in option.names:
        text = f"{name}=utf8" if name == "iocharset" else name
        options = parse_options([text])
        assert options.without_effect == ((name,) if option.policy is Policy.NO_EFFECT else ())
        assert parse_options([text, "ro"]) == parse_options(["ro", text])
