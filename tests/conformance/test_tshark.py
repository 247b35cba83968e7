"""tshark as an independent reader: what goes over the wire of a real run is well-formed, and says what we think."""

from __future__ import annotations

import os
import select
import socket
import subprocess
import time
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING

import pytest

from dfsfs.namespace.client import Namespace
from dfsfs.smb.auth.credentials import Credentials, Secret
from dfsfs.smb.connection.settings import TransportSettings
from dfsfs.smb.pool import Pool
from dfsfs.telemetry import Event, ReferralAnswered, ReferralSent
from dfsfs.unc import UncPath
from tests.conformance.company import Company, company

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.lab.samba import Lab

pytestmark = pytest.mark.lab

PATIENCE = 60.0
"""Seconds for tshark to begin and to end."""
REFERRAL = "smb.max_referral_level || smb.dfs.num_referrals"
FIELDS = (
    "smb2.flags.response",
    "smb.max_referral_level",
    "smb.file",
    "smb.dfs.path_consumed",
    "smb.dfs.num_referrals",
    "smb.dfs.referral.version",
    "smb.dfs.referral.ttl",
    "smb.dfs.referral.node",
    "smb.dfs.referral.domain_name",
    "smb.dfs.referral.expname",
)


@contextmanager
def captured(net: str, file: Path) -> Iterator[None]:
    """Captures what goes to and from port 445 of a network, while the body runs.

    Not every release of tshark says when it has begun. So it has when it shows a connection attempt to an address at
    which nobody is, and it has seen all of the body when it shows one to another such address.
    """
    command = ["tshark", "-i", "lo", "-f", f"tcp port 445 and net {net}.0/24", "-w", str(file), "-P", "-l"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        _knock(process, f"{net}.253")
        yield
        _knock(process, f"{net}.254")
    finally:
        process.terminate()
        process.communicate(timeout=PATIENCE)


def _knock(process: subprocess.Popen[bytes], address: str) -> None:
    """Tries to connect to an address until tshark has shown that."""
    assert process.stdout is not None
    descriptor, shown = process.stdout.fileno(), b""
    deadline = time.monotonic() + PATIENCE
    while address.encode() not in shown:
        assert time.monotonic() < deadline, "tshark does not show what it sees"
        with socket.socket() as client:
            client.settimeout(1)
            client.connect_ex((address, 445))
        while select.select([descriptor], [], [], 0.2)[0]:
            data = os.read(descriptor, 65536)
            assert data, "tshark has ended"
            shown += data


@cache
def writes_backslashes_twice() -> bool:
    """Releases that know the option `escape` do (4.4 of Debian 13), also if it says no; older ones (4.0) do not."""
    command = ["tshark", "-T", "fields", "-E", "escape=n", "-h"]
    tried = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE)
    return "not a valid" not in tried.stderr


def tshark(file: Path, filter_: str, *fields: str) -> list[list[list[str]]]:
    """The packets that a filter lets through: for each of the fields its values."""
    command = ["tshark", "-r", str(file), "-Y", filter_, "-T", "fields", "-E", "occurrence=a", "-E", "aggregator=|"]
    for field in fields:
        command += ["-e", field]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    if writes_backslashes_twice():
        printed = printed.replace("\\\\", "\\")
    return [[cell.split("|") if cell else [] for cell in line.split("\t")] for line in printed.splitlines()]


def referrals(file: Path) -> tuple[list[list[list[str]]], list[list[list[str]]]]:
    """Requests and answers, without their first field."""
    packets = tshark(file, REFERRAL, *FIELDS)
    requests = [packet[1:] for packet in packets if packet[0] in (["0"], ["False"])]
    answers = [packet[1:] for packet in packets if packet[0] in (["1"], ["True"])]
    return requests, answers


@pytest.fixture
def contoso(lab: Lab, tmp_path: Path) -> Iterator[Company]:
    with company(lab, tmp_path) as running:
        yield running


def check(file: Path, events: list[Event]) -> None:
    """What tshark reads is what the client has sent and understood."""
    assert tshark(file, f"_ws.malformed && ({REFERRAL})", "frame.number") == []
    requests, answers = referrals(file)
    sent = [event for event in events if isinstance(event, ReferralSent)]
    assert [(level, name) for level, name, *_ in requests] == [
        (["4"], [event.path] if event.path else []) for event in sent
    ]
    understood = [event for event in events if isinstance(event, ReferralAnswered)]
    assert len(answers) == len(understood)
    for (_, _, _, count, version, ttl, nodes, domains, expanded), event in zip(answers, understood, strict=True):
        names = [text for text in event.targets if text != "|"]
        assert set(version) == {str(event.version)}
        if event.version > 1:
            assert set(ttl) == {str(event.ttl)}
        if nodes:
            assert (int(count[0]), [str(UncPath.parse(node)) for node in nodes]) == (len(names), names)
        else:
            assert [text.lstrip("\\") for text in expanded or domains] == names


async def test_c002_c015_c022_c024_all_versions_and_kinds(contoso: Company, tmp_path: Path) -> None:
    file, events = tmp_path / "capture.pcapng", list[Event]()
    with captured(contoso.lab.net, file):
        for version in (1, 2, 3, 4):
            for server in contoso.servers.values():
                server.newest = max(version, 3) if server.name.startswith("dc") else version
            before = len(events)
            async with contoso.client() as namespace:
                namespace.telemetry.listen(events.append)
                for path in ("docs/hello.txt", "dir/sets", "alone/extra"):
                    await namespace.find(UncPath.parse(f"//contoso.test/public/{path}"))
            answered = {event.version for event in events[before:] if isinstance(event, ReferralAnswered)}
            assert answered == {3, max(version, 3), version}
    check(file, events)


@pytest.mark.every_samba
async def test_c002_samba(lab: Lab, tmp_path: Path) -> None:
    file, events = tmp_path / "capture.pcapng", list[Event]()
    with captured(lab.net, file):
        async with Pool(
            TransportSettings(), Credentials(lab.credentials.user, Secret(lab.credentials.password), "")
        ) as pool:
            namespace = Namespace(pool)
            namespace.telemetry.listen(events.append)
            for path in ("link-multi/hello.txt", "interlink/deep/link/hello.txt", "dir/sub/link"):
                await namespace.find(UncPath.parse(f"{lab.root_unc}/{path}"))
    check(file, events)
