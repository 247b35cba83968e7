"""The figures of a mount for Prometheus.

Counts of events come from the mount's telemetry as they happen; everything else is looked up when it is asked for. All
names begin with `dfsfs_`; docs/metrics.md lists them.
"""

from __future__ import annotations

import logging
import socket
from contextlib import suppress
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING

import h11
import trio
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from dfsfs import background, telemetry
from dfsfs.background import keep_going
from dfsfs.control.listening import next_connection, takes_of_reserve
from dfsfs.control.report import links_of
from dfsfs.control.socketfile import listen_at, remove_dead
from dfsfs.firstfew import FirstFew
from dfsfs.printable import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.core import Metric

    from dfsfs.control.mount import Mount
    from dfsfs.telemetry import Event
    from dfsfs.unc import UncPath

log = logging.getLogger("dfsfs.control")

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
LATENCIES = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
TTLS = (0, 60, 300, 600, 1800, 3600, 86400)
"""Bounds in seconds."""
REQUEST_TIME = 5.0
"""Seconds for a request to come and its answer to be taken."""
CONNECTIONS = 16
"""Those that may be there at the same time; one more is closed at once."""
MAX_HEADER = 16 * 1024
PAUSE = 10
"""Figures are good for so many times the time that it took to put them together, as that takes
milliseconds: otherwise frequent requests would leave the loop little time for anything else.
"""
HOSTS = 200
"""Servers that are counted by their names. Referrals name as many as they like, and what was counted once stays."""
OTHERS = "others"


class Metrics:
    """The figures of one mount."""

    def __init__(self, mount: Mount) -> None:
        self._registry = CollectorRegistry()
        self._mount = mount
        registry = self._registry
        self._referrals = Counter("dfsfs_referrals", "Requests for referrals.", ["kind", "outcome"], registry=registry)
        self._ttl = Histogram(
            "dfsfs_referral_ttl_seconds", "The times to live of referrals that came.", buckets=TTLS, registry=registry
        )
        self._overflows = Counter(
            "dfsfs_referral_overflows", "Answers longer than the room offered for them.", registry=registry
        )
        self._malformed = Counter("dfsfs_referral_malformed", "Answers that made no sense.", registry=registry)
        self._cache = Counter("dfsfs_cache_lookups", "Looks into the referral cache.", ["result"], registry=registry)
        self._moves = Counter(
            "dfsfs_moves", "Moves of links to other targets.", ["why", "from_host", "to_host"], registry=registry
        )
        self._skipped = Counter("dfsfs_targets_skipped", "Targets passed over.", ["host"], registry=registry)
        self._asked: dict[str, str] = {}
        self._hosts = FirstFew[str](HOSTS)
        self._text, self._good_until = b"", 0.0
        registry.register(_Snapshot(mount))
        for event in mount.namespace.telemetry.recent:  # those of the time until the mount was ready
            self.note(event)
        mount.namespace.telemetry.listen(self.note)

    def text(self) -> bytes:
        """What Prometheus reads."""
        now = perf_counter()
        if now >= self._good_until:
            self._text = bytes(generate_latest(self._registry))
            self._good_until = now + (1 + PAUSE) * (perf_counter() - now)
        return self._text

    def note(self, event: Event) -> None:
        """Counts an event."""
        match event:
            case telemetry.ReferralSent(host=host, path=path, kind=kind):
                self._asked[host + path] = kind
            case telemetry.ReferralAnswered(host=host, path=path, ttl=ttl):
                self._referrals.labels(self._asked.pop(host + path, "unknown"), "answered").inc()
                self._ttl.observe(ttl)
            case telemetry.ReferralRefused(host=host, path=path):
                self._referrals.labels(self._asked.pop(host + path, "unknown"), "refused").inc()
            case telemetry.ReferralOverflow():
                self._overflows.inc()
            case telemetry.ReferralMalformed():
                self._malformed.inc()
            case telemetry.CacheHit(stale=stale):
                self._cache.labels("stale" if stale else "hit").inc()
            case telemetry.CacheMiss():
                self._cache.labels("miss").inc()
            case telemetry.CacheExpired():
                self._cache.labels("expired").inc()
            case telemetry.FailedOver(old=old, new=new):
                self._moves.labels("failover", *map(self._host, (old, new))).inc()
            case telemetry.FailedBack(old=old, new=new):
                self._moves.labels("failback", *map(self._host, (old, new))).inc()
            case telemetry.Moved(old=old, new=new):
                self._moves.labels("referral", *map(self._host, (old, new))).inc()
            case telemetry.MovedOnRequest(old=old, new=new):
                self._moves.labels("request", *map(self._host, (old, new))).inc()
            case telemetry.TargetSkipped(target=target):
                self._skipped.labels(self._host(target)).inc()

    def _host(self, target: UncPath) -> str:
        """What the server of a target is counted as."""
        self._hosts.take(target.host)
        return printable(target.host) if target.host in self._hosts else OTHERS


class _Snapshot(Collector):
    """What is looked up when it is asked for."""

    def __init__(self, mount: Mount) -> None:
        self._mount = mount

    def collect(self) -> Iterator[Metric]:
        yield from self._requests()
        yield from self._links()
        yield from self._sessions()
        mount, files = self._mount, self._mount.filesystem
        yield GaugeMetricFamily("dfsfs_open_files", "Files that programs have open.", files.open_files)
        yield GaugeMetricFamily("dfsfs_known_files", "Files and folders that are known.", files.known_inodes)
        cached = len(mount.namespace.caches.referrals)
        yield GaugeMetricFamily("dfsfs_cached_referrals", "Entries of the referral cache.", cached)
        about = GaugeMetricFamily("dfsfs_mount_info", "The mount.", labels=["unc", "path", "version"])
        about.add_metric([*map(printable, (str(mount.config.unc), mount.mountpoint)), mount.version], 1)
        yield about

    def _requests(self) -> Iterator[Metric]:
        meters = self._mount.meters
        times = HistogramMetricFamily("dfsfs_request_seconds", "Requests of programs.", labels=["request"])
        failed = CounterMetricFamily("dfsfs_requests_failed", "Those that ended with an error.", labels=["request"])
        for name, latencies in meters.latencies.items():
            bounds = [(f"{bound:g}", float(count)) for bound, count in latencies.cumulative(LATENCIES)]
            times.add_metric([name], [*bounds, ("+Inf", float(latencies.count))], sum_value=latencies.total)
            failed.add_metric([name], latencies.failures)
        yield times
        yield failed
        broken = CounterMetricFamily("dfsfs_background_failures", "Mistakes of dfsfs in its tasks.", labels=["task"])
        for name, count in background.failures.items():
            broken.add_metric([name], count)
        yield broken
        errors = CounterMetricFamily("dfsfs_errors", "What programs were told.", labels=["errno"])
        for name, count in meters.errors.items():
            errors.add_metric([name], count)
        yield errors
        moved = CounterMetricFamily("dfsfs_bytes", "Bytes that programs have read and written.", labels=["direction"])
        moved.add_metric(["read"], meters.bytes_read)
        moved.add_metric(["written"], meters.bytes_written)
        yield moved

    def _links(self) -> Iterator[Metric]:
        labels = ["link", "target", "uid"]
        up = GaugeMetricFamily("dfsfs_link_connected", "Links in use, 1 if connected.", labels=labels)
        away = GaugeMetricFamily("dfsfs_link_failed_over", "1 if not on a target of its first set.", labels=labels)
        for link in links_of(self._mount):
            which = [
                printable(link.path),
                printable(link.target or ""),
                "" if link.uid is None else str(link.uid),
            ]
            up.add_metric(which, float(link.connected))
            away.add_metric(which, float(link.failed_over))
        yield up
        yield away

    def _sessions(self) -> Iterator[Metric]:
        labels = ["host", "uid"]
        requests = CounterMetricFamily("dfsfs_smb_requests", "Requests on live connections.", labels=labels)
        waiting = GaugeMetricFamily("dfsfs_smb_in_flight", "Requests without an answer yet.", labels=labels)
        moved = CounterMetricFamily("dfsfs_smb_bytes", "Bytes on live connections.", labels=[*labels, "direction"])
        for session in self._mount.pool.sessions():
            who = [printable(session.host), "" if session.uid is None else str(session.uid)]
            requests.add_metric(who, session.statistics.requests_sent)
            waiting.add_metric(who, session.statistics.in_flight)
            moved.add_metric([*who, "sent"], session.statistics.bytes_sent)
            moved.add_metric([*who, "received"], session.statistics.bytes_received)
        yield from (requests, waiting, moved)


# -- HTTP -------------------------------------------------------------------------------------------------------------


def listen(address: str) -> socket.socket:
    """A listening socket at `HOST:PORT`, `[HOST]:PORT`, `:PORT` for this machine alone, or the path of a Unix socket.

    Raises:
        OSError: it can't be had; EADDRINUSE if another program has it.
    """
    if address.startswith("/"):
        return listen_at(address, 0o117, CONNECTIONS)
    host, _, port = address.rpartition(":")
    host = host.strip("[]") or "127.0.0.1"
    return socket.create_server(
        (host, int(port)), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=CONNECTIONS
    )


async def serve(listener: socket.socket, metrics: Metrics) -> None:
    """Answers GET /metrics until cancelled. A connection beyond CONNECTIONS is closed at once."""
    path = listener.getsockname() if listener.family == socket.AF_UNIX else None
    accepting = trio.socket.from_stdlib_socket(listener)
    try:
        await keep_going("metrics", partial(_accept, accepting, metrics))
    finally:
        accepting.close()
        if path:
            remove_dead(path)


async def _accept(accepting: trio.socket.SocketType, metrics: Metrics) -> None:
    async with trio.open_nursery() as nursery:
        while True:
            connection = await next_connection(accepting, "metrics=")
            if len(nursery.child_tasks) < CONNECTIONS and not takes_of_reserve(connection.fileno()):
                nursery.start_soon(_attend, connection, metrics)
            else:
                connection.close()


async def _attend(connection: trio.socket.SocketType, metrics: Metrics) -> None:
    """One connection from its beginning to its end."""
    try:
        with connection, trio.move_on_after(REQUEST_TIME):
            await _answer(trio.SocketStream(connection), metrics)
    except Exception:
        log.exception("a request for figures failed in an unexpected way")


async def _answer(stream: trio.SocketStream, metrics: Metrics) -> None:
    """One request and its answer."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEADER)
    event: object = None
    try:
        while (event := connection.next_event()) is h11.NEED_DATA:
            connection.receive_data(await stream.receive_some(MAX_HEADER))
        status, body = _response(event, metrics)
    except h11.RemoteProtocolError as error:
        status, body = error.error_status_hint, b"this is no request that is understood here\n"
    except (OSError, trio.BrokenResourceError):
        return
    headers = [("Content-Type", CONTENT_TYPE), ("Content-Length", str(len(body))), ("Connection", "close")]
    with suppress(OSError, trio.BrokenResourceError, h11.LocalProtocolError):
        head = connection.send(h11.Response(status_code=status, headers=headers)) or b""
        is_head = isinstance(event, h11.Request) and event.method == b"HEAD"
        data = b"" if is_head else connection.send(h11.Data(data=body)) or b""
        await stream.send_all(head + data + (connection.send(h11.EndOfMessage()) or b""))
        await stream.send_eof()


def _response(event: object, metrics: Metrics) -> tuple[int, bytes]:
    if not isinstance(event, h11.Request):
        return 400, b"no request\n"
    if event.method not in (b"GET", b"HEAD"):
        return 405, b"only GET\n"
    if event.target.split(b"?")[0] not in (b"/metrics", b"/"):
        return 404, b"see /metrics\n"
    return 200, metrics.text()
