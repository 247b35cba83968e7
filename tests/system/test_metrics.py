"""Figures for Prometheus."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import resource
import select
import socket
import subprocess
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from prometheus_client.parser import text_string_to_metric_families

from dfsfs.control.metrics import CONNECTIONS
from tests.kernel.mounts import daemons, mount_command, mounted, wait_until
from tests.system.conftest import PROGRAM

if TYPE_CHECKING:
    from tests.support.lab.samba import Lab

pytestmark = [pytest.mark.lab, pytest.mark.mount]

DASHBOARD = Path(__file__).parent.parent.parent / "docs" / "grafana-dashboard.json"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def parsed(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def read(port: int, path: str = "/metrics") -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
        assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        return str(answer.read().decode())


def test_the_figures(lab: Lab, tmp_path: Path) -> None:
    port = free_port()
    with mounted(lab, tmp_path / "m", f"metrics=:{port},actimeo=0") as mount:
        (mount / "link-multi" / "hello.txt").read_bytes()
        (mount / "link-single" / "written").write_bytes(b"x" * 1000)
        (mount / "link-single" / "written").unlink()
        lab.host("fs1").kill()
        try:
            (mount / "link-multi" / "folder" / "inside.txt").read_bytes()
        finally:
            lab.host("fs1").start()
        found = parsed(read(port))
    fs1, fs2 = lab.address("fs1"), lab.address("fs2")
    assert found["dfsfs_bytes_total", (("direction", "written"),)] == 1000
    assert found["dfsfs_request_seconds_count", (("request", "open"),)] >= 2
    assert found["dfsfs_request_seconds_bucket", (("le", "+Inf"), ("request", "open"))] >= 2
    assert found["dfsfs_referrals_total", (("kind", "link"), ("outcome", "answered"))] >= 2
    assert found["dfsfs_referrals_total", (("kind", "root"), ("outcome", "answered"))] >= 1
    assert found["dfsfs_referral_ttl_seconds_bucket", (("le", "600.0"),)] >= 3
    assert found["dfsfs_cache_lookups_total", (("result", "hit"),)] >= 1
    assert found["dfsfs_moves_total", (("from_host", fs1), ("to_host", fs2), ("why", "failover"))] == 1
    link = (("link", f"{lab.root_unc}/link-multi"), ("target", f"//{fs2}/data"), ("uid", ""))
    assert found["dfsfs_link_connected", link] == 1
    assert found["dfsfs_link_failed_over", link] == 1
    assert found["dfsfs_smb_bytes_total", (("direction", "received"), ("host", fs2), ("uid", ""))] > 100
    assert {name for name, labels in found if name == "dfsfs_mount_info"}


def test_a_unix_socket(lab: Lab, tmp_path: Path) -> None:
    path = tmp_path / "metrics.sock"
    with mounted(lab, tmp_path / "m", f"metrics={path}"):
        assert path.stat().st_mode & 0o777 == 0o660
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(10)
            connection.connect(str(path))
            connection.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
        assert answer.startswith(b"HTTP/1.1 200 ") and b"dfsfs_mount_info{" in answer
    assert not path.exists()
    user, password = lab.credentials
    failed = mount_command(f"{lab.root_unc}/nothing", tmp_path / "m", f"username={user},metrics={path}", password)
    assert failed.returncode == 32 and not path.exists()


def test_what_is_no_request(lab: Lab, tmp_path: Path) -> None:
    port = free_port()
    with mounted(lab, tmp_path / "m", f"metrics=127.0.0.1:{port}") as mount:
        for path in ("/else", "/metrics/x"):
            with pytest.raises(urllib.error.HTTPError, match="404"):
                read(port, path)
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request("POST", "/metrics", "x")
        assert connection.getresponse().status == 405
        with socket.create_connection(("127.0.0.1", port), timeout=10) as raw:
            raw.sendall(b"\0" * 1000 + b"\r\n\r\n")
            assert raw.recv(1000).startswith(b"HTTP/1.1 4")
        for _ in range(30):  # who says nothing keeps nobody else from an answer
            socket.create_connection(("127.0.0.1", port), timeout=10).close()
        assert "dfsfs_open_files" in read(port)
        assert os.listdir(mount)


def test_a_crowd_at_the_figures_takes_nothing_from_the_mount(lab: Lab, tmp_path: Path) -> None:
    port = free_port()
    with mounted(lab, tmp_path / "m", f"metrics=127.0.0.1:{port}") as mount, contextlib.ExitStack() as crowd:
        (daemon,) = daemons(mount)
        resource.prlimit(daemon, resource.RLIMIT_NOFILE, (128, 128))
        before = len(os.listdir(f"/proc/{daemon}/fd"))
        held = [crowd.enter_context(socket.create_connection(("127.0.0.1", port), 10)) for _ in range(CONNECTIONS)]
        for _ in range(300):
            late = crowd.enter_context(socket.create_connection(("127.0.0.1", port), 10))
            assert late.recv(1) == b"", "closed at once"
        assert len(os.listdir(f"/proc/{daemon}/fd")) <= before + CONNECTIONS
        assert (mount / "link-multi" / "hello.txt").read_bytes(), "a link that was not in use before"
        subprocess.run([PROGRAM, "status", str(mount)], check=True, capture_output=True, timeout=20)
        for each in held:
            assert each.recv(1) == b"", "who asks for nothing is not waited for"
        wait_until(lambda: "dfsfs_open_files" in read(port), "there is room again")


def test_the_last_descriptors_are_for_the_mount(lab: Lab, tmp_path: Path) -> None:
    port = free_port()
    with mounted(lab, tmp_path / "m", f"metrics=127.0.0.1:{port}") as mount, contextlib.ExitStack() as crowd:
        (daemon,) = daemons(mount)
        before = resource.prlimit(daemon, resource.RLIMIT_NOFILE)
        used = max(map(int, os.listdir(f"/proc/{daemon}/fd"))) + 1
        resource.prlimit(daemon, resource.RLIMIT_NOFILE, (used + 8, before[1]))
        for _ in range(CONNECTIONS):  # there may be free numbers below
            connection = crowd.enter_context(socket.create_connection(("127.0.0.1", port), 10))
            if select.select([connection], [], [], 0.5)[0]:
                break
        else:
            pytest.fail("all were taken")
        done = subprocess.run([PROGRAM, "status", str(mount)], capture_output=True, text=True, timeout=20, check=False)
        assert done.returncode != 0 and "file descriptors" in done.stderr
        assert (mount / "link-multi" / "hello.txt").read_bytes()
        resource.prlimit(daemon, resource.RLIMIT_NOFILE, before)
        assert "dfsfs_open_files" in read(port)
        subprocess.run([PROGRAM, "status", str(mount)], check=True, capture_output=True, timeout=20)


def test_a_port_that_is_taken_is_an_error_of_the_mount(lab: Lab, tmp_path: Path) -> None:
    user, password = lab.credentials
    (tmp_path / "m").mkdir()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = mount_command(lab.root_unc, tmp_path / "m", f"username={user},metrics=127.0.0.1:{port}", password)
    assert done.returncode == 1
    assert f"option 'metrics=127.0.0.1:{port}': Address already in use" in done.stderr


def test_the_dashboard_asks_for_figures_that_there_are(lab: Lab, tmp_path: Path) -> None:
    port = free_port()
    with mounted(lab, tmp_path / "m", f"metrics=:{port}") as mount:
        (mount / "link-multi" / "hello.txt").read_bytes()
        known = {family.name for family in text_string_to_metric_families(read(port))}
    board = json.loads(DASHBOARD.read_text())
    questions = [target["expr"] for panel in board["panels"] for target in panel.get("targets", ())]
    assert len(questions) >= 8
    for question in questions:
        asked = set(re.findall(r"dfsfs_\w+", question))
        assert asked, question
        for name in asked:
            assert re.sub("_(total|bucket|sum|count)$", "", name) in known, name
