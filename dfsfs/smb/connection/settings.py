"""TransportSettings: the mount options that connections and sessions depend on. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dfsfs.smb.wire.constants import Dialect

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class TransportSettings:
    """Times in seconds, sizes in bytes; `read_size` and `write_size` None: as large as the server offers."""

    port: int = 445
    hosts: Mapping[str, str] = field(default_factory=dict)
    source: str | None = None
    dialects: tuple[Dialect, ...] = (Dialect.SMB_2_1, Dialect.SMB_3_0, Dialect.SMB_3_0_2, Dialect.SMB_3_1_1)
    seal: bool = False
    hardened: bool = True
    """SYSVOL and NETLOGON are used only with mutual authentication (Windows: hardened UNC paths)."""
    login_hosts: tuple[str, ...] = ()
    """Patterns of the hosts that may be logged in to; empty: all."""
    connect_timeout: float = 8.0
    login_timeout: float = 20.0
    """For SESSION_SETUP. Longer than connect_timeout, as the server may have to find a domain controller first."""
    ticket_timeout: float = 25.0
    request_timeout: float = 30.0
    silence_timeout: float = 10.0
    echo_interval: float = 60.0
    max_credits: int = 1024
    read_size: int | None = None
    write_size: int | None = None
    mfsymlinks: bool = False
    """Every file with the form of a symbolic link is one: the option mfsymlinks."""
