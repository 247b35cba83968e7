"""What a mount says of itself: makes the dataclasses of answers.py from the parts of a mount. Nothing here waits."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from dfsfs.control import answers
from dfsfs.control.process import measure_process
from dfsfs.namespace.targets import failback_targets_for, targets_for
from dfsfs.printable import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dfsfs.control.mount import Mount
    from dfsfs.dfsc.cache import Domain
    from dfsfs.dfsc.referral import Referral
    from dfsfs.meters import Latencies
    from dfsfs.namespace.junction import Junction
    from dfsfs.smb.sessioninfo import SessionInfo
    from dfsfs.unc import UncPath


def summarize(mount: Mount) -> str:
    """The mount in a line, for `systemctl status`: `3 targets, 1 failed over`."""
    links = links_of(mount)
    down, away = sum(not link.connected for link in links), sum(link.failed_over for link in links)
    parts = [counted(len(links), "target")]
    parts += [f"{away} failed over"] if away else []
    parts += [f"{down} not connected"] if down else []
    return f"{mount.config.unc} on {mount.mountpoint}: {', '.join(parts)}"


def status_of(mount: Mount) -> answers.Status:
    """Everything about the mount on one page."""
    links = links_of(mount)
    files, caches, meters = mount.filesystem, mount.namespace.caches, mount.meters
    return answers.Status(
        mount=_about(mount),
        links=links,
        failed_over=sum(link.failed_over for link in links),
        sessions=tuple(map(session_of, mount.pool.sessions())),
        files=answers.Files(open=files.open_files, open_folders=files.open_folders, known=files.known_inodes),
        caches=answers.CacheSizes(referrals=len(caches.referrals), domains=len(caches.domains.snapshot())),
        requests={name: _requests(latencies) for name, latencies in sorted(meters.latencies.items())},
        errors=dict(meters.errors),
        bytes=answers.Traffic(read=meters.bytes_read, written=meters.bytes_written),
        events=dict(mount.namespace.telemetry.statistics()),
        drained=tuple(sorted(mount.namespace.overrides.drained.values())),
        process=measure_process(),
    )


def _about(mount: Mount) -> answers.About:
    return answers.About(
        path=mount.mountpoint,
        unc=str(mount.config.unc),
        pid=os.getpid(),
        version=mount.version,
        seconds=round(mount.clock() - mount.started, 1),
        user=mount.config.credentials.principal,
        multiuser=mount.config.multiuser,
        read_only="ro" in mount.config.fuse_options,
        attached=mount.is_attached,
    )


def _requests(latencies: Latencies) -> answers.Requests:
    return answers.Requests(
        count=latencies.count,
        failed=latencies.failures,
        p50=round(latencies.percentile(50), 6),
        p95=round(latencies.percentile(95), 6),
        p99=round(latencies.percentile(99), 6),
        longest=round(latencies.longest, 6),
    )


def links_of(mount: Mount) -> tuple[answers.Link, ...]:
    """The roots and links that are, or were, in use."""
    return tuple(_link(mount, junction) for junction in mount.namespace.junctions() if junction.generation)


def _link(mount: Mount, junction: Junction) -> answers.Link:
    binding, resolution = junction.binding, junction.resolution
    targets = targets_for(junction, resolution) if resolution is not None else []
    preferred = failback_targets_for(junction, resolution) if resolution is not None else []
    target = binding.target if binding is not None else junction.last_target
    chosen = mount.namespace.overrides.chosen.get(junction.prefix)
    first = [chosen] if chosen in targets else preferred or targets[:1]
    return answers.Link(
        path=str(junction.prefix),
        target=str(target) if target is not None else None,
        connected=binding is not None and binding.tree.alive and not junction.is_loop,
        failed_over=target is not None and bool(first) and target not in first,
        chosen=chosen is not None and chosen == target,
        loops=junction.is_loop,
        targets=tuple(map(str, targets)),
        generation=junction.generation,
        seconds_left=_seconds_left(resolution.expires if resolution is not None else None, mount.clock()),
        uid=None if junction.owner.uid == 0 else junction.owner.uid,
    )


def _seconds_left(until: float | None, now: float) -> float | None:
    return None if until is None or until == float("inf") else round(until - now, 1)


def session_of(session: SessionInfo) -> answers.Session:
    """A session with a server."""
    counted = session.statistics
    return answers.Session(
        host=session.host,
        name=session.name,
        address=session.address,
        dialect=session.dialect,
        signing=session.signing,
        encryption=session.encryption or None,
        authentication=session.authentication,
        spn=session.spn or None,
        user=session.user,
        uid=session.uid,
        shares=tuple(session.shares),
        in_flight=counted.in_flight,
        queued=counted.queued,
        requests=counted.requests_sent,
        bytes_sent=counted.bytes_sent,
        bytes_received=counted.bytes_received,
    )


def referral_of(entry: Referral, now: float) -> answers.CachedReferral:
    """An entry of the referral cache."""
    return answers.CachedReferral(
        prefix=str(entry.prefix),
        kind="root" if entry.is_root else "interlink" if entry.interlink else "link",
        namespace_below=entry.namespace_below,
        failback=entry.failback,
        ttl=entry.ttl,
        seconds_left=round(entry.expires - now, 1),
        targets=tuple(
            answers.CachedTarget(str(target.path), hint=index == entry.hint, starts_set=target.starts_set)
            for index, target in enumerate(entry.targets)
        ),
    )


def domains_of(mount: Mount) -> answers.Domains:
    """The domains and their controllers."""
    found, caches = mount.namespace.discovery.found, mount.namespace.caches.domains
    ours = None
    if found is not None:
        ours = answers.OurDomain(found.name, found.netbios, found.site, tuple(found.controllers))
    return answers.Domains(ours, caches.bootstrap or None, tuple(map(_domain, caches.snapshot())))


def _domain(domain: Domain) -> answers.Domain:
    return answers.Domain(domain.name, tuple(domain.dcs), domain.hint or None)


def targets_of(
    mount: Mount, prefix: UncPath, targets: Sequence[UncPath], junctions: Sequence[Junction]
) -> answers.Targets:
    """The targets of a link, whose junctions these are: one, or one for each user."""
    overrides = mount.namespace.overrides
    current = {junction.binding.target for junction in junctions if junction.binding is not None}
    return answers.Targets(
        str(prefix),
        tuple(
            answers.Target(
                path=str(target),
                in_use=target in current,
                chosen=overrides.chosen.get(prefix) == target,
                drained=overrides.is_drained(target),
            )
            for target in targets
        ),
    )
