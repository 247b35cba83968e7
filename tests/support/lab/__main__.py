"""The command `scripts/lab`: a lab that runs until it is stopped, to try things by hand.

Exit status: 0 if it did what was asked (`status`: if every host is up), 1 if not, 2 for a wrong command line. Standard
library only.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import time
from pathlib import Path

from tests.support.lab.domain.command import main as domain
from tests.support.lab.samba import Lab, LabError, LabHost, Lifetime
from tests.support.lab.topology import USERS

ACTIONS = {
    "stop": "end a server, with all its processes",
    "start": "start a server that was stopped or killed",
    "kill": "end a server with SIGKILL",
    "pause": "freeze a server: it accepts connections and does not answer",
    "resume": "go on after pause",
    "reset": "break the connections of a server's clients",
}


DEFAULT_NET = "127.0.0"


def lab_to_keep(net: str = DEFAULT_NET) -> Lab:
    """The lab that the command starts and stops."""
    return Lab(net, state=Path(f"/run/dfsfs-lab-{net}"), lifetime=Lifetime.UNTIL_STOPPED)


def mount_words(lab: Lab, mountpoint: str = "/mnt/dfs") -> str:
    """The command that mounts the namespace of a lab, from the top of the checkout."""
    user, password = lab.credentials
    return f".venv/bin/mount.dfsfs {lab.root_unc} {mountpoint} -o username={user},password={password}"


def _net(text: str) -> str:
    if not re.fullmatch(r"127(\.\d{1,3}){2}", text) or any(int(octet) > 255 for octet in text.split(".")):
        raise argparse.ArgumentTypeError(f"{text!r} is not the first three octets of a loopback address, like 127.0.0")
    return text


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/lab",
        description="A DFS namespace of real servers on this machine.",
        epilog="With --domain after the command: an Active Directory domain; see scripts/lab up --domain --help.",
    )
    net = argparse.ArgumentParser(add_help=False)
    net.add_argument(
        "--net", type=_net, default=DEFAULT_NET, help=f"first three octets of the addresses; default {DEFAULT_NET}"
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("up", parents=[net], help="start the lab, or those of its servers that are down")
    commands.add_parser("down", parents=[net], help="stop the lab and remove everything of it")
    commands.add_parser("status", parents=[net], help="say which servers are up")
    for name, what in ACTIONS.items():
        action = commands.add_parser(name, parents=[net], help=what)
        action.add_argument("host", help="name of the server, as status shows it")
    return parser


def _describe(lab: Lab) -> str:
    user, password = lab.credentials
    lines = ["servers:"]
    for host in lab.hosts.values():
        shares = ", ".join(share.name for share in host.description.shares)
        lines.append(f"  {host.name}  {host.address:<14} {shares}")
    lines += ["links in " + lab.root_unc + ":"]
    for link in lab.topology.links.values():
        lines.append(f"  {link.path:<15} {lab.link_text(link).removeprefix('msdfs:').replace(',', '  ')}")
    lines += ["users (user, password): " + "; ".join(f"{user.name}, {user.password}" for user in USERS)]
    lines += [f"state and logs: {lab.state}", "try:", "  mkdir -p /mnt/dfs"]
    lines += [f"  {mount_words(lab)}", "  .venv/bin/dfsfs status"]
    lines += [f"  smbclient {lab.root_unc} -U {user}%{password} -c 'cd link-multi; ls'"]
    return "\n".join(lines)


def _up(lab: Lab) -> int:
    begin = time.monotonic()
    if not lab.state.exists():
        lab.start()
        print(f"lab {lab.net} is up after {time.monotonic() - begin:.1f} s")
    else:
        down = [host for host in lab.hosts.values() if not host.running]
        for host in down:
            host.start()
        started = ", ".join(host.name for host in down) or "nothing, all are up"
        print(f"lab {lab.net} was there already; started: {started}")
    print(_describe(lab))
    return 0


def _down(lab: Lab) -> int:
    was_there = lab.state.exists()
    lab.stop()
    print(f"lab {lab.net} is down" if was_there else f"lab {lab.net} was not up")
    return 0


def _state(host: LabHost) -> str:
    if not host.running:
        return "down"
    return f"up, {host.connections()} connections, processes {' '.join(map(str, host.pids()))}"


def _status(lab: Lab) -> int:
    for host in lab.hosts.values():
        print(f"{host.name}  {host.address:<14} {_state(host)}")
    return 0 if all(host.running for host in lab.hosts.values()) else 1


def _act(lab: Lab, action: str, name: str) -> int:
    if name not in lab.hosts:
        raise LabError(f"there is no server {name!r}; there are {', '.join(lab.hosts)}")
    host = lab.host(name)
    if not lab.state.exists():
        raise LabError(f"lab {lab.net} is not up")
    match action:
        case "stop":
            host.stop()
        case "start":
            host.start()
        case "kill":
            host.kill()
        case "pause":
            host.pause()
        case "resume":
            host.resume()
        case "reset":
            print(f"{host.reset_connections()} connections broken")
    print(f"{host.name}  {host.address:<14} {_state(host)}")
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    words = sys.argv[1:] if arguments is None else arguments
    if words[1:2] == ["--domain"]:
        return domain([words[0], *words[2:]])
    options = _parser().parse_args(words)
    if os.geteuid() != 0:
        print("scripts/lab: needs root, also to see which servers are up", file=sys.stderr)
        return 1
    lab = lab_to_keep(options.net)
    try:
        match options.command:
            case "up":
                return _up(lab)
            case "down":
                return _down(lab)
            case "status":
                return _status(lab)
            case action:
                return _act(lab, action, options.host)
    except LabError as error:
        print(f"scripts/lab: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
