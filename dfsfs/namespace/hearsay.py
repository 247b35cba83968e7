"""What is believed of controllers that have answered without a login (cldap.py). Pure.

Anybody on the way can write such an answer. So it may choose among what is known otherwise and bring in nothing new:

    which controllers there are   says DNS (SRV records) or dc=; a name in an answer counts only if it is one of those
    the name of the domain        is the one that was asked for, one that the mount's options or krb5.conf name, or
                                  the rest of the name of the controller that was asked
    its NetBIOS name              is believed as long as it can be nothing else: no name in DNS, so no dots. What it
                                  stands for are the controllers above
    the site                      orders controllers, and is a label in DNS
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dfsfs.smb.auth.hostnames import is_address
from dfsfs.unc import fold_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from dfsfs.namespace.cldap import Netlogon

_NETBIOS = re.compile(r'[^\x00-\x20\x7f./\\:*?"<>|,;=@]{1,15}')
"""A NetBIOS name of a domain (MS-NBTE 2.2.1: 15 bytes at most), without what would make it a path or a name in DNS."""
_MAX_LABEL = 63


@dataclass(frozen=True, slots=True)
class FoundDomain:
    """A domain. `controllers` by their names, in the order to ask them; the rest may be empty."""

    name: str
    netbios: str
    site: str
    """Of this computer."""
    controllers: tuple[str, ...]
    addresses: tuple[str, ...] = ()
    """Those of controllers that have answered, and the names of the others, in the order to ask them."""


@dataclass(frozen=True, slots=True)
class Pong:
    """An answer: the host that was asked, by the name that it was known by, and what came."""

    asked: str
    said: Netlogon


def domain_of(pong: Pong, asked_for: str, known: Iterable[str]) -> str:
    """The name of the domain in DNS, as far as the answer's word counts; else empty.

    `asked_for`: the domain in the question, empty if it had none. `known`: names that were given as domains.
    """
    if asked_for:
        return asked_for
    said = fold_name(pong.said.domain)
    parent = "" if is_address(pong.asked) else pong.asked.partition(".")[2]
    return next((name for name in (*known, parent) if name and fold_name(name) == said), "")


def netbios_of(pong: Pong) -> str:
    """The NetBIOS name of the domain; empty if what was said can be none."""
    said = pong.said.netbios_domain
    return said if _NETBIOS.fullmatch(said) else ""


def site_of(pong: Pong) -> str:
    """The site of this computer; empty if what was said is no label in DNS."""
    said = pong.said.client_site
    return said if said.isprintable() and "." not in said and len(said.encode()) <= _MAX_LABEL else ""


def controllers_of(pongs: Sequence[Pong], named: Sequence[str]) -> tuple[str, ...]:
    """The controllers in the order to ask them: those that have answered come before those that were only named.

    One that was asked by its address goes by the name that it gives itself if that is among `named`.
    """
    known = {fold_name(host): host for host in reversed(named)}
    first: dict[str, str] = {}
    for pong in pongs:
        asked, said = fold_name(pong.asked), fold_name(pong.said.host)
        if is_address(pong.asked) and said in known and said != asked:
            first[said] = known.pop(said)
            known.pop(asked, None)
        else:
            first[asked] = known.pop(asked, pong.asked)
    return (*first.values(), *(host for host in named if known.pop(fold_name(host), None) is not None))
