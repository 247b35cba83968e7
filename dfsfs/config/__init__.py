"""What a mount is asked to be: the text of `-o` and of credentials files, checked and turned into a MountConfig.

    text of -o -> parse_options -> ParsedOptions -> make_config (with who mounts, and the password) -> MountConfig

`table` declares every option once, `values` reads their values. Everything here is pure: files, the environment and the
user database are read by the command, which hands over what it found.

Rules. The last of several settings counts. An option of the command line or of fstab comes before the environment, and
that before a credentials file. Options are split at commas as they stand; only in `password=` does a doubled comma
stand for one. An error is a ConfigError of one line that names the option; no message has a password in it, nor what
looks like the rest of one.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from dfsfs.config.model import (
    CONNECT_TIMEOUT,
    HARD_TIMEOUT,
    CachingOptions,
    DfsOptions,
    MountConfig,
    OwnershipOptions,
    ParsedOptions,
    TransportOptions,
)
from dfsfs.config.table import BY_NAME, DIALECTS, SECRETS, Option, Policy, Sharing, find, is_word_of_others
from dfsfs.config.values import password as check_password
from dfsfs.config.values import sendable as check_sendable
from dfsfs.config.values import username as check_username
from dfsfs.smb.auth.credentials import Secret
from dfsfs.unc import UncError, UncPath, fold_name, is_unc, parse_address

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dfsfs.smb.auth.credentials import Login


class ConfigError(Exception):
    """The mount is asked for in a way that makes no sense, or that dfsfs does not do. One line, without passwords."""

    exit_code = 1
    """Wrong usage, for mount(8)."""


@dataclass(frozen=True, slots=True)
class CredentialsFile:
    """What a credentials file says; None for what it doesn't."""

    username: str | None = None
    password: Secret | None = None
    domain: str | None = None
    password2: Secret | None = None
    spaced: tuple[int, ...] = ()
    """Lines like `name = value`, whose value begins with that space."""


@dataclass(frozen=True, slots=True)
class Mounter:
    """Who mounts, and how names of users and groups become numbers. These two raise KeyError for an unknown one."""

    uid: int
    gid: int
    find_user: Callable[[str], int]
    find_group: Callable[[str], int]


# -- the place --------------------------------------------------------------------------------------------------------


def parse_unc(text: str) -> UncPath:
    """Reads what is to be mounted: `//server/share`, with folders after it, with slashes or backslashes.

    fstab(5) has `\\040` for a space, and so for tab, newline and backslash. As a share's name may begin with 040, the
    escapes count only where the text has slashes.

    An IPv6 address may be in brackets, as in a URL; they are no part of it.

    Raises:
        ConfigError: it names no share, or a user.
    """
    # Someone may have put a password before an @.
    shown = "the first argument" if "@" in text else repr(text)
    if text.startswith("//"):
        text = re.sub(r"\\(040|011|012|134)", lambda match: chr(int(match[1], 8)), text)
    elif not text.startswith("\\\\"):
        raise ConfigError(f"{shown} is not of the form //SERVER/SHARE or //DOMAIN/NAMESPACE")
    try:
        path = UncPath.parse(check_sendable(text))
    except ValueError as error:
        raise ConfigError(f"{shown} is not of the form //SERVER/SHARE: {error}") from None
    if "@" in path.host:
        raise ConfigError("a server's name has no @ in it; user and password are options: -o username=NAME")
    if len(path) < 2:
        raise ConfigError(f"{path} names a server only; a share or namespace is needed, as in {path}/NAME")
    if path.host.startswith("["):
        address = parse_address(path.host)
        if address is None:
            raise ConfigError(f"{path.host} is no IPv6 address in brackets")
        path = UncPath((address, *path.components[1:]))
    return path


def mounted_place(unc: UncPath, options: ParsedOptions) -> UncPath:
    """What is mounted: the path that was given, and what prefixpath= puts behind it. Raises ConfigError."""
    try:
        return unc.join(options.prefix_path)
    except UncError as error:
        raise ConfigError(f"option 'prefixpath={'/'.join(options.prefix_path)}': {error}") from None


# -- options ----------------------------------------------------------------------------------------------------------


_UP_TO_COMMA = re.compile("[^,]*")
_WITH_DOUBLED_COMMAS = re.compile("(?:[^,]|,,)*")


@dataclass(frozen=True, slots=True)
class _Item:
    name: str
    value: str | None
    start: int
    end: int
    after_secret: bool


def _split(text: str) -> list[_Item]:
    """The options of a text, with where they are in it."""
    items: list[_Item] = []
    position = 0
    after_secret = False
    while position < len(text):
        name = re.split("[,=]", text[position:], maxsplit=1)[0]
        end = position + len(name)
        value = None
        if text.startswith("=", end):
            value = _value_at(text, end + 1, doubled_commas=name in SECRETS)
            end += 1 + len(value)
        if end > position:
            if value is not None and name in SECRETS:
                value = value.replace(",,", ",")
            items.append(_Item(name, value, position, end, after_secret))
        after_secret = name in SECRETS or (after_secret and name not in BY_NAME)
        position = end + 1
    return items


def _value_at(text: str, position: int, *, doubled_commas: bool) -> str:
    """The value that begins there, as it stands, up to the next comma that ends it."""
    match = (_WITH_DOUBLED_COMMAS if doubled_commas else _UP_TO_COMMA).match(text, position)
    return match[0] if match else ""


def parse_options(texts: Sequence[str], *, sloppy: bool = False) -> ParsedOptions:
    """Reads the texts of all `-o`. `sloppy`, or an option of that name: unknown options don't matter.

    Raises:
        ConfigError: an option is unknown, refused, or has a bad value; or two of them contradict each other.
    """
    items = [item for text in texts for item in _split(text)]
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
    return _checked(ParsedOptions(**settings, without_effect=tuple(dict.fromkeys(without_effect))))


def named_fields(texts: Sequence[str]) -> frozenset[str]:
    """The fields of ParsedOptions that the options of these texts, which can be parsed, are about."""
    found: set[str] = set()
    for item in (item for text in texts for item in _split(text)):
        option = find(item.name, has_value=item.value is not None)
        if option is not None:
            found |= {*option.sets, *option.settings}
    return frozenset(found)


def _apply(option: Option, item: _Item, settings: dict[str, Any]) -> None:
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


def _unknown(item: _Item) -> str:
    close = difflib.get_close_matches(item.name, BY_NAME, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    if not item.after_secret:
        return f"unknown option {item.name!r}{hint}"
    # After `password=a,b` this may be `b`.
    advice = "if it is part of the password: a comma in it has to be written twice"
    if close or re.fullmatch("[a-z_]{4,}", item.name):
        return f"unknown option {item.name!r}{hint} ({advice})"
    return f"the option after the password is unknown, and is not shown here ({advice})"


def _checked(options: ParsedOptions) -> ParsedOptions:
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


def without_secrets(text: str) -> tuple[str, dict[str, Secret]]:
    """A text of `-o` without its passwords, and those that count, as `password` and `password2`. Takes any text,
    however wrong it is.
    """
    kept: list[str] = []
    found: dict[str, Secret] = {}
    for item in _split(text):
        if item.name not in SECRETS:
            kept.append(text[item.start : item.end])
        else:
            found[BY_NAME[item.name][0].sets[0]] = Secret(item.value or "")
    return ",".join(kept), found


def masked(text: str) -> str:
    """A text of `-o`, or any other, for people: `***` in the place of passwords. An unknown word after one is left out,
    as it may be the rest of it.
    """
    items = _split(text)
    if not any(item.name in SECRETS for item in items):
        return text
    shown = (
        f"{item.name}=***" if item.name in SECRETS else text[item.start : item.end]
        for item in items
        if not item.after_secret or item.name in BY_NAME
    )
    return ",".join(shown)


# -- credentials ------------------------------------------------------------------------------------------------------


def split_username(text: str) -> tuple[str | None, str]:
    """`DOMAIN/NAME` or `DOMAIN\\NAME` as domain and name; None for a name without a domain."""
    domain, separator, name = text.replace("\\", "/").partition("/")
    return (domain, name) if separator else (None, text)


def parse_credentials(text: str, file_name: str) -> CredentialsFile:
    """Reads the text of a credentials file: lines `username=`, `password=`, `password2=` and `domain=`.

    As for mount.cifs, spaces and tabs before a line's name and the case of the name don't matter, a name may go on
    after `user`, `pass` and `dom`, and the value is all that stands after the first `=`, spaces and commas and all.
    Empty lines and those that begin with # or ; are comments.

    Raises:
        ConfigError: a line is none of these. The message has its number and nothing of its text.
    """
    found = CredentialsFile()
    for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), start=1):
        name, equals, value = line.removesuffix("\r").lstrip(" \t").partition("=")
        if line.strip() == "" or name.startswith(("#", ";")):
            continue
        place, name = f"{file_name} line {number}", name.lower() if equals else ""
        if name.startswith("user"):
            domain, user = split_username(_checked_text(value, check_sendable, place))
            found = replace(found, username=user or None, domain=found.domain if domain is None else domain)
        elif name.startswith(("pass2", "password2")):
            found = replace(found, password2=Secret(_checked_text(value, check_password, place)))
        elif name.startswith("pass"):
            found = replace(found, password=Secret(_checked_text(value, check_password, place)))
        elif name.startswith("dom") or name.rstrip() == "workgroup":
            found = replace(found, domain=_checked_text(value, check_sendable, place))
        else:
            raise ConfigError(f"{place}: a line has to begin with username=, password=, password2= or domain=")
        if name.endswith((" ", "\t")) and value.startswith((" ", "\t")):
            found = replace(found, spaced=(*found.spaced, number))
    return found


def _checked_text(text: str, check: Callable[[str], str], place: str) -> str:
    try:
        return check(text)
    except ValueError as error:
        raise ConfigError(f"{place}: {error}") from None


# -- the whole --------------------------------------------------------------------------------------------------------


def make_config(unc: UncPath, options: ParsedOptions, credentials: Login, mounter: Mounter) -> MountConfig:
    """Puts a mount together.

    Raises:
        ConfigError: a user or group of that name does not exist.
    """
    if options.multiuser and mounter.uid != 0:
        raise ConfigError("option 'multiuser' is for mounts that root makes")
    return MountConfig(
        unc=unc,
        credentials=credentials,
        multiuser=options.multiuser,
        transport=_transport_options(unc, options),
        ownership=_ownership(options, mounter),
        caching=CachingOptions(
            options.cache_mode,
            options.attribute_timeout_file,
            options.attribute_timeout_directory,
            options.read_ahead,
            options.close_time,
            options.server_inode_numbers,
            options.trust_leases,
        ),
        name_style=options.name_style,
        mfsymlinks=options.mfsymlinks,
        xattrs=options.xattrs,
        snapshot=options.snapshot,
        use_dfs=options.use_dfs,
        dfs=_dfs_options(unc, options),
        failover_timeout=HARD_TIMEOUT if options.hard else options.failover_timeout,
        hard=options.hard,
        retries=options.retries,
        fuse_options=_fuse_options(options, mounter),
        follow_symlinks=options.follow_symlinks,
        metrics=options.metrics,
        given=options,
    )


def _transport_options(unc: UncPath, options: ParsedOptions) -> TransportOptions:
    hosts = dict(options.hosts)
    if options.address is not None:
        # Other servers that the namespace leads to have addresses of their own.
        hosts[fold_name(unc.host)] = options.address
    return TransportOptions(
        port=options.port,
        hosts=hosts,
        source=options.source,
        dialects=options.dialects,
        seal=options.seal or options.security == "krb5p",
        hardened=options.hardened,
        login_hosts=options.login_hosts,
        connect_timeout=min(CONNECT_TIMEOUT, options.timeout),
        request_timeout=options.timeout,
        echo_interval=options.echo_interval,
        max_credits=options.max_credits,
        read_size=options.read_size,
        write_size=options.write_size,
    )


def _ownership(options: ParsedOptions, mounter: Mounter) -> OwnershipOptions:
    return OwnershipOptions(
        uid=_number("uid", options.uid, mounter.uid, mounter.find_user),
        gid=_number("gid", options.gid, mounter.gid, mounter.find_group),
        file_mode=options.file_mode,
        dir_mode=options.dir_mode,
        of_caller=options.multiuser and options.uid is None and options.gid is None,
        permission_checks=_checks_permissions(options),
    )


def _dfs_options(unc: UncPath, options: ParsedOptions) -> DfsOptions:
    """A path of dfs_pin= that does not begin with // is one of the namespace that is mounted."""
    pins = []
    for text, target in options.pins.items():
        try:
            absolute = is_unc(text)
            path = UncPath.parse(text) if absolute else unc.share.join(UncPath.parse(text).components)
        except UncError as error:
            raise ConfigError(f"option 'dfs_pin={text}:...': {error}") from None
        pins.append((path, target))
    return DfsOptions(
        max_hops=options.max_hops,
        site=options.site,
        controllers=options.controllers,
        domain=options.domain or "",
        suffixes=options.suffixes,
        prefer=options.prefer,
        pins=tuple(pins),
        ttl_min=options.ttl_min,
        ttl_max=options.ttl_max,
        failback=options.failback,
        static_file=options.static_file,
    )


def _number(option: str, given: int | str | None, default: int, look_up: Callable[[str], int]) -> int:
    if not isinstance(given, str):
        return default if given is None else given
    try:
        return look_up(given)
    except KeyError:
        kind = "user" if option == "uid" else "group"
        raise ConfigError(f"option '{option}={given}': this system has no {kind} of that name") from None


def _checks_permissions(options: ParsedOptions) -> bool:
    """Modes say nothing about users that only servers know: with multiuser those alone decide, as for mount.cifs."""
    return options.permission_checks and not options.multiuser


def _fuse_options(options: ParsedOptions, mounter: Mounter) -> tuple[str, ...]:
    sharing = options.sharing
    if sharing is None:
        sharing = Sharing.EVERYBODY if mounter.uid == 0 else Sharing.NOBODY
    words = (
        ("ro", options.read_only or options.snapshot is not None),
        ("suid" if options.suid else "nosuid", True),
        ("dev" if options.dev else "nodev", True),
        ("noexec", not options.execute),
        ("sync", options.synchronous),
        ("allow_other", sharing is Sharing.EVERYBODY),
        ("allow_root", sharing is Sharing.ROOT),
        ("default_permissions", _checks_permissions(options)),
    )
    return tuple(word for word, wanted in words if wanted)
