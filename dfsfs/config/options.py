"""From the texts of `-o` to ParsedOptions. Pure."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from dfsfs.config.credentials import split_username
from dfsfs.config.errors import ConfigError
from dfsfs.config.model import ParsedOptions
from dfsfs.config.syntax import Item, split_options
from dfsfs.config.table import BY_NAME, DIALECTS, Option, Policy, find, is_word_of_others
from dfsfs.config.values import username as check_username
from dfsfs.smb.auth.credentials import Secret

if TYPE_CHECKING:
    from collections.abc import Sequence


def parse_options(texts: Sequence[str], *, sloppy: bool = False) -> ParsedOptions:
    """Reads the texts of all `-o`. `sloppy`, or an option of that name: unknown options don't matter.

    Raises:
        ConfigError: an option is unknown, refused, or has a bad value; or two of them contradict each other.
    """
    items = [item for text in texts for item in split_options(text)]
    sloppy = sloppy or any(item.name == "sloppy" for item in items)
    settings: dict[str, Any] = {}
    without_effect: list[str] = []
    for item in items:
        option = find(item.name, has_value=item.value is not None)
        if option is None:
            if not sloppy and not is_word_of_others(item.name):
                raise ConfigError(_unknown(item))
        elif option.policy is Policy.REFUSE:
            raise ConfigError(f"option {item.name!r}: {option.help}")
        elif option.policy is Policy.NO_EFFECT:
            without_effect.append(item.name)
        elif not option.any_form:
            _apply(option, item, settings)
    return _check_combination(ParsedOptions(**settings, without_effect=tuple(dict.fromkeys(without_effect))))


def fields_of(texts: Sequence[str]) -> frozenset[str]:
    """The fields of ParsedOptions that the options of these texts, which can be parsed, are about."""
    found: set[str] = set()
    for item in (item for text in texts for item in split_options(text)):
        option = find(item.name, has_value=item.value is not None)
        if option is not None:
            found |= {*option.sets, *option.settings}
    return frozenset(found)


def _apply(option: Option, item: Item, settings: dict[str, Any]) -> None:
    if not option.metavar:
        if item.value is not None:
            raise ConfigError(f"option {item.name!r} takes no value")
        settings |= option.settings
        return
    if item.value is None or (not item.value and not option.secret):
        raise ConfigError(f"option {item.name!r} needs a value: {item.name}={option.metavar}")
    shown = f"{item.name}=..." if option.secret else f"{item.name}={item.value}"
    if option.parse is check_username:
        shown = item.name  # what is wrong with it may be a password
    try:
        value = option.parse(item.value)
    except ValueError as error:
        raise ConfigError(f"option {shown!r}: {error}") from None
    for name in option.sets:
        if isinstance(value, dict):
            settings[name] = {**settings.get(name, {}), **value}
        else:
            settings[name] = Secret(str(value)) if option.secret else value


def _unknown(item: Item) -> str:
    import difflib  # most have no such mistake

    close = difflib.get_close_matches(item.name, BY_NAME, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    if not item.after_secret:
        return f"unknown option {item.name!r}{hint}"
    # After `password=a,b` this may be `b`.
    advice = "if it is part of the password: a comma in it has to be written twice"
    if close or re.fullmatch("[a-z_]{4,}", item.name):
        return f"unknown option {item.name!r}{hint} ({advice})"
    return f"the option after the password is unknown, and is not shown here ({advice})"


def _check_combination(options: ParsedOptions) -> ParsedOptions:
    """The options, if they go together."""
    if options.username is not None:
        domain, name = split_username(options.username)
        if not name:
            raise ConfigError("option 'username' needs a name: username=[DOMAIN/]NAME")
        if domain is not None and options.domain not in (None, domain):
            raise ConfigError("option 'username' names another domain than option 'domain'")
        options = replace(options, username=name, domain=options.domain if domain is None else domain)
    if options.ttl_min is not None and options.ttl_max is not None and options.ttl_min > options.ttl_max:
        raise ConfigError(f"option 'dfs_ttl_min={options.ttl_min}' is more than dfs_ttl_max={options.ttl_max}")
    if (options.seal or options.security == "krb5p") and options.dialects == DIALECTS[:1]:
        raise ConfigError("encryption (seal, sec=krb5p) needs SMB 3.0, and option 'vers' says 2.1")
    if options.security == "ntlmssp":
        kerberos = {
            "cruid": options.ticket_user,
            "ccache": options.ccache,
            "keytab": options.keytab,
            "principal": options.principal,
        }
        for name, value in kerberos.items():
            if value is not None:
                raise ConfigError(f"option {name!r} is about Kerberos, which takes sec=krb5")
    return options
