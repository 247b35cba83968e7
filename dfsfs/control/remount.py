"""`mount -o remount`: options of a mount that is in use are changed, as far as they can be.

Only what is named changes; everything else stays as it was given. Pure but for the end, which is the mount's.
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

from dfsfs.config.assembly import make_config
from dfsfs.config.errors import ConfigError
from dfsfs.config.options import fields_of, parse_options
from dfsfs.config.table import OPTIONS
from dfsfs.control.protocol import WRONG, ControlError
from dfsfs.smb.auth.credentials import Credentials, Secret

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dfsfs.config.assembly import Mounter
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
        *("foreground", "remount", "nonempty", "suid", "dev", "execute", "follow_symlinks"),
    }
)
"""Fields of ParsedOptions. `read_only`, `suid`, `dev`, `execute` and `follow_symlinks` are changed in the
kernel, by the command that asks."""


def change_config(
    config: MountConfig, text: str, login: Mapping[str, str], mounter: Mounter
) -> tuple[MountConfig, tuple[str, ...]]:
    """The configuration after a remount with the options of a text, and the names of what has changed.

    `login` has those of `username`, `domain`, `password` and `password2` of which the command that asks has found
    new ones; `mounter` is the user who has mounted it.

    Raises:
        ControlError: an option is wrong, or can't be changed while the mount is in use.
    """
    old = config.given
    mounter = replace(mounter, find_user=lambda _: config.ownership.uid, find_group=lambda _: config.ownership.gid)
    try:
        wanted = parse_options([text])
        named = fields_of([text])
        new = replace(old, **{name: getattr(wanted, name) for name in named}, without_effect=())
        made = make_config(config.unc, new, _login(config, login), mounter)
        echoes = _echoes(config, made)
        different = [
            name for name in _field_names(old) if getattr(old, name) != getattr(new, name) and name not in echoes
        ]
        fixed = [name for name in different if name not in CHANGEABLE and name != "without_effect"]
        if fixed:
            shown = ", ".join(sorted({_option_of(name) for name in fixed}))
            raise ControlError(f"can't be changed while it is mounted: {shown}; umount, and mount again", WRONG)
    except ConfigError as error:
        raise ControlError(str(error), WRONG) from None
    shown_names = {_option_of(name) for name in different if name not in ("without_effect", "remount")}
    return made, tuple(sorted(shown_names | ({"password"} if login else set())))


_FIELDS_OF_THE_KERNEL = frozenset({"sharing", "permission_checks", "synchronous"})
_CHANGED_BY_THE_KERNEL = frozenset({"ro", "suid", "nosuid", "dev", "nodev", "noexec"})


def _echoes(old: MountConfig, new: MountConfig) -> frozenset[str]:
    """The fields that options may name without a change: mount(8) repeats what the kernel shows for a mount, as
    allow_other for one that root has made without a word about it.
    """

    def unchangeable(config: MountConfig) -> set[str]:
        return set(config.fuse_options) - _CHANGED_BY_THE_KERNEL

    return _FIELDS_OF_THE_KERNEL if unchangeable(old) == unchangeable(new) else frozenset()


def _field_names(options: ParsedOptions) -> list[str]:
    return [field.name for field in fields(options)]


def _option_of(name: str) -> str:
    """The option that sets a field of ParsedOptions."""
    return next((option.names[0] for option in OPTIONS if name in option.sets or name in option.settings), name)


def _login(config: MountConfig, login: Mapping[str, str]) -> Any:
    if not login:
        return config.credentials
    if not isinstance(config.credentials, Credentials):
        named = ", ".join(sorted(login))
        raise ControlError(f"the mount logs in with Kerberos, which has no use for a new {named}", WRONG)
    old = config.credentials
    return Credentials(
        login.get("username", old.username),
        Secret(login["password"]) if "password" in login else old.password,
        login.get("domain", old.domain),
        Secret(login["password2"]) if "password2" in login else old.password2,
    )
