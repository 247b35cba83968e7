"""`mount -o remount`: options of a mount that is in use are changed, as far as they can be.

Only what is named changes; everything else stays as it was given. Pure but for the end, which is the mount's.
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

from dfsfs.config import ConfigError, make_config, named_fields, parse_options
from dfsfs.config.table import OPTIONS
from dfsfs.control.protocol import WRONG, ControlError
from dfsfs.smb.credentials import Credentials, Secret

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dfsfs.config import Mounter
    from dfsfs.config.model import MountConfig, ParsedOptions

CHANGEABLE = frozenset(
    {
        "read_only",
        "attribute_timeout_file",
        "attribute_timeout_directory",
        "ttl_min",
        "ttl_max",
        "prefer",
        "pins",
        "failback",
        *("username", "password", "password2", "domain", "credentials_file", "guest"),
        *("foreground", "remount", "suid", "dev", "execute", "follow_symlinks"),
    }
)
"""Fields of ParsedOptions. `read_only`, `suid`, `dev`, `execute` and `follow_symlinks` are the kernel's business, and
who asks sees to them."""


def changed(
    config: MountConfig, text: str, login: Mapping[str, str], mounter: Mounter
) -> tuple[MountConfig, tuple[str, ...]]:
    """The configuration after a remount with the options of a text, and the names of what has changed.

    `login` has `username`, `domain`, `password` and `password2` if whoever asks has found new ones.

    Raises:
        ControlError: an option is wrong, or can't be changed while the mount is in use.
    """
    old = config.given
    try:
        wanted = parse_options([text])
        named = named_fields([text])
        new = replace(old, **{name: getattr(wanted, name) for name in named}, without_effect=())
        different = [name for name in _field_names(old) if getattr(old, name) != getattr(new, name)]
        fixed = [name for name in different if name not in CHANGEABLE and name != "without_effect"]
        if fixed:
            shown = ", ".join(sorted({_option_of(name) for name in fixed}))
            raise ControlError(f"can't be changed while it is mounted: {shown}; umount, and mount again", WRONG)
        made = make_config(config.unc, new, _login(config, login), mounter)
    except ConfigError as error:
        raise ControlError(str(error), WRONG) from None
    shown_names = {_option_of(name) for name in different if name not in ("without_effect", "remount")}
    return made, tuple(sorted(shown_names | ({"password"} if login else set())))


def _field_names(options: ParsedOptions) -> list[str]:
    return [field.name for field in fields(options)]


def _option_of(name: str) -> str:
    """The option that sets a field of ParsedOptions."""
    return next((option.names[0] for option in OPTIONS if name in option.sets or name in option.settings), name)


def _login(config: MountConfig, login: Mapping[str, str]) -> Any:
    if not login:
        return config.credentials
    if not isinstance(config.credentials, Credentials):
        raise ControlError("the mount logs in with Kerberos, and a password can't change that", WRONG)
    return Credentials(
        login.get("username", ""),
        Secret(login.get("password", "")),
        login.get("domain", ""),
        Secret(login.get("password2", "")),
    )
