"""`scripts/lab COMMAND --domain`: the lab of a domain, to try things by hand.

Exit status as of scripts/lab; of `run`, that of the command. Standard library only.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

from tests.support.lab.domain import config
from tests.support.lab.domain.lab import DomainLab
from tests.support.lab.samba import LabError, Lifetime
from tests.support.lab.topology import ALICE, BOB

STATE = Path("/run/dfsfs-lab-domain")
ACTIONS = {
    "stop": "end a host's servers",
    "start": "start servers that were stopped or killed",
    "kill": "end a host's servers with SIGKILL",
    "pause": "freeze a host's servers",
    "resume": "go on after pause",
    "cut": "pull a host's plug: what is sent to it is lost",
    "heal": "put it in again",
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/lab", description="An Active Directory domain of real servers, in network namespaces."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("up", help="start the lab, or those of its hosts that are down")
    commands.add_parser("down", help="stop the lab and remove everything of it")
    commands.add_parser("status", help="say which hosts are up")
    for name, what in ACTIONS.items():
        commands.add_parser(name, help=what).add_argument("host", choices=[*config.CONTROLLERS, *config.MEMBERS])
    run = commands.add_parser("run", help="run a command on the client, as root or as one of the people")
    run.add_argument("--user", default="root", help="alice, bob, carol, user01 ... user50")
    run.add_argument("words", nargs=argparse.REMAINDER, metavar="COMMAND", help="the command with its arguments")
    return parser


def _describe(lab: DomainLab) -> str:
    lines = ["hosts:"]
    for host in lab.servers:
        shares = ", ".join(share.name for share in config.SHARES.get(host.name, ())) or "sysvol, netlogon"
        lines.append(f"  {host.name}  {host.address:<12} {shares}")
    lines.append(f"links in //{config.DOMAIN}/public:")
    texts = {link.path: config.link_text(link).removeprefix("msdfs:") for link in config.SHARES["fs1"][0].links}
    lines += [f"  {path:<8} {text.replace(',', '  ')}" for path, text in texts.items()]
    lines.append("people (user, password): " + "; ".join(f"{user.name}, {user.password}" for user in (ALICE, BOB)))
    lines.append(f"a key of {config.SERVICE.name}: {lab.keytab}")
    lines += [f"mounts below {lab.mounts} are seen on the client and here; state and logs: {lab.state}", "try:"]
    lines += [
        f"  mkdir -p {lab.mounts}/public",
        f"  echo {ALICE.password} | scripts/lab run --domain kinit {ALICE.name}",
        f"  scripts/lab run --domain $PWD/.venv/bin/mount.dfsfs //contoso/public {lab.mounts}/public -o sec=krb5",
        f"  ls {lab.mounts}/public/docs",
    ]
    return "\n".join(lines)


def _up(lab: DomainLab) -> int:
    begin = time.monotonic()
    if not lab.state.exists():
        lab.start()
        print(f"the domain is up after {time.monotonic() - begin:.1f} s")
    else:
        down = [host for host in lab.servers if not host.pids()]
        for host in down:
            host.start()
        print(f"the domain was there already; started: {', '.join(host.name for host in down) or 'nothing'}")
    print(_describe(lab))
    return 0


def _status(lab: DomainLab) -> int:
    states = {host: "up" if host.pids() else "down" for host in lab.servers}
    for host, state in states.items():
        print(f"{host.name}  {host.address:<12} {state}")
    return 0 if set(states.values()) == {"up"} else 1


def _run(lab: DomainLab, user: str, words: list[str]) -> int:
    people = {person.name: person for person in config.PEOPLE}
    who: tuple[str, ...] = ()
    if user != "root":
        if user not in people:
            raise LabError(f"there is nobody called {user!r}")
        who = ("setpriv", f"--reuid={people[user].uid}", f"--regid={config.GROUP}", "--clear-groups")
    if not words:
        raise LabError("a command is needed")
    environment = {**os.environ, **lab.environment()}
    return subprocess.run(lab.client.entered(*who, *words), env=environment, check=False).returncode


def main(arguments: list[str]) -> int:
    """Runs the command; returns its exit status."""
    options = _parser().parse_args(arguments)
    if os.geteuid() != 0:
        print("scripts/lab: needs root", file=sys.stderr)
        return 1
    lab = DomainLab(STATE, Lifetime.UNTIL_STOPPED)
    try:
        if options.command == "up":
            return _up(lab)
        if not lab.state.exists():
            raise LabError("the domain is not up")
        match options.command:
            case "down":
                lab.stop()
                print("the domain is down")
            case "status":
                return _status(lab)
            case "run":
                return _run(lab, options.user, options.words)
            case action:
                getattr(lab.hosts[options.host], action)()
                print(f"{options.host}: {action}")
    except LabError as error:
        print(f"scripts/lab: {error}", file=sys.stderr)
        return 1
    return 0
