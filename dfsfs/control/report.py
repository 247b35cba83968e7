"""What a mount says of itself, as what JSON has: the fields that docs/json.md describes. Nothing here waits.

A field is only ever added. Times are seconds, sizes bytes.
"""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dfsfs.control.places import mounts
from dfsfs.control.process import figures
from dfsfs.errormessages import describe_error
from dfsfs.namespace.targets import failback_targets_for, targets_for
from dfsfs.printable import counted
from dfsfs.unc import UncPath

if TYPE_CHECKING:
    from collections.abc import Callable

    from dfsfs.config.model import MountConfig
    from dfsfs.dfsc.cache import Domain
    from dfsfs.dfsc.referral import Referral
    from dfsfs.errors import DfsfsError
    from dfsfs.meters import Meters
    from dfsfs.namespace.client import Namespace
    from dfsfs.namespace.explain import Explanation, RootAnswer
    from dfsfs.namespace.junction import Junction
    from dfsfs.smb.sessioninfo import SessionInfo
    from dfsfs.smb.treeprovider import TreeProvider
    from dfsfs.telemetry import Event
    from dfsfs.vfs.filesystem import FileSystem

PERCENTILES = (50, 95, 99)


@dataclass(slots=True)
class Mount:
    """The parts of a running mount that reports are made of. `started` is of `clock`; `apply` makes a configuration
    that differs in what can be changed the one of the mount.
    """

    config: MountConfig
    mountpoint: str
    version: str
    pool: TreeProvider
    namespace: Namespace
    filesystem: FileSystem
    meters: Meters
    clock: Callable[[], float]
    started: float
    apply: Callable[[MountConfig], None]
    device: str | None = None
    """The number of the file system, MAJOR:MINOR, as soon as it is known."""

    @property
    def is_attached(self) -> bool:
        """Whether it is still mounted in this program's mount namespace, as far as is known."""
        try:
            return self.device is None or any(entry.device == self.device for entry in mounts())
        except OSError:
            return True


def summary(mount: Mount) -> str:
    """The mount in a line, for `systemctl status`: `3 targets, 1 failed over`."""
    rows = link_rows(mount)
    down, away = sum(not row["connected"] for row in rows), sum(row["failed_over"] for row in rows)
    parts = [counted(len(rows), "target")]
    parts += [f"{away} failed over"] if away else []
    parts += [f"{down} not connected"] if down else []
    return f"{mount.config.unc} on {mount.mountpoint}: {', '.join(parts)}"


def status(mount: Mount) -> dict[str, Any]:
    """Everything about the mount on one page."""
    links = link_rows(mount)
    return {
        "mount": {
            "path": mount.mountpoint,
            "unc": str(mount.config.unc),
            "pid": os.getpid(),
            "version": mount.version,
            "seconds": round(mount.clock() - mount.started, 1),
            "user": mount.config.credentials.principal,
            "multiuser": mount.config.multiuser,
            "read_only": "ro" in mount.config.fuse_options,
            "attached": mount.is_attached,
        },
        "links": links,
        "failed_over": sum(row["failed_over"] for row in links),
        "sessions": [session_row(session) for session in mount.pool.sessions()],
        "files": _files(mount.filesystem),
        "caches": {
            "referrals": len(mount.namespace.caches.referrals),
            "domains": len(mount.namespace.caches.domains.snapshot()),
        },
        "requests": _requests(mount.meters),
        "errors": dict(mount.meters.errors),
        "bytes": {"read": mount.meters.bytes_read, "written": mount.meters.bytes_written},
        "events": dict(mount.namespace.telemetry.statistics()),
        "drained": sorted(mount.namespace.overrides.drained.values()),
        "process": figures(),
    }


def _files(filesystem: FileSystem) -> dict[str, int]:
    return {"open": filesystem.open_files, "open_folders": filesystem.open_folders, "known": filesystem.known_inodes}


def _requests(meters: Meters) -> dict[str, dict[str, float]]:
    return {
        name: {
            "count": latencies.count,
            "failed": latencies.failed,
            **{f"p{percent}": round(latencies.percentile(percent), 6) for percent in PERCENTILES},
            "longest": round(latencies.longest, 6),
        }
        for name, latencies in sorted(meters.latencies.items())
    }


def link_rows(mount: Mount) -> list[dict[str, Any]]:
    """The roots and links that are, or were, in use."""
    return [_link_row(mount, junction) for junction in mount.namespace.junctions() if junction.generation]


def _link_row(mount: Mount, junction: Junction) -> dict[str, Any]:
    binding, resolution = junction.binding, junction.resolution
    targets = targets_for(junction, resolution) if resolution is not None else []
    preferred = failback_targets_for(junction, resolution) if resolution is not None else []
    target = binding.target if binding is not None else junction.last_target
    chosen = mount.namespace.overrides.chosen.get(junction.prefix)
    first = [chosen] if chosen in targets else preferred or targets[:1]
    return {
        "path": str(junction.prefix),
        "target": str(target) if target is not None else None,
        "connected": binding is not None and binding.tree.alive and not junction.loops,
        "failed_over": target is not None and bool(first) and target not in first,
        "chosen": chosen is not None and chosen == target,
        "loops": junction.loops,
        "targets": [str(one) for one in targets],
        "generation": junction.generation,
        "seconds_left": _left(junction.resolution.expires if junction.resolution else None, mount.clock()),
        "uid": None if junction.owner.uid == 0 else junction.owner.uid,
    }


def _left(until: float | None, now: float) -> float | None:
    return None if until is None or until == float("inf") else round(until - now, 1)


def session_row(session: SessionInfo) -> dict[str, Any]:
    """A session with a server."""
    counted = session.statistics
    return {
        "host": session.host,
        "name": session.name,
        "address": session.address,
        "dialect": session.dialect,
        "signing": session.signing,
        "encryption": session.encryption or None,
        "authentication": session.authentication,
        "spn": session.spn or None,
        "user": session.user,
        "uid": session.uid,
        "shares": list(session.shares),
        "in_flight": counted.in_flight,
        "queued": counted.queued,
        "requests": counted.requests_sent,
        "bytes_sent": counted.bytes_sent,
        "bytes_received": counted.bytes_received,
    }


def referral_row(entry: Referral, now: float) -> dict[str, Any]:
    """An entry of the referral cache: what `dfsutil /pktinfo` shows on Windows."""
    return {
        "prefix": str(entry.prefix),
        "kind": "root" if entry.is_root else "interlink" if entry.interlink else "link",
        "namespace_below": entry.namespace_below,
        "failback": entry.failback,
        "ttl": entry.ttl,
        "seconds_left": round(entry.expires - now, 1),
        "targets": [
            {"path": str(target.path), "hint": index == entry.hint, "starts_set": target.starts_set}
            for index, target in enumerate(entry.targets)
        ],
    }


def domains(mount: Mount) -> dict[str, Any]:
    """The domains and their controllers: what `dfsutil /spcinfo` shows on Windows."""
    found, caches = mount.namespace.discovery.found, mount.namespace.caches.domains
    return {
        "found": None
        if found is None
        else {
            "name": found.name,
            "netbios": found.netbios,
            "site": found.site,
            "controllers": list(found.controllers),
        },
        "bootstrap": caches.bootstrap or None,
        "domains": [_domain_row(domain) for domain in caches.snapshot()],
    }


def _domain_row(domain: Domain) -> dict[str, Any]:
    return {"name": domain.name, "controllers": list(domain.dcs), "hint": domain.hint or None}


def explanation(found: Explanation, sessions: list[SessionInfo], config: MountConfig) -> dict[str, Any]:
    """How a path was resolved, and what its targets say."""
    return {
        "path": str(found.path),
        "kind": found.kind or None,
        "problem": _explained(found.problem, config),
        "steps": [{"seconds": round(seconds, 6), **event_row(event)} for seconds, event in found.events],
        "link": None if found.link is None else str(found.link),
        "seconds_left": None if found.seconds_left is None else round(found.seconds_left, 1),
        "targets": [
            {
                "path": str(probe.target),
                "in_use": probe.in_use,
                "seconds": None if probe.seconds is None else round(probe.seconds, 6),
                "problem": _explained(probe.problem, config),
                "remark": probe.remark,
                "session": _session_at(probe.target.host, sessions),
            }
            for probe in found.probes
        ],
    }


def _explained(problem: DfsfsError | None, config: MountConfig) -> str | None:
    return None if problem is None else describe_error(problem, config)


def _session_at(host: str, sessions: list[SessionInfo]) -> dict[str, Any] | None:
    named = UncPath((host,))
    return next((session_row(session) for session in sessions if UncPath((session.host,)) == named), None)


def event_row(event: Event) -> dict[str, Any]:
    """An event by the name of its type, with its fields and a line for people."""
    fields = {field.name: _plain(getattr(event, field.name)) for field in dataclasses.fields(event)}
    return {"event": type(event).__name__, **fields, "text": str(event)}


def _plain(value: Any) -> Any:
    if isinstance(value, UncPath):
        return str(value)
    return list(value) if isinstance(value, tuple) else value


def roots(answers: tuple[RootAnswer, ...], config: MountConfig) -> dict[str, Any]:
    """What each server of a namespace says of one path, and whether they all say the same."""
    said = {
        (frozenset(entry.network_address for entry in found.entries), found.ttl)
        if found is not None
        else _explained(answer.problem, config)
        for answer in answers
        for found in (answer.response,)
    }
    return {"roots": [_root_row(answer, config) for answer in answers], "differ": len(said) > 1}


def _root_row(answer: RootAnswer, config: MountConfig) -> dict[str, Any]:
    found = answer.response
    return {
        "host": answer.host,
        "asked": str(answer.asked),
        "problem": _explained(answer.problem, config),
        "covered": str(found.covered) if found is not None and found.covered is not None else None,
        "ttl": found.ttl if found is not None else None,
        "targets": [str(entry.network_address) for entry in found.entries] if found is not None else [],
    }
